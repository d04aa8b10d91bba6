use std::collections::{HashMap, HashSet};

use darts_core::Genotype;

use super::proto::NodeProto;
use super::*;
use crate::data::{Dataset, Normalization};
use crate::engine::RunningStatistics;
use crate::export::Calibration;
use crate::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_kernels_simd::Kernels;

fn network(kind: NetworkKind, input: [usize; 3], genotype: &str) -> TrainedNetwork {
    let genotype = Genotype::builtin(genotype).unwrap_or_else(|| Genotype::parse(genotype).unwrap());
    let config = DerivedConfig { kind, input, classes: 10, channels: 4, layers: 3, auxiliary: false };
    let graph = derived(&genotype, &config).unwrap();
    TrainedNetwork {
        weights: (0..graph.weights()).map(|index| (index as f32).sin()).collect(),
        statistics: RunningStatistics::new(&graph),
        normalization: Normalization::new(vec![0.5; input[0]], vec![0.25; input[0]], input[0]).unwrap(),
        class_names: (0..10).map(|class| class.to_string()).collect(),
        genotype,
        config,
    }
}

fn decoded(network: &TrainedNetwork) -> GraphProto {
    let model = ModelProto::decode(onnx(network).unwrap().as_slice()).unwrap();
    assert_eq!((model.ir_version, model.opset_import.len()), (Some(8), 1));
    assert_eq!(model.opset_import[0].version, Some(17));
    let metadata: HashMap<_, _> = model.metadata_props.iter().map(|entry| (entry.key(), entry.value())).collect();
    assert_eq!(metadata["genotype"], network.genotype.to_string());
    assert_eq!(serde_json::from_str::<Vec<f32>>(metadata["std"]).unwrap(), network.normalization.std);
    model.graph.unwrap()
}

/// Checks that every value is defined once and before it is used, and that every constant is used and has its bytes.
fn check(graph: &GraphProto) {
    let mut defined: HashSet<&str> = HashSet::from([IMAGES]);
    for constant in &graph.initializer {
        assert!(defined.insert(constant.name()), "{} is there twice", constant.name());
        let element = match constant.data_type() {
            proto::INT8 => 1,
            proto::FLOAT | proto::INT32 => 4,
            _ => 8,
        };
        let elements: i64 = constant.dims.iter().product();
        assert_eq!(constant.raw_data().len() as i64, element * elements, "{}", constant.name());
    }
    let mut used = HashSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(defined.contains(input.as_str()), "{} reads {input}", node.name());
            used.insert(input.as_str());
        }
        assert!(node.output.iter().all(|output| defined.insert(output)), "{} is there twice", node.name());
    }
    let mut unused: Vec<_> = defined.difference(&used).collect();
    unused.retain(|&&name| name != IMAGES);
    assert_eq!(unused, [&LOGITS]);
}

fn nodes<'a>(graph: &'a GraphProto, operator: &str) -> Vec<&'a NodeProto> {
    graph.node.iter().filter(|node| node.op_type() == operator).collect()
}

#[test]
fn every_kind_of_network_is_a_sound_graph() {
    let zero_state = "Genotype(\
        normal=[('none', 0), ('none', 1), ('conv_7x1_1x7', 0), ('skip_connect', 2)], normal_concat=[2, 3], \
        reduce=[('none', 0), ('none', 1), ('conv_7x1_1x7', 0), ('skip_connect', 1)], reduce_concat=[2, 3])";
    for genotype in ["DARTS_V1", "DARTS_V2", "NASNet", "AmoebaNet", zero_state] {
        for (kind, input) in
            [(NetworkKind::Cifar, [3, 32, 32]), (NetworkKind::Cifar, [1, 27, 13]), (NetworkKind::ImageNet, [3, 57, 45])]
        {
            check(&decoded(&network(kind, input, genotype)));
        }
    }
}

