//! Weighted sums, ReLU, scalings and reductions, against the reference.

use darts_kernels_simd::{Kernels, MixTerm, Stored, flush_denormals, reference};
use darts_tests::{
    Guarded, Random, absolute, assert_adjoint, assert_close, assert_same, channel_counts, guarded, kernels,
    repeating_channel_counts,
};

fn each_length(mut test: impl FnMut(Kernels, usize, &mut Random)) {
    let mut random = Random::new(9);
    for kernels in kernels() {
        for len in (0..=70).chain([1000, 4099]) {
            test(kernels, len, &mut random);
        }
    }
}

#[test]
fn mix() {
    let mut random = Random::new(10);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            for pixels in [1, 2, 7, 8, 9, 49] {
                for count in [0, 1, 2, 3, 4, 5, 8, 9, 35] {
                    let z: Vec<_> = (0..count).map(|_| guarded(&random.values(pixels * channels))).collect();
                    let scale: Vec<_> = (0..count).map(|_| guarded(&random.values(channels))).collect();
                    let terms: Vec<_> =
                        z.iter().zip(&scale).map(|(z, scale)| MixTerm { z: Stored::F32(z), scale }).collect();
                    let shift = guarded(&random.values(channels));
                    let mut y = Guarded::unwritten(pixels * channels);
                    let mut expected = vec![f32::NAN; y.len()];
                    for accumulate in [false, true] {
                        kernels.mix(&terms, &shift, &mut y, accumulate);
                        reference::mix(&terms, &shift, &mut expected, accumulate);
                        let size = vec![2.0 + 2.0 * count as f32; y.len()];
                        assert_close((kernels, channels, pixels, count, accumulate), &y, &expected, &size);
                    }
                }
            }
        }
    }
}

#[test]
fn relu() {
    each_length(|kernels, len, random| {
        let (x, dy, before) = (guarded(&random.values(len)), guarded(&random.values(len)), random.values(len));
        let (mut y, mut expected) = (Guarded::unwritten(len), vec![f32::NAN; len]);
        kernels.relu(&x, &mut y);
        reference::relu(&x, &mut expected);
        assert_same((kernels, len), &y, &expected);
        for accumulate in [false, true] {
            let mut dx = if accumulate { guarded(&before) } else { Guarded::unwritten(len) };
            let mut expected = dx.to_vec();
            kernels.relu_backward(&x, &dy, &mut dx, accumulate);
            reference::relu_backward(&x, &dy, &mut expected, accumulate);
            assert_same((kernels, len), &dx, &expected);
            if !accumulate {
                assert_adjoint((kernels, len), &x, &y, &dy, &dx);
            }
        }
    });
}

#[test]
fn relu_is_closed_at_zero() {
    for kernels in kernels() {
        let mut dx = [f32::NAN; 17];
        kernels.relu_backward(&[0.0; 17], &[1.0; 17], &mut dx, false);
        assert_eq!(dx, [0.0; 17], "{kernels:?}");
    }
}

#[test]
fn scalings() {
    each_length(|kernels, len, random| {
        let (x, before) = (guarded(&random.values(len)), random.values(len));
        let size = vec![2.0; len];
        let (mut y, mut expected) = (guarded(&before), before.clone());
        kernels.axpy(0.3, &x, &mut y);
        reference::axpy(0.3, &x, &mut expected);
        assert_close((kernels, len), &y, &expected, &size);
        let xs = [(); 3].map(|()| guarded(&random.values(len)));
        let (mut y, mut expected) = (guarded(&before), before.clone());
        kernels.add_all(&xs.each_ref().map(|x| &x[..]), &mut y);
        xs.iter().for_each(|x| kernels.axpy(1.0, x, &mut expected));
        assert_same((kernels, len), &y, &expected);
        let (mut y, mut expected) = (Guarded::unwritten(len), vec![f32::NAN; len]);
        kernels.scale(0.3, &x, &mut y);
        reference::scale(0.3, &x, &mut expected);
        assert_close((kernels, len), &y, &expected, &size);
        let (mut y, mut expected) = (guarded(&before), before);
        kernels.scale_add(0.3, &x, -0.7, &mut y);
        reference::scale_add(0.3, &x, -0.7, &mut expected);
        assert_close((kernels, len), &y, &expected, &size);
    });
}

#[test]
fn reductions() {
    each_length(|kernels, len, random| {
        let (x, y) = (guarded(&random.values(len)), guarded(&random.values(len)));
        let size = reference::dot(&absolute(&x), &absolute(&y));
        assert_close((kernels, len), &[kernels.dot(&x, &y)], &[reference::dot(&x, &y)], &[size]);
        let squares = reference::sum_of_squares(&x);
        assert_close((kernels, len), &[kernels.sum_of_squares(&x)], &[squares], &[squares]);
    });
}

#[test]
fn denormals_are_flushed_in_the_thread_that_asks() {
    use std::hint::black_box;
    // A denormal result of normal factors, and a normal result of a denormal factor.
    let products = || {
        [(1e-10, 1e-30), (1e20, 1e-40)].map(|(a, x)| {
            let mut y = [0.0];
            Kernels::detect().axpy(black_box(a), &[black_box(x)], &mut y);
            y[0]
        })
    };
    let in_thread = std::thread::spawn(move || {
        let before = products();
        flush_denormals();
        (before, products())
    });
    let (before, after) = in_thread.join().expect("the thread ends");
    assert!(before.iter().all(|&product| product > 0.0), "{before:?}");
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        assert_eq!(after, [0.0; 2]);
    }
}
