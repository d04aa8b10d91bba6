//! Convolutions.

use super::{ChannelFactors, Int8Input, bodies};
use crate::kernels::Kernels;
use crate::lengths::{part_mut, require};
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

/// The weights of a depthwise convolution.
#[derive(Clone, Copy, Debug)]
pub struct Int8Depthwise<'a> {
    /// `[k, k, C]`.
    pub w: &'a [i8],
    /// From the sums to the output.
    pub factors: ChannelFactors<'a>,
    /// What stands for 0 in the output.
    pub zero: i8,
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
    /// Dense convolution of a concatenation, as [`dense_sum`](Self::dense_sum): every part is an image of
    /// `shape.input`, all with the scale and the zero of `input`; the sums over all parts are rounded once.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn int8_dense(self, parts: &[Int8Part<'_>], input: Int8Input, mut target: Int8Target<'_>, shape: DenseShape) {
        require!(shape.is_sane() && shape.output_pixel_stride >= shape.output_channels, "int8_dense: {shape:?}");
        for part in parts {
            let lengths = (part.x.len(), part.w.len());
            require!(lengths == (shape.input.len(), shape.weights()), "int8_dense: x, w of {lengths:?} for {shape:?}");
        }
        require!(target.fits(shape), "int8_dense: y or factors do not fit {shape:?}");
        bodies::dense(self, parts, input, &mut target, shape, &mut bodies::Space::new());
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
        require!(
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
        let middle = part_mut(scratch, 0, output.width * channels);
        let row = DenseShape::pointwise(ImageShape::new(1, output.width, channels), output.channels);
        let between = Int8Input { zero: weights.middle_zero, relu: false };
        let depthwise = Int8Depthwise { w: weights.depthwise, factors: weights.middle, zero: weights.middle_zero };
        let mut space = bodies::Space::new();
        for (index, y) in y.chunks_exact_mut((output.width * output.channels).max(1)).enumerate() {
            bodies::depthwise_row(self, x, &shape, input, &depthwise, index, middle, &mut space);
            let mut target = Int8Target::Int8 { y, factors: weights.factors, zero, accumulate };
            bodies::dense(self, &[Int8Part { x: middle, w: weights.pointwise }], between, &mut target, row, &mut space);
        }
    }
}

impl Kernels {
    /// The depthwise part of [`int8_separable`](Self::int8_separable) alone: `y` `[H_out, W_out, C]` is overwritten.
    /// The shape's output channels count for nothing.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn int8_depthwise(
        self,
        x: &[i8],
        shape: SeparableShape,
        input: Int8Input,
        weights: Int8Depthwise<'_>,
        y: &mut [i8],
    ) {
        let (output, channels) = (shape.depthwise().output(), shape.input.channels);
        require!(
            shape.is_sane()
                && x.len() == shape.input.len()
                && y.len() == output.len()
                && weights.w.len() == shape.depthwise().weights()
                && weights.factors.fits(channels),
            "int8_depthwise: x, y and weights of {}, {} and {} elements do not fit {shape:?}",
            x.len(),
            y.len(),
            weights.w.len()
        );
        let mut space = bodies::Space::new();
        for (row, y) in y.chunks_exact_mut((output.width * channels).max(1)).enumerate() {
            bodies::depthwise_row(self, x, &shape, input, &weights, row, y, &mut space);
        }
    }
}

impl Int8Target<'_> {
    fn fits(&self, shape: DenseShape) -> bool {
        let channels = shape.output_channels;
        let (len, fits) = match self {
            Self::Int8 { y, factors, .. } => (y.len(), factors.fits(channels)),
            Self::F32 { y, bias, scale } => (y.len(), [bias.len(), scale.len()] == [channels; 2]),
        };
        fits && len == shape.output_len()
    }
}
