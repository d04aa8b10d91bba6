//! Batch normalisation, against the reference and against its definition.

use darts_kernels_simd::{
    NORM_EPSILON, NORM_MOMENTUM, NormSums, NormTerm, Stored, norm_backward_coefficients, norm_fold_batch,
    norm_fold_running, norm_update_running, reference,
};
use darts_tests::{
    Guarded, Random, absolute, assert_close, channel_counts, guarded, kernels, repeating_channel_counts,
};

/// Pixels of an image, on both sides of the blocks in which sums are taken.
const PIXELS: [usize; 9] = [1, 2, 3, 31, 33, 100, 1024, 1100, 2100];

#[test]
fn moments() {
    let mut random = Random::new(5);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            for pixels in PIXELS {
                let z = guarded(&random.values(pixels * channels));
                let before = random.values_f64(channels);
                let (mut sum, mut squares) = (before.clone(), before.clone());
                kernels.channel_moments(&z, channels, &mut sum, &mut squares);
                let (mut expected_sum, mut expected_squares) = (before.clone(), before);
                reference::channel_moments(&z, channels, &mut expected_sum, &mut expected_squares);
                let (mut size, mut size_squares) = (vec![1.0; channels], vec![1.0; channels]);
                reference::channel_moments(&absolute(&z), channels, &mut size, &mut size_squares);
                assert_close((kernels, channels, pixels), &sum, &expected_sum, &size);
                assert_close((kernels, channels, pixels), &squares, &expected_squares, &size_squares);
            }
        }
    }
}

#[test]
fn backward_sums() {
    let mut random = Random::new(6);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            for pixels in PIXELS {
                let (dy, z) = (guarded(&random.values(pixels * channels)), guarded(&random.values(pixels * channels)));
                let mean = guarded(&random.values(channels));
                let before = random.values_f64(channels);
                let (mut sum, mut dot) = (before.clone(), before.clone());
                kernels.norm_backward_reduce(&dy, Stored::F32(&z), &mean, 1.5, &mut sum, &mut dot);
                let (mut expected_sum, mut expected_dot) = (before.clone(), before);
                reference::norm_backward_reduce(&dy, &z, &mean, 1.5, &mut expected_sum, &mut expected_dot);
                // |z - mean| is at most 2.
                let (mut size, mut unused) = (vec![1.0; channels], vec![0.0; channels]);
                reference::norm_backward_reduce(&absolute(&dy), &z, &mean, 3.0, &mut size, &mut unused);
                assert_close((kernels, channels, pixels), &sum, &expected_sum, &size);
                assert_close((kernels, channels, pixels), &dot, &expected_dot, &size);
            }
        }
    }
}

#[test]
fn backward_sums_of_several_terms() {
    let mut random = Random::new(11);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            for (pixels, count) in [(3, 0), (100, 1), (9, 2), (1100, 3), (64, 4), (33, 5), (1, 8)] {
                let dy = guarded(&random.values(pixels * channels));
                let z: Vec<_> = (0..count).map(|_| guarded(&random.values(pixels * channels))).collect();
                let mean: Vec<_> = (0..count).map(|_| guarded(&random.values(channels))).collect();
                let scale = random.values(count);
                let before: Vec<_> = (0..2 * count).map(|_| random.values_f64(channels)).collect();
                let (mut actual, mut expected) = (before.clone(), before);
                let mut terms: Vec<_> = actual
                    .chunks_mut(2)
                    .enumerate()
                    .map(|(term, sums)| {
                        let [sum, dot] = sums else { unreachable!("two sums a term") };
                        let sums = NormSums { mean: &mean[term], scale: scale[term], sum, dot };
                        NormTerm { z: Stored::F32(&z[term]), sums }
                    })
                    .collect();
                kernels.norm_backward_reduce_terms(&dy, &mut terms);
                let terms = expected.chunks_mut(2).enumerate().map(|(term, sums)| {
                    let [sum, dot] = sums else { unreachable!("two sums a term") };
                    (&z[term][..], &mean[term][..], scale[term], &mut sum[..], &mut dot[..])
                });
                reference::norm_backward_reduce_terms(&dy, terms);
                // |dy| is at most 1, |z - mean| at most 2.
                let size = vec![1.0 + 2.0 * pixels as f64; channels];
                for (actual, expected) in actual.iter().zip(&expected) {
                    assert_close((kernels, channels, pixels, count), actual, expected, &size);
                }
            }
        }
    }
}

#[test]
fn backward_apply() {
    let mut random = Random::new(7);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            for pixels in [1, 7, 32, 33, 70] {
                let (dy, z) = (guarded(&random.values(pixels * channels)), guarded(&random.values(pixels * channels)));
                let [mean, p, q, r] = [(); 4].map(|()| guarded(&random.values(channels)));
                let mut dz = Guarded::unwritten(z.len());
                kernels.norm_backward_apply(&dy, Stored::F32(&z), &mean, &p, &q, &r, 0.75, &mut dz);
                let mut expected = vec![f32::NAN; z.len()];
                reference::norm_backward_apply(&dy, &z, &mean, &p, &q, &r, 0.75, &mut expected);
                assert_close((kernels, channels, pixels), &dz, &expected, &vec![4.0; z.len()]);
            }
        }
    }
}

