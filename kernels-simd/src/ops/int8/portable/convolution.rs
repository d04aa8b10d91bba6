//! Convolutions.

use super::{LANES, Space};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::ops::int8::dot;
use crate::ops::int8::{ChannelFactors, Factor, Int8Depthwise, Int8Input, Int8Part, Int8Target, clamp};
use crate::shape::{DenseShape, ImageShape, SeparableShape};

/// The body of [`Kernels::int8_dense`].
pub(in crate::ops::int8) fn dense(
    kernels: Kernels,
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
    _space: &mut Space,
) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if kernels.int8_dot().is_some() && dot::fits_dense(parts, &shape) {
        // SAFETY: the processor has the instruction, and it fits.
        return unsafe { dot::dense(parts, input, target, shape, &mut _space.dot) };
    }
    // SAFETY: the body asks for nothing.
    unsafe {
        dispatch!(
            kernels,
            dense_body(parts: &[Int8Part<'_>], input: Int8Input, target: &mut Int8Target<'_>, shape: DenseShape)
        );
    }
}

#[allow(clippy::too_many_arguments)]
/// Computes output row `row` of [`Kernels::int8_depthwise`].
pub(in crate::ops::int8) fn depthwise_row(
    kernels: Kernels,
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Depthwise<'_>,
    row: usize,
    y: &mut [i8],
    _space: &mut Space,
) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if kernels.int8_dot().is_some() && dot::fits_depthwise(shape) {
        // SAFETY: the processor has the instruction, and it fits.
        return unsafe { dot::depthwise_row(x, shape, input, weights, row, y, &mut _space.dot) };
    }
    // SAFETY: the body asks for nothing.
    unsafe {
        dispatch!(
            kernels,
            depthwise_row_body(
                x: &[i8],
                shape: &SeparableShape,
                input: Int8Input,
                weights: &Int8Depthwise<'_>,
                row: usize,
                y: &mut [i8],
            )
        );
    }
}

/// Writes the sums of `count` channels from `first` on of the pixel at element `at`.
#[inline(always)]
fn write(target: &mut Int8Target<'_>, at: usize, first: usize, count: usize, sums: &[i32; LANES]) {
    match target {
        Int8Target::Int8 { y, factors, zero, accumulate } => {
            let y = &mut y[at + first..][..count];
            let mut values = [*zero; LANES];
            if *accumulate {
                values[..count].copy_from_slice(y);
            }
            finish(factors, first, count, sums, &mut values);
            y.copy_from_slice(&values[..count]);
        }
        Int8Target::F32 { y, bias, scale } => {
            let y = &mut y[at + first..][..count];
            for (channel, (y, &sum)) in (first..).zip(y.iter_mut().zip(sums)) {
                *y = sum.wrapping_add(bias[channel]) as f32 * scale[channel];
            }
        }
    }
}

/// Adds the rescaled sums of `count` channels from `first` on to `values`.
#[inline(always)]
fn finish(factors: &ChannelFactors<'_>, first: usize, count: usize, sums: &[i32; LANES], values: &mut [i8; LANES]) {
    let (multiplier, shift) = (&factors.multiplier[first..][..count], &factors.shift[first..][..count]);
    let mut biased = *sums;
    if let Some(bias) = factors.bias.get(first..first + count) {
        biased.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum = sum.wrapping_add(bias));
    }
    for (((value, &sum), &multiplier), &shift) in values.iter_mut().zip(&biased).zip(multiplier).zip(shift) {
        *value = clamp(Factor { multiplier, shift }.apply(sum) + i64::from(*value));
    }
}

/// Neighbouring pixels of a row whose sums are kept together, so that weights are widened once for all of them.
const PIXELS: usize = 4;

/// Nothing here is particular to an instruction set: the loops over [`LANES`] are left to the compiler, for each of them. What
/// it makes of them is exact, whatever it is.
#[inline(always)]
unsafe fn dense_body<S: Simd>(
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
) {
    let output = shape.output();
    // Where nothing is done side by side, more at a time is only more code.
    let pixels_at_once = if const { S::LANES > 1 } { PIXELS } else { usize::MAX };
    for row in 0..output.height {
        let mut column = 0;
        while output.width - column >= pixels_at_once {
            pixels::<PIXELS>(parts, input, target, &shape, (row, column));
            column += PIXELS;
        }
        for column in column..output.width {
            pixels::<1>(parts, input, target, &shape, (row, column));
        }
    }
}

