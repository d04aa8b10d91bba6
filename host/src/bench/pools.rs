//! Pools, with their values kept and, as searches run them, without.

use darts_kernels_simd::{
    ImageShape, Moments, NormGradient, NormSums, PairFactors, PairGradient, PairSums, PairTerm, PoolGradient,
    PoolShape, Pooling,
};

use super::buffer::buffer;
use super::case::{Case, Direction, SIZES, Work, image, text, window};

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        for stride in [1, 2] {
            let shape = PoolShape { input: image(size), kernel: 3, stride, padding: 1 };
            cases.extend(pools(shape));
            cases.extend(recomputed("max pool", Pooling::Maximum, shape));
            cases.extend(recomputed("average pool", Pooling::Average, shape));
            cases.extend(pairs(shape));
        }
        cases.extend(global(image(size)));
    }
    cases
}

fn pools(shape: PoolShape) -> [Case; 4] {
    let window = window(shape.kernel, shape.stride, 1);
    let (max, average, size) = (format!("max pool {window}"), format!("average pool {window}"), text(shape.input));
    let (input, output) = (shape.input.len(), shape.output().len());
    // One operation for each pixel of each window.
    let flops = output * shape.kernel * shape.kernel;
    let (two, three) = (Work::streaming(flops, input + output), Work::streaming(flops, 2 * input + output));
    [
        Case::kernel((&max, &size), Direction::Forward, two, shape, |&shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.input.len()), buffer(shape.output().len()));
            timer(&mut || kernels.max_pool(&x, &mut y, shape));
        }),
        Case::kernel((&max, &size), Direction::InputGradient, three, shape, |&shape, kernels, timer| {
            let (x, dy, mut dx) = (buffer(shape.input.len()), buffer(shape.output().len()), buffer(shape.input.len()));
            timer(&mut || kernels.max_pool_backward(&x, &dy, &mut dx, shape, false));
        }),
        Case::kernel((&average, &size), Direction::Forward, two, shape, |&shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.input.len()), buffer(shape.output().len()));
            timer(&mut || kernels.avg_pool(&x, &mut y, shape));
        }),
        Case::kernel((&average, &size), Direction::InputGradient, two, shape, |&shape, kernels, timer| {
            let (dy, mut dx) = (buffer(shape.output().len()), buffer(shape.input.len()));
            timer(&mut || kernels.avg_pool_backward(&dy, &mut dx, shape, false));
        }),
    ]
}

/// A pool that is computed again wherever its values are read: for the moments of its batch norm, as a term of a mixed
/// sum, and for the two sums and the use of the norm's backward pass.
fn recomputed(pool: &str, pooling: Pooling, shape: PoolShape) -> [Case; 4] {
    let (window, size) = (window(shape.kernel, shape.stride, 1), text(shape.input));
    let (input, output) = (shape.input.len(), shape.output().len());
    let flops = output * shape.kernel * shape.kernel;
    let case = |what: &str, direction, work, body| {
        let name = format!("{pool} {window}, {what}");
        Case::kernel((&name, &size), direction, work, (pooling, shape), body)
    };
    let work = |more: usize, floats| Work::streaming(flops + more * output, floats);
    [
        case("moments", Direction::Forward, work(3, input), |&(pooling, shape), kernels, timer| {
            let x = buffer(shape.input.len());
            let [mut sum, mut sum_of_squares] = [(); 2].map(|()| vec![0.0; shape.input.channels]);
            timer(&mut || {
                let moments = Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares };
                kernels.pool_moments(pooling, &x, shape, moments);
            });
        }),
        case(
            "term of a mix",
            Direction::Forward,
            work(2, input + 2 * output).in_place(output),
            |&(pooling, shape), kernels, timer| {
                let (x, mut y) = (buffer(shape.input.len()), buffer(shape.output().len()));
                let scale = buffer(shape.input.channels);
                timer(&mut || kernels.pool_mix(pooling, &x, shape, &scale, &mut y));
            },
        ),
        case("norm reduce", Direction::InputGradient, work(4, input + output), |&(pooling, shape), kernels, timer| {
            let (x, dy) = (buffer(shape.input.len()), buffer(shape.output().len()));
            let (channels, mean) = (shape.input.channels, buffer(shape.input.channels));
            let [mut sum, mut dot] = [(); 2].map(|()| vec![0.0; channels]);
            timer(&mut || {
                let sums = NormSums { mean: &mean, scale: 1.0, sum: &mut sum, dot: &mut dot };
                kernels.pool_norm_reduce(pooling, &x, &dy, shape, sums);
            });
        }),
        case(
            "norm and pool",
            Direction::InputGradient,
            work(4, 2 * input + output),
            |&(pooling, shape), kernels, timer| {
                let (x, dy) = (buffer(shape.input.len()), buffer(shape.output().len()));
                let [mean, q, r] = [(); 3].map(|()| buffer(shape.input.channels));
                let mut dx = buffer(shape.input.len());
                timer(&mut || {
                    let gradient = PoolGradient { dy: &dy, mean: &mean, q: &q, r: &r };
                    kernels.pool_norm_backward(pooling, &x, gradient, &mut dx, shape, false);
                });
            },
        ),
    ]
}

