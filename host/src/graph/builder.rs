//! Builds a [`Graph`] layer by layer, allotting parameters, norms and tensors in order.

use std::ops::Range;

use darts_kernels_simd::{ImageShape, PoolShape, valid_extent};

use super::schedule::schedule;
use super::{Gather, Graph, Head, Mix, Node, Norm, Op, Parameter, ParameterKind, Source, Stage, Term, TermWeight};

/// A graph under construction. Methods panic on shapes that do not fit, which callers rule out by checking the
/// configuration first.
#[derive(Debug)]
pub struct GraphBuilder {
    input: ImageShape,
    classes: usize,
    tensors: Vec<ImageShape>,
    parameters: Vec<Parameter>,
    norms: Vec<Norm>,
    stages: Vec<Stage>,
    mixes: Vec<Mix>,
    order: Vec<Node>,
    drop_paths: usize,
    /// Weight and bias for every norm that is made.
    affine: bool,
}

impl GraphBuilder {
    /// An empty network on images of shape `input`; norms are affine if `affine`.
    pub fn new(input: ImageShape, classes: usize, affine: bool) -> Self {
        Self {
            input,
            classes,
            tensors: vec![input],
            parameters: Vec::new(),
            norms: Vec::new(),
            stages: Vec::new(),
            mixes: Vec::new(),
            order: Vec::new(),
            drop_paths: 0,
            affine,
        }
    }

    /// Shape of a tensor.
    pub fn shape(&self, source: Source) -> ImageShape {
        self.tensors[source.tensor]
    }

    /// Allots a parameter.
    pub fn parameter(&mut self, name: String, kind: ParameterKind) -> Range<usize> {
        let start = self.parameters.last().map_or(0, |last| last.range.end);
        let len = match kind {
            ParameterKind::Depthwise { kernel, channels } => kernel * kernel * channels,
            ParameterKind::Dense { kernel, input, output } => kernel[0] * kernel[1] * input * output,
            ParameterKind::Linear { input, output } => input * output,
            ParameterKind::Bias { .. } => self.classes,
            ParameterKind::NormWeight | ParameterKind::NormBias => self.norms.last().map_or(0, |norm| norm.range.len()),
        };
        self.parameters.push(Parameter { name, kind, range: start..start + len });
        start..start + len
    }

    /// Adds a stage; `norm` names the batch norm behind it. Returns the stage's output as its readers see it.
    pub fn stage(
        &mut self,
        name: &str,
        inputs: Vec<Source>,
        relu: bool,
        ops: Vec<Op>,
        norm: Option<(String, bool)>,
    ) -> Source {
        assert!(
            inputs.len() == 1 || matches!(ops.last(), Some(Op::Dense { .. } | Op::FactorizedReduce { .. })),
            "{name}: a concatenation needs a dense operation"
        );
        let input = self.shape(inputs[0]);
        assert!(inputs.iter().all(|&source| self.shape(source).pixels() == input.pixels()), "{name}: sizes differ");
        let output = self.tensors.len();
        self.tensors.push(ops.iter().fold(input, |shape, op| op.output(shape)));
        let norm = norm.map(|(norm_name, affine)| self.norm(norm_name, output, affine));
        self.order.push(Node::Stage(self.stages.len()));
        self.stages.push(Stage { inputs, relu, ops, output, norms: norm.into_iter().collect(), name: name.to_owned() });
        Source { tensor: output, norm }
    }

    /// What a stage that does the same as is wanted makes, if there is one.
    fn same_stage(&self, inputs: &[Source], relu: bool, ops: &[Op]) -> Option<usize> {
        self.stages.iter().position(|stage| stage.inputs == inputs && stage.relu == relu && stage.ops == ops)
    }

    /// The pool of a state without a batch norm; all readers share one stage.
    pub fn shared_pool(&mut self, name: &str, input: Source, op: Op) -> Source {
        let ops = [op];
        match self.same_stage(&[input], false, &ops) {
            Some(stage) => Source { tensor: self.stages[stage].output, norm: None },
            None => self.stage(name, vec![input], false, ops.to_vec(), None),
        }
    }

    /// Another batch norm behind a stage that does the same as is wanted, if there is one.
    pub fn shared_stage(
        &mut self,
        inputs: &[Source],
        relu: bool,
        ops: &[Op],
        (name, affine): (String, bool),
    ) -> Option<Source> {
        let stage = self.same_stage(inputs, relu, ops)?;
        let tensor = self.stages[stage].output;
        let norm = self.norm(name, tensor, affine);
        self.stages[stage].norms.push(norm);
        Some(Source { tensor, norm: Some(norm) })
    }

