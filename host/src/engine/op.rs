//! One operation of a stage with its shapes: which kernels it calls, forward and backward.

use std::ops::Range;

use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Kernels, Padding, PoolShape, Prelude};

use super::scratch::Buffer;
use super::stage::Weights;
use crate::graph::Op;

/// One operation with its shapes for one input group.
#[derive(Debug)]
pub(crate) struct PlannedOp {
    /// The kernel calls.
    pub kernel: Kernel,
    /// Input before padding.
    pub input: ImageShape,
    /// Zeros that the operation wants around its input.
    pub padding: Padding,
    /// Output.
    pub output: ImageShape,
}

/// A kernel with its shape on the padded input and the ranges of its weights.
#[derive(Debug)]
pub(crate) enum Kernel {
    Depthwise(DepthwiseShape, Range<usize>),
    /// Dense convolutions, each to a group of output channels that starts at the given channel.
    Dense(Vec<(DenseShape, Range<usize>, usize)>),
    MaxPool(PoolShape),
    AvgPool(PoolShape),
}

impl Op {
    /// Ranges of all weights in the flat vector.
    pub(super) fn weight_ranges(&self) -> Vec<Range<usize>> {
        match self {
            Op::Depthwise { weight, .. } | Op::Dense { weight, .. } => vec![weight.clone()],
            Op::FactorizedReduce { weights, .. } => weights.to_vec(),
            Op::MaxPool { .. } | Op::AvgPool { .. } => vec![],
        }
    }
}

impl PlannedOp {
    /// Plans `ops` for the input group that holds channels `group` of the concatenated input.
    pub fn chain(ops: &[Op], input: ImageShape, group: &Range<usize>) -> Vec<Self> {
        let mut shape = input;
        ops.iter()
            .map(|op| {
                let planned = Self::new(op, shape, group);
                shape = planned.output;
                planned
            })
            .collect()
    }

    fn new(op: &Op, input: ImageShape, group: &Range<usize>) -> Self {
        let output = op.output(input);
        // The rows of a weight matrix over the whole concatenation that belong to this group.
        let rows = |weight: &Range<usize>, columns: usize| {
            if weight.len() == input.channels * columns {
                weight.clone()
            } else {
                weight.start + group.start * columns..weight.start + group.end * columns
            }
        };
        let (kernel, padding) = match *op {
            Op::Depthwise { ref weight, kernel, stride, dilation } => {
                let border = dilation * (kernel - 1) / 2;
                let padding = Padding::symmetric(border, border);
                let shape = DepthwiseShape { input: input.padded(padding), kernel, stride, dilation };
                (Kernel::Depthwise(shape, weight.clone()), padding)
            }
            Op::Dense { ref weight, kernel, stride, padding, output_channels } => {
                let padding = Padding::symmetric(padding[0], padding[1]);
                let shape = DenseShape {
                    kernel_height: kernel[0],
                    kernel_width: kernel[1],
                    stride_height: stride[0],
                    stride_width: stride[1],
                    ..DenseShape::pointwise(input.padded(padding), output_channels)
                };
                let weight = if kernel == [1, 1] { rows(weight, output_channels) } else { weight.clone() };
                (Kernel::Dense(vec![(shape, weight, 0)]), padding)
            }
            Op::FactorizedReduce { ref weights, output_channels } => {
                let padding = Padding { bottom: input.height % 2, right: input.width % 2, ..Padding::NONE };
                let half = output_channels / 2;
                let convs = weights.iter().enumerate().map(|(index, weight)| {
                    let shape = DenseShape {
                        offset_height: index,
                        offset_width: index,
                        output_pixel_stride: output_channels,
                        ..DenseShape::square(input.padded(padding), half, 1, 2)
                    };
                    (shape, rows(weight, half), index * half)
                });
                (Kernel::Dense(convs.collect()), padding)
            }
            Op::MaxPool { kernel, stride, padding } => {
                (Kernel::MaxPool(PoolShape { input, kernel, stride, padding }), Padding::NONE)
            }
            Op::AvgPool { kernel, stride, padding } => {
                (Kernel::AvgPool(PoolShape { input, kernel, stride, padding }), Padding::NONE)
            }
        };
        Self { kernel, input, padding, output }
    }

