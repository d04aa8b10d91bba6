//! The nodes of a network, its batch norms folded as in a model file.

use std::collections::HashMap;
use std::ops::Range;

use darts_kernels_simd::ImageShape;

use super::builder::{Builder, int, ints};
use super::proto::GraphProto;
use crate::export::fold::scale_and_shift;
use crate::export::needed::{Producer, needed, producers};
use crate::export::{ExportError, Precision};
use crate::graph::{Graph, Head, INPUT, Mix, NormId, Op, Parameter, Source, Stage};
use crate::weights::TrainedNetwork;

/// The nodes and constants that compute `output` from `input`, without the descriptions of these two.
pub(super) fn lower(
    network: &TrainedNetwork,
    graph: &Graph,
    input: &str,
    output: &str,
) -> Result<GraphProto, ExportError> {
    let producers = producers(graph);
    let mixes = needed(graph, &producers);
    let mut values = vec![None; graph.tensors.len()];
    values[INPUT] = Some(input.to_owned());
    let parameters = graph.parameters.iter().map(|parameter| (parameter.range.start, parameter)).collect();
    let mut lowerer = Lowerer { network, graph, producers, parameters, values, input, builder: Builder::default() };
    mixes.into_iter().try_for_each(|mix| lowerer.mix(&graph.mixes[mix]))?;
    let logits = lowerer.head(&graph.head)?;
    let mut nodes = lowerer.builder.graph;
    let last = nodes.node.last_mut().expect("a head has nodes");
    assert_eq!(last.output, [logits], "the logits come last");
    last.output = vec![output.to_owned()];
    Ok(nodes)
}

struct Lowerer<'a> {
    network: &'a TrainedNetwork,
    graph: &'a Graph,
    producers: Vec<Producer>,
    /// By the start of their ranges.
    parameters: HashMap<usize, &'a Parameter>,
    /// Names of the tensors that have been computed.
    values: Vec<Option<String>>,
    input: &'a str,
    builder: Builder,
}

/// A batch norm to fold: a scale and a shift for each channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
    name: String,
}

