//! Steps on images of 8-bit integers; the kernels say what their numbers mean.

use darts_kernels_simd::{DenseShape, ImageShape, Int8Input, Padding, PoolShape, Rescale, SeparableShape};

use super::check::{self, align4, image, within};
use super::{Operand, Place, Sizes, StepError};

/// One kernel call. Images are contiguous `[H, W, C]` of one byte an element, but for the network's input and output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Int8Step {
    /// `target` = the nearest elements to `source`, or these are added to it.
    Quantize {
        /// Image of `shape`, of `f32`.
        source: Place,
        /// Image of `shape`.
        target: Place,
        /// The image.
        shape: ImageShape,
        /// 1 over the scale of the target, finite and positive.
        inverse_scale: f32,
        /// What stands for 0 in the target.
        zero: i8,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
    },
    /// `target` = the real numbers that the elements of `source` stand for.
    Dequantize {
        /// Image of `shape`.
        source: Place,
        /// Image of `shape`, of `f32`, overwritten.
        target: Place,
        /// The image.
        shape: ImageShape,
        /// The scale of the source, finite and positive.
        scale: f32,
        /// What stands for 0 in the source.
        zero: i8,
    },
    /// `target` = the padded `source`, both with one scale and zero.
    Prelude {
        /// Image of `shape`.
        source: Place,
        /// Image of `shape.padded(padding)`, overwritten.
        target: Place,
        /// The unpadded image.
        shape: ImageShape,
        /// What is around it, at most 255 a side.
        padding: Padding,
        /// How the source is read.
        input: Int8Input,
    },
    /// Depthwise convolution with "same" padding and a 1×1 convolution of its output.
    Separable {
        /// Image of `shape.input`, not padded.
        source: Place,
        /// Image of `shape.output()`.
        target: Place,
        /// The convolutions.
        shape: SeparableShape,
        /// How the source is read.
        input: Int8Input,
        /// What stands for 0 between the two.
        middle_zero: i8,
        /// What stands for 0 in the target.
        zero: i8,
        /// Byte of the weights section, a multiple of 4: `[k, k, C]`, `[C, C_out]`, and what becomes of the sums.
        weights: u32,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
        /// Byte of the workspace at which the kernel's scratch begins.
        scratch: u32,
    },
    /// Dense convolution.
    Dense {
        /// Padded image of `shape.input`.
        source: Place,
        /// The first output element; outside the workspace the network's output, in `f32`.
        target: Place,
        /// The convolution.
        shape: DenseShape,
        /// How the source is read.
        input: Int8Input,
        /// What stands for 0 in the target.
        zero: i8,
        /// Byte of the weights section, a multiple of 4: `[kh, kw, C_in, C_out]`, and unless `more`, what becomes of
        /// the sums.
        weights: u32,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
        /// Whether the sums go on in the next step, which is the same but for its source and weights.
        more: bool,
    },
    /// Maximum over windows.
    MaxPool {
        /// Image of `shape.input`.
        source: Place,
        /// Image of `shape.output()`, overwritten.
        target: Place,
        /// The windows.
        shape: PoolShape,
        /// From the source's elements to the target's.
        rescale: Rescale,
    },
    /// Mean over those pixels of windows that lie inside the image.
    AvgPool {
        /// Image of `shape.input`.
        source: Place,
        /// Image of `shape.output()`, overwritten.
        target: Place,
        /// The windows.
        shape: PoolShape,
        /// From the source's elements to the target's.
        rescale: Rescale,
    },
    /// Mean of each channel over all pixels.
    GlobalAvgPool {
        /// Image of `shape`.
        source: Place,
        /// `[C]`, overwritten.
        target: Place,
        /// The image.
        shape: ImageShape,
        /// From the sum of the source's elements to the target's.
        rescale: Rescale,
    },
    /// `target` = the rescaled `source`, or that is added to it.
    Rescale {
        /// Image of `shape`.
        source: Place,
        /// Image of `shape`.
        target: Place,
        /// The image.
        shape: ImageShape,
        /// From the source's elements to the target's.
        rescale: Rescale,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
    },
    /// `target` = 0.
    Zero {
        /// Image of `shape`, overwritten.
        target: Place,
        /// The image.
        shape: ImageShape,
        /// What stands for 0.
        zero: i8,
    },
}

