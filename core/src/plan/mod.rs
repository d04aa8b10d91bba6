//! The plan of a network: a list of kernel calls over regions of a workspace. It knows nothing of cells or genotypes.
//!
//! Who makes a plan decides where in the workspace each intermediate image lies, for as long as something reads it;
//! this module says how large the regions of a step are ([`Step::sizes`]), checks that a step is sound
//! ([`Step::check`]) and stores it in [`STEP_BYTES`] bytes.

mod check;
mod codec;
mod int8;
mod operations;

use core::fmt;

use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, SeparableShape};

pub(crate) use check::align4;
pub use check::{Limits, Sizes};
pub use codec::STEP_BYTES;
pub use int8::Int8Step;
pub(crate) use int8::{DenseWeights, SeparableWeights, continues};

/// Where an image of `f32` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Outside the workspace: as a source the network's input `[H, W, C]`, as a target its output, the logits.
    External,
    /// In the workspace, from this byte on (a multiple of 4).
    Workspace(u32),
}

/// The weights of a convolution, in the layout of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Byte in the weights section at which they begin, a multiple of 4.
    pub offset: u32,
    /// How they are stored.
    pub storage: Storage,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `f32`, read in place.
    F32,
    /// IEEE half precision, widened into the scratch of the step.
    F16,
}

/// One kernel call. Shapes are those of the kernels; images are contiguous `[H, W, C]` of `f32` (but for those of
/// [`Int8`](Self::Int8)), and the regions of a
/// step (source, target, scratch) never overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// `target` = the padded `source`, after ReLU if asked. Without either it copies.
    Prelude {
        /// Image of `shape`.
        source: Place,
        /// Image of `shape.padded(padding)`, overwritten.
        target: Place,
        /// The unpadded image.
        shape: ImageShape,
        /// Zeros around it, at most 255 a side.
        padding: Padding,
        /// Whether negative values become 0.
        relu: bool,
    },
    /// Depthwise convolution without bias.
    Depthwise {
        /// Padded image of `shape.input`.
        source: Place,
        /// Image of `shape.output()`, overwritten.
        target: Place,
        /// The convolution.
        shape: DepthwiseShape,
        /// `[k, k, C]`.
        weights: Weights,
        /// Byte of the workspace at which `f16` weights are widened, a multiple of 4; 0 for `f32`.
        scratch: u32,
    },
    /// Depthwise convolution with "same" padding and a 1×1 convolution of its output, after ReLU if asked.
    Separable {
        /// Image of `shape.input`, not padded.
        source: Place,
        /// Image of `shape.output()`.
        target: Place,
        /// The convolutions.
        shape: SeparableShape,
        /// Whether negative values of the source count as 0.
        relu: bool,
        /// `[k, k, C]`, and directly behind them `[C, C_out]`.
        weights: Weights,
        /// Whether a bias `[C_out]` is added, which lies as that of a dense convolution.
        bias: bool,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
        /// Byte of the workspace, a multiple of 4, at which the kernel's scratch begins; behind it `f16` weights are
        /// widened.
        scratch: u32,
    },
    /// Dense convolution; a linear layer is one over an image of one pixel.
    Dense {
        /// Padded image of `shape.input`.
        source: Place,
        /// The first output element; pixels are `shape.output_pixel_stride` elements apart.
        target: Place,
        /// The convolution.
        shape: DenseShape,
        /// Whether negative values of the source count as 0.
        relu: bool,
        /// `[kh, kw, C_in, C_out]`.
        weights: Weights,
        /// Whether a bias `[C_out]` is added: `f32`, from the first multiple of 4 bytes behind the weights on.
        bias: bool,
        /// Whether the result is added to the target instead of overwriting it.
        accumulate: bool,
        /// Byte of the workspace at which `f16` weights are widened, a multiple of 4; 0 for `f32`.
        scratch: u32,
        /// Output channels whose `f16` weights are widened at a time, 1 to all; 0 for `f32`.
        block: u16,
    },
    /// Maximum over windows.
    MaxPool {
        /// Image of `shape.input`.
        source: Place,
        /// Image of `shape.output()`, overwritten.
        target: Place,
        /// The windows.
        shape: PoolShape,
    },
    /// Mean over those pixels of windows that lie inside the image.
    AvgPool {
        /// Image of `shape.input`.
        source: Place,
        /// Image of `shape.output()`, overwritten.
        target: Place,
        /// The windows.
        shape: PoolShape,
    },
    /// Mean of each channel over all pixels. Several steps with adjacent targets pool a concatenation.
    GlobalAvgPool {
        /// Image of `shape`.
        source: Place,
        /// `[C]`, overwritten.
        target: Place,
        /// The image.
        shape: ImageShape,
    },
    /// `target += source`.
    Add {
        /// Image of `shape`.
        source: Place,
        /// Image of `shape`, added to.
        target: Place,
        /// The image.
        shape: ImageShape,
    },
    /// `target = 0`.
    Zero {
        /// Image of `shape`, overwritten.
        target: Place,
        /// The image.
        shape: ImageShape,
    },
    /// Anything on images of 8-bit integers.
    Int8(Int8Step),
}

