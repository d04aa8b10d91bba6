//! Convolutions.

use super::{LANES, Space};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::lengths::{self, part_mut};
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
    if dot::is_available(kernels) && dot::fits_dense(parts, &shape) {
        // SAFETY: there is an instruction, and it fits.
        return unsafe { dot::dense(kernels, parts, input, target, shape, &mut _space.dot) };
    }
    // SAFETY: the body asks for nothing.
    unsafe {
        dispatch!(
            kernels,
            dense_body(parts: &[Int8Part<'_>], input: Int8Input, target: &mut Int8Target<'_>, shape: DenseShape)
        );
    }
}

/// Computes output row `row` of [`Kernels::int8_depthwise`].
#[allow(clippy::too_many_arguments)]
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
    if dot::is_available(kernels) && dot::fits_depthwise(shape) {
        // SAFETY: there is an instruction, and it fits.
        return unsafe { dot::depthwise_row(kernels, x, shape, input, weights, row, y, &mut _space.dot) };
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
            let Some(y) = y.get_mut(at + first..at + first + count) else { return };
            let mut values = [*zero; LANES];
            if *accumulate && let Some(before) = values.get_mut(..y.len()) {
                before.copy_from_slice(y);
            }
            finish(factors, first, count, sums, &mut values);
            copy(&values, y);
        }
        Int8Target::F32 { y, bias, scale } => {
            let factors = lengths::part(bias, first, count).iter().zip(lengths::part(scale, first, count));
            for ((y, &sum), (&bias, scale)) in part_mut(y, at + first, count).iter_mut().zip(sums).zip(factors) {
                *y = sum.wrapping_add(bias) as f32 * scale;
            }
        }
    }
}

#[inline(always)]
fn copy(values: &[i8; LANES], y: &mut [i8]) {
    if let Some(values) = values.get(..y.len()) {
        y.copy_from_slice(values);
    }
}

/// Adds the rescaled sums of `count` channels from `first` on to `values`.
#[inline(always)]
fn finish(factors: &ChannelFactors<'_>, first: usize, count: usize, sums: &[i32; LANES], values: &mut [i8; LANES]) {
    let channels = first..first + count;
    let (Some(multiplier), Some(shift)) = (factors.multiplier.get(channels.clone()), factors.shift.get(channels))
    else {
        return;
    };
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

/// Nothing here is particular to an instruction set: the loops over [`LANES`] are left to the compiler, for each of
/// them. What it makes of them is exact, whatever it is.
#[inline(always)]
unsafe fn dense_body<S: Simd>(
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
) {
    let output = shape.output();
    for row in 0..output.height {
        let mut column = 0;
        // Where nothing is done side by side, more at a time is only more code.
        if const { S::LANES > 1 } {
            while output.width - column >= PIXELS {
                pixels::<PIXELS>(parts, input, target, &shape, (row, column));
                column += PIXELS;
            }
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

/// Adds the products under the windows of output pixels to the sums of the output channels from `first` on: `WHOLE`
/// [`LANES`], or those that are left.
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
            let mut x: [&[i8]; P] = [&[]; P];
            for (pixel, x) in x.iter_mut().enumerate() {
                let w = shape.offset_width + (column + pixel) * shape.stride_width + j;
                let at = (h * shape.input.width + w) * channels;
                let Some(elements) = part.x.get(at..at + channels) else { return };
                *x = elements;
            }
            let tap = (i * shape.kernel_width + j) * channels * outputs;
            let weights = lengths::part(part.w, tap, channels * outputs).chunks_exact(outputs.max(1));
            for (channel, weights) in (0..channels).zip(weights) {
                let mut wide = [0; LANES];
                if WHOLE {
                    let Some(weights) = weights.get(first..first + LANES) else { return };
                    widen(weights, &mut wide);
                } else {
                    widen(lengths::rest(weights, first), &mut wide);
                }
                for (x, sums) in x.iter().zip(&mut *sums) {
                    let Some(&q) = x.get(channel) else { return };
                    let value = input.offset(q);
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
    for (column, y) in y.chunks_exact_mut(channels.max(1)).enumerate() {
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
            copy(&values, y);
        }
    }
}

/// Adds the products under the window of an output pixel to the sums of `count` channels from `first` on. Taps outside
/// of the image read a 0.
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
            let (x_at, tap_at) = ((h * width + w) * channels + first, (i * kernel + j) * channels + first);
            let (Some(x), Some(taps)) = (x.get(x_at..x_at + count), taps.get(tap_at..tap_at + count)) else {
                continue;
            };
            for ((sum, &q), &tap) in sums.iter_mut().zip(x).zip(taps) {
                *sum = sum.wrapping_add(input.offset(q) * i32::from(tap));
            }
        }
    }
}
