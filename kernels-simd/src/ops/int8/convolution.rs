//! Convolutions.

use super::{ChannelFactors, Int8Input, LANES, clamp};
use crate::kernels::Kernels;
use crate::shape::{DenseShape, ImageShape, SeparableShape};

/// One part of a concatenation along the channels.
#[derive(Clone, Copy, Debug)]
pub struct Int8Part<'a> {
    /// Padded image `[H, W, C_in]`.
    pub x: &'a [i8],
    /// `[kh, kw, C_in, C_out]`.
    pub w: &'a [i8],
}

/// Where a dense convolution writes.
#[derive(Debug)]
pub enum Int8Target<'a> {
    /// To an image.
    Int8 {
        /// Elements from the first of the output on.
        y: &'a mut [i8],
        /// What becomes of the sums.
        factors: ChannelFactors<'a>,
        /// What stands for 0 in the image.
        zero: i8,
        /// Whether to add to the image, whose scale alone counts then, instead of overwriting it.
        accumulate: bool,
    },
    /// As real numbers, overwritten.
    F32 {
        /// Elements from the first of the output on.
        y: &'a mut [f32],
        /// Added to the sums.
        bias: &'a [i32],
        /// Scale of the sums of each output channel.
        scale: &'a [f32],
    },
}

/// The weights of a separable convolution.
#[derive(Clone, Copy, Debug)]
pub struct Int8Separable<'a> {
    /// `[k, k, C]`.
    pub depthwise: &'a [i8],
    /// From the sums of the depthwise convolution to the elements between the two.
    pub middle: ChannelFactors<'a>,
    /// What stands for 0 there.
    pub middle_zero: i8,
    /// `[C, C_out]`.
    pub pointwise: &'a [i8],
    /// From the sums of the pointwise convolution to the output.
    pub factors: ChannelFactors<'a>,
}

impl Kernels {
    /// Dense convolution of a concatenation, as [`dense_sum`](Self::dense_sum): every part is an image of `shape.input`, all
    /// with the scale and the zero of `input`; the sums over all parts are rounded once.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn int8_dense(self, parts: &[Int8Part<'_>], input: Int8Input, mut target: Int8Target<'_>, shape: DenseShape) {
        assert!(shape.is_sane() && shape.output_pixel_stride >= shape.output_channels, "int8_dense: {shape:?}");
        for part in parts {
            let lengths = (part.x.len(), part.w.len());
            assert_eq!(lengths, (shape.input.len(), shape.weights()), "int8_dense: x, w of {shape:?}");
        }
        target.check(shape);
        let output = shape.output();
        for row in 0..output.height {
            for column in 0..output.width {
                let at = (row * output.width + column) * shape.output_pixel_stride;
                for first in (0..shape.output_channels).step_by(LANES) {
                    let count = LANES.min(shape.output_channels - first);
                    let mut sums = [0i32; LANES];
                    for part in parts {
                        add_window(part, input, &shape, (row, column), first, &mut sums[..count]);
                    }
                    target.write(at, first, &sums[..count]);
                }
            }
        }
    }

    /// A separable convolution of one image `x` `[H, W, C]` with "same" padding, as [`separable`](Self::separable): the
    /// depthwise convolution's output is rounded to elements of 8 bits, with `middle_zero` as their zero. `y`
    /// `[H_out, W_out, C_out]` has the zero `zero`, and is overwritten or, with `accumulate`, added to. `scratch` holds
    /// [`SeparableShape::int8_scratch`] elements, of any value.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `scratch` may be longer.
    #[allow(clippy::too_many_arguments)]
    pub fn int8_separable(
        self,
        x: &[i8],
        shape: SeparableShape,
        input: Int8Input,
        weights: Int8Separable<'_>,
        y: &mut [i8],
        zero: i8,
        accumulate: bool,
        scratch: &mut [i8],
    ) {
        let (output, channels) = (shape.output(), shape.input.channels);
        assert!(
            shape.is_sane()
                && x.len() == shape.input.len()
                && y.len() == output.len()
                && weights.depthwise.len() == shape.depthwise().weights()
                && weights.pointwise.len() == shape.pointwise().weights()
                && weights.middle.fits(channels)
                && weights.factors.fits(shape.output_channels)
                && scratch.len() >= shape.int8_scratch(),
            "int8_separable: x, y, weights and scratch of {}, {}, {}, {} and {} elements do not fit {shape:?}",
            x.len(),
            y.len(),
            weights.depthwise.len(),
            weights.pointwise.len(),
            scratch.len()
        );
        let middle = &mut scratch[..output.width * channels];
        let row = DenseShape::pointwise(ImageShape::new(1, output.width, channels), output.channels);
        let between = Int8Input { zero: weights.middle_zero, relu: false };
        let len = output.width * output.channels;
        for (index, y) in y.chunks_exact_mut(len).enumerate() {
            depthwise_row(x, &shape, input, &weights, index, middle);
            let target = Int8Target::Int8 { y, factors: weights.factors, zero, accumulate };
            self.int8_dense(&[Int8Part { x: middle, w: weights.pointwise }], between, target, row);
        }
    }
}

