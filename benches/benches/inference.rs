//! Inference of one image on one thread by the core, per instruction set and precision of the weights. Throughput is in
//! multiply-adds.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use darts_benches::{buffer, kernels};
use darts_core::Genotype;
use darts_host::data::Normalization;
use darts_host::engine::RunningStatistics;
use darts_host::export::{Precision, export};
use darts_host::graph::count::totals;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::model_file::ModelFile;
use darts_host::search::run::initial_weights;
use darts_host::weights::TrainedNetwork;

/// Input `[C, H, W]`, channels and cells of the networks of DARTS_V2.
const NETWORKS: [([usize; 3], usize, usize); 2] = [([3, 32, 32], 36, 20), ([1, 28, 28], 8, 5)];

/// A network with its initial weights, and its multiply-adds.
fn untrained(input: [usize; 3], channels: usize, layers: usize) -> (TrainedNetwork, usize) {
    let config = DerivedConfig { kind: NetworkKind::Cifar, input, classes: 10, channels, layers, auxiliary: false };
    let genotype = Genotype::builtin("DARTS_V2").expect("a built-in name");
    let graph = derived(&genotype, &config).expect("a valid size");
    let network = TrainedNetwork {
        weights: initial_weights(&graph, 1),
        statistics: RunningStatistics { mean: vec![0.0; graph.statistics()], variance: vec![1.0; graph.statistics()] },
        normalization: Normalization::new(vec![0.5; input[0]], vec![0.25; input[0]], input[0])
            .expect("numbers in range"),
        class_names: (0..config.classes).map(|class| class.to_string()).collect(),
        config,
        genotype,
    };
    (network, totals(&graph).multiply_adds)
}

fn inference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inference");
    for ([depth, height, width], channels, layers) in NETWORKS {
        let (network, multiply_adds) = untrained([depth, height, width], channels, layers);
        group.throughput(Throughput::Elements(multiply_adds as u64));
        for precision in [Precision::F32, Precision::F16] {
            let bytes = export(&network, precision).expect("weights in range");
            let file = ModelFile::new(&bytes, "a model".as_ref());
            let model = file.network().expect("a valid model");
            let (image, mut logits) = (buffer(model.input_len()), vec![0.0; model.classes()]);
            let mut workspace = vec![0.0; model.required_bytes() / size_of::<f32>()];
            for kernels in kernels() {
                let name = format!("C={channels}, {layers} cells, {depth}x{height}x{width}/{precision}");
                group.bench_function(BenchmarkId::new(name, kernels.isa()), |b| {
                    b.iter(|| model.run(kernels, &image, &mut workspace, &mut logits));
                });
            }
        }
    }
}

criterion_group!(benches, inference);
criterion_main!(benches);
