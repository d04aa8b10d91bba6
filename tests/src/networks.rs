//! Networks with random weights and statistics, on both sides.

use crate::{Guarded, Random};
use darts_core::{Genotype, Kernels, Network};
use darts_host::data::Normalization;
use darts_host::engine::{Engine, Inputs, Mode, RunningStatistics, Workers};
use darts_host::export::{Precision, export};
use darts_host::graph::ParameterKind;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::model_file::ModelFile;
use darts_host::weights::TrainedNetwork;

/// Zero states, unused states, sums of a state with itself, inputs of the cell in its output.
const IRREGULAR: &str = "Genotype(\
    normal=[('none', 0), ('skip_connect', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('none', 0), ('none', 1), \
    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 0), ('skip_connect', 0), ('avg_pool_3x3', 3), \
    ('max_pool_3x3', 3)], normal_concat=[1, 2, 3, 4, 5, 6], \
    reduce=[('max_pool_3x3', 1), ('none', 0), ('skip_connect', 1), ('skip_connect', 0), ('dil_conv_5x5', 2), \
    ('avg_pool_3x3', 0), ('conv_7x1_1x7', 1), ('dil_conv_3x3', 4), ('none', 1), ('none', 0)], reduce_concat=[2, 3, 5, 6, 2])";

/// Kind, input `[C, H, W]`, channels, cells, and the genotype.
pub const CASES: [(NetworkKind, [usize; 3], usize, usize, &str); 12] = [
    (NetworkKind::Cifar, [3, 32, 32], 8, 5, "DARTS_V2"),
    (NetworkKind::Cifar, [1, 28, 28], 5, 4, "DARTS_V1"),
    (NetworkKind::Cifar, [3, 29, 31], 7, 3, "NASNet"),
    (NetworkKind::Cifar, [1, 27, 27], 6, 6, "AmoebaNet"),
    (NetworkKind::Cifar, [2, 9, 14], 17, 3, "AmoebaNet"),
    (NetworkKind::Cifar, [3, 27, 27], 4, 4, IRREGULAR),
    (NetworkKind::Cifar, [1, 1, 3], 3, 1, "DARTS_V2"),
    (NetworkKind::ImageNet, [3, 64, 64], 10, 4, "DARTS_V2"),
    (NetworkKind::ImageNet, [3, 57, 45], 6, 3, "NASNet"),
    (NetworkKind::ImageNet, [1, 61, 64], 4, 5, "AmoebaNet"),
    (NetworkKind::ImageNet, [3, 40, 40], 8, 2, "DARTS_V1"),
    (NetworkKind::ImageNet, [3, 47, 33], 4, 6, IRREGULAR),
];

pub fn genotype(text: &str) -> Genotype {
    Genotype::builtin(text).unwrap_or_else(|| Genotype::parse(text).unwrap())
}

/// Case `index`, with weights such that nothing dies away or grows from layer to layer.
pub fn network(index: usize) -> TrainedNetwork {
    let (kind, input, channels, layers, text) = CASES[index];
    trained(DerivedConfig { kind, input, classes: 10, channels, layers, auxiliary: false }, text)
}

pub fn trained(config: DerivedConfig, text: &str) -> TrainedNetwork {
    let genotype = genotype(text);
    let graph = derived(&genotype, &config).unwrap();
    let mut random = Random::new(7);
    let mut weights = random.values(graph.weights());
    for parameter in &graph.parameters {
        let values = &mut weights[parameter.range.clone()];
        match parameter.kind {
            ParameterKind::Depthwise { kernel, .. } => scale(values, 1.7 / kernel as f32),
            ParameterKind::Dense { kernel, input, .. } => {
                scale(values, 1.7 / ((kernel[0] * kernel[1] * input) as f32).sqrt());
            }
            ParameterKind::Linear { input, .. } => scale(values, 3.0 / (input as f32).sqrt()),
            ParameterKind::Bias { .. } => scale(values, 0.1),
            // γ of either sign, away from 0.
            ParameterKind::NormWeight => {
                values.iter_mut().for_each(|gamma| *gamma = gamma.signum() * (0.5 + gamma.abs()))
            }
            ParameterKind::NormBias => scale(values, 0.3),
        }
    }
    let mut mean = random.values(graph.statistics());
    scale(&mut mean, 0.2);
    let variance = random.values(graph.statistics()).iter().map(|value| 0.6 + 0.5 * value).collect();
    TrainedNetwork {
        normalization: Normalization::new(vec![0.5; config.input[0]], vec![0.25; config.input[0]], config.input[0])
            .unwrap(),
        class_names: (0..config.classes).map(|class| format!("class {class}")).collect(),
        config,
        genotype,
        weights,
        statistics: RunningStatistics { mean, variance },
    }
}

fn scale(values: &mut [f32], factor: f32) {
    values.iter_mut().for_each(|value| *value *= factor);
}

/// Logits `[images, classes]` by the host.
pub fn host_logits(network: &TrainedNetwork, images: &[f32]) -> Vec<f32> {
    let graph = network.graph().unwrap();
    let count = images.len() / graph.input.len();
    let mut engine = Engine::new(graph, count, Kernels::detect());
    let inputs = Inputs { weights: &network.weights, mix_weights: &[], images, drop_path: None };
    engine.forward(&Workers::new(1).unwrap(), inputs, Mode::Running(&network.statistics));
    engine.logits().to_vec()
}

pub fn model(network: &TrainedNetwork, precision: Precision) -> ModelFile {
    ModelFile::new(&export(network, precision).unwrap(), "a model".as_ref())
}

/// Logits `[images, classes]` by the core, in a workspace of exactly the bytes that it asks for, full of NaN at first.
pub fn core_logits(network: &Network, kernels: Kernels, images: &[f32]) -> Vec<f32> {
    let mut workspace = Guarded::unwritten(network.required_bytes() / size_of::<f32>());
    let mut logits = Vec::new();
    for image in images.chunks_exact(network.input_len()) {
        let mut output = Guarded::unwritten(network.classes());
        network.run(kernels, image, &mut workspace, &mut output).unwrap();
        logits.extend_from_slice(&output);
    }
    logits
}

/// The largest difference, in units of the largest expected value.
pub fn relative_error(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    // Written so that NaN is the largest error.
    let errors = actual.iter().zip(expected).map(|(actual, expected)| (actual - expected).abs());
    errors.fold(0.0, |worst: f32, error| if error <= worst { worst } else { error }) / largest
}
