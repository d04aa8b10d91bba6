//! Lowers a [`Graph`] to units of steps of the core, in no order yet, over buffers that have a size but no place.
//!
//! Batch norms are folded into the convolutions before them, so that a stage's output is what its readers see. The
//! terms of a state are added up where the state lies: no term has a buffer of its own, unless it ends with a pool. A
//! concatenation is never copied: a convolution over it adds up one over each part, and the global average of each part
//! is written beside that of the others.

use std::ops::Range;

use darts_core::{Place, Step, Storage, Weights};
use darts_kernels_simd::{DenseShape, ImageShape, Padding, SeparableShape};

use super::needed::{Producer, needed, producers};
use crate::engine::op::{Kernel, PlannedOp};
use crate::graph::{Graph, Head, INPUT, Mix, NormId, Source, TensorId};

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
    /// What of the network it is part of.
    pub layer: Layer,
}

/// What of a network a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// A stage, by index.
    Stage(usize),
    /// The sum of a mix, by index.
    Mix(usize),
    /// The classifier, with the averages before it.
    Head,
}

impl Layer {
    /// What it is called in tables; the stages of one operation of a cell have one name.
    pub fn name(self, graph: &Graph) -> &str {
        match self {
            Self::Stage(stage) => &graph.stages[stage].name,
            Self::Mix(mix) => &graph.mixes[mix].name,
            Self::Head => &graph.head.name,
        }
    }
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

/// What is executed as a whole. A buffer that several units write is the sum of what they write, in any order, except
/// where they write different parts of it.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// Steps with one target, directly one after the other.
    Steps(Vec<Draft>),
    /// Adds an image to a sum.
    Add {
        /// The image; `None` is the network's input.
        source: Option<BufferId>,
        target: BufferId,
        shape: ImageShape,
        layer: Layer,
    },
}

/// A network as units over buffers.
#[derive(Debug, Default)]
pub(super) struct Lowering {
    pub units: Vec<Unit>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
}

impl Lowering {
    /// All steps.
    pub fn drafts_mut(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.units.iter_mut().flat_map(|unit| match unit {
            Unit::Steps(drafts) => drafts.iter_mut(),
            Unit::Add { .. } => [].iter_mut(),
        })
    }
}

/// Whether a pool that several states have as a term is computed for all of them, or again for each. To keep it takes
/// room, and so does what it is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pools {
    Shared,
    Repeated,
}

