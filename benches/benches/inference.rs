//! Inference of one image on one thread by the core, per instruction set and precision of the weights. Throughput is in
//! multiply-adds.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use darts_benches::{SIZES, buffer};
use darts_host::export::{Precision, export};
use darts_host::graph::count::totals;
use darts_host::isa;
use darts_host::model_file::ModelFile;

fn inference(criterion: &mut Criterion) {
    let kernels = isa::allowed().expect("DARTS_ISA names an instruction set of this machine");
    let mut group = criterion.benchmark_group("inference");
    for size in SIZES {
        let (network, graph) = size.untrained();
        group.throughput(Throughput::Elements(totals(&graph).multiply_adds as u64));
        for precision in [Precision::F32, Precision::F16] {
            let bytes = export(&network, precision).expect("weights in range");
            let file = ModelFile::new(&bytes, "a model".as_ref());
            let model = file.network().expect("a valid model");
            let (image, mut logits) = (buffer(model.input_len()), vec![0.0; model.classes()]);
            let mut workspace = vec![0.0; model.required_bytes() / size_of::<f32>()];
            for &kernels in &kernels {
                group.bench_function(BenchmarkId::new(format!("{size}/{precision}"), kernels.isa()), |b| {
                    b.iter(|| model.run(kernels, &image, &mut workspace, &mut logits));
                });
            }
        }
    }
}

criterion_group!(benches, inference);
criterion_main!(benches);
