//! The network as data: named parameters, tensors, batch norms, stages, mixes and heads.
//!
//! A supernet and a derived network are both a [`Graph`]; they differ in the weights of their mixes. The graph is built
//! once ([`supernet`], [`derived`]) and never changes; the engine executes it, [`count`] counts it, and the export
//! lowers it to a plan for the core.

mod builder;
mod cells;
pub mod count;
pub mod derived;
pub mod parameters;
pub mod primitives;
mod schedule;
pub mod space;
pub mod supernet;
pub mod variant;

pub use builder::GraphBuilder;
pub use parameters::{Parameter, ParameterKind};
pub use schedule::Region;

use std::ops::Range;

use darts_kernels_simd::ImageShape;

/// Index of a tensor (an activation `[N, H, W, C]`) in [`Graph::tensors`].
pub type TensorId = usize;
/// Index of a batch norm in [`Graph::norms`].
pub type NormId = usize;

/// A tensor as its reader sees it: raw, or through the batch norm that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The stored tensor.
    pub tensor: TensorId,
    /// The batch norm between the stored values and the reader.
    pub norm: Option<NormId>,
}

/// One operation of a stage. Weight ranges point into the flat weight vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Depthwise convolution with "same" padding `dilation · (kernel − 1) / 2`; weights `[k, k, C]`.
    Depthwise {
        /// Weights.
        weight: Range<usize>,
        /// Extent of the filter.
        kernel: usize,
        /// Step of the window.
        stride: usize,
        /// Distance between taps.
        dilation: usize,
    },
    /// Dense convolution; weights `[kh, kw, C_in, C_out]`.
    Dense {
        /// Weights.
        weight: Range<usize>,
        /// Extent of the filter, rows and columns.
        kernel: [usize; 2],
        /// Step of the window, rows and columns.
        stride: [usize; 2],
        /// Zeros on each side, rows and columns.
        padding: [usize; 2],
        /// Output channels.
        output_channels: usize,
    },
    /// Two 1×1 convolutions at stride 2, the second one pixel further down and right, concatenated. For an odd extent
    /// the shifted view is padded with zeros at the bottom and right, so that both halves have the same size.
    FactorizedReduce {
        /// Weights of the halves, `[C_in, C_out / 2]` each.
        weights: [Range<usize>; 2],
        /// Output channels of both halves together.
        output_channels: usize,
    },
    /// Max pooling over the pixels inside the image.
    MaxPool {
        /// Extent of the window.
        kernel: usize,
        /// Step of the window.
        stride: usize,
        /// Virtual padding.
        padding: usize,
    },
    /// Average pooling over the pixels inside the image.
    AvgPool {
        /// Extent of the window.
        kernel: usize,
        /// Step of the window.
        stride: usize,
        /// Virtual padding.
        padding: usize,
    },
}

/// Everything between two batch-norm barriers: reads its inputs (concatenated along channels), applies ReLU if asked,
/// then the operations; stores the value before the batch norm.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Inputs; more than one is a concatenation, which only a final dense operation or factorized reduction may read.
    pub inputs: Vec<Source>,
    /// Whether a ReLU comes first.
    pub relu: bool,
    /// The operations in order.
    pub ops: Vec<Op>,
    /// The stored result, before any batch norm.
    pub output: TensorId,
    /// The batch norms through which it is read, one for each edge of a search cell that has this operation: a pool of
    /// a state is the same for all of them, and is computed once.
    pub norms: Vec<NormId>,
    /// What the stage is called in tables, such as `cells.3._ops.5`.
    pub name: String,
}

/// The factor of one term of a [`Mix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermWeight {
    /// 1.
    One,
    /// An element of the mixing weights: softmax(α) flattened, and what a [`Variant`](variant::Variant) has behind it.
    Alpha(usize),
}

/// One term of a [`Mix`].
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// What is added.
    pub source: Source,
    /// Its factor.
    pub weight: TermWeight,
    /// Which drop-path mask applies to it in training, if any.
    pub drop_path: Option<usize>,
}

/// A materialised state: the weighted sum of its terms. Without terms it is zero.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The terms.
    pub terms: Vec<Term>,
    /// Where the state is no sum, but some channels of the concatenation of its terms, which are states of weight 1.
    pub gather: Option<Gather>,
    /// The state.
    pub output: TensorId,
    /// What the state is called in tables.
    pub name: String,
}

/// A range of the channels of a concatenation after their shuffle: the channels, dealt out to groups one behind the
/// other, are taken in turns from each group, so that channel `j` of the result is channel `j / groups` of group
/// `j % groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Channels of the concatenation, a multiple of `groups`.
    pub channels: usize,
    /// Groups; the shuffle of one group changes nothing.
    pub groups: usize,
    /// First channel of the range, behind the shuffle.
    pub first: usize,
}

/// Global average over all inputs (concatenated along channels), then a linear layer with bias.
#[derive(Clone, Debug)]
pub struct Head {
    /// Inputs.
    pub inputs: Vec<Source>,
    /// Whether a ReLU comes before the average.
    pub relu: bool,
    /// Weights `[features, classes]`.
    pub weight: Range<usize>,
    /// Bias `[classes]`.
    pub bias: Range<usize>,
    /// Channels of all inputs.
    pub features: usize,
    /// What the head is called in tables.
    pub name: String,
}

/// A batch norm over the channels of one tensor.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Name in the original's state dict, such as `stem.1`.
    pub name: String,
    /// Where mean and variance of this norm lie in the vectors over all norms.
    pub range: Range<usize>,
    /// Weight and bias, where the norm is affine: ranges into the flat weight vector.
    pub affine: Option<[Range<usize>; 2]>,
    /// The tensor that it normalises.
    pub tensor: TensorId,
}

/// A stage or a mix, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Index into [`Graph::stages`].
    Stage(usize),
    /// Index into [`Graph::mixes`].
    Mix(usize),
}

/// A whole network.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Shape of one input image.
    pub input: ImageShape,
    /// Number of classes.
    pub classes: usize,
    /// Shape of each tensor, per image. Tensor 0 is the input.
    pub tensors: Vec<ImageShape>,
    /// The parameters in the order of the flat weight vector.
    pub parameters: Vec<Parameter>,
    /// The batch norms in the order of the flat statistics.
    pub norms: Vec<Norm>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The mixes.
    pub mixes: Vec<Mix>,
    /// Stages and mixes in topological order.
    pub order: Vec<Node>,
    /// The classifier.
    pub head: Head,
    /// The auxiliary classifier of training.
    pub auxiliary: Option<Head>,
    /// Output states of each cell, and of the stem first.
    pub cell_outputs: Vec<Vec<TensorId>>,
    /// Elements of the mixing weights that the mixes refer to.
    pub mix_weights: usize,
    /// Number of drop-path masks.
    pub drop_paths: usize,
    /// Execution order: one parallel region per batch-norm barrier.
    pub regions: Vec<Region>,
}

/// The input image.
pub const INPUT: TensorId = 0;

impl Graph {
    /// Elements of the flat weight vector.
    pub fn weights(&self) -> usize {
        self.parameters.last().map_or(0, |parameter| parameter.range.end)
    }

    /// Elements of the running means (and of the running variances) of all norms.
    pub fn statistics(&self) -> usize {
        self.norms.last().map_or(0, |norm| norm.range.end)
    }
}