impl Lowerer<'_> {
    /// Computes a state.
    fn mix(&mut self, mix: &Mix) -> Result<(), ExportError> {
        let mut sum: Option<String> = None;
        for term in &mix.terms {
            let value = self.read(term.source)?;
            sum = Some(match sum {
                Some(sum) => self.builder.node(&mix.name, "Add", &[&sum, &value], Vec::new()),
                None => value,
            });
        }
        let shape = self.graph.tensors[mix.output];
        let state = sum.unwrap_or_else(|| self.builder.zeros(&mix.name, self.input, shape));
        self.values[mix.output] = Some(state);
        Ok(())
    }

    /// The value that a source stands for; that of a stage is computed for its first reader.
    fn read(&mut self, source: Source) -> Result<String, ExportError> {
        if let Some(value) = &self.values[source.tensor] {
            return Ok(value.clone());
        }
        let Producer::Stage(stage) = self.producers[source.tensor] else {
            panic!("tensor {} is read before it is computed", source.tensor)
        };
        let value = self.stage(&self.graph.stages[stage])?;
        self.values[source.tensor] = Some(value.clone());
        Ok(value)
    }

    fn concatenation(&mut self, scope: &str, sources: &[Source]) -> Result<String, ExportError> {
        let parts = sources.iter().map(|&source| self.read(source)).collect::<Result<Vec<_>, _>>()?;
        if let [part] = parts.as_slice() {
            return Ok(part.clone());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.builder.node(scope, "Concat", &parts, vec![int("axis", 1)]))
    }

    /// The output of a stage behind its batch norm.
    fn stage(&mut self, stage: &Stage) -> Result<String, ExportError> {
        let mut value = self.concatenation(&stage.name, &stage.inputs)?;
        if stage.relu {
            value = self.builder.node(&stage.name, "Relu", &[&value], Vec::new());
        }
        let mut shape = self.graph.tensors[stage.inputs[0].tensor];
        shape.channels = stage.inputs.iter().map(|source| self.graph.tensors[source.tensor].channels).sum();
        for (index, op) in stage.ops.iter().enumerate() {
            let last = index + 1 == stage.ops.len();
            let norm = stage.norms.first().filter(|_| last).map(|&norm| self.affine(norm));
            value = self.op(&stage.name, op, &value, shape, norm)?;
            shape = op.output(shape);
        }
        Ok(value)
    }

    fn affine(&self, norm: NormId) -> Affine {
        let description = &self.graph.norms[norm];
        let channels = 0..description.range.len();
        let (scale, shift) = channels.map(|channel| scale_and_shift(self.network, self.graph, norm, channel)).unzip();
        Affine { scale, shift, name: description.name.clone() }
    }

    fn op(
        &mut self,
        scope: &str,
        op: &Op,
        value: &str,
        shape: ImageShape,
        norm: Option<Affine>,
    ) -> Result<String, ExportError> {
        match *op {
            Op::Depthwise { ref weight, kernel, stride, dilation } => {
                assert!(norm.is_none(), "{scope}: a batch norm behind a depthwise convolution is not folded");
                let border = dilation * (kernel - 1) / 2;
                let attributes = vec![
                    int("group", shape.channels),
                    ints("kernel_shape", &[kernel; 2]),
                    ints("strides", &[stride; 2]),
                    ints("dilations", &[dilation; 2]),
                    ints("pads", &[border; 4]),
                ];
                let weight = self.weight(weight, &vec![1.0; shape.channels])?;
                Ok(self.builder.node(scope, "Conv", &[value, &weight], attributes))
            }
            Op::Dense { ref weight, kernel, stride, padding: [rows, columns], output_channels } => {
                let pads = [rows, columns, rows, columns];
                let attributes = vec![ints("kernel_shape", &kernel), ints("strides", &stride), ints("pads", &pads)];
                self.dense(scope, value, weight, attributes, (norm, output_channels))
            }
            Op::FactorizedReduce { ref weights, output_channels } => {
                self.factorized_reduce(scope, value, shape, weights, (norm, output_channels))
            }
            Op::MaxPool { kernel, stride, padding } => {
                let attributes = vec![
                    ints("kernel_shape", &[kernel; 2]),
                    ints("strides", &[stride; 2]),
                    ints("pads", &[padding; 4]),
                ];
                assert!(norm.is_none(), "{scope}: a batch norm behind a pool is not folded");
                Ok(self.builder.node(scope, "MaxPool", &[value], attributes))
            }
            Op::AvgPool { kernel, stride, padding } => {
                let attributes = vec![
                    ints("kernel_shape", &[kernel; 2]),
                    ints("strides", &[stride; 2]),
                    ints("pads", &[padding; 4]),
                    int("count_include_pad", 0),
                ];
                assert!(norm.is_none(), "{scope}: a batch norm behind a pool is not folded");
                Ok(self.builder.node(scope, "AveragePool", &[value], attributes))
            }
        }
    }

    /// A convolution of all channels, with the norm behind it.
    fn dense(
        &mut self,
        scope: &str,
        value: &str,
        weight: &Range<usize>,
        attributes: Vec<super::proto::AttributeProto>,
        (norm, channels): (Option<Affine>, usize),
    ) -> Result<String, ExportError> {
        let Some(Affine { scale, shift, name }) = norm else {
            let weight = self.weight(weight, &vec![1.0; channels])?;
            return Ok(self.builder.node(scope, "Conv", &[value, &weight], attributes));
        };
        let weight = self.weight(weight, &scale)?;
        let bias = format!("{name}.shift");
        let shift = shift.into_iter().map(rounded).collect::<Result<Vec<_>, _>>()?;
        self.builder.floats(&bias, &[channels], &shift);
        Ok(self.builder.node(scope, "Conv", &[value, &weight, &bias], attributes))
    }

    /// Two convolutions at stride 2, the second one of the image without its first row and column.
    fn factorized_reduce(
        &mut self,
        scope: &str,
        value: &str,
        shape: ImageShape,
        weights: &[Range<usize>; 2],
        (norm, channels): (Option<Affine>, usize),
    ) -> Result<String, ExportError> {
        let mut shifted = value.to_owned();
        let [bottom, right] = [shape.height % 2, shape.width % 2].map(|odd| odd as i64);
        if [bottom, right] != [0, 0] {
            let pads = self.builder.integers(&[0, 0, 0, 0, 0, 0, bottom, right]);
            shifted = self.builder.node(scope, "Pad", &[value, &pads], Vec::new());
        }
        let [starts, ends, axes] = [[1, 1], [i64::MAX; 2], [2, 3]].map(|values| self.builder.integers(&values));
        let shifted = self.builder.node(scope, "Slice", &[&shifted, &starts, &ends, &axes], Vec::new());
        let mut norm = norm;
        let mut halves = Vec::new();
        for (half, weight) in weights.iter().enumerate() {
            let attributes = vec![ints("kernel_shape", &[1; 2]), ints("strides", &[2; 2])];
            let part = norm.as_mut().map(|norm| Affine {
                scale: norm.scale.drain(..channels / 2).collect(),
                shift: norm.shift.drain(..channels / 2).collect(),
                name: format!("{}.{half}", norm.name),
            });
            let input = [value, &shifted][half];
            halves.push(self.dense(scope, input, weight, attributes, (part, channels / 2))?);
        }
        Ok(self.builder.node(scope, "Concat", &[&halves[0], &halves[1]], vec![int("axis", 1)]))
    }

    fn head(&mut self, head: &Head) -> Result<String, ExportError> {
        let scope = &head.name;
        let mut value = self.concatenation(scope, &head.inputs)?;
        if head.relu {
            value = self.builder.node(scope, "Relu", &[&value], Vec::new());
        }
        let average = self.builder.node(scope, "GlobalAveragePool", &[&value], Vec::new());
        let features = self.builder.node(scope, "Flatten", &[&average], vec![int("axis", 1)]);
        let weight = self.weight(&head.weight, &vec![1.0; self.graph.classes])?;
        let bias = self.weight(&head.bias, &vec![1.0; self.graph.classes])?;
        Ok(self.builder.node(scope, "Gemm", &[&features, &weight, &bias], vec![int("transB", 1)]))
    }

    /// The constant of the parameter `range`, in the original's layout, each output channel times its scale.
    fn weight(&mut self, range: &Range<usize>, scale: &[f64]) -> Result<String, ExportError> {
        let parameter = self.parameters[&range.start];
        let rows = self.network.weights[range.clone()].chunks_exact(scale.len());
        let scaled = rows.flat_map(|row| row.iter().zip(scale).map(|(&weight, scale)| f64::from(weight) * scale));
        let stored = scaled.map(rounded).collect::<Result<Vec<_>, _>>()?;
        self.builder.floats(&parameter.name, &parameter.original_shape(), &parameter.to_original(&stored));
        Ok(parameter.name.clone())
    }
}

fn rounded(value: f64) -> Result<f32, ExportError> {
    let rounded = value as f32;
    if rounded.is_finite() { Ok(rounded) } else { Err(ExportError::Value { value, precision: Precision::F32 }) }
}
