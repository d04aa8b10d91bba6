//! Pooling, against the reference.

use darts_kernels_simd::{
    ImageShape, Isa, Kernels, Moments, NormGradient, NormSums, PAIR_TERMS, PairFactors, PairGradient, PairSums,
    PairTerm, PoolGradient, PoolShape, Pooling, reference,
};
use darts_tests::{
    Guarded, Random, absolute, assert_adjoint, assert_close, assert_gradient, assert_same, guarded, images, kernels,
};

/// Windows as kernel, stride, padding: those of the cells, that of the auxiliary head, and others.
const WINDOWS: [(usize, usize, usize); 8] =
    [(3, 1, 1), (3, 2, 1), (3, 1, 0), (3, 2, 0), (5, 3, 0), (5, 1, 2), (5, 2, 0), (2, 2, 0)];

fn each_case(mut test: impl FnMut(Kernels, PoolShape, &mut Random)) {
    let mut random = Random::new(2);
    for kernels in kernels() {
        for input in images(kernels) {
            for (kernel, stride, padding) in WINDOWS {
                test(kernels, PoolShape { input, kernel, stride, padding }, &mut random);
            }
        }
    }
}

/// An output to add to, or one that is to be overwritten.
fn gradient(random: &mut Random, len: usize, accumulate: bool) -> Guarded {
    if accumulate { guarded(&random.values(len)) } else { Guarded::unwritten(len) }
}

/// Magnitude of what was in `before`, if it was added to.
fn magnitude(before: &[f32], accumulate: bool) -> Vec<f32> {
    if accumulate { absolute(before) } else { vec![0.0; before.len()] }
}

fn check_maximum(kernels: Kernels, shape: PoolShape, x: &[f32], random: &mut Random) {
    let mut y = Guarded::unwritten(shape.output().len());
    kernels.max_pool(x, &mut y, shape);
    let mut expected = vec![f32::NAN; y.len()];
    reference::max_pool(x, &mut expected, shape);
    assert_same((kernels, shape), &y, &expected);

    let dy = guarded(&random.values(y.len()));
    for accumulate in [false, true] {
        let mut dx = gradient(random, x.len(), accumulate);
        let (mut expected, mut size) = (dx.to_vec(), magnitude(&dx, accumulate));
        kernels.max_pool_backward(x, &dy, &mut dx, shape, accumulate);
        reference::max_pool_backward(x, &dy, &mut expected, shape, accumulate);
        reference::max_pool_backward(x, &absolute(&dy), &mut size, shape, true);
        assert_close((kernels, shape), &dx, &expected, &size);
    }
}

#[test]
fn maximum() {
    each_case(|kernels, shape, random| {
        let x = guarded(&random.values(shape.input.len()));
        check_maximum(kernels, shape, &x, random);
    });
}

#[test]
fn maximum_with_many_ties() {
    each_case(|kernels, shape, random| {
        let few: Vec<f32> = random.values(shape.input.len()).iter().map(|x| (2.0 * x).trunc()).collect();
        check_maximum(kernels, shape, &guarded(&few), random);
    });
}

#[test]
fn average() {
    each_case(|kernels, shape, random| {
        let x = guarded(&random.values(shape.input.len()));
        let mut y = Guarded::unwritten(shape.output().len());
        kernels.avg_pool(&x, &mut y, shape);
        let (mut expected, mut size) = (vec![f32::NAN; y.len()], vec![f32::NAN; y.len()]);
        reference::avg_pool(&x, &mut expected, shape);
        reference::avg_pool(&absolute(&x), &mut size, shape);
        assert_close((kernels, shape), &y, &expected, &size);

        let dy = guarded(&random.values(y.len()));
        for accumulate in [true, false] {
            let mut dx = gradient(random, x.len(), accumulate);
            let (mut expected, mut size) = (dx.to_vec(), magnitude(&dx, accumulate));
            kernels.avg_pool_backward(&dy, &mut dx, shape, accumulate);
            reference::avg_pool_backward(&dy, &mut expected, shape, accumulate);
            reference::avg_pool_backward(&absolute(&dy), &mut size, shape, true);
            assert_close((kernels, shape), &dx, &expected, &size);
            if !accumulate {
                assert_adjoint((kernels, shape), &x, &y, &dy, &dx);
            }
        }
    });
}

