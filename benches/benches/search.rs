//! Search steps of both orders and a training step. Throughput is in images.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use darts_benches::buffer;
use darts_core::Genotype;
use darts_host::data::Batch;
use darts_host::engine::{Engine, Gradients, Inputs, Mode, Workers};
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::search::bilevel::{Bilevel, Order};
use darts_host::search::objective::SupernetObjective;
use darts_host::search::optimizer::{Adam, Sgd};
use darts_host::search::run::initial_weights;
use darts_kernels_simd::Kernels;

const BATCH: usize = 64;

fn workers() -> Arc<Workers> {
    Arc::new(Workers::new(0).expect("threads can be started"))
}

fn batch(pixels: usize) -> Batch {
    Batch { images: buffer(BATCH * pixels), labels: (0..BATCH as u32).map(|image| image % 10).collect() }
}

fn search_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("search step");
    group.sample_size(10).throughput(Throughput::Elements(BATCH as u64));
    for order in [Order::First, Order::Second] {
        let config =
            SupernetConfig { input: [1, 28, 28], classes: 10, channels: 8, layers: 5, nodes: 4, multiplier: 4 };
        let graph = supernet(&config).expect("a valid size");
        let weights = initial_weights(&graph, 1);
        let alpha = vec![0.0; graph.mix_weights];
        let momentum = vec![0.0; weights.len()];
        let sgd = Sgd { momentum, momentum_decay: 0.9, weight_decay: 3e-4, grad_clip: 5.0 };
        let adam = Adam::new(alpha.len(), 3e-4, [0.5, 0.999], 1e-3);
        let mut bilevel = Bilevel::new(weights, alpha, sgd, adam, order, Kernels::detect());
        let mut objective = SupernetObjective::new(Engine::new(graph, BATCH, Kernels::detect()), workers());
        (objective.train, objective.valid) = (batch(28 * 28), batch(28 * 28));
        group.bench_function(format!("C=8, 5 cells, 1x28x28, {order:?} order"), |b| {
            b.iter(|| bilevel.step(&mut objective, 0.025));
        });
    }
}

fn training_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training step");
    group.sample_size(10).throughput(Throughput::Elements(BATCH as u64));
    let config = DerivedConfig {
        kind: NetworkKind::Cifar,
        input: [3, 32, 32],
        classes: 10,
        channels: 16,
        layers: 8,
        auxiliary: false,
    };
    let genotype = Genotype::builtin("DARTS_V2").expect("a built-in name");
    let graph = derived(&genotype, &config).expect("a valid size");
    let weights = initial_weights(&graph, 1);
    let mut gradient = vec![0.0; weights.len()];
    let mut engine = Engine::new(graph, BATCH, Kernels::detect());
    let (workers, batch, mut dlogits) = (workers(), batch(3 * 32 * 32), vec![0.0; BATCH * 10]);
    group.bench_function("DARTS_V2, C=16, 8 cells, 3x32x32", |b| {
        b.iter(|| {
            let inputs = Inputs { weights: &weights, mix_weights: &[], images: &batch.images, drop_path: None };
            engine.forward(&workers, inputs, Mode::Batch);
            engine.kernels().softmax_cross_entropy(engine.logits(), &batch.labels, 0.0, &mut dlogits);
            let gradients = Gradients { weights: Some(&mut gradient), mix_weights: &mut [] };
            engine.backward(&workers, inputs, &dlogits, None, gradients);
        });
    });
}

criterion_group!(benches, search_step, training_step);
criterion_main!(benches);