impl Int8Target<'_> {
    fn check(&self, shape: DenseShape) {
        let channels = shape.output_channels;
        let (len, fits) = match self {
            Self::Int8 { y, factors, .. } => (y.len(), factors.fits(channels)),
            Self::F32 { y, bias, scale } => (y.len(), [bias.len(), scale.len()] == [channels; 2]),
        };
        assert!(fits && len == shape.output_len(), "int8_dense: y of {len} elements, or factors, for {shape:?}");
    }

    /// Writes the sums of the channels from `first` on of the pixel at element `at`.
    #[inline(always)]
    fn write(&mut self, at: usize, first: usize, sums: &[i32]) {
        match self {
            Self::Int8 { y, factors, zero, accumulate } => {
                let y = &mut y[at + first..][..sums.len()];
                for (channel, (y, &sum)) in (first..).zip(y.iter_mut().zip(sums)) {
                    let before = if *accumulate { *y } else { *zero };
                    *y = clamp(factors.apply(channel, sum) + i64::from(before));
                }
            }
            Self::F32 { y, bias, scale } => {
                let y = &mut y[at + first..][..sums.len()];
                for (channel, (y, &sum)) in (first..).zip(y.iter_mut().zip(sums)) {
                    *y = sum.wrapping_add(bias[channel]) as f32 * scale[channel];
                }
            }
        }
    }
}

/// Adds the products under the window of an output pixel to the sums of the output channels from `first` on.
#[inline(always)]
fn add_window(
    part: &Int8Part<'_>,
    input: Int8Input,
    shape: &DenseShape,
    (row, column): (usize, usize),
    first: usize,
    sums: &mut [i32],
) {
    let (channels, outputs) = (shape.input.channels, shape.output_channels);
    for i in 0..shape.kernel_height {
        for j in 0..shape.kernel_width {
            let h = shape.offset_height + row * shape.stride_height + i;
            let w = shape.offset_width + column * shape.stride_width + j;
            let x = &part.x[(h * shape.input.width + w) * channels..][..channels];
            let weights = &part.w[(i * shape.kernel_width + j) * channels * outputs..][..channels * outputs];
            for (&q, weights) in x.iter().zip(weights.chunks_exact(outputs)) {
                let value = input.offset(q);
                for (sum, &weight) in sums.iter_mut().zip(&weights[first..]) {
                    *sum = sum.wrapping_add(value * i32::from(weight));
                }
            }
        }
    }
}

/// Computes one row of the elements between the two convolutions.
fn depthwise_row(
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Separable<'_>,
    row: usize,
    middle: &mut [i8],
) {
    let SeparableShape { input: ImageShape { width, channels, .. }, kernel, stride, dilation, .. } = *shape;
    let border = shape.padding().left;
    // Taps outside of the image read a 0.
    let rows = shape.taps(row);
    for (column, middle) in middle.chunks_exact_mut(channels).enumerate() {
        for (first, middle) in (0..).step_by(LANES).zip(middle.chunks_mut(LANES)) {
            let mut sums = [0i32; LANES];
            for i in rows.clone() {
                let h = row * stride + i * dilation - border;
                for j in 0..kernel {
                    let Some(w) = (column * stride + j * dilation).checked_sub(border).filter(|&w| w < width) else {
                        continue;
                    };
                    let x = &x[(h * width + w) * channels + first..][..middle.len()];
                    let taps = &weights.depthwise[(i * kernel + j) * channels + first..][..middle.len()];
                    for ((sum, &q), &tap) in sums.iter_mut().zip(x).zip(taps) {
                        *sum = sum.wrapping_add(input.offset(q) * i32::from(tap));
                    }
                }
            }
            for (channel, (middle, sum)) in (first..).zip(middle.iter_mut().zip(sums)) {
                *middle = clamp(weights.middle.apply(channel, sum) + i64::from(weights.middle_zero));
            }
        }
    }
}
