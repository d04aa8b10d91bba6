//! One stage on one image: forward, and backward with everything but the stage's input computed again.

use std::ops::Range;

use darts_kernels_simd::{
    Kernels, Moments, OutputGradient, Padding, Prelude, SeparableInput, SeparableInputGradient, SeparableShape,
    SeparableWeightGradient, SeparableWeights, StoredMut,
};

use super::op::PlannedOp;
use super::pool::Pool;
use super::scratch::{Buffer, StageScratch};
use crate::graph::{Graph, INPUT, Op, Stage};

/// A stage's operations for each of its concatenated inputs.
#[derive(Debug)]
pub(super) struct StagePlan {
    relu: bool,
    /// Operations per input group; the weights of dense operations are the group's rows.
    groups: Vec<Vec<PlannedOp>>,
    /// How the stage runs as one pass over rows, if it is separable and fused passes are wanted.
    separable: Option<Separable>,
    /// How it runs without its values being kept, if it is a pool and fused passes are wanted.
    pub pool: Option<Pool>,
    /// All weights of the stage: one contiguous range of the flat vector.
    pub weights: Range<usize>,
    /// Whether a gradient of each input is wanted (not for the image itself).
    pub input_gradient: Vec<bool>,
}

/// A depthwise and a 1×1 convolution in one pass.
#[derive(Debug)]
struct Separable {
    shape: SeparableShape,
    depthwise: Range<usize>,
    pointwise: Range<usize>,
}

impl Separable {
    fn new(graph: &Graph, stage: &Stage) -> Option<Self> {
        match (stage.inputs.as_slice(), stage.ops.as_slice()) {
            (
                [source],
                [
                    Op::Depthwise { weight: depthwise, kernel, stride, dilation },
                    Op::Dense { weight: pointwise, kernel: [1, 1], stride: [1, 1], padding: [0, 0], output_channels },
                ],
            ) => {
                let shape = SeparableShape {
                    input: graph.tensors[source.tensor],
                    kernel: *kernel,
                    stride: *stride,
                    dilation: *dilation,
                    output_channels: *output_channels,
                };
                Some(Self { shape, depthwise: depthwise.clone(), pointwise: pointwise.clone() })
            }
            _ => None,
        }
    }
}

/// One image of one of a stage's concatenated inputs.
#[derive(Clone, Copy)]
pub(super) struct GroupInput<'a> {
    /// Which of the inputs.
    pub group: usize,
    /// Its values.
    pub x: &'a [f32],
    /// The pass through which they are read.
    pub prelude: Prelude<'a>,
}

/// What a stage's backward pass reads and writes for one image.
pub(super) struct StageGradients<'a, Z, X> {
    /// Gradient of the stored value.
    pub dz: Z,
    /// That of the stage's weights, the range [`StagePlan::weights`], is added here, where wanted.
    pub dw: Option<&'a mut [f32]>,
    /// That of the input before its ReLU and behind its batch norm goes here, where wanted.
    pub dx: Option<X>,
}

/// Where the gradient with respect to one image of an input goes.
pub(super) struct InputGradient<'a> {
    pub values: &'a mut [f32],
    /// Whether it is added to what is there.
    pub accumulate: bool,
}

/// The weights as the kernels want them.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// The flat weight vector.
    pub flat: &'a [f32],
    /// The same with every dense weight matrix transposed in its place; only the backward pass reads it.
    pub transposed: &'a [f32],
}

impl StagePlan {
    /// `input_gradient`: whether the gradient with respect to the image is wanted, if the stage reads it.
    pub fn new(graph: &Graph, stage: &Stage, fused: bool, input_gradient: bool) -> Self {
        let mut rows = 0;
        let groups = stage
            .inputs
            .iter()
            .map(|source| {
                let input = graph.tensors[source.tensor];
                let group = rows..rows + input.channels;
                rows += input.channels;
                PlannedOp::chain(&stage.ops, input, &group)
            })
            .collect();
        let ranges = stage.ops.iter().flat_map(|op| op.weight_ranges());
        let weights = ranges.reduce(|all, next| all.start.min(next.start)..all.end.max(next.end)).unwrap_or(0..0);
        let input_gradient = stage.inputs.iter().map(|source| input_gradient || source.tensor != INPUT).collect();
        let separable = if fused { Separable::new(graph, stage) } else { None };
        let pool = if fused { Pool::new(graph, stage) } else { None };
        Self { relu: stage.relu, groups, separable, pool, weights, input_gradient }
    }

