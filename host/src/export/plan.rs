//! The plan of a graph: its steps, with a place in the workspace for every buffer and in the file for all weights.

use std::ops::Range;

use darts_core::{ModelError, Place, Step, StepError, Storage, Weights, WriteError};

use super::lower::{BufferId, Draft, Folded, Lowering, lower};
use super::slots::{Layout, Lifetime, live_bytes, place};
use super::{ExportError, Precision};
use crate::graph::Graph;

/// Output channels that a dense convolution widens at a time at least, where it has as many: a vector register's worth.
const LEAST_BLOCK: u64 = 16;

/// What the core executes, and the memory that it takes.
#[derive(Debug)]
pub struct Plan {
    /// The kernel calls.
    pub steps: Vec<Step>,
    /// Bytes of the workspace.
    pub workspace_bytes: usize,
    /// The most bytes that are needed during any one step: no layout of the workspace is below.
    pub live_bytes: usize,
    /// Bytes of weights and biases.
    pub weight_bytes: usize,
    /// What the weights of each step are made of.
    pub(super) folded: Vec<Option<Folded>>,
}

/// Plans the inference of one image by `graph`, batch norms folded, auxiliary head left out.
///
/// # Errors
/// If a size is beyond the core's limits.
pub fn plan(graph: &Graph, precision: Precision) -> Result<Plan, ExportError> {
    let Lowering { mut drafts, buffers } = lower(graph);
    let mut lifetimes = lifetimes(&drafts, &buffers);
    let scratch = match precision {
        Precision::F32 => vec![None; drafts.len()],
        Precision::F16 => narrow(&mut drafts, &mut lifetimes)?,
    };
    let weight_bytes = place_weights(&mut drafts)?;
    let live_bytes = live_bytes(&lifetimes, drafts.len()).into_iter().max().unwrap_or(0);
    let layout = place(&lifetimes, live_bytes);
    // Checked here, so that no offset below is cut off.
    u32::try_from(layout.bytes).map_err(|_| ExportError::Model(WriteError::TooLarge))?;
    let steps = drafts.iter().zip(scratch).map(|(draft, scratch)| placed(draft, scratch, &layout)).collect();
    Ok(Plan {
        steps,
        workspace_bytes: layout.bytes as usize,
        live_bytes: live_bytes as usize,
        weight_bytes,
        folded: drafts.into_iter().map(|draft| draft.weights).collect(),
    })
}

/// When each buffer is in use.
fn lifetimes(drafts: &[Draft], buffers: &[u64]) -> Vec<Lifetime> {
    let mut steps: Vec<Option<Range<usize>>> = vec![None; buffers.len()];
    for (step, draft) in drafts.iter().enumerate() {
        for buffer in draft.source.into_iter().chain(draft.target) {
            steps[buffer].get_or_insert(step..step).end = step + 1;
        }
    }
    let used = steps.into_iter().map(|steps| steps.expect("a buffer is made for a step"));
    used.zip(buffers).map(|(steps, &bytes)| Lifetime { bytes, steps }).collect()
}

fn unsound(step: usize) -> impl Fn(StepError) -> ExportError {
    move |error| ExportError::Model(WriteError::Invalid(ModelError::Step { step, error }))
}

/// Makes all weights half precision, each step with scratch to widen them: as much as fits under the peak of the others.
/// Returns the buffer of each step's scratch.
fn narrow(drafts: &mut [Draft], lifetimes: &mut Vec<Lifetime>) -> Result<Vec<Option<BufferId>>, ExportError> {
    let live = live_bytes(lifetimes, drafts.len());
    let bound = live.iter().copied().max().unwrap_or(0);
    let mut scratch = vec![None; drafts.len()];
    for (index, draft) in drafts.iter_mut().enumerate() {
        draft.step.sizes().map_err(unsound(index))?;
        let block = match draft.step {
            Step::Depthwise { shape, .. } => shape.input.channels,
            Step::Dense { shape, .. } => {
                let channels = shape.output_channels;
                let column = (shape.weights() / channels * size_of::<f32>()) as u64;
                let fitting = (bound - live[index]) / column;
                let block = if fitting < channels as u64 { fitting / LEAST_BLOCK * LEAST_BLOCK } else { fitting };
                channels.min(block.max(LEAST_BLOCK) as usize)
            }
            _ => continue,
        };
        let block = u16::try_from(block).expect("the sizes were checked");
        set_weights(&mut draft.step, Weights { offset: 0, storage: Storage::F16 { scratch: 0, block } });
        let bytes = draft.step.sizes().map_err(unsound(index))?.scratch;
        scratch[index] = Some(lifetimes.len());
        lifetimes.push(Lifetime { bytes, steps: index..index + 1 });
    }
    Ok(scratch)
}

/// Puts the weights of one step behind those of another. Returns the bytes of them all.
fn place_weights(drafts: &mut [Draft]) -> Result<usize, ExportError> {
    let mut end: u64 = 0;
    for (index, draft) in drafts.iter_mut().enumerate() {
        let bytes = draft.step.sizes().map_err(unsound(index))?.weights;
        if let Some(weights) = draft.step.weights() {
            let offset = u32::try_from(end).map_err(|_| ExportError::Model(WriteError::TooLarge))?;
            set_weights(&mut draft.step, Weights { offset, ..weights });
            end += bytes.next_multiple_of(4);
        }
    }
    Ok(end as usize)
}

fn set_weights(step: &mut Step, new: Weights) {
    if let Step::Depthwise { weights, .. } | Step::Dense { weights, .. } = step {
        *weights = new;
    }
}

/// The step with its buffers where `layout` has them.
fn placed(draft: &Draft, scratch: Option<BufferId>, layout: &Layout) -> Step {
    let at = |buffer: Option<BufferId>| buffer.map_or(0, |buffer| layout.offsets[buffer] as u32);
    let (from, to) = (at(draft.source), at(draft.target));
    let moved = |place: &mut Place, by: u32| {
        if let Place::Workspace(offset) = place {
            *offset += by;
        }
    };
    let mut step = draft.step;
    match &mut step {
        Step::Prelude { source, target, .. }
        | Step::Depthwise { source, target, .. }
        | Step::Dense { source, target, .. }
        | Step::MaxPool { source, target, .. }
        | Step::AvgPool { source, target, .. }
        | Step::GlobalAvgPool { source, target, .. }
        | Step::Add { source, target, .. } => {
            moved(source, from);
            moved(target, to);
        }
        Step::Zero { target, .. } => moved(target, to),
    }
    if let Some(Weights { offset, storage: Storage::F16 { block, .. } }) = step.weights() {
        set_weights(&mut step, Weights { offset, storage: Storage::F16 { scratch: at(scratch), block } });
    }
    step
}