/// The reference of a pool.
fn pooled(pooling: Pooling, x: &[f32], shape: PoolShape) -> Vec<f32> {
    let mut z = vec![f32::NAN; shape.output().len()];
    match pooling {
        Pooling::Maximum => reference::max_pool(x, &mut z, shape),
        Pooling::Average => reference::avg_pool(x, &mut z, shape),
    }
    z
}

/// What is computed from the values of a pool without keeping them: `test` is given `x` and the values.
fn each_pool(mut test: impl FnMut(Kernels, Pooling, PoolShape, &[f32], &[f32], &mut Random)) {
    each_case(|kernels, shape, random| {
        let x = guarded(&random.values(shape.input.len()));
        for pooling in [Pooling::Maximum, Pooling::Average] {
            test(kernels, pooling, shape, &x, &pooled(pooling, &x, shape), random);
        }
    });
}

#[test]
fn moments_of_values_that_are_not_kept() {
    each_pool(|kernels, pooling, shape, x, z, random| {
        let channels = shape.input.channels;
        let before = random.values_f64(channels);
        let (mut sum, mut squares) = (before.clone(), before.clone());
        let moments = Moments { sum: &mut sum, sum_of_squares: &mut squares };
        kernels.pool_moments(pooling, x, shape, moments);
        let (mut expected_sum, mut expected_squares) = (before.clone(), before);
        reference::channel_moments(z, channels, &mut expected_sum, &mut expected_squares);
        // No value is above 1, and so are no squares.
        let size = vec![1.0 + shape.output().pixels() as f64; channels];
        assert_close((kernels, pooling, shape), &sum, &expected_sum, &size);
        assert_close((kernels, pooling, shape), &squares, &expected_squares, &size);
    });
}

#[test]
fn mix_of_values_that_are_not_kept() {
    each_pool(|kernels, pooling, shape, x, z, random| {
        let scale = guarded(&random.values(shape.input.channels));
        let mut y = guarded(&random.values(z.len()));
        let expected: Vec<f32> =
            y.iter().zip(z).enumerate().map(|(i, (y, z))| y + scale[i % scale.len()] * z).collect();
        kernels.pool_mix(pooling, x, shape, &scale, &mut y);
        assert_close((kernels, pooling, shape), &y, &expected, &vec![2.0; z.len()]);
    });
}

#[test]
fn backward_sums_of_values_that_are_not_kept() {
    each_pool(|kernels, pooling, shape, x, z, random| {
        let channels = shape.input.channels;
        let (dy, mean) = (guarded(&random.values(z.len())), guarded(&random.values(channels)));
        let before = random.values_f64(channels);
        let (mut sum, mut dot) = (before.clone(), before.clone());
        let sums = NormSums { mean: &mean, scale: 1.5, sum: &mut sum, dot: &mut dot };
        kernels.pool_norm_reduce(pooling, x, &dy, shape, sums);
        let (mut expected_sum, mut expected_dot) = (before.clone(), before);
        reference::norm_backward_reduce(&dy, z, &mean, 1.5, &mut expected_sum, &mut expected_dot);
        // |z - mean| is at most 2.
        let size = vec![1.0 + 3.0 * shape.output().pixels() as f64; channels];
        assert_close((kernels, pooling, shape), &sum, &expected_sum, &size);
        assert_close((kernels, pooling, shape), &dot, &expected_dot, &size);
    });
}

/// Both pools: `test` is given `x`, both values, and whether the image is to take part, which is of their shape.
fn each_pair(mut test: impl FnMut(Kernels, PoolShape, &[f32], [&[f32]; 2], bool, &mut Random)) {
    each_case(|kernels, shape, random| {
        let x = guarded(&random.values(shape.input.len()));
        let [maxima, means] = [Pooling::Maximum, Pooling::Average].map(|pooling| pooled(pooling, &x, shape));
        for image in [false, true].into_iter().filter(|image| !image || shape.output() == shape.input) {
            test(kernels, shape, &x, [&maxima, &means], image, random);
        }
    });
}

