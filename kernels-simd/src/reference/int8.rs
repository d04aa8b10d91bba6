//! Inference on 8-bit integers, in integers that hold every intermediate exactly.

use crate::ops::int8::{ChannelFactors, Factor, Int8Input, Int8Part, Int8Separable, Int8Target, Rescale};
use crate::shape::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, SeparableShape};

/// `value` times the factor: the fraction's numerator and half its denominator, without a sign, then the sign again.
fn scaled(value: i64, factor: Factor) -> i64 {
    let product = i128::from(value) * i128::from(factor.multiplier);
    let magnitude = (product.abs() + (1 << (factor.shift - 1))) / (1 << factor.shift);
    (if product < 0 { -magnitude } else { magnitude }) as i64
}

fn saturated(value: i64) -> i8 {
    if value > 127 {
        127
    } else if value < -128 {
        -128
    } else {
        value as i8
    }
}

fn finished(sum: i64, channel: usize, factors: &ChannelFactors<'_>, before: i8) -> i8 {
    let bias = if factors.bias.is_empty() { 0 } else { factors.bias[channel] };
    let factor = Factor { multiplier: factors.multiplier[channel], shift: factors.shift[channel] };
    // Sums wrap as those of 32 bits.
    saturated(scaled((sum + i64::from(bias)) as i32 as i64, factor) + i64::from(before))
}

fn read(q: i8, input: Int8Input) -> i64 {
    let value = i64::from(q) - i64::from(input.zero);
    if input.relu && value < 0 { 0 } else { value }
}

/// See `Kernels::int8_prelude`.
pub fn int8_prelude(x: &[i8], shape: ImageShape, padding: Padding, input: Int8Input, y: &mut [i8]) {
    let padded = shape.padded(padding);
    for h in 0..padded.height {
        for w in 0..padded.width {
            for c in 0..shape.channels {
                let (row, column) = (h.wrapping_sub(padding.top), w.wrapping_sub(padding.left));
                let inside = row < shape.height && column < shape.width;
                let value = if inside { read(x[(row * shape.width + column) * shape.channels + c], input) } else { 0 };
                y[(h * padded.width + w) * shape.channels + c] = (value + i64::from(input.zero)) as i8;
            }
        }
    }
}

/// See `Kernels::int8_rescale`.
pub fn int8_rescale(x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool) {
    for i in 0..x.len() {
        let before = if accumulate { y[i] } else { rescale.target_zero };
        let value = i64::from(x[i]) - i64::from(rescale.source_zero);
        y[i] = saturated(scaled(value, rescale.factor) + i64::from(before));
    }
}

