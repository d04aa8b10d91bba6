//! Parameters and multiply-adds of a graph. Only convolutions and linear layers count as multiply-adds, as the field
//! reports them; the auxiliary head is counted apart.

use darts_kernels_simd::ImageShape;
use serde::Serialize;

use super::{Graph, Op, Stage};

/// One row of the table of layers.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRow {
    /// The layer.
    pub name: String,
    /// What it does.
    pub operation: String,
    /// Output `[H, W, C]`.
    pub output: [usize; 3],
    /// Weights, batch norm included.
    pub parameters: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
}

/// Totals of a graph, auxiliary head excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Weights of everything but the auxiliary head.
    pub parameters: usize,
    /// Weights of the auxiliary head.
    pub auxiliary_parameters: usize,
    /// Multiply-adds for one image.
    pub multiply_adds: usize,
}

fn is_auxiliary(name: &str) -> bool {
    name.starts_with("auxiliary")
}

/// Totals of `graph`.
pub fn totals(graph: &Graph) -> Totals {
    let (auxiliary, main): (Vec<_>, Vec<_>) =
        graph.parameters.iter().partition(|parameter| is_auxiliary(&parameter.name));
    Totals {
        parameters: main.iter().map(|parameter| parameter.range.len()).sum(),
        auxiliary_parameters: auxiliary.iter().map(|parameter| parameter.range.len()).sum(),
        multiply_adds: layers(graph).iter().map(|row| row.multiply_adds).sum(),
    }
}

/// One row per stage and for the classifier, in order; the auxiliary head is left out.
pub fn layers(graph: &Graph) -> Vec<LayerRow> {
    let mut rows: Vec<LayerRow> =
        graph.stages.iter().filter(|stage| !is_auxiliary(&stage.name)).map(|stage| stage_row(graph, stage)).collect();
    let head = &graph.head;
    rows.push(LayerRow {
        name: head.name.clone(),
        operation: "global average, linear".into(),
        output: [1, 1, graph.classes],
        parameters: head.weight.len() + head.bias.len(),
        multiply_adds: head.weight.len(),
    });
    rows
}

fn stage_row(graph: &Graph, stage: &Stage) -> LayerRow {
    let first = graph.tensors[stage.inputs[0].tensor];
    let channels = stage.inputs.iter().map(|source| graph.tensors[source.tensor].channels).sum();
    let mut shape = ImageShape { channels, ..first };
    let (mut parameters, mut multiply_adds) = (0, 0);
    let mut operation: Vec<String> = if stage.relu { vec!["relu".into()] } else { vec![] };
    for op in &stage.ops {
        let output = op.output(shape);
        let weights = op.weights();
        // Every weight is used once per output pixel, those of a factorized reduction's halves included.
        parameters += weights;
        multiply_adds += weights * output.pixels();
        operation.push(op.describe());
        shape = output;
    }
    if !stage.norms.is_empty() {
        operation.push("bn".into());
    }
    let affine = stage.norms.iter().flat_map(|&norm| graph.norms[norm].affine.iter().flatten());
    parameters += affine.map(|range| range.len()).sum::<usize>();
    LayerRow {
        name: stage.name.clone(),
        operation: operation.join(" "),
        output: [shape.height, shape.width, shape.channels],
        parameters,
        multiply_adds,
    }
}

impl Op {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        match self {
            Op::Depthwise { weight, .. } | Op::Dense { weight, .. } => weight.len(),
            Op::FactorizedReduce { weights, .. } => weights.iter().map(|range| range.len()).sum(),
            Op::MaxPool { .. } | Op::AvgPool { .. } => 0,
        }
    }

    fn describe(&self) -> String {
        match self {
            Op::Depthwise { kernel, stride, dilation, .. } => {
                let dilated = if *dilation > 1 { format!(" d{dilation}") } else { String::new() };
                format!("dw{kernel}x{kernel}{}{dilated}", step(*stride))
            }
            Op::Dense { kernel: [rows, columns], stride, .. } => {
                format!("conv{rows}x{columns}{}", step(stride[0].max(stride[1])))
            }
            Op::FactorizedReduce { .. } => "factorized_reduce".into(),
            Op::MaxPool { kernel, stride, .. } => format!("max_pool{kernel}x{kernel}{}", step(*stride)),
            Op::AvgPool { kernel, stride, .. } => format!("avg_pool{kernel}x{kernel}{}", step(*stride)),
        }
    }
}

fn step(stride: usize) -> String {
    if stride > 1 { format!(" s{stride}") } else { String::new() }
}
