//! Cells, search steps of both orders and training steps, with the fastest instruction set on all threads. The cases
//! are those of `darts bench`; inference has a bench of its own. Throughput is in floating-point operations.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use darts_host::bench::network_cases;
use darts_host::engine::Workers;
use darts_host::isa;

fn networks(criterion: &mut Criterion) {
    let kernels = isa::kernels().expect("DARTS_ISA names an instruction set of this machine");
    let workers = Arc::new(Workers::new(0).expect("threads can be started"));
    for case in network_cases().iter().filter(|case| case.parallel) {
        let mut group = criterion.benchmark_group(&case.name);
        group.sample_size(10).throughput(Throughput::Elements(case.work.flops as u64));
        let id = BenchmarkId::new(case.direction.to_string(), &case.shape);
        group.bench_function(id, |b| case.run(kernels, &workers, &mut |run| b.iter(&mut *run)));
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