/// See `Kernels::int8_dense`.
pub fn int8_dense(parts: &[Int8Part<'_>], input: Int8Input, target: Int8Target<'_>, shape: DenseShape) {
    let output = shape.output();
    let (channels, outputs) = (shape.input.channels, shape.output_channels);
    let sums = |row: usize, column: usize, o: usize| {
        let mut sum = 0;
        for part in parts {
            for i in 0..shape.kernel_height {
                for j in 0..shape.kernel_width {
                    for c in 0..channels {
                        let h = shape.offset_height + row * shape.stride_height + i;
                        let w = shape.offset_width + column * shape.stride_width + j;
                        let q = part.x[(h * shape.input.width + w) * channels + c];
                        let weight = part.w[((i * shape.kernel_width + j) * channels + c) * outputs + o];
                        sum += read(q, input) * i64::from(weight);
                    }
                }
            }
        }
        sum
    };
    let place = |row: usize, column: usize, o: usize| (row * output.width + column) * shape.output_pixel_stride + o;
    let all = (0..output.height)
        .flat_map(|row| (0..output.width).flat_map(move |column| (0..outputs).map(move |o| (row, column, o))));
    match target {
        Int8Target::Int8 { y, factors, zero, accumulate } => {
            for (row, column, o) in all {
                let y = &mut y[place(row, column, o)];
                *y = finished(sums(row, column, o), o, &factors, if accumulate { *y } else { zero });
            }
        }
        Int8Target::F32 { y, bias, scale } => {
            for (row, column, o) in all {
                let sum = (sums(row, column, o) + i64::from(bias[o])) as i32;
                y[place(row, column, o)] = sum as f32 * scale[o];
            }
        }
    }
}

fn depthwise(x: &[i8], input: Int8Input, shape: DepthwiseShape, weights: &Int8Separable<'_>, y: &mut [i8]) {
    let (output, channels) = (shape.output(), shape.input.channels);
    for row in 0..output.height {
        for column in 0..output.width {
            for c in 0..channels {
                let mut sum = 0;
                for i in 0..shape.kernel {
                    for j in 0..shape.kernel {
                        let h = row * shape.stride + i * shape.dilation;
                        let w = column * shape.stride + j * shape.dilation;
                        let weight = weights.depthwise[(i * shape.kernel + j) * channels + c];
                        sum += read(x[(h * shape.input.width + w) * channels + c], input) * i64::from(weight);
                    }
                }
                y[(row * output.width + column) * channels + c] =
                    finished(sum, c, &weights.middle, weights.middle_zero);
            }
        }
    }
}

/// See `Kernels::int8_separable`; `padded` and `middle` hold the padded input and the depthwise convolution's output.
#[allow(clippy::too_many_arguments)]
pub fn int8_separable(
    x: &[i8],
    shape: SeparableShape,
    input: Int8Input,
    weights: Int8Separable<'_>,
    y: &mut [i8],
    zero: i8,
    accumulate: bool,
    padded: &mut [i8],
    middle: &mut [i8],
) {
    int8_prelude(x, shape.input, shape.padding(), Int8Input { relu: false, ..input }, padded);
    depthwise(padded, input, shape.depthwise(), &weights, middle);
    let between = Int8Input { zero: weights.middle_zero, relu: false };
    let target = Int8Target::Int8 { y, factors: weights.factors, zero, accumulate };
    int8_dense(&[Int8Part { x: middle, w: weights.pointwise }], between, target, shape.pointwise());
}

/// The pixels of a window that lie inside the image, of channel `c`.
fn window(x: &[i8], shape: PoolShape, row: usize, column: usize, c: usize) -> impl Iterator<Item = i64> + '_ {
    let pixels = (0..shape.kernel).flat_map(move |i| (0..shape.kernel).map(move |j| (i, j)));
    pixels.filter_map(move |(i, j)| {
        let h = (row * shape.stride + i).checked_sub(shape.padding)?;
        let w = (column * shape.stride + j).checked_sub(shape.padding)?;
        let inside = h < shape.input.height && w < shape.input.width;
        inside.then(|| i64::from(x[(h * shape.input.width + w) * shape.input.channels + c]))
    })
}

fn pool(
    x: &[i8],
    y: &mut [i8],
    shape: PoolShape,
    rescale: Rescale,
    of_window: impl Fn(&mut dyn Iterator<Item = i64>) -> i64,
) {
    let output = shape.output();
    for row in 0..output.height {
        for column in 0..output.width {
            for c in 0..output.channels {
                let value = of_window(&mut window(x, shape, row, column, c)) - i64::from(rescale.source_zero);
                let value = scaled(value, rescale.factor) + i64::from(rescale.target_zero);
                y[(row * output.width + column) * output.channels + c] = saturated(value);
            }
        }
    }
}

/// See `Kernels::int8_max_pool`.
pub fn int8_max_pool(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    pool(x, y, shape, rescale, |values| values.max().unwrap_or(0));
}

/// See `Kernels::int8_avg_pool`.
pub fn int8_avg_pool(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    pool(x, y, shape, rescale, |values| {
        let (sum, count) = values.fold((0, 0), |(sum, count), value| (sum + value, count + 1));
        let magnitude = (2 * i64::abs(sum) + count) / (2 * count);
        if sum < 0 { -magnitude } else { magnitude }
    });
}

/// See `Kernels::int8_global_avg_pool`.
pub fn int8_global_avg_pool(x: &[i8], shape: ImageShape, y: &mut [i8], rescale: Rescale) {
    for c in 0..shape.channels {
        let values = (0..shape.pixels()).map(|pixel| i64::from(x[pixel * shape.channels + c]));
        let sum: i64 = values.map(|q| q - i64::from(rescale.source_zero)).sum();
        y[c] = saturated(scaled(sum as i32 as i64, rescale.factor) + i64::from(rescale.target_zero));
    }
}
