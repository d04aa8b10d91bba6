//! Networks whose instructions were counted.

use darts_core::{Genotype, Step};
use darts_kernels_simd::{ImageShape, Kernels};

use crate::data::{Dataset, Normalization};
use crate::engine::RunningStatistics;
use crate::export::{Calibration, Precision, export_int8, plan};
use crate::graph::Graph;
use crate::graph::derived::{DerivedConfig, NetworkKind, derived};
use crate::model_file::ModelFile;
use crate::search::run::initial_weights;
use crate::weights::TrainedNetwork;

fn network(name: &str, channels: usize, layers: usize) -> (Genotype, DerivedConfig, Graph) {
    let genotype = Genotype::builtin(name).expect("a built-in name");
    let input = [1, 28, 28];
    let config = DerivedConfig { kind: NetworkKind::Cifar, input, classes: 10, channels, layers, auxiliary: false };
    let graph = derived(&genotype, &config).unwrap();
    (genotype, config, graph)
}

/// In `f32`, for images 1×28×28.
pub(crate) fn steps(name: &str, channels: usize, layers: usize) -> Vec<Step> {
    plan(&network(name, channels, layers).2, Precision::F32).unwrap().steps
}

/// The same on 8-bit integers.
pub(crate) fn int8_steps(name: &str, channels: usize, layers: usize) -> Vec<Step> {
    let (genotype, config, graph) = network(name, channels, layers);
    let network = TrainedNetwork {
        config,
        genotype,
        weights: initial_weights(&graph, 1),
        statistics: RunningStatistics::new(&graph),
        normalization: Normalization { mean: vec![0.0], std: vec![1.0] },
        class_names: Vec::new(),
    };
    let pixels = (0..28 * 28).map(|pixel| (pixel * 37 % 256) as u8).collect();
    let data = Dataset::new(ImageShape::new(28, 28, 1), pixels, vec![0], vec![String::new()]);
    let file = export_int8(&network, &data, Calibration::MinMax, Kernels::detect()).unwrap();
    ModelFile::new(&file, "a model on integers".as_ref()).network().unwrap().steps().collect()
}