#[test]
fn mix_of_both_pools_and_the_image() {
    each_pair(|kernels, shape, x, [maxima, means], image, random| {
        let channels = shape.input.channels;
        let [maximum, average] = [(); 2].map(|()| guarded(&random.values(channels)));
        let own = image.then(|| random.values(1)[0]);
        let mut y = guarded(&random.values(maxima.len()));
        let value = |i: usize| {
            let pools = y[i] + maximum[i % channels] * maxima[i] + average[i % channels] * means[i];
            own.map_or(pools, |own| pools + own * x[i])
        };
        let expected: Vec<f32> = (0..y.len()).map(value).collect();
        kernels.pool_pair_mix(x, shape, PairFactors { maximum: &maximum, average: &average, image: own }, &mut y);
        assert_close((kernels, shape, image), &y, &expected, &vec![4.0; y.len()]);
    });
}

#[test]
fn backward_sums_of_both_pools_and_the_image() {
    each_pair(|kernels, shape, x, values, image, random| {
        let channels = shape.input.channels;
        let dy = guarded(&random.values(values[0].len()));
        let means = [(); 2].map(|()| guarded(&random.values(channels)));
        let before = [(); 2].map(|()| [(); 2].map(|()| random.values_f64(channels)));
        let (mut sums, mut dot) = (before.clone(), 0.5);
        let scales = [1.5, 0.5];
        let [[max_sum, max_dot], [average_sum, average_dot]] = &mut sums;
        let pair = PairSums {
            maximum: NormSums { mean: &means[0], scale: scales[0], sum: max_sum, dot: max_dot },
            average: NormSums { mean: &means[1], scale: scales[1], sum: average_sum, dot: average_dot },
            image: image.then_some(&mut dot),
        };
        kernels.pool_pair_norm_reduce(x, &dy, shape, pair);
        // |z - mean| is at most 2.
        let size = vec![1.0 + 3.0 * shape.output().pixels() as f64; channels];
        for (pool, ([sum, dot], mut expected)) in sums.iter().zip(before).enumerate() {
            let [expected_sum, expected_dot] = &mut expected;
            let (z, scale) = (values[pool], scales[pool]);
            reference::norm_backward_reduce(&dy, z, &means[pool], scale, expected_sum, expected_dot);
            assert_close((kernels, pool, shape, image), sum, expected_sum, &size);
            assert_close((kernels, pool, shape, image), dot, expected_dot, &size);
        }
        let products = dy.iter().zip(x).map(|(dy, x)| f64::from(*dy) * f64::from(*x));
        let expected = if image { 0.5 + products.sum::<f64>() } else { 0.5 };
        assert_close((kernels, shape, image), &[dot], &[expected], &[1.0 + dy.len() as f64]);
    });
}

#[test]
fn backward_through_the_norm_of_values_that_are_not_kept() {
    each_pool(|kernels, pooling, shape, x, z, random| {
        let dy = guarded(&random.values(z.len()));
        let [mean, q, r] = [(); 3].map(|()| guarded(&random.values(shape.input.channels)));
        let mut dz = vec![f32::NAN; z.len()];
        let ones = vec![1.0; shape.input.channels];
        reference::norm_backward_apply(&dy, z, &mean, &ones, &q, &r, 1.0, &mut dz);
        let backward = |dz: &[f32], dx: &mut [f32], accumulate| match pooling {
            Pooling::Maximum => reference::max_pool_backward(x, dz, dx, shape, accumulate),
            Pooling::Average => reference::avg_pool_backward(dz, dx, shape, accumulate),
        };
        for accumulate in [false, true] {
            let mut dx = gradient(random, x.len(), accumulate);
            let (mut expected, mut size) = (dx.to_vec(), magnitude(&dx, accumulate));
            let gradient = PoolGradient { dy: &dy, mean: &mean, q: &q, r: &r };
            kernels.pool_norm_backward(pooling, x, gradient, &mut dx, shape, accumulate);
            backward(&dz, &mut expected, accumulate);
            backward(&vec![4.0; dz.len()], &mut size, true);
            assert_close((kernels, pooling, shape), &dx, &expected, &size);
        }
    });
}