    /// Makes all buffers as large as the stage needs them in either pass.
    pub fn prepare(&self, scratch: &mut StageScratch) {
        let StageScratch { inputs, output, output_gradient, input_gradient, kernel, separable } = scratch;
        if let Some(Separable { shape, .. }) = &self.separable {
            separable.prepare(*shape);
        }
        if let Some(pool) = &self.pool {
            pool.prepare(kernel);
        }
        for ops in &self.groups {
            if inputs.len() < ops.len() {
                inputs.resize_with(ops.len(), Buffer::default);
            }
            for (op, input) in ops.iter().zip(&mut *inputs) {
                input.sized(op.padded().len());
                output.sized(op.output.len().max(op.input.len()));
                output_gradient.sized(op.input.len());
                input_gradient.sized(op.padded().len());
                kernel.sized(op.backward_scratch());
            }
        }
    }

    /// Writes the stage's dense weight matrices transposed to the same places of `transposed`, which holds the range
    /// [`weights`](Self::weights).
    pub fn transpose(&self, kernels: Kernels, weights: &[f32], transposed: &mut [f32]) {
        for op in self.groups.iter().flatten() {
            op.transpose(kernels, weights, transposed, self.weights.start);
        }
    }

    /// The prelude of the stage on an input with the batch norm `fold` (scale and shift).
    pub fn prelude<'a>(&self, fold: Option<(&'a [f32], &'a [f32])>) -> Prelude<'a> {
        prelude(self.relu, fold)
    }

    /// Computes the stored value `z` of one image from one input group, adding to it for all groups but the first. The
    /// moments of what stands there then are added up where wanted.
    pub fn forward(
        &self,
        kernels: Kernels,
        weights: &[f32],
        input: GroupInput,
        z: &mut [f32],
        moments: Option<Moments>,
        scratch: &mut StageScratch,
    ) {
        let ops = &self.groups[input.group];
        let last = &ops[ops.len() - 1];
        let x = compute_inputs(kernels, weights, ops, input, scratch);
        last.forward(kernels, weights, x, z, input.group > 0);
        if let Some(Moments { sum, sum_of_squares }) = moments {
            kernels.channel_moments(z, last.output.channels, sum, sum_of_squares);
        }
    }

    /// Whether the stage runs as one pass, by [`forward_fused`](Self::forward_fused) and
    /// [`backward_fused`](Self::backward_fused).
    pub fn is_fused(&self) -> bool {
        self.separable.is_some()
    }

    /// Columns of zeros that the stage wants on either side of its input, if it is fused and begins with a ReLU.
    pub fn border_of_relu(&self) -> Option<usize> {
        self.separable.as_ref().filter(|_| self.relu).map(|separable| separable.shape.padding().left)
    }

    fn separable(&self) -> &Separable {
        let Some(separable) = &self.separable else { unreachable!("a stage that is not separable") };
        separable
    }

    /// Forward in one pass. In the caller's code, as [`kept`](super::Network::kept).
    #[inline(always)]
    pub fn forward_fused(
        &self,
        kernels: Kernels,
        weights: &[f32],
        input: SeparableInput,
        z: StoredMut,
        moments: Option<Moments>,
        scratch: &mut StageScratch,
    ) {
        let Separable { shape, depthwise, pointwise } = self.separable();
        let (depthwise, pointwise) = (&weights[depthwise.clone()], &weights[pointwise.clone()]);
        let scratch = scratch.separable.forward(*shape, input.preluded.is_some());
        kernels.separable_stored(input, *shape, depthwise, pointwise, z, moments, scratch);
    }

    /// Backward in one pass. The output of the depthwise convolution is computed again.
    pub fn backward_fused(
        &self,
        kernels: Kernels,
        weights: Weights,
        input: SeparableInput,
        gradients: StageGradients<OutputGradient, SeparableInputGradient>,
        scratch: &mut StageScratch,
    ) {
        let StageGradients { dz, dw, dx } = gradients;
        let Separable { shape, depthwise, pointwise } = self.separable();
        let separable_weights = SeparableWeights {
            depthwise: &weights.flat[depthwise.clone()],
            pointwise_transposed: &weights.transposed[pointwise.clone()],
        };
        let dw = dw.map(|dw| {
            // The two lie side by side, the depthwise one first.
            let (depthwise, pointwise) = dw.split_at_mut(pointwise.start - depthwise.start);
            SeparableWeightGradient { depthwise, pointwise }
        });
        let scratch = scratch.separable.backward(*shape, input.preluded.is_some());
        kernels.separable_backward(input, *shape, separable_weights, dz, dx, dw, scratch);
    }