#[test]
fn networks_on_integers_are_sound_graphs_of_pairs() {
    for (genotype, input) in [("DARTS_V2", [3, 16, 16]), ("NASNet", [1, 13, 9]), ("AmoebaNet", [1, 8, 8])] {
        let network = network(NetworkKind::Cifar, input, genotype);
        let [channels, height, width] = input;
        let shape = ImageShape::new(height, width, channels);
        let pixels = (0..4 * shape.len()).map(|index| (index * 37 % 256) as u8).collect();
        let data = Dataset::new(shape, pixels, vec![0; 4], network.class_names.clone());
        let quantization = Quantization::new(&network, &data, Calibration::MinMax, Kernels::detect()).unwrap();
        let graph = ModelProto::decode(onnx_int8(&quantization).unwrap().as_slice()).unwrap().graph.unwrap();
        check(&graph);
        // Every convolution reads integers, and its weights are some.
        let integers: HashSet<&str> =
            nodes(&graph, "DequantizeLinear").iter().map(|node| node.output[0].as_str()).collect();
        let convolutions = nodes(&graph, "Conv");
        assert!(convolutions.iter().all(|node| node.input.iter().all(|input| integers.contains(input.as_str()))));
        let stem = graph.initializer.iter().find(|constant| constant.name() == "stem.0.weight_quantized").unwrap();
        assert_eq!((stem.data_type(), stem.dims.as_slice()), (proto::INT8, &[12, channels as i64, 3, 3][..]));
        let scale = graph.initializer.iter().find(|constant| constant.name() == "stem.0.weight_scale").unwrap();
        assert_eq!(scale.dims, [12]);
    }
}

#[test]
fn shapes_are_the_originals_and_the_batch_is_open() {
    let graph = decoded(&network(NetworkKind::Cifar, [3, 32, 32], "DARTS_V2"));
    let shape = |name: &str| {
        let constant = graph.initializer.iter().find(|constant| constant.name() == name);
        constant.unwrap_or_else(|| panic!("{name} is missing")).dims.clone()
    };
    assert_eq!(shape("stem.0.weight"), [12, 3, 3, 3]);
    assert_eq!(shape("stem.1.shift"), [12]);
    assert_eq!(shape("cells.0._ops.0.op.1.weight"), [4, 1, 3, 3]);
    assert_eq!(shape("cells.0._ops.0.op.2.weight"), [4, 4, 1, 1]);
    assert_eq!(shape("classifier.weight"), [10, 64]);
    assert_eq!(shape("classifier.bias"), [10]);
    let dimensions = |value: &ValueInfoProto| {
        let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        let dimensions = &tensor.shape.as_ref().unwrap().dim;
        dimensions.iter().map(|dim| dim.dim_param.clone().unwrap_or(dim.dim_value().to_string())).collect::<Vec<_>>()
    };
    assert_eq!(dimensions(&graph.input[0]), ["batch", "3", "32", "32"]);
    assert_eq!(dimensions(&graph.output[0]), ["batch", "10"]);
}

#[test]
fn odd_sizes_pad_the_shifted_view_and_zero_states_follow_the_batch() {
    let even = decoded(&network(NetworkKind::Cifar, [3, 32, 32], "DARTS_V2"));
    let odd = decoded(&network(NetworkKind::Cifar, [3, 27, 27], "DARTS_V2"));
    assert!(nodes(&even, "Pad").is_empty() && !nodes(&odd, "Pad").is_empty());
    assert_eq!(nodes(&even, "Slice").len(), nodes(&odd, "Slice").len());
    let zero = "Genotype(normal=[('none', 0), ('none', 1)], normal_concat=[2], \
                reduce=[('none', 0), ('none', 1)], reduce_concat=[2])";
    let zero = decoded(&network(NetworkKind::Cifar, [3, 8, 8], zero));
    assert_eq!(nodes(&zero, "Shape")[0].input, [IMAGES]);
    assert!(!nodes(&zero, "ConstantOfShape").is_empty());
}

#[test]
fn a_weight_that_is_out_of_range_is_an_error() {
    let mut network = network(NetworkKind::Cifar, [3, 8, 8], "DARTS_V2");
    network.weights.fill(f32::MAX);
    network.statistics.variance.fill(0.0);
    assert!(matches!(onnx(&network), Err(ExportError::Value { .. })));
}