    /// Shape of the padded input.
    pub fn padded(&self) -> ImageShape {
        self.input.padded(self.padding)
    }

    /// Elements of scratch that [`backward_input`](Self::backward_input) takes.
    pub fn backward_scratch(&self) -> usize {
        match &self.kernel {
            Kernel::Depthwise(shape, _) => shape.backward_scratch(),
            _ => 0,
        }
    }

    /// Whether the operation can read the stage's input where it lies.
    pub fn reads_directly(&self, prelude: Prelude) -> bool {
        self.padding == Padding::NONE && matches!(prelude, Prelude::Copy)
    }

    /// Output of one image from its padded input; only dense operations can `accumulate`.
    pub fn forward(&self, kernels: Kernels, weights: &[f32], x: &[f32], y: &mut [f32], accumulate: bool) {
        match &self.kernel {
            Kernel::Depthwise(shape, weight) => kernels.depthwise(x, &weights[weight.clone()], y, *shape),
            Kernel::Dense(convs) => {
                for (shape, weight, channel) in convs {
                    kernels.dense(x, &weights[weight.clone()], None, &mut y[*channel..], *shape, accumulate);
                }
            }
            Kernel::MaxPool(shape) => kernels.max_pool(x, y, *shape),
            Kernel::AvgPool(shape) => kernels.avg_pool(x, y, *shape),
        }
    }

    /// Adds the weights' gradient to `dw`, which starts at element `start` of the flat vector.
    pub fn backward_weight(&self, kernels: Kernels, x: &[f32], dy: &[f32], dw: &mut [f32], start: usize) {
        match &self.kernel {
            Kernel::Depthwise(shape, weight) => {
                kernels.depthwise_backward_weight(x, dy, &mut dw[weight.start - start..weight.end - start], *shape);
            }
            Kernel::Dense(convs) => {
                for (shape, weight, channel) in convs {
                    let dw = &mut dw[weight.start - start..weight.end - start];
                    kernels.dense_backward_weight(x, &dy[*channel..], dw, *shape);
                }
            }
            Kernel::MaxPool(_) | Kernel::AvgPool(_) => {}
        }
    }

    /// Gradient `dx` of the padded input, overwritten but for the padding itself. `x` is the unpadded input, which only
    /// max pooling reads.
    pub(super) fn backward_input(
        &self,
        kernels: Kernels,
        weights: Weights,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        scratch: &mut Buffer,
    ) {
        match &self.kernel {
            Kernel::Depthwise(shape, weight) => {
                let scratch = scratch.sized(shape.backward_scratch());
                kernels.depthwise_backward_input(dy, &weights.flat[weight.clone()], dx, *shape, self.padding, scratch);
            }
            Kernel::Dense(convs) => {
                for (index, (shape, weight, channel)) in convs.iter().enumerate() {
                    let transposed = &weights.transposed[weight.clone()];
                    kernels.dense_backward_input(&dy[*channel..], transposed, dx, *shape, index > 0);
                }
            }
            Kernel::MaxPool(shape) => kernels.max_pool_backward(x, dy, dx, *shape, false),
            Kernel::AvgPool(shape) => kernels.avg_pool_backward(dy, dx, *shape, false),
        }
    }

    /// Writes every dense weight matrix transposed to the same place of `transposed`, which starts at element `start`
    /// of the flat vector.
    pub fn transpose(&self, kernels: Kernels, weights: &[f32], transposed: &mut [f32], start: usize) {
        if let Kernel::Dense(convs) = &self.kernel {
            for (shape, weight, _) in convs {
                let (rows, columns) = (shape.input.channels, shape.output_channels);
                let matrices = shape.kernel_height * shape.kernel_width;
                let transposed = &mut transposed[weight.start - start..weight.end - start];
                kernels.transpose(&weights[weight.clone()], transposed, matrices, rows, columns);
            }
        }
    }
}