/// Both pools of an edge and, at stride 1, its skip connection.
fn pairs(shape: PoolShape) -> [Case; 3] {
    let (window, size) = (window(shape.kernel, shape.stride, 1), text(shape.input));
    let (input, output) = (shape.input.len(), shape.output().len());
    let image = shape.output() == shape.input;
    let pools = if image { "both pools and skip" } else { "both pools" };
    let case = |what: &str, direction, work, body| {
        Case::kernel((&format!("{pools} {window}, {what}"), &size), direction, work, (image, shape), body)
    };
    let work = |more: usize, floats| Work::streaming((2 * shape.kernel * shape.kernel + more) * output, floats);
    let skip = 2 * usize::from(image);
    [
        case(
            "terms of a mix",
            Direction::Forward,
            work(4 + skip, input + 2 * output).in_place(output),
            |&(image, shape), kernels, timer| {
                let (x, mut y) = (buffer(shape.input.len()), buffer(shape.output().len()));
                let [maximum, average] = [(); 2].map(|()| buffer(shape.input.channels));
                let factors = PairFactors { maximum: &maximum, average: &average, image: image.then_some(0.5) };
                timer(&mut || kernels.pool_pair_mix(&x, shape, factors, &mut y));
            },
        ),
        case(
            "norm reduce",
            Direction::InputGradient,
            work(7 + skip, input + output),
            |&(image, shape), kernels, timer| {
                let (x, dy) = (buffer(shape.input.len()), buffer(shape.output().len()));
                let (channels, means) = (shape.input.channels, [(); 2].map(|()| buffer(shape.input.channels)));
                let [[mut sum, mut dot], [mut other_sum, mut other_dot]] =
                    [(); 2].map(|()| [(); 2].map(|()| vec![0.0; channels]));
                let mut skip = 0.0;
                timer(&mut || {
                    let maximum = NormSums { mean: &means[0], scale: 1.0, sum: &mut sum, dot: &mut dot };
                    let average = NormSums { mean: &means[1], scale: 1.0, sum: &mut other_sum, dot: &mut other_dot };
                    let sums = PairSums { maximum, average, image: image.then_some(&mut skip) };
                    kernels.pool_pair_norm_reduce(&x, &dy, shape, sums);
                });
            },
        ),
        case(
            "norm and pool",
            Direction::InputGradient,
            work(8 + skip, 3 * input + output).in_place(input),
            |&(image, shape), kernels, timer| {
                let (x, dy) = (buffer(shape.input.len()), buffer(shape.output().len()));
                let [[p, mean, q, r], others] = [(); 2].map(|()| [(); 4].map(|()| buffer(shape.input.channels)));
                let (mut dx, mut scratch) = (buffer(shape.input.len()), buffer(shape.pair_backward_scratch()));
                let maximum = NormGradient { mean: &mean, q: &q, r: &r };
                let [other_p, mean, q, r] = &others;
                let average = NormGradient { mean, q, r };
                let image = if image { 0.5 } else { 0.0 };
                let terms = [PairTerm { dy: &dy, maximum: &p, average: other_p, image }];
                let gradient = PairGradient { terms: &terms, maximum, average };
                timer(&mut || kernels.pool_pair_norm_backward(&x, gradient, &mut dx, shape, true, &mut scratch));
            },
        ),
    ]
}

/// The mean of each channel.
fn global(shape: ImageShape) -> [Case; 2] {
    let (size, len) = (text(shape), shape.len());
    let work = Work::streaming(len, len + shape.channels);
    [
        Case::kernel(("global average pool", &size), Direction::Forward, work, shape, |&shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), buffer(shape.channels));
            timer(&mut || kernels.global_avg_pool(&x, shape, &mut y));
        }),
        Case::kernel(
            ("global average pool", &size),
            Direction::InputGradient,
            work,
            shape,
            |&shape, kernels, timer| {
                let (dy, mut dx) = (buffer(shape.channels), buffer(shape.len()));
                timer(&mut || kernels.global_avg_pool_backward(&dy, shape, &mut dx, false));
            },
        ),
    ]
}
