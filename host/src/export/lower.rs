//! Lowers a [`Graph`] to the steps of the core, over buffers that have a size but no place yet.
//!
//! Batch norms are folded into the convolutions before them, so that a stage's output is what its readers see. The terms
//! of a state are added up where the state lies: no term has a buffer of its own, unless it ends with a pool.

use std::cmp::Reverse;
use std::ops::Range;

use darts_core::{Place, Step, Storage, Weights};
use darts_kernels_simd::{DenseShape, ImageShape, Padding, SeparableShape};

use super::order::{Producer, order, producers};
use crate::engine::op::{Kernel, PlannedOp};
use crate::graph::{Graph, Head, INPUT, Mix, NormId, Op, Source, Stage, TensorId};

/// Index of a buffer.
pub(super) type BufferId = usize;

/// A step whose places are offsets in its buffers, and whose weights have no place yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub step: Step,
    /// What is read; `None` is the network's input, or nothing.
    pub source: Option<BufferId>,
    /// What is written; `None` is the network's output.
    pub target: Option<BufferId>,
    /// What the weights are made of.
    pub weights: Option<Folded>,
}

/// Weights and bias of a step in terms of the network's weights.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    /// Weights that come first as they are: those of the depthwise part of a separable convolution.
    pub depthwise: Option<Range<usize>>,
    /// The weights, in the flat vector.
    pub weight: Range<usize>,
    /// The batch norm behind the step and its channel that the step's first output channel is.
    pub norm: Option<(NormId, usize)>,
    pub bias: Bias,
}

/// The bias of a step.
#[derive(Clone, Debug)]
pub(super) enum Bias {
    None,
    /// The shift of the batch norm.
    Shift,
    /// A range of the flat vector.
    Parameter(Range<usize>),
}

/// A network as steps over buffers.
#[derive(Debug, Default)]
pub(super) struct Lowering {
    pub drafts: Vec<Draft>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
}

/// The steps that compute the logits of `graph`. Its auxiliary head is left out, as is every state on which the logits do
/// not depend. Weights of mixes and batch norms behind pools are not represented; a derived network has neither.
pub(super) fn lower(graph: &Graph) -> Lowering {
    let producers = producers(graph);
    let order = order(graph, &producers);
    let mut states = vec![None; graph.tensors.len()];
    states[INPUT] = Some(Image::Input);
    let mut lowerer = Lowerer { graph, producers, states, lowering: Lowering::default() };
    order.into_iter().for_each(|mix| lowerer.mix(&graph.mixes[mix]));
    lowerer.head(&graph.head);
    lowerer.lowering
}

/// Where an image is.
#[derive(Clone, Copy, Debug)]
enum Image {
    Input,
    Buffer(BufferId),
}

impl Image {
    fn place(self) -> Place {
        match self {
            Self::Input => Place::External,
            Self::Buffer(_) => WHOLE,
        }
    }

    fn buffer(self) -> Option<BufferId> {
        match self {
            Self::Input => None,
            Self::Buffer(id) => Some(id),
        }
    }
}

/// The place of a whole buffer in that buffer.
const WHOLE: Place = Place::Workspace(0);

/// Weights without a place.
const UNPLACED: Weights = Weights { offset: 0, storage: Storage::F32 };

fn bytes(elements: usize) -> u64 {
    (elements * size_of::<f32>()) as u64
}

/// How the last operation of a stage writes its result.
#[derive(Clone, Copy, Debug)]
struct Output {
    target: BufferId,
    accumulate: bool,
    /// The batch norm to fold.
    norm: Option<NormId>,
    /// Whether the norm's shift is added; only one group of a concatenation does.
    shift: bool,
}

struct Lowerer<'a> {
    graph: &'a Graph,
    producers: Vec<Producer>,
    /// The states that have been computed.
    states: Vec<Option<Image>>,
    lowering: Lowering,
}

