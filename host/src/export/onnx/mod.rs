//! From a trained network to an ONNX model, for other engines.
//!
//! The nodes are built on the graph, not on the core's plan, whose steps are about a workspace: engines for ONNX have
//! their own. Those of a network on integers follow its steps, since these say where it rounds.

mod builder;
mod lower;
mod proto;
mod quantized;
#[cfg(test)]
mod tests;

use darts_kernels_simd::ImageShape;
use prost::Message;

use super::{ExportError, Quantization};
use crate::graph::Graph;
use crate::weights::TrainedNetwork;
use proto::{
    DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Name of the input, images `[batch, C, H, W]`.
pub const IMAGES: &str = "images";
/// Name of the output, logits `[batch, classes]`.
pub const LOGITS: &str = "logits";
/// Version of ONNX's operators that the nodes are of, and the version of the file format that came with it.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// What the input is.
const IMAGES_ARE: &str = "[batch, channels, height, width], normalised: (p / 255 - mean) / std for a pixel p of 0 to 255, with a \
                          mean and a std for each channel, which are in the model's metadata";

/// The bytes of the ONNX model of `network`: what the core computes, batch norms folded, for any number of images.
///
/// # Errors
/// If a folded weight is not finite, or the model is larger than a file of this kind can be.
pub fn onnx(network: &TrainedNetwork) -> Result<Vec<u8>, ExportError> {
    let graph = network.graph()?;
    let nodes = lower::lower(network, &graph, IMAGES, LOGITS)?;
    file(network, &graph, nodes)
}

/// The bytes of the ONNX model of a network on 8-bit integers, in `QuantizeLinear` and `DequantizeLinear`: the weights,
/// scales and zeros of the core's model, and its roundings. An engine computes between two of them on `f32` and rounds
/// halves to even, so that some integers are neighbours of the core's, and logits are close to its and not equal.
///
/// # Errors
/// If a scale is beyond the core's limits, or the model is larger than a file of this kind can be.
pub fn onnx_int8(quantization: &Quantization) -> Result<Vec<u8>, ExportError> {
    let network = quantization.int8()?;
    file(network.network, network.graph, quantized::lower(&network, IMAGES, LOGITS))
}

fn file(network: &TrainedNetwork, graph: &Graph, mut nodes: GraphProto) -> Result<Vec<u8>, ExportError> {
    nodes.name = Some("darts".to_owned());
    let ImageShape { channels, height, width } = graph.input;
    nodes.input = vec![value(IMAGES, &[channels, height, width], Some(IMAGES_ARE))];
    nodes.output = vec![value(LOGITS, &[graph.classes], None)];
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("darts".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        doc_string: Some(format!("A network of the cells {}", network.genotype)),
        graph: Some(nodes),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: metadata(network),
    };
    // The limit of protocol buffers.
    if i32::try_from(model.encoded_len()).is_err() {
        return Err(ExportError::OnnxSize { bytes: model.encoded_len() });
    }
    Ok(model.encode_to_vec())
}

/// A tensor of `f32` whose first dimension is the batch.
fn value(name: &str, image: &[usize], doc_string: Option<&str>) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: None, dim_param: Some("batch".to_owned()) };
    let extents = image.iter().map(|&extent| DimensionProto { dim_value: Some(extent as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(extents).collect() };
    let tensor = TensorTypeProto { elem_type: Some(proto::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor) }),
        doc_string: doc_string.map(str::to_owned),
    }
}

fn metadata(network: &TrainedNetwork) -> Vec<StringStringEntryProto> {
    // Not by way of `json!`, whose numbers are `f64`.
    let list = |values: &[f32]| serde_json::to_string(values).expect("numbers have a text");
    let entries = [
        ("genotype", network.genotype.to_string()),
        ("mean", list(&network.normalization.mean)),
        ("std", list(&network.normalization.std)),
        ("class_names", serde_json::json!(network.class_names).to_string()),
    ];
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    entries.map(entry).into()
}
