//! In the steady state a search allocates nothing: all memory is planned and allotted before.

use std::alloc::System;
use std::sync::Arc;

use darts_host::data::Batch;
use darts_host::engine::{Engine, Options, Saved, Workers};
use darts_host::graph::supernet::{SupernetConfig, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::search::bilevel::{Bilevel, Order};
use darts_host::search::mixing::Mixing;
use darts_host::search::objective::SupernetObjective;
use darts_host::search::optimizer::{Adam, Sgd};
use darts_host::search::run::initial_weights;
use darts_kernels_simd::Kernels;
use darts_tests::Random;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const IMAGES: usize = 18;

fn batch(random: &mut Random, len: usize) -> Batch {
    Batch { images: random.values(IMAGES * len), labels: (0..IMAGES as u32).map(|image| image % 10).collect() }
}

// One test: the counters are those of the whole process.
#[test]
fn ten_steps_allocate_nothing() {
    let config = SupernetConfig { input: [1, 6, 6], classes: 10, channels: 4, layers: 3, nodes: 3, multiplier: 3 };
    let workers = Arc::new(Workers::new(3).expect("threads can be started"));
    let all = Variant { skip_dropout: true, auxiliary_skip: true, partial: 2, ..Variant::default() };
    let plain = Variant::default();
    for (order, saved, variant) in
        [(Order::First, Saved::F32, plain), (Order::Second, Saved::F16, plain), (Order::First, Saved::F32, all)]
    {
        let mut random = Random::new(4);
        let graph = supernet_of(&config, variant).expect("a valid size");
        let mixing = Mixing { variant, auxiliary_weight: 0.5 };
        let weights = initial_weights(&graph, 1);
        let alpha = vec![0.0; mixing.alpha_len(graph.mix_weights)];
        let momentum = vec![0.0; weights.len()];
        let sgd = Sgd { momentum, momentum_decay: 0.9, weight_decay: 3e-4, grad_clip: 5.0 };
        let adam = Adam::new(alpha.len(), 3e-4, [0.5, 0.999], 1e-3);
        let mut bilevel = Bilevel::new(weights, alpha, sgd, adam, order, Kernels::detect());
        let engine = Engine::with_options(graph, IMAGES, Kernels::detect(), Options { saved, ..Options::default() });
        let mut objective = SupernetObjective::new(engine, workers.clone());
        objective.mixing = mixing;
        objective.train = batch(&mut random, 6 * 6);
        objective.valid = batch(&mut random, 6 * 6);
        workers.pool().install(|| {
            // Every thread has to have met the largest of what it works on.
            for _ in 0..5 {
                objective.draw_factors(0.3, 1, 0, 0);
                bilevel.step(&mut objective, 0.01);
            }
            // The runner of the tests, on a thread of its own, may allocate in one window (it tells of slow tests), not
            // in all.
            let windows: Vec<_> = (0..3)
                .map(|_| {
                    let region = Region::new(ALLOCATOR);
                    for _ in 0..10 {
                        objective.draw_factors(0.3, 1, 0, 0);
                        bilevel.step(&mut objective, 0.01);
                    }
                    let change = region.change();
                    (change.allocations, change.reallocations)
                })
                .collect();
            assert!(windows.contains(&(0, 0)), "{order:?}, {saved:?}: allocations and reallocations {windows:?}");
        });
    }
}