impl Int8Step {
    /// What the step reads, apart from weights.
    pub const fn source(&self) -> Option<Place> {
        match *self {
            Self::Quantize { source, .. }
            | Self::Dequantize { source, .. }
            | Self::Prelude { source, .. }
            | Self::Separable { source, .. }
            | Self::Dense { source, .. }
            | Self::MaxPool { source, .. }
            | Self::AvgPool { source, .. }
            | Self::GlobalAvgPool { source, .. }
            | Self::Rescale { source, .. } => Some(source),
            Self::Zero { .. } => None,
        }
    }

    /// What the step writes.
    pub const fn target(&self) -> Place {
        match *self {
            Self::Quantize { target, .. }
            | Self::Dequantize { target, .. }
            | Self::Prelude { target, .. }
            | Self::Separable { target, .. }
            | Self::Dense { target, .. }
            | Self::MaxPool { target, .. }
            | Self::AvgPool { target, .. }
            | Self::GlobalAvgPool { target, .. }
            | Self::Rescale { target, .. }
            | Self::Zero { target, .. } => target,
        }
    }

    /// Places of what the step reads and writes, to change them.
    pub const fn places_mut(&mut self) -> (Option<&mut Place>, &mut Place) {
        match self {
            Self::Quantize { source, target, .. }
            | Self::Dequantize { source, target, .. }
            | Self::Prelude { source, target, .. }
            | Self::Separable { source, target, .. }
            | Self::Dense { source, target, .. }
            | Self::MaxPool { source, target, .. }
            | Self::AvgPool { source, target, .. }
            | Self::GlobalAvgPool { source, target, .. }
            | Self::Rescale { source, target, .. } => (Some(source), target),
            Self::Zero { target, .. } => (None, target),
        }
    }

    /// Byte of the weights section at which the step's weights begin.
    pub const fn weights(&self) -> Option<u32> {
        match *self {
            Self::Separable { weights, .. } | Self::Dense { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// Byte of the workspace at which the step's scratch begins, if it can have one.
    pub const fn scratch(&self) -> Option<u32> {
        match *self {
            Self::Separable { scratch, .. } => Some(scratch),
            _ => None,
        }
    }

    /// Name of the operation, e.g. `int8_dense`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Quantize { .. } => "int8_quantize",
            Self::Dequantize { .. } => "int8_dequantize",
            Self::Prelude { .. } => "int8_prelude",
            Self::Separable { .. } => "int8_separable",
            Self::Dense { .. } => "int8_dense",
            Self::MaxPool { .. } => "int8_max_pool",
            Self::AvgPool { .. } => "int8_avg_pool",
            Self::GlobalAvgPool { .. } => "int8_global_avg_pool",
            Self::Rescale { .. } => "int8_rescale",
            Self::Zero { .. } => "int8_zero",
        }
    }

    /// What the start of a region in the workspace must be a multiple of.
    pub(super) const fn alignment(&self, operand: Operand) -> u64 {
        match (self, operand) {
            (Self::Quantize { .. }, Operand::Source) | (Self::Dequantize { .. }, Operand::Target) => 4,
            _ => 1,
        }
    }

    /// The network's input is only quantized, and its output only written by a dense convolution.
    fn check_places(&self) -> Result<(), StepError> {
        if self.source() == Some(Place::External) && !matches!(self, Self::Quantize { .. }) {
            return Err(StepError::External(Operand::Source));
        }
        if self.target() == Place::External && !matches!(self, Self::Dense { .. }) {
            return Err(StepError::External(Operand::Target));
        }
        Ok(())
    }

    /// As [`Step::sizes`](super::Step::sizes).
    pub(super) fn sizes(&self) -> Result<Sizes, StepError> {
        self.check_places()?;
        let pair = |source, target| Sizes { source, target, ..Sizes::default() };
        match *self {
            Self::Quantize { source, shape, inverse_scale, .. } => {
                image(shape)?;
                scale(inverse_scale)?;
                // Only steps on `f32` write real numbers to the workspace.
                if !cfg!(feature = "float") && source != Place::External {
                    return Err(StepError::Float);
                }
                Ok(pair(check::bytes(shape), elements(shape)))
            }
            Self::Dequantize { .. } if !cfg!(feature = "float") => Err(StepError::Float),
            Self::Dequantize { shape, scale: of_source, .. } => {
                image(shape)?;
                scale(of_source)?;
                Ok(pair(elements(shape), check::bytes(shape)))
            }
            Self::Prelude { shape, padding, .. } => {
                check::padded(shape, padding)?;
                Ok(pair(elements(shape), elements(shape.padded(padding))))
            }
            Self::Separable { shape, .. } => separable_sizes(shape),
            Self::Dense { target, shape, accumulate, more, .. } => {
                check::dense(shape)?;
                if target == Place::External {
                    within("flags of the output", accumulate.into(), 0..=0)?;
                    within("flags of the output", more.into(), 0..=0)?;
                }
                let unit = if target == Place::External { 4 } else { 1 };
                let weights = DenseWeights { shape, more, real: target == Place::External };
                let target = check::dense_target(shape) * unit;
                Ok(Sizes { weights: weights.bytes(), ..pair(elements(shape.input), target) })
            }
            Self::MaxPool { shape, rescale, .. } | Self::AvgPool { shape, rescale, .. } => {
                check::window(shape)?;
                factor(rescale)?;
                Ok(pair(elements(shape.input), elements(shape.output())))
            }
            Self::GlobalAvgPool { shape, rescale, .. } => {
                image(shape)?;
                factor(rescale)?;
                Ok(pair(elements(shape), shape.channels as u64))
            }
            Self::Rescale { shape, rescale, .. } => {
                image(shape)?;
                factor(rescale)?;
                Ok(pair(elements(shape), elements(shape)))
            }
            Self::Zero { shape, .. } => {
                image(shape)?;
                Ok(pair(0, elements(shape)))
            }
        }
    }
}

fn elements(shape: ImageShape) -> u64 {
    shape.height as u64 * shape.width as u64 * shape.channels as u64
}

fn scale(value: f32) -> Result<(), StepError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(StepError::Parameter { name: "scale", value: value.to_bits() as usize })
    }
}

