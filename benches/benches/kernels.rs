//! Convolutions at the shapes of DARTS networks, per instruction set and direction. Throughput is in multiply-adds.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use darts_benches::{buffer, kernels};
use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Padding};

/// Channels and extent of the images.
const SIZES: [(usize, usize); 4] = [(16, 32), (36, 32), (64, 8), (144, 8)];

fn pointwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pointwise");
    for (channels, size) in SIZES {
        let shape = DenseShape::pointwise(ImageShape::new(size, size, channels), channels);
        let (x, w) = (buffer(shape.input.len()), buffer(shape.weights()));
        let (mut y, mut dw) = (buffer(shape.output_len()), buffer(shape.weights()));
        group.throughput(Throughput::Elements((shape.output().pixels() * shape.weights()) as u64));
        for kernels in kernels() {
            let name =
                |direction| BenchmarkId::new(format!("{}/{direction}", kernels.isa()), format!("{channels}x{size}"));
            group.bench_function(name("forward"), |b| b.iter(|| kernels.dense(&x, &w, None, &mut y, shape, false)));
            group.bench_function(name("input"), |b| {
                b.iter(|| kernels.dense_backward_input(&x, &w, &mut y, shape, false));
            });
            group.bench_function(name("weight"), |b| b.iter(|| kernels.dense_backward_weight(&x, &x, &mut dw, shape)));
        }
    }
}

fn depthwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("depthwise");
    for (channels, size) in SIZES {
        for (kernel, dilation) in [(3, 1), (5, 1), (3, 2), (5, 2)] {
            let border = dilation * (kernel - 1) / 2;
            let padding = Padding::symmetric(border, border);
            let input = ImageShape::new(size, size, channels).padded(padding);
            let shape = DepthwiseShape { input, kernel, stride: 1, dilation };
            let (x, w) = (buffer(input.len()), buffer(shape.weights()));
            let (mut y, mut dx) = (buffer(shape.output().len()), buffer(input.len()));
            let (mut dw, mut scratch) = (buffer(shape.weights()), buffer(shape.backward_scratch()));
            let dy = y.clone();
            group.throughput(Throughput::Elements((shape.output().len() * kernel * kernel) as u64));
            for kernels in kernels() {
                let name = |direction| {
                    let shape = format!("{kernel}x{kernel}d{dilation}/{channels}x{size}");
                    BenchmarkId::new(format!("{}/{direction}", kernels.isa()), shape)
                };
                group.bench_function(name("forward"), |b| b.iter(|| kernels.depthwise(&x, &w, &mut y, shape)));
                group.bench_function(name("input"), |b| {
                    b.iter(|| kernels.depthwise_backward_input(&dy, &w, &mut dx, shape, padding, &mut scratch));
                });
                group.bench_function(name("weight"), |b| {
                    b.iter(|| kernels.depthwise_backward_weight(&x, &dy, &mut dw, shape));
                });
            }
        }
    }
}

criterion_group!(benches, pointwise, depthwise);
criterion_main!(benches);
