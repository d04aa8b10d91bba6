//! Writing one checkpoint of the networks of the paper: as bytes, and as a file that is on the disk, the one before the
//! last removed. Throughput is in bytes of the file.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use darts_core::Genotype;
use darts_host::checkpoint::{Checkpoint, Checkpoints, Header, Policy};
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::search::run::initial_weights;
use darts_host::state::{Position, State, Values};
use serde_json::Value;

/// What a training carries along; a search has α too, which is small.
fn values(vectors: &mut [Vec<f32>; 4]) -> Vec<Values<'_>> {
    let names = ["weights", "momentum", "running_mean", "running_variance"];
    names.into_iter().zip(vectors).map(|(name, vector)| Values::f32(name, vector)).collect()
}

fn checkpoint(criterion: &mut Criterion) {
    let config = SupernetConfig { input: [3, 32, 32], classes: 10, channels: 16, layers: 8, nodes: 4, multiplier: 4 };
    let search = supernet(&config).expect("a valid size");
    let (kind, input) = (NetworkKind::Cifar, [3, 32, 32]);
    let config = DerivedConfig { kind, input, classes: 10, channels: 36, layers: 20, auxiliary: true };
    let training = derived(&Genotype::builtin("DARTS_V2").expect("a built-in name"), &config).expect("a valid size");
    for (name, graph) in [("search, C=16, 8 cells", search), ("training of DARTS_V2, C=36, 20 cells", training)] {
        let weights = initial_weights(&graph, 0);
        let mut vectors = [weights.clone(), weights, vec![0.0; graph.statistics()], vec![1.0; graph.statistics()]];
        let mut position = Position::default();
        let header = Header { position, log_bytes: 0, best_accuracy: None, config: Value::Null };
        let bytes = Checkpoint::encode(&header, &values(&mut vectors)).expect("it can be written").len();
        let mut group = criterion.benchmark_group(format!("checkpoint of a {name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("bytes", |b| b.iter(|| Checkpoint::encode(&header, &values(&mut vectors))));
        let folder = tempfile::tempdir_in(".").expect("a folder on the disk of this one");
        let mut checkpoints = Checkpoints::new(folder.path().to_owned(), Policy::default(), Value::Null, None);
        group.sample_size(20).bench_function("file", |b| {
            b.iter(|| {
                position.step += 1;
                let state =
                    State::<()> { position: &mut position, epochs: &mut Vec::new(), values: values(&mut vectors) };
                checkpoints.save(&state, 0, None).expect("writable");
            });
        });
    }
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