/// `γ·(z − mean)/√(variance + ε) + β` with the statistics of all pixels, from the definition.
fn batch_norm(z: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let channels = gamma.len();
    let count = (z.len() / channels) as f64;
    let mut y = vec![0.0; z.len()];
    for c in 0..channels {
        let values = || z.iter().skip(c).step_by(channels);
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|z| (z - mean) * (z - mean)).sum::<f64>() / count;
        for (i, z) in values().enumerate() {
            y[i * channels + c] = gamma[c] * (z - mean) / (variance + NORM_EPSILON).sqrt() + beta[c];
        }
    }
    y
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// The whole of it, two images: forward from moments and fold, backward from sums and coefficients.
#[test]
fn batch_statistics_agree_with_the_definition_and_its_differences() {
    let mut random = Random::new(8);
    let (pixels, channels) = (15, 5);
    let count = 2 * pixels;
    let [z, dy] = [(); 2].map(|()| random.values_f64(count * channels));
    let [gamma, beta] = [(); 2].map(|()| random.values_f64(channels));
    let y = batch_norm(&z, &gamma, &beta);
    let (z32, dy32) = (narrow(&z), narrow(&dy));
    for kernels in kernels() {
        let (mut sum, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        for image in z32.chunks(pixels * channels) {
            kernels.channel_moments(image, channels, &mut sum, &mut squares);
        }
        let folds: Vec<_> = (0..channels)
            .map(|c| norm_fold_batch(sum[c], squares[c], count, NORM_EPSILON, gamma[c] as f32, beta[c] as f32))
            .collect();
        for (i, y) in y.iter().enumerate() {
            let fold = folds[i % channels];
            let folded = fold.scale * z32[i] + fold.shift;
            assert!((f64::from(folded) - y).abs() < 1e-5, "{kernels:?}: element {i} is {folded}, expected {y}");
        }

        let mean: Vec<f32> = folds.iter().map(|fold| fold.mean).collect();
        let (mut sum, mut dot) = (vec![0.0; channels], vec![0.0; channels]);
        for (dy, z) in dy32.chunks(pixels * channels).zip(z32.chunks(pixels * channels)) {
            kernels.norm_backward_reduce(dy, z.into(), &mean, 1.0, &mut sum, &mut dot);
        }
        let coefficients: Vec<_> = (0..channels)
            .map(|c| norm_backward_coefficients(sum[c], dot[c], count, folds[c].inverse_deviation, gamma[c] as f32))
            .collect();
        let [p, q, r] = [0, 1, 2].map(|i| coefficients.iter().map(|c| [c.p, c.q, c.r][i]).collect::<Vec<f32>>());
        let mut dz = vec![f32::NAN; z32.len()];
        kernels.norm_backward_apply(&dy32, Stored::F32(&z32), &mean, &p, &q, &r, 1.0, &mut dz);

        let differences = |at: &[f64], f: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
            (0..at.len())
                .map(|i| {
                    let [above, below] = [1e-5, -1e-5].map(|step| {
                        let mut moved = at.to_vec();
                        moved[i] += step;
                        reference::dot(&f(&moved), &dy)
                    });
                    (above - below) / 2e-5
                })
                .collect()
        };
        let close = |name: &str, actual: &[f32], expected: &[f64]| {
            for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                let error = (f64::from(*actual) - expected).abs();
                assert!(error < 1e-5 * expected.abs().max(1.0), "{kernels:?}: {name} {i} is {actual}, not {expected}");
            }
        };
        close("dz", &dz, &differences(&z, &|z| batch_norm(z, &gamma, &beta)));
        let dgamma: Vec<f32> = coefficients.iter().map(|c| c.dgamma).collect();
        close("dgamma", &dgamma, &differences(&gamma, &|gamma| batch_norm(&z, gamma, &beta)));
        let dbeta: Vec<f32> = coefficients.iter().map(|c| c.dbeta).collect();
        close("dbeta", &dbeta, &differences(&beta, &|beta| batch_norm(&z, &gamma, beta)));
    }
}

#[test]
fn running_statistics() {
    // Of 1, 2, 3 and 6: mean 3, unbiased variance 14/3.
    let (mut mean, mut variance) = (0.0, 1.0);
    norm_update_running(&mut mean, &mut variance, NORM_MOMENTUM, 12.0, 50.0, 4);
    assert!((mean - 0.3).abs() < 1e-6, "{mean}");
    assert!((variance - (0.9 + 1.4 / 3.0)).abs() < 1e-6, "{variance}");

    let fold = norm_fold_running(3.0, 4.0, 0.0, 5.0, 1.0);
    assert_eq!((fold.mean, fold.inverse_deviation, fold.scale, fold.shift), (3.0, 0.5, 2.5, -6.5));
}

#[test]
fn a_constant_channel_has_no_variance() {
    let fold = norm_fold_batch(0.3 * 7.0, 0.3 * 0.3 * 7.0, 7, NORM_EPSILON, 1.0, 0.0);
    let limit = (1.0 / NORM_EPSILON.sqrt()) as f32;
    assert!((fold.inverse_deviation - limit).abs() < 1e-3 * limit, "{fold:?}");
}