impl Lowerer<'_> {
    fn buffer(&mut self, elements: usize) -> BufferId {
        self.lowering.buffers.push(bytes(elements));
        self.lowering.buffers.len() - 1
    }

    fn push(&mut self, step: Step, source: Option<BufferId>, target: Option<BufferId>, weights: Option<Folded>) {
        self.lowering.drafts.push(Draft { step, source, target, weights });
    }

    fn stage_of(&self, source: Source) -> Option<usize> {
        match self.producers[source.tensor] {
            Producer::Stage(stage) => Some(stage),
            Producer::Input | Producer::Mix(_) => None,
        }
    }

    /// Computes a state.
    fn mix(&mut self, mix: &Mix) {
        let shape = self.graph.tensors[mix.output];
        let mut terms: Vec<Source> = mix.terms.iter().map(|term| term.source).collect();
        // Convolutions first: while the first one is at work, the state takes no room yet. Of the others only the very first
        // write where the state lies.
        terms.sort_by_key(|&source| Reverse(self.stage_of(source).map(|stage| adds(&self.graph.stages[stage]))));
        let image = match *terms {
            [source] if self.stage_of(source).is_none() => self.state(source.tensor),
            [] => {
                let target = self.buffer(shape.len());
                self.push(Step::Zero { target: WHOLE, shape }, None, Some(target), None);
                Image::Buffer(target)
            }
            _ => {
                let target = self.buffer(shape.len());
                for (index, &source) in terms.iter().enumerate() {
                    self.term(source, shape, target, index > 0);
                }
                Image::Buffer(target)
            }
        };
        self.states[mix.output] = Some(image);
    }

    /// Writes a term of a state to `target`, or adds it.
    fn term(&mut self, source: Source, shape: ImageShape, target: BufferId, accumulate: bool) {
        if let Some(stage) = self.stage_of(source) {
            return self.stage(stage, target, accumulate);
        }
        let image = self.state(source.tensor);
        if accumulate {
            self.add(image, target, shape);
        } else {
            self.prelude(image, target, shape, Padding::NONE, false);
        }
    }

    fn state(&self, tensor: TensorId) -> Image {
        self.states[tensor].unwrap_or_else(|| panic!("tensor {tensor} is read before it is computed"))
    }

    /// What a source is read from; the output of a stage is computed for its reader.
    fn read(&mut self, source: Source) -> Image {
        match self.stage_of(source) {
            Some(stage) => {
                let target = self.buffer(self.graph.tensors[source.tensor].len());
                self.stage(stage, target, false);
                Image::Buffer(target)
            }
            None => self.state(source.tensor),
        }
    }

    /// Writes the output of a stage behind its batch norm to `target`, or adds it.
    fn stage(&mut self, stage: usize, target: BufferId, accumulate: bool) {
        let graph = self.graph;
        let stage = &graph.stages[stage];
        let mut channels = 0;
        for (group, &source) in stage.inputs.iter().enumerate() {
            let input = graph.tensors[source.tensor];
            let ops = PlannedOp::chain(&stage.ops, input, &(channels..channels + input.channels));
            channels += input.channels;
            let image = self.read(source);
            let first = group == 0;
            let output =
                Output { target, accumulate: accumulate || !first, norm: stage.norms.first().copied(), shift: first };
            self.chain(&ops, stage.relu, image, output);
        }
    }

    fn chain(&mut self, ops: &[PlannedOp], mut relu: bool, mut image: Image, output: Output) {
        let mut rest = ops;
        while let Some((op, following)) = rest.split_first() {
            if let Some(shape) = following.first().and_then(|next| separable(op, next)) {
                rest = &following[1..];
                let output = self.output_of(rest, shape.output(), output);
                self.separable([op, &following[0]], shape, relu, image, output);
                image = Image::Buffer(output.target);
            } else {
                rest = following;
                if op.padding != Padding::NONE || relu && !matches!(op.kernel, Kernel::Dense(_)) {
                    let padded = self.buffer(op.padded().len());
                    self.prelude(image, padded, op.input, op.padding, relu);
                    (image, relu) = (Image::Buffer(padded), false);
                }
                let output = self.output_of(rest, op.output, output);
                self.op_or_add(op, relu, image, output);
                image = Image::Buffer(output.target);
            }
            relu = false;
        }
    }

    /// Where an operation writes an image of `shape`: to the chain's `output` if nothing follows it.
    fn output_of(&mut self, following: &[PlannedOp], shape: ImageShape, output: Output) -> Output {
        if following.is_empty() {
            output
        } else {
            Output { target: self.buffer(shape.len()), accumulate: false, norm: None, shift: false }
        }
    }

    /// Only dense operations can add to what is there.
    fn op_or_add(&mut self, op: &PlannedOp, relu: bool, image: Image, output: Output) {
        if output.accumulate && !matches!(op.kernel, Kernel::Dense(_)) {
            let target = self.buffer(op.output.len());
            self.op(op, relu, image, Output { target, ..output });
            self.add(Image::Buffer(target), output.target, op.output);
        } else {
            self.op(op, relu, image, output);
        }
    }

    fn op(&mut self, op: &PlannedOp, relu: bool, image: Image, output: Output) {
        let source = image.place();
        let (step, weights) = match op.kernel {
            Kernel::Dense(ref convs) => {
                for (shape, weight, channel) in convs {
                    self.dense(image, *shape, relu, (weight.clone(), *channel), output);
                }
                return;
            }
            Kernel::Depthwise(shape, ref weight) => (
                Step::Depthwise { source, target: WHOLE, shape, weights: UNPLACED, scratch: 0 },
                Some(Folded { depthwise: None, weight: weight.clone(), norm: None, bias: Bias::None }),
            ),
            Kernel::MaxPool(shape) => (Step::MaxPool { source, target: WHOLE, shape }, None),
            Kernel::AvgPool(shape) => (Step::AvgPool { source, target: WHOLE, shape }, None),
        };
        self.push(step, image.buffer(), Some(output.target), weights);
    }

    /// A dense convolution with `weight` to the output channels from `channel` on.
    fn dense(
        &mut self,
        image: Image,
        shape: DenseShape,
        relu: bool,
        (weight, channel): (Range<usize>, usize),
        output: Output,
    ) {
        let Output { target, accumulate, norm, shift } = output;
        let bias = shift && norm.is_some();
        let step = Step::Dense {
            source: image.place(),
            target: offset(channel),
            shape,
            relu,
            weights: UNPLACED,
            bias,
            accumulate,
            scratch: 0,
            block: 0,
        };
        let bias = if bias { Bias::Shift } else { Bias::None };
        let folded = Folded { depthwise: None, weight, norm: norm.map(|norm| (norm, channel)), bias };
        self.push(step, image.buffer(), Some(target), Some(folded));
    }

    /// Two operations that are one separable convolution.
    fn separable(&mut self, ops: [&PlannedOp; 2], shape: SeparableShape, relu: bool, image: Image, output: Output) {
        let Output { target, accumulate, norm, shift } = output;
        let [Kernel::Depthwise(_, depthwise), Kernel::Dense(convs)] = ops.map(|op| &op.kernel) else {
            unreachable!("a separable convolution is a depthwise and a dense one")
        };
        let bias = shift && norm.is_some();
        let step = Step::Separable {
            source: image.place(),
            target: WHOLE,
            shape,
            relu,
            weights: UNPLACED,
            bias,
            accumulate,
            scratch: 0,
        };
        let folded = Folded {
            depthwise: Some(depthwise.clone()),
            weight: convs[0].1.clone(),
            norm: norm.map(|norm| (norm, 0)),
            bias: if bias { Bias::Shift } else { Bias::None },
        };
        self.push(step, image.buffer(), Some(target), Some(folded));
    }

    fn prelude(&mut self, image: Image, target: BufferId, shape: ImageShape, padding: Padding, relu: bool) {
        let step = Step::Prelude { source: image.place(), target: WHOLE, shape, padding, relu };
        self.push(step, image.buffer(), Some(target), None);
    }

    fn add(&mut self, image: Image, target: BufferId, shape: ImageShape) {
        self.push(Step::Add { source: image.place(), target: WHOLE, shape }, image.buffer(), Some(target), None);
    }

    fn head(&mut self, head: &Head) {
        let features = self.buffer(head.features);
        let mut channel = 0;
        for &source in &head.inputs {
            let shape = self.graph.tensors[source.tensor];
            let mut image = self.read(source);
            if head.relu {
                let activated = self.buffer(shape.len());
                self.prelude(image, activated, shape, Padding::NONE, true);
                image = Image::Buffer(activated);
            }
            let step = Step::GlobalAvgPool { source: image.place(), target: offset(channel), shape };
            self.push(step, image.buffer(), Some(features), None);
            channel += shape.channels;
        }
        let linear = Step::Dense {
            source: WHOLE,
            target: Place::External,
            shape: DenseShape::pointwise(ImageShape::new(1, 1, head.features), self.graph.classes),
            relu: false,
            weights: UNPLACED,
            bias: true,
            accumulate: false,
            scratch: 0,
            block: 0,
        };
        let weights = Folded {
            depthwise: None,
            weight: head.weight.clone(),
            norm: None,
            bias: Bias::Parameter(head.bias.clone()),
        };
        self.push(linear, Some(features), None, Some(weights));
    }
}

/// The separable convolution that an operation and the one behind it are, if they are one.
fn separable(op: &PlannedOp, next: &PlannedOp) -> Option<SeparableShape> {
    let (Kernel::Depthwise(depthwise, _), Kernel::Dense(convs)) = (&op.kernel, &next.kernel) else { return None };
    let [(dense, ..)] = convs[..] else { return None };
    let shape = SeparableShape {
        input: op.input,
        kernel: depthwise.kernel,
        stride: depthwise.stride,
        dilation: depthwise.dilation,
        output_channels: dense.output_channels,
    };
    (shape.depthwise() == *depthwise && shape.pointwise() == dense).then_some(shape)
}

/// Whether a stage can add its result to what is there.
fn adds(stage: &Stage) -> bool {
    matches!(stage.ops.last(), Some(Op::Dense { .. } | Op::FactorizedReduce { .. }))
}

/// The place of a channel of the first pixel in its buffer.
fn offset(channel: usize) -> Place {
    Place::Workspace(u32::try_from(bytes(channel)).expect("channels of an image that fits in memory"))
}
