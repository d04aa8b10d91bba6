//! Every kernel and fused stage at the shapes of DARTS networks, on every instruction set of this machine, in every
//! direction. The cases are those of `darts bench`. Throughput is in floating-point operations.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use darts_host::bench::kernel_cases;
use darts_host::engine::Workers;
use darts_host::isa;

fn kernels(criterion: &mut Criterion) {
    let kernels = isa::allowed().expect("DARTS_ISA names an instruction set of this machine");
    let workers = Arc::new(Workers::new(1).expect("threads can be started"));
    for case in kernel_cases() {
        let mut group = criterion.benchmark_group(&case.name);
        group.throughput(Throughput::Elements(case.work.flops as u64));
        for &kernels in &kernels {
            let id = BenchmarkId::new(format!("{}/{}", kernels.isa(), case.direction), &case.shape);
            group.bench_function(id, |b| case.run(kernels, &workers, &mut |run| b.iter(&mut *run)));
        }
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
