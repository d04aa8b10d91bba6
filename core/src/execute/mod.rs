//! Execution of a step. Steps have been checked ([`Step::check`]), so that no kernel is called with a length it
//! refuses; `None` would mean a step that was not.

mod int8;
mod pixels;

use core::ops::Range;

use darts_kernels_simd::{DensePart, DenseShape, Kernels, Prelude, SeparableScratch};

pub(crate) use self::pixels::Pixels;
use crate::plan::{Place, Step, Storage, Weights, align4};

/// What steps read and write.
pub(crate) struct Buffers<'b> {
    pub(crate) kernels: Kernels,
    /// The normalised image; empty if it is there as `pixels` only.
    pub(crate) input: &'b [f32],
    pub(crate) pixels: Option<Pixels<'b>>,
    pub(crate) workspace: &'b mut [f32],
    pub(crate) output: &'b mut [f32],
    pub(crate) weights: &'b [u8],
}

/// The regions of a step.
struct Operands<'s> {
    source: &'s [f32],
    target: &'s mut [f32],
    scratch: &'s mut [f32],
}

/// The images of a step that has been executed.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'o> {
    /// What it read, `[H, W, C]`; empty if it read nothing.
    pub source: Elements<'o>,
    /// What it wrote, from the first to the last element.
    pub target: Elements<'o>,
}

/// The elements of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Elements<'o> {
    /// Real numbers.
    F32(&'o [f32]),
    /// 8-bit integers; what they stand for depends on the image's scale and zero, which the plan does not state.
    Int8(&'o [i8]),
}

/// Parts of a concatenation, at most, whose convolutions are executed as one.
pub(crate) const MAX_PARTS: usize = 8;

impl Buffers<'_> {
    /// Executes a step, and with it those `following` it that it can be one kernel call with. Returns how many these
    /// are. The results are the same as one by one.
    pub(crate) fn execute(&mut self, step: &Step, following: impl Iterator<Item = Step>) -> Option<usize> {
        match step {
            Step::Int8(step) => return self.int8(step, following),
            _ if !cfg!(feature = "float") => return None,
            Step::Dense { weights: Weights { storage: Storage::F32, .. }, .. } => {
                return self.dense_sum(step, following);
            }
            _ => {}
        }
        let (kernels, weight_bytes) = (self.kernels, self.weights);
        let Operands { source, target, scratch } = self.operands(step)?;
        match *step {
            Step::Prelude { shape, padding, relu, .. } => {
                kernels.prelude(source, shape, padding, prelude(relu), target);
            }
            Step::Depthwise { shape, weights, .. } => {
                let stored = weights.stored(weight_bytes, shape.weights(), None)?;
                kernels.depthwise(source, stored.all(kernels, scratch)?, target, shape);
            }
            Step::Separable { shape, relu, weights, bias, accumulate, .. } => {
                let depthwise = shape.depthwise().weights();
                let bias = bias.then_some(shape.output_channels);
                let stored = weights.stored(weight_bytes, depthwise + shape.pointwise().weights(), bias)?;
                let (rows, widened) = scratch.split_at_mut_checked(shape.forward_scratch())?;
                let (depthwise, pointwise) = stored.all(kernels, widened)?.split_at_checked(depthwise)?;
                let (prelude, bias, rows) = (prelude(relu), stored.bias, SeparableScratch::new(rows));
                kernels.separable(source, shape, prelude, depthwise, pointwise, bias, target, accumulate, None, rows);
            }
            Step::Dense { shape, relu, weights, bias, accumulate, block, .. } => {
                let stored = weights.stored(weight_bytes, shape.weights(), bias.then_some(shape.output_channels))?;
                let how = (shape, relu, block.into(), accumulate);
                dense_in_blocks(kernels, source, &stored, scratch, target, how)?;
            }
            Step::MaxPool { shape, .. } => kernels.max_pool(source, target, shape),
            Step::AvgPool { shape, .. } => kernels.avg_pool(source, target, shape),
            Step::GlobalAvgPool { shape, .. } => kernels.global_avg_pool(source, shape, target),
            Step::Add { .. } => kernels.axpy(1.0, source, target),
            Step::Zero { .. } => target.fill(0.0),
            Step::Int8(_) => return None,
        }
        Some(0)
    }

    /// A dense convolution with `f32` weights, with those behind it that only add to the same target: a convolution of
    /// a concatenation reads and writes its target once.
    fn dense_sum(&mut self, first: &Step, following: impl Iterator<Item = Step>) -> Option<usize> {
        let Step::Dense { target, shape, relu, weights, bias, accumulate, .. } = *first else { return None };
        let sizes = first.sizes().ok()?;
        let range = placed(target, sizes.target)?;
        let (before, rest) = self.workspace.split_at_mut_checked(range.start)?;
        let (inside, after) = rest.split_at_mut_checked(range.len())?;
        let input = self.input;
        let read = |place| match place {
            Place::External => Some(input),
            Place::Workspace(start) => {
                let source = elements(start, sizes.source)?;
                match source.start.checked_sub(range.end) {
                    Some(start) => after.get(start..)?.get(..source.len()),
                    None => before.get(source),
                }
            }
        };
        let stored = weights.stored(self.weights, shape.weights(), bias.then_some(shape.output_channels))?;
        let mut parts = heapless::Vec::<DensePart<'_>, MAX_PARTS>::new();
        parts.push(DensePart { x: read(first.source()?)?, w: stored.single()? }).ok()?;
        for step in following {
            let Step::Dense { source, weights, .. } = step else { break };
            let wanted = Step::Dense {
                source,
                target,
                shape,
                relu,
                weights,
                bias: false,
                accumulate: true,
                scratch: 0,
                block: 0,
            };
            if step != wanted || weights.storage != Storage::F32 || parts.is_full() {
                break;
            }
            let stored = weights.stored(self.weights, shape.weights(), None)?;
            parts.push(DensePart { x: read(source)?, w: stored.single()? }).ok()?;
        }
        let target = if target == Place::External { &mut *self.output } else { inside };
        self.kernels.dense_sum(&parts, relu, stored.bias, target, shape, accumulate);
        Some(parts.len() - 1)
    }

    /// What a step has read and written.
    pub(crate) fn observed(&mut self, step: &Step) -> Option<Observed<'_>> {
        if let Step::Int8(step) = step {
            return self.int8_observed(step);
        }
        let Operands { source, target, .. } = self.operands(step)?;
        Some(Observed { source: Elements::F32(source), target: Elements::F32(target) })
    }

    fn operands(&mut self, step: &Step) -> Option<Operands<'_>> {
        let sizes = step.sizes().ok()?;
        let scratch = match step.scratch() {
            Some(start) => elements(start, sizes.scratch)?,
            None => 0..0,
        };
        let source = step.source().map_or(Some(0..0), |place| placed(place, sizes.source))?;
        let regions = [source, placed(step.target(), sizes.target)?, scratch];
        let [source, target, scratch] = self.workspace.get_disjoint_mut(regions).ok()?;
        Some(Operands {
            source: if step.source() == Some(Place::External) { self.input } else { source },
            target: if step.target() == Place::External { self.output } else { target },
            scratch,
        })
    }
}