    fn norm(&mut self, name: String, tensor: usize, affine: bool) -> usize {
        let start = self.norms.last().map_or(0, |last| last.range.end);
        let range = start..start + self.tensors[tensor].channels;
        self.norms.push(Norm { name: name.clone(), range, affine: None, tensor });
        let id = self.norms.len() - 1;
        if affine {
            let weight = self.parameter(format!("{name}.weight"), ParameterKind::NormWeight);
            let bias = self.parameter(format!("{name}.bias"), ParameterKind::NormBias);
            self.norms[id].affine = Some([weight, bias]);
        }
        id
    }

    /// The norm that follows a stage under this network's default for affine parameters.
    pub fn default_norm(&self, name: String) -> Option<(String, bool)> {
        Some((name, self.affine))
    }

    /// Adds a state of the given shape: the sum of `terms`.
    pub fn mix(&mut self, name: &str, shape: ImageShape, terms: Vec<Term>) -> Source {
        assert!(terms.iter().all(|term| self.shape(term.source) == shape), "{name}: shapes of terms differ");
        self.any_mix(name, shape, terms, None)
    }

    /// Adds a state of channels of the concatenation of `states`, which are of one size: `channels` behind a shuffle of
    /// `groups`.
    pub fn gather(&mut self, name: &str, states: &[Source], groups: usize, channels: Range<usize>) -> Source {
        let size = self.shape(states[0]);
        let total = states.iter().map(|&state| self.shape(state).channels).sum();
        assert!(states.iter().all(|&state| self.shape(state).pixels() == size.pixels()), "{name}: sizes differ");
        assert!(total % groups == 0 && channels.end <= total, "{name}: {total} channels, {groups} groups");
        let one = |&source| Term { source, weight: TermWeight::One, drop_path: None };
        let gather = Gather { channels: total, groups, first: channels.start };
        let shape = ImageShape { channels: channels.len(), ..size };
        self.any_mix(name, shape, states.iter().map(one).collect(), Some(gather))
    }

    fn any_mix(&mut self, name: &str, shape: ImageShape, terms: Vec<Term>, gather: Option<Gather>) -> Source {
        let output = self.tensors.len();
        self.tensors.push(shape);
        self.order.push(Node::Mix(self.mixes.len()));
        self.mixes.push(Mix { terms, gather, output, name: name.to_owned() });
        Source { tensor: output, norm: None }
    }

    /// Materialises a stage's output as a state.
    pub fn state(&mut self, name: &str, source: Source) -> Source {
        let shape = self.shape(source);
        self.mix(name, shape, vec![Term { source, weight: TermWeight::One, drop_path: None }])
    }

    /// Allots a drop-path mask.
    pub fn drop_path(&mut self) -> usize {
        self.drop_paths += 1;
        self.drop_paths - 1
    }

    /// A classifier named `name` over `inputs`.
    pub fn head(&mut self, name: &str, inputs: Vec<Source>, relu: bool) -> Head {
        let features = inputs.iter().map(|&source| self.shape(source).channels).sum();
        let kind = ParameterKind::Linear { input: features, output: self.classes };
        let weight = self.parameter(format!("{name}.weight"), kind);
        let bias = self.parameter(format!("{name}.bias"), ParameterKind::Bias { input: features });
        Head { inputs, relu, weight, bias, features, name: name.to_owned() }
    }

    /// The finished graph.
    pub fn finish(
        self,
        head: Head,
        auxiliary: Option<Head>,
        cell_outputs: Vec<Vec<usize>>,
        mix_weights: usize,
    ) -> Graph {
        let regions = schedule(&self.tensors, &self.stages, &self.mixes, &self.order);
        Graph {
            input: self.input,
            classes: self.classes,
            tensors: self.tensors,
            parameters: self.parameters,
            norms: self.norms,
            stages: self.stages,
            mixes: self.mixes,
            order: self.order,
            head,
            auxiliary,
            cell_outputs,
            mix_weights,
            drop_paths: self.drop_paths,
            regions,
        }
    }
}

impl Op {
    /// Shape of the output for one input image of shape `input` (all concatenated inputs together count as one).
    pub fn output(&self, input: ImageShape) -> ImageShape {
        match *self {
            Op::Depthwise { stride, .. } => strided(input, stride),
            Op::Dense { kernel, stride, padding, output_channels, .. } => ImageShape::new(
                valid_extent(input.height + 2 * padding[0], kernel[0], stride[0], 1),
                valid_extent(input.width + 2 * padding[1], kernel[1], stride[1], 1),
                output_channels,
            ),
            Op::FactorizedReduce { output_channels, .. } => {
                ImageShape { channels: output_channels, ..strided(input, 2) }
            }
            Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding } => {
                PoolShape { input, kernel, stride, padding }.output()
            }
        }
    }
}

/// Shape after an operation with "same" padding and the given stride.
pub(crate) fn strided(input: ImageShape, stride: usize) -> ImageShape {
    ImageShape::new(input.height.div_ceil(stride), input.width.div_ceil(stride), input.channels)
}