fn factor(rescale: Rescale) -> Result<(), StepError> {
    within("shift", rescale.factor.shift.into(), 1..=darts_kernels_simd::Factor::MAX_SHIFT.into())
}

fn separable_sizes(shape: SeparableShape) -> Result<Sizes, StepError> {
    check::separable(shape)?;
    Ok(Sizes {
        source: elements(shape.input),
        target: elements(shape.output()),
        scratch: shape.int8_scratch() as u64,
        weights: SeparableWeights { shape }.bytes(),
    })
}

/// Where the numbers of a dense step lie, in bytes behind the first weight.
pub(crate) struct DenseWeights {
    pub(crate) shape: DenseShape,
    pub(crate) more: bool,
    /// Whether the output is `f32`.
    pub(crate) real: bool,
}

impl DenseWeights {
    fn weights(&self) -> u64 {
        (self.shape.kernel_height * self.shape.kernel_width) as u64
            * self.shape.input.channels as u64
            * self.shape.output_channels as u64
    }

    /// Of the bias; behind it are multipliers or scales, and behind those shifts.
    pub(crate) fn bias(&self) -> u64 {
        align4(self.weights())
    }

    fn bytes(&self) -> u64 {
        let channels = self.shape.output_channels as u64;
        match (self.more, self.real) {
            (true, _) => self.weights(),
            (false, true) => self.bias() + 8 * channels,
            (false, false) => self.bias() + 9 * channels,
        }
    }
}

/// Where the numbers of a separable step lie, in bytes behind the first weight.
pub(crate) struct SeparableWeights {
    pub(crate) shape: SeparableShape,
}

impl SeparableWeights {
    /// Of the multipliers between the convolutions; behind them are biases and multipliers of the output, and behind
    /// those the shifts of both.
    pub(crate) fn multipliers(&self) -> u64 {
        let SeparableShape { input, kernel, output_channels, .. } = self.shape;
        align4((kernel * kernel + output_channels) as u64 * input.channels as u64)
    }

    fn bytes(&self) -> u64 {
        self.multipliers() + 5 * self.shape.input.channels as u64 + 9 * self.shape.output_channels as u64
    }
}

/// Whether `next` goes on with the sums of `step`, which has `more`.
pub(crate) fn continues(step: &Int8Step, next: &Int8Step) -> bool {
    match (*step, *next) {
        (
            Int8Step::Dense { target, shape, input, zero, accumulate, .. },
            Int8Step::Dense { source, weights, more, .. },
        ) => *next == Int8Step::Dense { source, target, shape, input, zero, weights, accumulate, more },
        _ => false,
    }
}
