//! What the benches share: seeded buffers, and networks that need no training.

use darts_core::Genotype;
use darts_host::data::Normalization;
use darts_host::engine::RunningStatistics;
use darts_host::graph::Graph;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::search::run::initial_weights;
use darts_host::weights::TrainedNetwork;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `len` floats in ±1, the same in every run.
pub fn buffer(len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(len as u64);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A size of DARTS_V2.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// `[C, H, W]`.
    pub input: [usize; 3],
    /// Channels of the first cells.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
}

/// The sizes whose inference is measured: that of the paper for CIFAR-10, and one for a microcontroller.
pub const SIZES: [Size; 2] =
    [Size { input: [3, 32, 32], channels: 36, layers: 20 }, Size { input: [1, 28, 28], channels: 8, layers: 5 }];

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { input: [depth, height, width], channels, layers } = self;
        write!(f, "C={channels}, {layers} cells, {depth}x{height}x{width}")
    }
}

impl Size {
    /// DARTS_V2 of this size with ten classes and its initial weights.
    pub fn untrained(self) -> (TrainedNetwork, Graph) {
        let Self { input, channels, layers } = self;
        let config = DerivedConfig { kind: NetworkKind::Cifar, input, classes: 10, channels, layers, auxiliary: false };
        let genotype = Genotype::builtin("DARTS_V2").expect("a built-in name");
        let graph = derived(&genotype, &config).expect("a valid size");
        let network = TrainedNetwork {
            weights: initial_weights(&graph, 1),
            statistics: RunningStatistics::new(&graph),
            normalization: Normalization::new(vec![0.5; input[0]], vec![0.25; input[0]], input[0])
                .expect("numbers in range"),
            class_names: (0..config.classes).map(|class| class.to_string()).collect(),
            config,
            genotype,
        };
        (network, graph)
    }
}