/// Both pools through their norms, and the image, as so many mixes read them.
fn check_backward_of_both(kernels: Kernels, shape: PoolShape, x: &[f32], mixes: usize, random: &mut Random) {
    let values = [Pooling::Maximum, Pooling::Average].map(|pooling| pooled(pooling, x, shape));
    let (len, channels) = (values[0].len(), shape.input.channels);
    let dy: Vec<Guarded> = (0..mixes).map(|_| guarded(&random.values(len))).collect();
    let factors: Vec<_> = (0..mixes).map(|_| [(); 2].map(|()| guarded(&random.values(channels)))).collect();
    let norms = [(); 2].map(|()| [(); 3].map(|()| guarded(&random.values(channels))));
    let same = shape.output() == shape.input;
    let images: Vec<f32> = (0..mixes).map(|mix| if same && mix != 1 { 0.75 } else { 0.0 }).collect();
    let dz = [0, 1].map(|pool| {
        let ([mean, q, r], mut dz) = (&norms[pool], vec![f32::NAN; len]);
        reference::norm_backward_apply(&vec![0.0; len], &values[pool], mean, q, q, r, 1.0, &mut dz);
        for (dy, factors) in dy.iter().zip(&factors) {
            dz.iter_mut().enumerate().for_each(|(i, dz)| *dz += factors[pool][i % channels] * dy[i]);
        }
        dz
    });
    for accumulate in [false, true] {
        let mut dx = gradient(random, x.len(), accumulate);
        let (mut expected, mut size) = (dx.to_vec(), magnitude(&dx, accumulate));
        let [maximum, average] = norms.each_ref().map(|[mean, q, r]| NormGradient { mean, q, r });
        let term = |mix: usize| {
            let [maximum, average] = &factors[mix];
            PairTerm { dy: &dy[mix], maximum, average, image: images[mix] }
        };
        let terms: Vec<PairTerm> = (0..mixes).map(term).collect();
        // Of any value, and no longer than it has to be.
        let mut scratch = Guarded::unwritten(shape.pair_backward_scratch());
        let gradient = PairGradient { terms: &terms, maximum, average };
        kernels.pool_pair_norm_backward(x, gradient, &mut dx, shape, accumulate, &mut scratch);
        reference::max_pool_backward(x, &dz[0], &mut expected, shape, accumulate);
        reference::avg_pool_backward(&dz[1], &mut expected, shape, true);
        for (dy, image) in dy.iter().zip(&images).filter(|_| same) {
            expected.iter_mut().zip(&**dy).for_each(|(dx, dy)| *dx += image * dy);
        }
        // Each p·dy, q·z, q·mean and r.
        let most = vec![3.0 + mixes as f32; len];
        reference::max_pool_backward(x, &most, &mut size, shape, true);
        reference::avg_pool_backward(&most, &mut size, shape, true);
        size.iter_mut().for_each(|size| *size += images.iter().sum::<f32>());
        assert_close((kernels, shape, mixes), &dx, &expected, &size);
    }
}

#[test]
fn images_without_pixels_have_no_gradient() {
    for kernels in kernels() {
        for (height, width, stride) in [(3, 0, 1), (0, 3, 1), (3, 0, 2), (0, 0, 2)] {
            let shape = PoolShape { input: ImageShape::new(height, width, 2), kernel: 3, stride, padding: 1 };
            let norm = NormGradient { mean: &[0.0; 2], q: &[0.0; 2], r: &[1.0; 2] };
            let terms = [PairTerm { dy: &[], maximum: &[1.0; 2], average: &[1.0; 2], image: 0.0 }];
            let gradient = PairGradient { terms: &terms, maximum: norm, average: norm };
            let mut scratch = Guarded::unwritten(shape.pair_backward_scratch());
            kernels.pool_pair_norm_backward(&[], gradient, &mut [], shape, false, &mut scratch);
        }
    }
}

#[test]
fn backward_of_both_pools_and_the_image() {
    each_case(|kernels, shape, random| {
        if shape.has_pair_backward() {
            let x = guarded(&random.values(shape.input.len()));
            let few: Vec<f32> = x.iter().map(|x| (2.0 * x).trunc()).collect();
            for mixes in 1..=PAIR_TERMS {
                check_backward_of_both(kernels, shape, &x, mixes, random);
                check_backward_of_both(kernels, shape, &guarded(&few), mixes, random);
            }
        }
    });
}

