//! Execution of a step on images of 8-bit integers.

use core::ops::Range;

use darts_kernels_simd::{ChannelFactors, Int8Part, Int8Separable, Int8Target, SeparableShape};

use super::{Buffers, Elements, MAX_PARTS, Observed};
use crate::plan::{DenseWeights, Int8Step, Place, SeparableWeights, Step};

/// The regions of a step in the workspace; empty where it has none.
struct Operands<'s> {
    source: &'s [i8],
    target: &'s mut [i8],
    scratch: &'s mut [i8],
}

impl Buffers<'_> {
    /// Executes a step, and with it those `following` it that its sums go on in. Returns how many these are.
    pub(super) fn int8(&mut self, step: &Int8Step, following: impl Iterator<Item = Step>) -> Option<usize> {
        if let Int8Step::Dense { .. } = step {
            return self.int8_dense(step, following);
        }
        let (kernels, section, input, pixels) = (self.kernels, self.weights, self.input, self.pixels);
        let Operands { source, target, scratch } = self.int8_operands(step)?;
        match *step {
            Int8Step::Quantize { source: place, inverse_scale, zero, accumulate, .. } => match (place, pixels) {
                (Place::External, Some(pixels)) => pixels.quantize(kernels, inverse_scale, zero, target, accumulate),
                (Place::External, None) => kernels.int8_quantize(input, inverse_scale, zero, target, accumulate),
                (Place::Workspace(_), _) => {
                    let real = bytemuck::try_cast_slice(source).ok()?;
                    kernels.int8_quantize(real, inverse_scale, zero, target, accumulate);
                }
            },
            Int8Step::Dequantize { .. } if !cfg!(feature = "float") => return None,
            Int8Step::Dequantize { scale, zero, .. } => {
                kernels.int8_dequantize(source, scale, zero, bytemuck::try_cast_slice_mut(target).ok()?);
            }
            Int8Step::Prelude { shape, padding, input, .. } => {
                kernels.int8_prelude(source, shape, padding, input, target);
            }
            Int8Step::Separable { shape, input, middle_zero, zero, weights, accumulate, .. } => {
                let weights = separable_weights(section, weights, shape, middle_zero)?;
                kernels.int8_separable(source, shape, input, weights, target, zero, accumulate, scratch);
            }
            Int8Step::Dense { .. } => return None,
            Int8Step::MaxPool { shape, rescale, .. } => kernels.int8_max_pool(source, target, shape, rescale),
            Int8Step::AvgPool { shape, rescale, .. } => kernels.int8_avg_pool(source, target, shape, rescale),
            Int8Step::GlobalAvgPool { shape, rescale, .. } => {
                kernels.int8_global_avg_pool(source, shape, target, rescale);
            }
            Int8Step::Rescale { rescale, accumulate, .. } => {
                kernels.int8_rescale(source, target, rescale, accumulate);
            }
            Int8Step::Zero { zero, .. } => target.fill(zero),
        }
        Some(0)
    }

    /// A dense convolution over all parts of a concatenation.
    fn int8_dense(&mut self, first: &Int8Step, following: impl Iterator<Item = Step>) -> Option<usize> {
        let Int8Step::Dense { target, shape, input, zero, accumulate, .. } = *first else { return None };
        let sizes = Step::Int8(*first).sizes().ok()?;
        let range = placed(target, sizes.target)?;
        let workspace: &mut [i8] = bytemuck::cast_slice_mut(self.workspace);
        let (before, rest) = workspace.split_at_mut_checked(range.start)?;
        let (inside, after) = rest.split_at_mut_checked(range.len())?;
        let read = |place| {
            let source = placed(place, sizes.source)?;
            match source.start.checked_sub(range.end) {
                Some(start) => after.get(start..)?.get(..source.len()),
                None => before.get(source),
            }
        };
        let mut parts = heapless::Vec::<Int8Part<'_>, MAX_PARTS>::new();
        let mut steps = core::iter::once(Some(*first)).chain(following.map(|step| match step {
            Step::Int8(step) => Some(step),
            _ => None,
        }));
        let mut last = loop {
            let Int8Step::Dense { source, weights, more, .. } = steps.next()?? else { return None };
            let from = self.weights.get(usize::try_from(weights).ok()?..)?;
            let w = bytemuck::cast_slice(from.get(..shape.weights())?);
            parts.push(Int8Part { x: read(source)?, w }).ok()?;
            if !more {
                break Numbers(from);
            }
        };
        let channels = shape.output_channels;
        let real = target == Place::External;
        last.skip(DenseWeights { shape, more: false, real }.bias())?;
        let bias = last.words(channels)?;
        let target = if real {
            Int8Target::F32 { y: self.output, bias, scale: last.reals(channels)? }
        } else {
            let factors = ChannelFactors { bias, multiplier: last.words(channels)?, shift: last.bytes(channels)? };
            Int8Target::Int8 { y: inside, factors, zero, accumulate }
        };
        self.kernels.int8_dense(&parts, input, target, shape);
        Some(parts.len() - 1)
    }

    /// What a step has read and written.
    pub(super) fn int8_observed(&self, step: &Int8Step) -> Option<Observed<'_>> {
        let sizes = Step::Int8(*step).sizes().ok()?;
        let workspace: &[i8] = bytemuck::cast_slice(self.workspace);
        let bytes = |place, len| workspace.get(placed(place, len)?);
        let real = |bytes| Some(Elements::F32(bytemuck::try_cast_slice(bytes).ok()?));
        let source = match (*step, step.source()) {
            (_, None) => Elements::Int8(&[]),
            (_, Some(Place::External)) => Elements::F32(self.input),
            (Int8Step::Quantize { .. }, Some(place)) => real(bytes(place, sizes.source)?)?,
            (_, Some(place)) => Elements::Int8(bytes(place, sizes.source)?),
        };
        let target = match (*step, step.target()) {
            (_, Place::External) => Elements::F32(self.output),
            (Int8Step::Dequantize { .. }, place) => real(bytes(place, sizes.target)?)?,
            (_, place) => Elements::Int8(bytes(place, sizes.target)?),
        };
        Some(Observed { source, target })
    }

    fn int8_operands(&mut self, step: &Int8Step) -> Option<Operands<'_>> {
        let sizes = Step::Int8(*step).sizes().ok()?;
        let scratch = match step.scratch() {
            Some(start) => placed(Place::Workspace(start), sizes.scratch)?,
            None => 0..0,
        };
        let source = step.source().map_or(Some(0..0), |place| placed(place, sizes.source))?;
        let workspace: &mut [i8] = bytemuck::cast_slice_mut(self.workspace);
        let regions = [source, placed(step.target(), sizes.target)?, scratch];
        let [source, target, scratch] = workspace.get_disjoint_mut(regions).ok()?;
        Some(Operands { source, target, scratch })
    }
}

