//! tmp
use darts_host::{
    data::Batch,
    engine::{Engine, Workers},
    graph::{derived::*, supernet::*},
    search::{alpha, bilevel::*, objective::*},
};
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Instant;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let (c, l, ch, hw, n, threads) = (a[0], a[1], a[2], a[3], a[4], a[5]);
    let k = darts_host::isa::kernels().unwrap();
    let workers = Arc::new(Workers::new(threads).unwrap());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let derived_net = a.get(6).is_some();
    let graph = if derived_net {
        derived(
            &darts_core::Genotype::builtin("DARTS_V2").unwrap(),
            &DerivedConfig {
                kind: NetworkKind::Cifar,
                input: [ch, hw, hw],
                classes: 10,
                channels: c,
                layers: l,
                auxiliary: false,
            },
        )
        .unwrap()
    } else {
        supernet(&SupernetConfig { input: [ch, hw, hw], classes: 10, channels: c, layers: l, nodes: 4, multiplier: 4 })
            .unwrap()
    };
    let macs = darts_host::graph::count::totals(&graph).multiply_adds;
    let mut w = vec![0.0; graph.weights()];
    for p in &graph.parameters {
        let r = p.range.clone();
        p.initialize(&mut w[r], &mut rng);
    }
    let al = alpha::initial(graph.mix_weights, &mut rng);
    let mut obj = SupernetObjective::new(Engine::new(graph, n, k), workers);
    let b = Batch {
        images: (0..n * hw * hw * ch).map(|_| rng.random_range(-1.0..1.0f32)).collect(),
        labels: (0..n as u32).map(|i| i % 10).collect(),
    };
    obj.train = b.clone();
    obj.valid = b;
    let mut dw = vec![0.0; w.len()];
    let mut da = vec![0.0; al.len()];
    for _ in 0..4 {
        let t = Instant::now();
        let loss = obj.loss_grad(Split::Train, true, &w, &al, Wanted { weights: Some(&mut dw), alpha: Some(&mut da) });
        let s = t.elapsed().as_secs_f64();
        let t = Instant::now();
        obj.loss_grad(Split::Train, true, &w, &al, Wanted { weights: None, alpha: Some(&mut da) });
        let s2 = t.elapsed().as_secs_f64();
        println!(
            "loss {loss:.5} fwd+bwd {s:.3}s = {:.1} GFLOP/s; alpha only {s2:.3}; mem {} MB",
            macs as f64 * 6.0 * n as f64 / s / 1e9,
            obj.engine.memory_bytes() >> 20
        );
    }
}
