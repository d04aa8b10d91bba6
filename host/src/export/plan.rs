//! The plan of a graph: its steps, with a place in the workspace for every buffer and in the file for all weights.

use std::ops::Range;

use darts_core::{Int8Step, Place, Step, Storage, Weights, WriteError};

use super::lower::{BufferId, Draft, Folded, Pools, lower};
use super::sequence::{Sequence, sequence};
use super::slots::{Layout, Lifetime, live_bytes, place};
use super::{ExportError, Precision, unsound};
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
    Ok(planned(graph, precision)?.0)
}

/// The plan, and the steps before they got their places.
pub(super) fn planned(graph: &Graph, precision: Precision) -> Result<(Plan, Sequence), ExportError> {
    let with = |pools| {
        let mut lowering = lower(graph, pools);
        if precision == Precision::F16 {
            lowering.drafts_mut().for_each(narrow);
        }
        let sequence = sequence(lowering)?;
        Ok::<_, ExportError>((arrange(sequence.clone())?, sequence))
    };
    let (shared, repeated) = (with(Pools::Shared)?, with(Pools::Repeated)?);
    Ok(if repeated.0.workspace_bytes < shared.0.workspace_bytes { repeated } else { shared })
}

/// Gives every buffer of the steps a place in the workspace, and their weights one in the file.
pub(super) fn arrange(sequence: Sequence) -> Result<Plan, ExportError> {
    let Sequence { mut drafts, buffers } = sequence;
    let mut lifetimes = lifetimes(&drafts, &buffers);
    widen_more(&mut drafts, &lifetimes)?;
    let scratch = scratch(&drafts, &mut lifetimes)?;
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

/// Makes the weights of a step half precision. A dense convolution widens few output channels at a time.
pub(super) fn narrow(draft: &mut Draft) {
    match &mut draft.step {
        Step::Depthwise { weights, .. } | Step::Separable { weights, .. } => weights.storage = Storage::F16,
        Step::Dense { shape, weights, block, .. } => {
            weights.storage = Storage::F16;
            *block = shape.output_channels.min(LEAST_BLOCK as usize) as u16;
        }
        _ => {}
    }
}

/// Lets dense convolutions widen as many output channels at a time as fit under the peak of the others.
fn widen_more(drafts: &mut [Draft], lifetimes: &[Lifetime]) -> Result<(), ExportError> {
    let buffers = live_bytes(lifetimes, drafts.len());
    let mut bound = 0;
    for (index, (draft, live)) in drafts.iter().zip(&buffers).enumerate() {
        bound = bound.max(live + draft.step.sizes().map_err(unsound(index))?.scratch);
    }
    for (draft, live) in drafts.iter_mut().zip(buffers) {
        if let Step::Dense { shape, weights: Weights { storage: Storage::F16, .. }, block, .. } = &mut draft.step {
            let channels = shape.output_channels;
            let column = (shape.weights() / channels * size_of::<f32>()) as u64;
            let fitting = (bound - live) / column;
            let fitting = if fitting < channels as u64 { fitting / LEAST_BLOCK * LEAST_BLOCK } else { fitting };
            let widened = channels.min(fitting.max(LEAST_BLOCK) as usize);
            *block = u16::try_from(widened).expect("the sizes were checked");
        }
    }
    Ok(())
}

/// The buffer of each step's scratch, where it has one, with its lifetime.
fn scratch(drafts: &[Draft], lifetimes: &mut Vec<Lifetime>) -> Result<Vec<Option<BufferId>>, ExportError> {
    let buffers = drafts.iter().enumerate().map(|(index, draft)| {
        let bytes = draft.step.sizes().map_err(unsound(index))?.scratch;
        Ok((bytes > 0).then(|| {
            lifetimes.push(Lifetime { bytes, steps: index..index + 1 });
            lifetimes.len() - 1
        }))
    });
    buffers.collect()
}

/// Puts the weights of one step behind those of another. Returns the bytes of them all.
fn place_weights(drafts: &mut [Draft]) -> Result<usize, ExportError> {
    let mut end: u64 = 0;
    for (index, draft) in drafts.iter_mut().enumerate() {
        let bytes = draft.step.sizes().map_err(unsound(index))?.weights;
        if let Step::Depthwise { weights, .. } | Step::Separable { weights, .. } | Step::Dense { weights, .. } =
            &mut draft.step
        {
            weights.offset = u32::try_from(end).map_err(|_| ExportError::Model(WriteError::TooLarge))?;
            end += bytes.next_multiple_of(4);
        }
        if let Step::Int8(Int8Step::Separable { weights, .. } | Int8Step::Dense { weights, .. }) = &mut draft.step {
            *weights = u32::try_from(end).map_err(|_| ExportError::Model(WriteError::TooLarge))?;
            end += bytes.next_multiple_of(4);
        }
    }
    Ok(end as usize)
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
        | Step::Separable { source, target, .. }
        | Step::Dense { source, target, .. }
        | Step::MaxPool { source, target, .. }
        | Step::AvgPool { source, target, .. }
        | Step::GlobalAvgPool { source, target, .. }
        | Step::Add { source, target, .. } => {
            moved(source, from);
            moved(target, to);
        }
        Step::Zero { target, .. } => moved(target, to),
        Step::Int8(step) => {
            let (source, target) = step.places_mut();
            if let Some(source) = source {
                moved(source, from);
            }
            moved(target, to);
        }
    }
    if let Step::Depthwise { scratch: start, .. }
    | Step::Separable { scratch: start, .. }
    | Step::Dense { scratch: start, .. }
    | Step::Int8(Int8Step::Separable { scratch: start, .. }) = &mut step
    {
        *start = at(scratch);
    }
    step
}
