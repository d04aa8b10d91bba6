//! Execution of a step. Steps have been checked ([`Step::check`]), so that no kernel is called with a length it refuses;
//! `None` would mean a step that was not.

use core::ops::Range;

use darts_kernels_simd::{DenseShape, Kernels, Prelude};

use crate::plan::{Place, Step, Storage, Weights, align4};

/// What steps read and write.
pub(crate) struct Buffers<'b> {
    pub(crate) kernels: Kernels,
    pub(crate) input: &'b [f32],
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

impl Buffers<'_> {
    pub(crate) fn execute(&mut self, step: &Step) -> Option<()> {
        let (kernels, weight_bytes) = (self.kernels, self.weights);
        let Operands { source, target, scratch } = self.operands(step)?;
        match *step {
            Step::Prelude { shape, padding, relu, .. } => {
                let prelude = if relu { Prelude::Relu } else { Prelude::Copy };
                kernels.prelude(source, shape, padding, prelude, target);
            }
            Step::Depthwise { shape, weights, .. } => {
                let stored = weights.stored(weight_bytes, shape.weights(), None)?;
                kernels.depthwise(source, stored.all(kernels, scratch)?, target, shape);
            }
            Step::Dense { shape, weights, bias, accumulate, .. } => {
                let stored = weights.stored(weight_bytes, shape.weights(), bias.then_some(shape.output_channels))?;
                match weights.storage {
                    Storage::F16 { block, .. } if usize::from(block) < shape.output_channels => {
                        dense_in_blocks(kernels, source, &stored, scratch, target, (shape, block.into(), accumulate))?;
                    }
                    _ => {
                        let weights = stored.all(kernels, scratch)?;
                        kernels.dense(source, weights, stored.bias, target, shape, accumulate);
                    }
                }
            }
            Step::MaxPool { shape, .. } => kernels.max_pool(source, target, shape),
            Step::AvgPool { shape, .. } => kernels.avg_pool(source, target, shape),
            Step::GlobalAvgPool { shape, .. } => kernels.global_avg_pool(source, shape, target),
            Step::Add { .. } => kernels.axpy(1.0, source, target),
            Step::Zero { .. } => target.fill(0.0),
        }
        Some(())
    }

    fn operands(&mut self, step: &Step) -> Option<Operands<'_>> {
        let sizes = step.sizes().ok()?;
        let scratch = match step.weights().map(|weights| weights.storage) {
            Some(Storage::F16 { scratch, .. }) => elements(scratch, sizes.scratch)?,
            _ => 0..0,
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
            Storage::F16 { .. } => count.checked_mul(2)?,
        };
        let from = section.get(usize::try_from(self.offset).ok()?..)?;
        let values = from.get(..bytes)?;
        let values = match self.storage {
            Storage::F32 => Values::F32(bytemuck::try_cast_slice(values).ok()?),
            Storage::F16 { .. } => Values::F16(bytemuck::try_cast_slice(values).ok()?),
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

/// A dense convolution, some output channels at a time. Each output element is computed as it would be at once.
fn dense_in_blocks(
    kernels: Kernels,
    source: &[f32],
    stored: &Stored<'_>,
    scratch: &mut [f32],
    target: &mut [f32],
    (shape, block, accumulate): (DenseShape, usize, bool),
) -> Option<()> {
    let Values::F16(values) = stored.values else { return None };
    let channels = shape.output_channels;
    let rows = values.len().checked_div(channels)?;
    for first in (0..channels).step_by(block.max(1)) {
        let count = block.min(channels - first);
        let part = DenseShape { output_channels: count, ..shape };
        let widened = scratch.get_mut(..rows * count)?;
        for (row, widened) in values.chunks_exact(channels).zip(widened.chunks_exact_mut(count)) {
            kernels.f16_to_f32(row.get(first..first + count)?, widened);
        }
        let bias = match stored.bias {
            Some(bias) => Some(bias.get(first..first + count)?),
            None => None,
        };
        let target = target.get_mut(first..)?.get_mut(..part.output_len())?;
        kernels.dense(source, widened, bias, target, part, accumulate);
    }
    Some(())
}
