//! What lies where in the workspace while a plan is executed, read from its steps alone: so it says the same of a plan
//! that has just been made and of one in a model file.

use std::ops::Range;

use darts_core::{Int8Step, Place, Step};

/// A region of the workspace with one content, or with one sum that grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The bytes of the workspace.
    pub bytes: Range<u64>,
    /// From the step that writes it first to behind the last that reads it or adds to it.
    pub steps: Range<usize>,
    /// Whether only one step uses it, as intermediate rows and widened weights.
    pub scratch: bool,
}

/// The workspace over the steps of a plan.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// Name of each step's operation.
    pub steps: Vec<&'static str>,
    /// In the order of their first steps.
    pub slots: Vec<Slot>,
    /// Bytes of the slots that are in use during each step.
    pub live: Vec<u64>,
    /// The end of the last slot: the bytes of the workspace.
    pub workspace_bytes: u64,
}

impl MemoryMap {
    /// Follows the steps of a plan that the core accepts.
    pub fn new(steps: &[Step]) -> Self {
        let mut slots = Open::default();
        for (index, step) in steps.iter().enumerate() {
            let sizes = step.sizes().unwrap_or_default();
            if let Some(source) = step.source().and_then(|place| region(place, sizes.source)) {
                slots.read(&source, index);
            }
            if let Some(target) = region(step.target(), sizes.target) {
                if adds(step) { slots.add(&target, index) } else { slots.write(&target, index) }
            }
            if let Some(start) = step.scratch().filter(|_| sizes.scratch > 0) {
                let bytes = u64::from(start)..u64::from(start) + sizes.scratch;
                slots.all.push(Slot { bytes, steps: index..index + 1, scratch: true });
            }
        }
        let slots = slots.all;
        let mut live = vec![0; steps.len()];
        for slot in &slots {
            live[slot.steps.clone()].iter_mut().for_each(|bytes| *bytes += slot.bytes.end - slot.bytes.start);
        }
        Self {
            steps: steps.iter().map(Step::name).collect(),
            workspace_bytes: slots.iter().map(|slot| slot.bytes.end).max().unwrap_or(0),
            slots,
            live,
        }
    }

    /// The most bytes that are in use during any step: no workspace for this order of steps is below.
    pub fn lower_bound(&self) -> u64 {
        self.live.iter().copied().max().unwrap_or(0)
    }

    /// The first step during which the most bytes are in use.
    pub fn peak_step(&self) -> Option<usize> {
        (0..self.live.len()).find(|&step| self.live[step] == self.lower_bound())
    }

    /// The slots in use during a step.
    pub fn slots_at(&self, step: usize) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.steps.contains(&step))
    }
}

fn region(place: Place, bytes: u64) -> Option<Range<u64>> {
    match place {
        Place::External => None,
        Place::Workspace(start) => Some(u64::from(start)..u64::from(start) + bytes),
    }
}

/// Whether a step adds to its target.
fn adds(step: &Step) -> bool {
    match step {
        Step::Add { .. } => true,
        Step::Dense { accumulate, .. }
        | Step::Separable { accumulate, .. }
        | Step::Int8(
            Int8Step::Dense { accumulate, .. }
            | Int8Step::Separable { accumulate, .. }
            | Int8Step::Rescale { accumulate, .. }
            | Int8Step::Quantize { accumulate, .. },
        ) => *accumulate,
        _ => false,
    }
}

/// Slots whose content may still be read.
#[derive(Default)]
struct Open {
    all: Vec<Slot>,
    /// Slots that are not overwritten, and whether they have been read.
    open: Vec<(usize, bool)>,
}

impl Open {
    fn read(&mut self, region: &Range<u64>, step: usize) {
        for (slot, read) in &mut self.open {
            if overlap(&self.all[*slot].bytes, region) {
                self.all[*slot].steps.end = step + 1;
                *read = true;
            }
        }
    }

    fn add(&mut self, region: &Range<u64>, step: usize) {
        for (slot, _) in &self.open {
            if overlap(&self.all[*slot].bytes, region) {
                self.all[*slot].steps.end = step + 1;
            }
        }
    }

    /// What has been read is overwritten; what has not been read is another part of the same image, such as the other
    /// half of the channels.
    fn write(&mut self, region: &Range<u64>, step: usize) {
        let all = &mut self.all;
        let mut part = None;
        self.open.retain(|&(slot, read)| {
            if overlap(&all[slot].bytes, region) && !read {
                part = Some(slot);
            }
            !(read && overlap(&all[slot].bytes, region))
        });
        match part {
            Some(slot) => {
                let Slot { bytes, steps, .. } = &mut all[slot];
                *bytes = bytes.start.min(region.start)..bytes.end.max(region.end);
                steps.end = step + 1;
            }
            None => {
                self.open.push((all.len(), false));
                all.push(Slot { bytes: region.clone(), steps: step..step + 1, scratch: false });
            }
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use darts_core::{Storage, Weights};
    use darts_kernels_simd::{DenseShape, ImageShape, Padding};

    use super::*;

    const SHAPE: ImageShape = ImageShape::new(1, 2, 2);

    fn relu(source: Place, target: u32) -> Step {
        Step::Prelude { source, target: Place::Workspace(target), shape: SHAPE, padding: Padding::NONE, relu: true }
    }

    fn dense(source: u32, target: u32, output_pixel_stride: usize, accumulate: bool) -> Step {
        Step::Dense {
            source: Place::Workspace(source),
            target: Place::Workspace(target),
            shape: DenseShape { output_pixel_stride, ..DenseShape::pointwise(SHAPE, 1) },
            relu: false,
            weights: Weights { offset: 0, storage: Storage::F16 },
            bias: false,
            accumulate,
            scratch: 64,
            block: 1,
        }
    }

    #[test]
    fn slots_end_with_their_last_reader_and_halves_of_channels_are_one() {
        let (a, b) = (Place::Workspace(0), Place::Workspace(16));
        let map = MemoryMap::new(&[
            relu(Place::External, 0),
            dense(0, 16, 2, false),
            dense(0, 16, 2, true),
            dense(0, 20, 2, false),
            Step::Add { source: b, target: a, shape: SHAPE },
            relu(b, 32),
            relu(a, 16),
        ]);
        let slot = |bytes, steps| Slot { bytes, steps, scratch: false };
        let slots: Vec<Slot> = map.slots.iter().filter(|slot| !slot.scratch).cloned().collect();
        assert_eq!(slots, [slot(0..16, 0..7), slot(16..32, 1..6), slot(32..48, 5..6), slot(16..32, 6..7)]);
        assert_eq!(map.slots.iter().filter(|slot| slot.scratch).count(), 3);
        assert_eq!(map.live, [16, 40, 40, 40, 32, 48, 32]);
        assert_eq!((map.lower_bound(), map.peak_step(), map.workspace_bytes), (48, Some(5), 72));
        assert_eq!(map.slots_at(5).count(), 3);
    }
}
