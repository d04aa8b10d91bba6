//! Convolutions.

use super::{ChannelFactors, Int8Input, LANES};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
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
        self.int8_product(parts, input, &mut target, shape);
    }

    fn int8_product(self, parts: &[Int8Part<'_>], input: Int8Input, target: &mut Int8Target<'_>, shape: DenseShape) {
        // SAFETY: the body asks for nothing.
        unsafe {
            dispatch!(
                self,
                dense(parts: &[Int8Part<'_>], input: Int8Input, target: &mut Int8Target<'_>, shape: DenseShape)
            );
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
        let (shape, weights) = (&shape, &weights);
        for (index, y) in y.chunks_exact_mut(output.width * output.channels).enumerate() {
            // SAFETY: the body asks for nothing.
            unsafe {
                dispatch!(
                    self,
                    depthwise_row(
                        x: &[i8],
                        shape: &SeparableShape,
                        input: Int8Input,
                        weights: &Int8Separable<'_>,
                        index: usize,
                        middle: &mut [i8],
                    )
                );
            }
            let mut target = Int8Target::Int8 { y, factors: weights.factors, zero, accumulate };
            self.int8_product(&[Int8Part { x: middle, w: weights.pointwise }], between, &mut target, row);
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

    /// Writes the sums of `count` channels from `first` on of the pixel at element `at`.
    #[inline(always)]
    fn write(&mut self, at: usize, first: usize, count: usize, sums: &[i32; LANES]) {
        match self {
            Self::Int8 { y, factors, zero, accumulate } => {
                let y = &mut y[at + first..][..count];
                let mut values = [*zero; LANES];
                if *accumulate {
                    values[..count].copy_from_slice(y);
                }
                factors.finish(first, count, sums, &mut values);
                y.copy_from_slice(&values[..count]);
            }
            Self::F32 { y, bias, scale } => {
                let y = &mut y[at + first..][..count];
                for (channel, (y, &sum)) in (first..).zip(y.iter_mut().zip(sums)) {
                    *y = sum.wrapping_add(bias[channel]) as f32 * scale[channel];
                }
            }
        }
    }
}

/// Neighbouring pixels of a row whose sums are kept together, so that weights are widened once for all of them.
const PIXELS: usize = 4;

/// Nothing here is particular to an instruction set: the loops over [`LANES`] are left to the compiler, for each of them. What
/// it makes of them is exact, whatever it is.
#[inline(always)]
unsafe fn dense<S: Simd>(parts: &[Int8Part<'_>], input: Int8Input, target: &mut Int8Target<'_>, shape: DenseShape) {
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
            target.write(at, first, count, sums);
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

/// Computes one row of the elements between the two convolutions.
#[inline(always)]
unsafe fn depthwise_row<S: Simd>(
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Separable<'_>,
    row: usize,
    middle: &mut [i8],
) {
    let channels = shape.input.channels;
    for (column, middle) in middle.chunks_exact_mut(channels).enumerate() {
        for (first, middle) in (0..).step_by(LANES).zip(middle.chunks_mut(LANES)) {
            let mut sums = [0; LANES];
            let count = middle.len();
            if count == LANES {
                add_taps(x, shape, input, weights.depthwise, (row, column), first, LANES, &mut sums);
            } else {
                add_taps(x, shape, input, weights.depthwise, (row, column), first, count, &mut sums);
            }
            let mut values = [weights.middle_zero; LANES];
            weights.middle.finish(first, count, &sums, &mut values);
            middle.copy_from_slice(&values[..count]);
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