#[test]
fn global_average() {
    let mut random = Random::new(3);
    for kernels in kernels() {
        for shape in images(kernels) {
            let x = guarded(&random.values(shape.len()));
            let mut y = Guarded::unwritten(shape.channels);
            kernels.global_avg_pool(&x, shape, &mut y);
            let (mut expected, mut size) = (vec![f32::NAN; y.len()], vec![f32::NAN; y.len()]);
            reference::global_avg_pool(&x, shape, &mut expected);
            reference::global_avg_pool(&absolute(&x), shape, &mut size);
            assert_close((kernels, shape), &y, &expected, &size);

            let dy = guarded(&random.values(y.len()));
            for accumulate in [true, false] {
                let mut dx = gradient(&mut random, x.len(), accumulate);
                let (mut expected, mut size) = (dx.to_vec(), magnitude(&dx, accumulate));
                kernels.global_avg_pool_backward(&dy, shape, &mut dx, accumulate);
                reference::global_avg_pool_backward(&dy, shape, &mut expected, accumulate);
                reference::global_avg_pool_backward(&absolute(&dy), shape, &mut size, true);
                assert_close((kernels, shape), &dx, &expected, &size);
                if !accumulate {
                    assert_adjoint((kernels, shape), &x, &y, &dy, &dx);
                }
            }
        }
    }
}

#[test]
fn maximum_outside_the_image_is_minus_infinity() {
    for kernels in kernels() {
        let shape = PoolShape { input: ImageShape::new(2, 2, 17), kernel: 3, stride: 1, padding: 1 };
        let x = [-5.0; 2 * 2 * 17];
        let mut y = [f32::NAN; 2 * 2 * 17];
        kernels.max_pool(&x, &mut y, shape);
        assert_eq!(y, x, "{kernels:?}");
    }
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient() {
    for kernels in kernels() {
        let channels = 2 * kernels.isa().lanes() + 1;
        let shape = PoolShape { input: ImageShape::new(3, 3, channels), kernel: 3, stride: 3, padding: 0 };
        // The largest value stands at two pixels, which differ from channel to channel.
        let place = |channel: usize| (channel % 8, channel % 8 + 1 + channel % (8 - channel % 8));
        let mut x = vec![0.0; shape.input.len()];
        for channel in 0..channels {
            let (first, second) = place(channel);
            x[first * channels + channel] = 1.0;
            x[second * channels + channel] = 1.0;
        }
        let mut dx = vec![f32::NAN; x.len()];
        kernels.max_pool_backward(&x, &vec![2.0; channels], &mut dx, shape, false);
        for channel in 0..channels {
            for pixel in 0..9 {
                let expected = if pixel == place(channel).0 { 2.0 } else { 0.0 };
                assert_eq!(dx[pixel * channels + channel], expected, "{kernels:?}, channel {channel}, pixel {pixel}");
            }
        }
    }
}

#[test]
fn reference_maximum_agrees_with_differences() {
    let mut random = Random::new(4);
    for stride in [1, 2] {
        let shape = PoolShape { input: ImageShape::new(5, 4, 2), kernel: 3, stride, padding: 1 };
        // Values far from each other: no step of the differences changes which is the largest.
        let x: Vec<f64> = (0..shape.input.len()).map(|i| (i * 17 % 40) as f64).collect();
        let dy = random.values_f64(shape.output().len());
        let mut dx = vec![f64::NAN; x.len()];
        reference::max_pool_backward(&x, &dy, &mut dx, shape, false);
        assert_gradient(shape, &x, &dx, |x| {
            let mut y = vec![0.0; dy.len()];
            reference::max_pool(x, &mut y, shape);
            reference::dot(&y, &dy)
        });
    }
}

#[test]
#[should_panic(expected = "max_pool: not a window")]
fn a_shape_whose_elements_cannot_be_counted_is_refused() {
    let kernels = Kernels::with_isa(Isa::Scalar).expect("every processor has it");
    let input = ImageShape::new(1 << (usize::BITS / 2), 1 << (usize::BITS / 2), 1);
    kernels.max_pool(&[], &mut [], PoolShape { input, kernel: 3, stride: 1, padding: 1 });
}

#[test]
#[should_panic(expected = "avg_pool: not a window")]
fn a_window_that_may_lie_in_the_padding_is_refused() {
    let kernels = Kernels::with_isa(Isa::Scalar).expect("every processor has it");
    let input = ImageShape::new(1, 1, 1);
    kernels.avg_pool(&[1.0], &mut [0.0; 4], PoolShape { input, kernel: 2, stride: 1, padding: 1 });
}