/// The units that compute the logits of `graph`. Its auxiliary head is left out, as is every state on which the logits
/// do not depend. Weights of mixes and batch norms behind pools are not represented; a derived network has neither.
pub(super) fn lower(graph: &Graph, pools: Pools) -> Lowering {
    let producers = producers(graph);
    let mixes = needed(graph, &producers);
    let mut states = vec![None; graph.tensors.len()];
    states[INPUT] = Some(Image::Input);
    let mut lowerer = Lowerer {
        graph,
        producers,
        states,
        pools,
        pooled: Vec::new(),
        layer: Layer::Head,
        lowering: Lowering::default(),
    };
    mixes.into_iter().for_each(|mix| lowerer.mix(mix));
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
pub(super) const WHOLE: Place = Place::Workspace(0);

/// Weights without a place.
const UNPLACED: Weights = Weights { offset: 0, storage: Storage::F32 };

fn bytes(elements: usize) -> u64 {
    (elements * size_of::<f32>()) as u64
}

/// How the last operation of a stage writes its result.
#[derive(Clone, Copy, Debug)]
struct Output {
    target: BufferId,
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
    pools: Pools,
    /// Pools that have been computed: what they read, the step, and what they wrote.
    pooled: Vec<(Option<BufferId>, Step, BufferId)>,
    /// What is being lowered.
    layer: Layer,
    lowering: Lowering,
}

impl Lowerer<'_> {
    fn buffer(&mut self, elements: usize) -> BufferId {
        self.lowering.buffers.push(bytes(elements));
        self.lowering.buffers.len() - 1
    }

    fn push(&mut self, step: Step, source: Option<BufferId>, target: Option<BufferId>, weights: Option<Folded>) {
        let layer = self.layer;
        self.lowering.units.push(Unit::Steps(vec![Draft { step, source, target, weights, layer }]));
    }

    fn stage_of(&self, source: Source) -> Option<usize> {
        match self.producers[source.tensor] {
            Producer::Stage(stage) => Some(stage),
            Producer::Input | Producer::Mix(_) => None,
        }
    }

    /// Computes a state.
    fn mix(&mut self, index: usize) {
        let mix: &Mix = &self.graph.mixes[index];
        self.layer = Layer::Mix(index);
        let shape = self.graph.tensors[mix.output];
        let terms: Vec<Source> = mix.terms.iter().map(|term| term.source).collect();
        let image = match *terms {
            [source] if self.stage_of(source).is_none() => self.state(source.tensor),
            [] => {
                let target = self.buffer(shape.len());
                self.push(Step::Zero { target: WHOLE, shape }, None, Some(target), None);
                Image::Buffer(target)
            }
            _ => {
                let target = self.buffer(shape.len());
                for &source in &terms {
                    match self.stage_of(source) {
                        Some(stage) => self.stage(stage, target),
                        None => self.add(self.state(source.tensor), target, shape),
                    }
                }
                Image::Buffer(target)
            }
        };
        self.states[mix.output] = Some(image);
    }

    fn state(&self, tensor: TensorId) -> Image {
        self.states[tensor].unwrap_or_else(|| panic!("tensor {tensor} is read before it is computed"))
    }

    /// What a source is read from; the output of a stage is computed for its reader.
    fn read(&mut self, source: Source) -> Image {
        match self.stage_of(source) {
            Some(stage) => {
                let target = self.buffer(self.graph.tensors[source.tensor].len());
                self.stage(stage, target);
                Image::Buffer(target)
            }
            None => self.state(source.tensor),
        }
    }

    /// Adds the output of a stage behind its batch norm to `target`.
    fn stage(&mut self, index: usize, target: BufferId) {
        let graph = self.graph;
        let stage = &graph.stages[index];
        let images: Vec<Image> = stage.inputs.iter().map(|&source| self.read(source)).collect();
        let reader = std::mem::replace(&mut self.layer, Layer::Stage(index));
        let before = self.lowering.units.len();
        let mut channels = 0;
        for (group, (&source, image)) in stage.inputs.iter().zip(images).enumerate() {
            let input = graph.tensors[source.tensor];
            let ops = PlannedOp::chain(&stage.ops, input, &(channels..channels + input.channels));
            channels += input.channels;
            let first = group == 0;
            let output = Output { target, norm: stage.norms.first().copied(), shift: first };
            self.chain(&ops, stage.relu, image, output);
        }
        if stage.inputs.len() > 1 {
            self.join(before);
        }
        self.layer = reader;
    }

    /// Makes one unit of those from `first` on if all are convolutions to one target: those to the same channels are
    /// behind each other, so that the core can execute them as one.
    fn join(&mut self, first: usize) {
        let units = &self.lowering.units[first..];
        let parts: Vec<&[Draft]> = units
            .iter()
            .map_while(|unit| match unit {
                Unit::Steps(drafts) if drafts.iter().all(|draft| matches!(draft.step, Step::Dense { .. })) => {
                    Some(&drafts[..])
                }
                _ => None,
            })
            .collect();
        if parts.len() < units.len() {
            return;
        }
        let convolutions = parts[0].len();
        let mut drafts = Vec::with_capacity(convolutions * parts.len());
        for convolution in 0..convolutions {
            for (index, part) in parts.iter().enumerate() {
                let mut draft = part[convolution].clone();
                if let Step::Dense { accumulate, .. } = &mut draft.step {
                    *accumulate = index > 0;
                }
                drafts.push(draft);
            }
        }
        self.lowering.units.truncate(first);
        self.lowering.units.push(Unit::Steps(drafts));
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
                self.op(op, relu, image, output, rest.is_empty());
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
            Output { target: self.buffer(shape.len()), norm: None, shift: false }
        }
    }

    /// An operation; the `last` one of a chain adds to its target.
    fn op(&mut self, op: &PlannedOp, relu: bool, image: Image, output: Output, last: bool) {
        let source = image.place();
        let (step, weights) = match op.kernel {
            Kernel::Dense(ref convs) => {
                let layer = self.layer;
                let drafts = convs.iter().map(|(shape, weight, channel)| {
                    dense(image, *shape, relu, (weight.clone(), *channel), output, layer)
                });
                self.lowering.units.push(Unit::Steps(drafts.collect()));
                return;
            }
            Kernel::Depthwise(shape, ref weight) => (
                Step::Depthwise { source, target: WHOLE, shape, weights: UNPLACED, scratch: 0 },
                Some(Folded { depthwise: None, weight: weight.clone(), norm: None, bias: Bias::None }),
            ),
            Kernel::MaxPool(shape) => (Step::MaxPool { source, target: WHOLE, shape }, None),
            Kernel::AvgPool(shape) => (Step::AvgPool { source, target: WHOLE, shape }, None),
        };
        if !last {
            return self.push(step, image.buffer(), Some(output.target), weights);
        }
        // Only dense operations can add to what is there.
        let known = self.pooled.iter().find(|(source, pool, _)| *source == image.buffer() && *pool == step);
        let target = match known {
            Some(&(.., target)) => target,
            None => {
                let target = self.buffer(op.output.len());
                if self.pools == Pools::Shared && weights.is_none() {
                    self.pooled.push((image.buffer(), step, target));
                }
                self.push(step, image.buffer(), Some(target), weights);
                target
            }
        };
        self.add(Image::Buffer(target), output.target, op.output);
    }

    /// Two operations that are one separable convolution.
    fn separable(&mut self, ops: [&PlannedOp; 2], shape: SeparableShape, relu: bool, image: Image, output: Output) {
        let Output { target, norm, shift } = output;
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
            accumulate: false,
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
        self.lowering.units.push(Unit::Add { source: image.buffer(), target, shape, layer: self.layer });
    }

    fn head(&mut self, head: &Head) {
        self.layer = Layer::Head;
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

/// A dense convolution with `weight` to the output channels from `channel` on.
fn dense(
    image: Image,
    shape: DenseShape,
    relu: bool,
    (weight, channel): (Range<usize>, usize),
    output: Output,
    layer: Layer,
) -> Draft {
    let Output { target, norm, shift } = output;
    let bias = shift && norm.is_some();
    let step = Step::Dense {
        source: image.place(),
        target: offset(channel),
        shape,
        relu,
        weights: UNPLACED,
        bias,
        accumulate: false,
        scratch: 0,
        block: 0,
    };
    let bias = if bias { Bias::Shift } else { Bias::None };
    let folded = Folded { depthwise: None, weight, norm: norm.map(|norm| (norm, channel)), bias };
    Draft { step, source: image.buffer(), target: Some(target), weights: Some(folded), layer }
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

/// The place of a channel of the first pixel in its buffer.
fn offset(channel: usize) -> Place {
    Place::Workspace(u32::try_from(bytes(channel)).expect("channels of an image that fits in memory"))
}