    /// Backward operation by operation for one input group. Adds up no sums of a batch norm.
    pub fn backward(
        &self,
        kernels: Kernels,
        weights: Weights,
        input: GroupInput,
        gradients: StageGradients<&[f32], InputGradient>,
        scratch: &mut StageScratch,
    ) {
        let StageGradients { dz, mut dw, dx } = gradients;
        let GroupInput { group, x, prelude } = input;
        let ops = &self.groups[group];
        if dw.is_some() {
            compute_inputs(kernels, weights.flat, ops, input, scratch);
        }
        let StageScratch { inputs, output_gradient, input_gradient, kernel, .. } = scratch;
        for (index, op) in ops.iter().enumerate().rev() {
            let direct = index == 0 && op.reads_directly(prelude);
            let dy = if index + 1 == ops.len() { dz } else { output_gradient.get(op.output.len()) };
            if let Some(dw) = dw.as_deref_mut() {
                let input = if direct { x } else { inputs[index].get(op.padded().len()) };
                op.backward_weight(kernels, input, dy, dw, self.weights.start);
            }
            if index == 0 && dx.is_none() {
                return;
            }
            let d_padded = input_gradient.sized(op.padded().len());
            op.backward_input(kernels, weights, x, dy, d_padded, kernel);
            if index > 0 {
                let target = output_gradient.sized(op.input.len());
                crop(d_padded, op, target);
            }
        }
        if let Some(InputGradient { values, accumulate }) = dx {
            let first = &ops[0];
            let dy = input_gradient.get(first.padded().len());
            kernels.prelude_backward(x, first.input, first.padding, prelude, dy, values, accumulate);
        }
    }
}

/// Runs all operations but the last; every operation's padded input is left in `scratch.inputs`. Returns the last
/// operation's input.
fn compute_inputs<'a>(
    kernels: Kernels,
    weights: &[f32],
    ops: &[PlannedOp],
    GroupInput { x, prelude, .. }: GroupInput<'a>,
    scratch: &'a mut StageScratch,
) -> &'a [f32] {
    let StageScratch { inputs, output, .. } = scratch;
    if inputs.len() < ops.len() {
        inputs.resize_with(ops.len(), Buffer::default);
    }
    let first = &ops[0];
    if !first.reads_directly(prelude) {
        kernels.prelude(x, first.input, first.padding, prelude, inputs[0].sized(first.padded().len()));
    }
    for (index, (op, next)) in ops.iter().zip(&ops[1..]).enumerate() {
        let (done, todo) = inputs.split_at_mut(index + 1);
        let input = if index == 0 && op.reads_directly(prelude) { x } else { done[index].get(op.padded().len()) };
        let target = todo[0].sized(next.padded().len());
        if next.padding == Padding::NONE {
            op.forward(kernels, weights, input, target, false);
        } else {
            let unpadded = output.sized(op.output.len());
            op.forward(kernels, weights, input, unpadded, false);
            kernels.prelude(unpadded, next.input, next.padding, Prelude::Copy, target);
        }
    }
    let last = ops.len() - 1;
    if last == 0 && first.reads_directly(prelude) { x } else { inputs[last].get(ops[last].padded().len()) }
}

/// Copies the inside of a padded image.
fn crop(padded: &[f32], op: &PlannedOp, target: &mut [f32]) {
    let row = op.input.width * op.input.channels;
    let padded_row = op.padded().width * op.input.channels;
    let start = op.padding.left * op.input.channels;
    let rows = padded.chunks_exact(padded_row).skip(op.padding.top);
    for (target, padded) in target.chunks_exact_mut(row).zip(rows) {
        target.copy_from_slice(&padded[start..start + row]);
    }
}

/// The pass over an input that is read through the batch norm `fold` (scale and shift) and a ReLU.
pub(super) fn prelude<'a>(relu: bool, fold: Option<(&'a [f32], &'a [f32])>) -> Prelude<'a> {
    match (fold, relu) {
        (None, false) => Prelude::Copy,
        (None, true) => Prelude::Relu,
        (Some((scale, shift)), false) => Prelude::Affine { scale, shift },
        (Some((scale, shift)), true) => Prelude::AffineRelu { scale, shift },
    }
}
