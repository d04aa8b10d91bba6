//! The memory plan of a network: its numbers, and its picture.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darts_core::Step;
use darts_host::atomic;
use darts_host::memory_map::{MemoryMap, Slot};
use darts_host::memory_svg::svg;
use indicatif::HumanCount;
use serde::Serialize;

use super::Failure;

/// What is printed of a memory plan.
#[derive(Serialize)]
pub struct MemoryPlan {
    lower_bound_bytes: u64,
    peak_step: Option<PeakStep>,
    slots: Vec<SlotRow>,
    #[serde(skip)]
    map: MemoryMap,
}

/// The step during which the most bytes are in use, counted from 1.
#[derive(Serialize)]
struct PeakStep {
    step: usize,
    operation: &'static str,
    slots: usize,
}

/// A region of the workspace and the steps that use it, counted from 1.
#[derive(Serialize)]
struct SlotRow {
    offset: u64,
    bytes: u64,
    first_step: usize,
    last_step: usize,
    /// What writes it first.
    operation: &'static str,
    scratch: bool,
}

impl MemoryPlan {
    /// Of these steps.
    pub fn new(steps: &[Step]) -> Self {
        let map = MemoryMap::new(steps);
        let peak =
            |step: usize| PeakStep { step: step + 1, operation: map.steps[step], slots: map.slots_at(step).count() };
        let row = |slot: &Slot| SlotRow {
            offset: slot.bytes.start,
            bytes: slot.bytes.end - slot.bytes.start,
            first_step: slot.steps.start + 1,
            last_step: slot.steps.end,
            operation: map.steps[slot.steps.start],
            scratch: slot.scratch,
        };
        Self {
            lower_bound_bytes: map.lower_bound(),
            peak_step: map.peak_step().map(peak),
            slots: map.slots.iter().map(row).collect(),
            map,
        }
    }

    /// Prints the peak, what sets it, and the bound below it.
    pub fn print(&self, output: &mut impl Write) -> io::Result<()> {
        let (bytes, bound) = (self.map.workspace_bytes, self.lower_bound_bytes);
        writeln!(output, "\nmemory plan")?;
        writeln!(output, "  peak           {} bytes", HumanCount(bytes))?;
        let ratio = bytes as f64 / bound.max(1) as f64;
        writeln!(output, "  lower bound    {} bytes; the peak is {ratio:.3} times that", HumanCount(bound))?;
        if let Some(PeakStep { step, operation, slots }) = self.peak_step {
            let steps = self.map.steps.len();
            writeln!(output, "  set by         step {step} of {steps}, {operation}, with {slots} slots in use")?;
        }
        Ok(())
    }

    /// Writes the picture.
    pub fn draw(&self, path: &Path) -> Result<(), Failure> {
        Ok(atomic::write(path, svg(&self.map).as_bytes())?)
    }
}

/// The name of a picture; so that a network behind the option is not taken for one.
pub fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("svg") => Ok(path),
        _ => Err("the picture's name must end with .svg".into()),
    }
}