/// The bytes of the workspace at a place; none if it is outside.
fn placed(place: Place, bytes: u64) -> Option<Range<usize>> {
    match place {
        Place::External => Some(0..0),
        Place::Workspace(start) => {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(bytes).ok()?)?)
        }
    }
}

fn separable_weights(section: &[u8], offset: u32, shape: SeparableShape, middle_zero: i8) -> Option<Int8Separable<'_>> {
    let from = section.get(usize::try_from(offset).ok()?..)?;
    let (channels, outputs) = (shape.input.channels, shape.output_channels);
    let (depthwise, rest) = from.split_at_checked(shape.depthwise().weights())?;
    let pointwise = rest.get(..shape.pointwise().weights())?;
    let mut numbers = Numbers(from);
    numbers.skip(SeparableWeights { shape }.multipliers())?;
    let middle = numbers.words(channels)?;
    let (bias, multiplier) = (numbers.words(outputs)?, numbers.words(outputs)?);
    Some(Int8Separable {
        depthwise: bytemuck::cast_slice(depthwise),
        middle: ChannelFactors { bias: &[], multiplier: middle, shift: numbers.bytes(channels)? },
        middle_zero,
        pointwise: bytemuck::cast_slice(pointwise),
        factors: ChannelFactors { bias, multiplier, shift: numbers.bytes(outputs)? },
    })
}

/// Numbers of the weights section, one behind the other.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn words(&mut self, count: usize) -> Option<&'a [i32]> {
        bytemuck::try_cast_slice(self.bytes(count.checked_mul(4)?)?).ok()
    }

    fn reals(&mut self, count: usize) -> Option<&'a [f32]> {
        bytemuck::try_cast_slice(self.bytes(count.checked_mul(4)?)?).ok()
    }
}