fn prelude(relu: bool) -> Prelude<'static> {
    if relu { Prelude::Relu } else { Prelude::Copy }
}

/// The elements of the workspace at a place; none if it is outside.
fn placed(place: Place, bytes: u64) -> Option<Range<usize>> {
    match place {
        Place::External => Some(0..0),
        Place::Workspace(start) => elements(start, bytes),
    }
}

fn elements(start: u32, bytes: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start / 4).ok()?;
    Some(start..start.checked_add(usize::try_from(bytes / 4).ok()?)?)
}

/// Weights as they lie in the file.
struct Stored<'a> {
    values: Values<'a>,
    bias: Option<&'a [f32]>,
}

enum Values<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
}

impl Weights {
    /// `count` weights, and the bias of so many channels behind them.
    fn stored<'a>(&self, section: &'a [u8], count: usize, bias: Option<usize>) -> Option<Stored<'a>> {
        let bytes = match self.storage {
            Storage::F32 => count.checked_mul(4)?,
            Storage::F16 => count.checked_mul(2)?,
        };
        let from = section.get(usize::try_from(self.offset).ok()?..)?;
        let values = from.get(..bytes)?;
        let values = match self.storage {
            Storage::F32 => Values::F32(bytemuck::try_cast_slice(values).ok()?),
            Storage::F16 => Values::F16(bytemuck::try_cast_slice(values).ok()?),
        };
        let bias = match bias {
            Some(channels) => {
                let start = usize::try_from(align4(bytes as u64)).ok()?;
                let bytes = from.get(start..)?.get(..channels.checked_mul(4)?)?;
                Some(bytemuck::try_cast_slice(bytes).ok()?)
            }
            None => None,
        };
        Some(Stored { values, bias })
    }
}

impl<'a> Stored<'a> {
    /// The weights, if they are `f32`.
    fn single(&self) -> Option<&'a [f32]> {
        match self.values {
            Values::F32(values) => Some(values),
            Values::F16(_) => None,
        }
    }

    /// All weights, widened into the scratch if they have to be.
    fn all<'s>(&self, kernels: Kernels, scratch: &'s mut [f32]) -> Option<&'s [f32]>
    where
        'a: 's,
    {
        match self.values {
            Values::F32(values) => Some(values),
            Values::F16(values) => {
                let widened = scratch.get_mut(..values.len())?;
                kernels.f16_to_f32(values, widened);
                Some(widened)
            }
        }
    }
}

/// A dense convolution with `f16` weights, some output channels at a time. Each output element is computed as it would
/// be at once.
fn dense_in_blocks(
    kernels: Kernels,
    source: &[f32],
    stored: &Stored<'_>,
    scratch: &mut [f32],
    target: &mut [f32],
    (shape, relu, block, accumulate): (DenseShape, bool, usize, bool),
) -> Option<()> {
    let Values::F16(values) = stored.values else { return None };
    let channels = shape.output_channels;
    let rows = values.len().checked_div(channels)?;
    for first in (0..channels).step_by(block.max(1)) {
        let count = block.min(channels - first);
        let part = DenseShape { output_channels: count, ..shape };
        let widened = scratch.get_mut(..rows * count)?;
        if count == channels {
            kernels.f16_to_f32(values, widened);
        } else {
            for (row, widened) in values.chunks_exact(channels.max(1)).zip(widened.chunks_exact_mut(count.max(1))) {
                kernels.f16_to_f32(row.get(first..first + count)?, widened);
            }
        }
        let bias = match stored.bias {
            Some(bias) => Some(bias.get(first..first + count)?),
            None => None,
        };
        let target = target.get_mut(first..)?.get_mut(..part.output_len())?;
        let parts = [DensePart { x: source, w: widened }];
        kernels.dense_sum(&parts, relu, bias, target, part, accumulate);
    }
    Some(())
}