/// `P` output pixels from the given one on.
#[inline(always)]
fn pixels<const P: usize>(
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: &DenseShape,
    (row, column): (usize, usize),
) {
    for first in (0..shape.output_channels).step_by(LANES) {
        let count = LANES.min(shape.output_channels - first);
        let mut sums = [[0i32; LANES]; P];
        for part in parts {
            if count == LANES {
                add_window::<P, true>(part, input, shape, (row, column), first, &mut sums);
            } else {
                add_window::<P, false>(part, input, shape, (row, column), first, &mut sums);
            }
        }
        for (pixel, sums) in (column..).zip(&sums) {
            let at = (row * shape.output().width + pixel) * shape.output_pixel_stride;
            write(target, at, first, count, sums);
        }
    }
}

/// Adds the products under the windows of output pixels to the sums of the output channels from `first` on: `WHOLE` [`LANES`],
/// or those that are left.
#[inline(always)]
fn add_window<const P: usize, const WHOLE: bool>(
    part: &Int8Part<'_>,
    input: Int8Input,
    shape: &DenseShape,
    (row, column): (usize, usize),
    first: usize,
    sums: &mut [[i32; LANES]; P],
) {
    let (channels, outputs) = (shape.input.channels, shape.output_channels);
    for i in 0..shape.kernel_height {
        for j in 0..shape.kernel_width {
            let h = shape.offset_height + row * shape.stride_height + i;
            let x: [&[i8]; P] = core::array::from_fn(|pixel| {
                let w = shape.offset_width + (column + pixel) * shape.stride_width + j;
                &part.x[(h * shape.input.width + w) * channels..][..channels]
            });
            let weights = &part.w[(i * shape.kernel_width + j) * channels * outputs..][..channels * outputs];
            for (channel, weights) in weights.chunks_exact(outputs).enumerate() {
                let weights = &weights[first..];
                let mut wide = [0; LANES];
                if WHOLE {
                    widen(&weights[..LANES], &mut wide);
                } else {
                    widen(weights, &mut wide);
                }
                for (x, sums) in x.iter().zip(&mut *sums) {
                    let value = input.offset(x[channel]);
                    sums.iter_mut().zip(wide).for_each(|(sum, weight)| *sum = sum.wrapping_add(value * weight));
                }
            }
        }
    }
}

#[inline(always)]
fn widen(values: &[i8], wide: &mut [i32; LANES]) {
    wide.iter_mut().zip(values).for_each(|(wide, &value)| *wide = value.into());
}

#[inline(always)]
unsafe fn depthwise_row_body<S: Simd>(
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Depthwise<'_>,
    row: usize,
    y: &mut [i8],
) {
    let channels = shape.input.channels;
    for (column, y) in y.chunks_exact_mut(channels).enumerate() {
        for (first, y) in (0..).step_by(LANES).zip(y.chunks_mut(LANES)) {
            let mut sums = [0; LANES];
            let count = y.len();
            if count == LANES {
                add_taps(x, shape, input, weights.w, (row, column), first, LANES, &mut sums);
            } else {
                add_taps(x, shape, input, weights.w, (row, column), first, count, &mut sums);
            }
            let mut values = [weights.zero; LANES];
            finish(&weights.factors, first, count, &sums, &mut values);
            y.copy_from_slice(&values[..count]);
        }
    }
}

/// Adds the products under the window of an output pixel to the sums of `count` channels from `first` on. Taps outside of the
/// image read a 0.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn add_taps(
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    taps: &[i8],
    (row, column): (usize, usize),
    first: usize,
    count: usize,
    sums: &mut [i32; LANES],
) {
    let SeparableShape { input: ImageShape { width, channels, .. }, kernel, stride, dilation, .. } = *shape;
    let border = shape.padding().left;
    for i in shape.taps(row) {
        let h = row * stride + i * dilation - border;
        for j in 0..kernel {
            let Some(w) = (column * stride + j * dilation).checked_sub(border).filter(|&w| w < width) else {
                continue;
            };
            let x = &x[(h * width + w) * channels + first..][..count];
            let taps = &taps[(i * kernel + j) * channels + first..][..count];
            for ((sum, &q), &tap) in sums.iter_mut().zip(x).zip(taps) {
                *sum = sum.wrapping_add(input.offset(q) * i32::from(tap));
            }
        }
    }
}