impl Step {
    /// What the step reads, apart from weights.
    pub const fn source(&self) -> Option<Place> {
        match *self {
            Self::Prelude { source, .. }
            | Self::Depthwise { source, .. }
            | Self::Separable { source, .. }
            | Self::Dense { source, .. }
            | Self::MaxPool { source, .. }
            | Self::AvgPool { source, .. }
            | Self::GlobalAvgPool { source, .. }
            | Self::Add { source, .. } => Some(source),
            Self::Zero { .. } => None,
            Self::Int8(ref step) => step.source(),
        }
    }

    /// What the step writes.
    pub const fn target(&self) -> Place {
        match *self {
            Self::Prelude { target, .. }
            | Self::Depthwise { target, .. }
            | Self::Separable { target, .. }
            | Self::Dense { target, .. }
            | Self::MaxPool { target, .. }
            | Self::AvgPool { target, .. }
            | Self::GlobalAvgPool { target, .. }
            | Self::Add { target, .. }
            | Self::Zero { target, .. } => target,
            Self::Int8(ref step) => step.target(),
        }
    }

    /// The weights in floating point that the step reads.
    pub const fn weights(&self) -> Option<Weights> {
        match *self {
            Self::Depthwise { weights, .. } | Self::Separable { weights, .. } | Self::Dense { weights, .. } => {
                Some(weights)
            }
            _ => None,
        }
    }

    /// Byte of the weights section at which the step's weights begin.
    pub const fn weights_offset(&self) -> Option<u32> {
        match (self, self.weights()) {
            (Self::Int8(step), _) => step.weights(),
            (_, Some(weights)) => Some(weights.offset),
            (_, None) => None,
        }
    }

    /// Byte of the workspace at which the step's scratch begins, if it can have one.
    pub const fn scratch(&self) -> Option<u32> {
        match *self {
            Self::Depthwise { scratch, .. } | Self::Separable { scratch, .. } | Self::Dense { scratch, .. } => {
                Some(scratch)
            }
            Self::Int8(ref step) => step.scratch(),
            _ => None,
        }
    }

    /// Name of the operation, e.g. `depthwise`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prelude { .. } => "prelude",
            Self::Depthwise { .. } => "depthwise",
            Self::Separable { .. } => "separable",
            Self::Dense { .. } => "dense",
            Self::MaxPool { .. } => "max_pool",
            Self::AvgPool { .. } => "avg_pool",
            Self::GlobalAvgPool { .. } => "global_avg_pool",
            Self::Add { .. } => "add",
            Self::Zero { .. } => "zero",
            Self::Int8(step) => step.name(),
        }
    }
}

/// Which region of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// What it reads.
    Source,
    /// What it writes.
    Target,
    /// Where it keeps intermediate rows and widened weights.
    Scratch,
    /// Weights and bias.
    Weights,
}

impl Operand {
    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Scratch => "scratch",
            Self::Weights => "weights",
        }
    }
}

/// Why a step is not sound, or cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// The record has an unknown kind of step.
    Kind(u8),
    /// The record has an unknown kind of weights.
    Storage(u8),
    /// The record has something other than 0 where nothing is stored.
    Reserved,
    /// A number of this step is out of its range.
    Parameter {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: usize,
    },
    /// An image has no element.
    Empty(Operand),
    /// A region does not begin at a multiple of 4 bytes.
    Unaligned {
        /// Which region.
        operand: Operand,
        /// Where it begins.
        start: u32,
    },
    /// A region ends behind what contains it.
    Outside {
        /// Which region.
        operand: Operand,
        /// One past its last byte.
        end: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// The step is one on `f32`, and the library was built without the feature `float`.
    Float,
    /// The sums of the step go on in a step that does not follow, or in too many.
    Unfinished,
    /// A step on 8-bit integers reads something else than it should in the network's input, or writes its output.
    External(Operand),
    /// Two regions overlap.
    Overlap(Operand, Operand),
    /// The step reads the network's input, or writes its output, in another length than that has.
    ExternalLength {
        /// Which region.
        operand: Operand,
        /// Bytes of the region.
        found: u64,
        /// Bytes of the input or output.
        expected: u64,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kind(kind) => write!(f, "unknown kind of step {kind}"),
            Self::Storage(kind) => write!(f, "unknown kind of weights {kind}"),
            Self::Reserved => f.write_str("a field that this kind of step does not use is not 0"),
            Self::Parameter { name, value } => write!(f, "{name} {value} is out of range"),
            Self::Empty(operand) => write!(f, "the {} has no element", operand.name()),
            Self::Unaligned { operand, start } => {
                write!(f, "the {} begins at byte {start}, no multiple of 4", operand.name())
            }
            Self::Outside { operand, end, limit } => {
                write!(f, "the {} ends at byte {end} of {limit}", operand.name())
            }
            Self::Float => f.write_str("it is one on f32, for which this program was not built"),
            Self::Unfinished => f.write_str("its sums do not go on in the next step as they should"),
            Self::External(operand) => {
                write!(f, "the {} cannot be the network's input or output, or must be", operand.name())
            }
            Self::Overlap(a, b) => write!(f, "{} and {} overlap", a.name(), b.name()),
            Self::ExternalLength { operand, found, expected } => {
                let what = if operand == Operand::Source { "reads the input" } else { "writes the output" };
                write!(f, "{what} as {found} bytes; it has {expected}")
            }
        }
    }
}

impl core::error::Error for StepError {}
