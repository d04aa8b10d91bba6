//! Builds a [`Graph`] layer by layer, allotting parameters, norms and tensors in order.

use std::ops::Range;

use darts_kernels_simd::{ImageShape, PoolShape, valid_extent};

use super::schedule::schedule;
use super::{Graph, Head, Mix, Node, Norm, Op, Parameter, ParameterKind, Source, Stage, Term, TermWeight};

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

    /// Another batch norm behind a stage that does the same as is wanted, if there is one.
    pub fn shared_stage(
        &mut self,
        inputs: &[Source],
        relu: bool,
        ops: &[Op],
        (name, affine): (String, bool),
    ) -> Option<Source> {
        let same = |stage: &Stage| stage.inputs == inputs && stage.relu == relu && stage.ops == ops;
        let stage = self.stages.iter().position(same)?;
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
        let output = self.tensors.len();
        self.tensors.push(shape);
        self.order.push(Node::Mix(self.mixes.len()));
        self.mixes.push(Mix { terms, output, name: name.to_owned() });
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
            Op::MaxPool { stride } => strided(input, stride),
            Op::AvgPool { kernel, stride, padding } => PoolShape { input, kernel, stride, padding }.output(),
        }
    }
}

/// Shape after an operation with "same" padding and the given stride.
pub(crate) fn strided(input: ImageShape, stride: usize) -> ImageShape {
    ImageShape::new(input.height.div_ceil(stride), input.width.div_ceil(stride), input.channels)
}
