//! Linear layer, softmax and cross-entropy, against the reference.

use darts_kernels_simd::{Isa, Kernels, reference};
use darts_tests::{
    Guarded, Random, absolute, assert_adjoint, assert_close, assert_gradient, channel_counts, guarded, kernels,
};

#[test]
fn linear() {
    let mut random = Random::new(11);
    for kernels in kernels() {
        for outputs in channel_counts(kernels) {
            for (samples, inputs) in [(1, 1), (3, 5), (8, 64), (5, 37)] {
                let context = (kernels, samples, inputs, outputs);
                let x = guarded(&random.values(samples * inputs));
                let w = guarded(&random.values(inputs * outputs));
                let bias = guarded(&random.values(outputs));
                let mut y = Guarded::unwritten(samples * outputs);
                kernels.linear(&x, &w, &bias, &mut y);
                let (mut expected, mut size) = (vec![f32::NAN; y.len()], vec![f32::NAN; y.len()]);
                reference::linear(&x, &w, &bias, &mut expected);
                reference::linear(&absolute(&x), &absolute(&w), &absolute(&bias), &mut size);
                assert_close(context, &y, &expected, &size);

                let dy = guarded(&random.values(y.len()));
                let (dw_before, dbias_before) = (random.values(w.len()), random.values(outputs));
                let mut dx = Guarded::unwritten(x.len());
                let (mut dw, mut dbias) = (guarded(&dw_before), guarded(&dbias_before));
                kernels.linear_backward(&x, &w, &dy, &mut dx, &mut dw, &mut dbias);
                let (mut expected_dx, mut size_dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                let (mut expected_dw, mut size_dw) = (dw_before.clone(), absolute(&dw_before));
                let (mut expected_dbias, mut size_dbias) = (dbias_before.clone(), absolute(&dbias_before));
                reference::linear_backward(&x, &w, &dy, &mut expected_dx, &mut expected_dw, &mut expected_dbias);
                let [x_size, w_size, dy_size] = [absolute(&x), absolute(&w), absolute(&dy)];
                reference::linear_backward(&x_size, &w_size, &dy_size, &mut size_dx, &mut size_dw, &mut size_dbias);
                assert_close(context, &dx, &expected_dx, &size_dx);
                assert_close(context, &dw, &expected_dw, &size_dw);
                assert_close(context, &dbias, &expected_dbias, &size_dbias);

                let mut linear_part = vec![0.0; y.len()];
                kernels.linear(&x, &w, &vec![0.0; outputs], &mut linear_part);
                assert_adjoint(context, &x, &linear_part, &dy, &dx);
            }
        }
    }
}

#[test]
fn cross_entropy() {
    let mut random = Random::new(12);
    for kernels in kernels() {
        for (samples, classes) in [(1, 1), (1, 10), (7, 10), (3, 100)] {
            for smoothing in [0.0, 0.1] {
                let context = (kernels, samples, classes, smoothing);
                let logits = guarded(&random.values(samples * classes));
                let targets = random.indices(samples, classes as u32);
                let mut dlogits = Guarded::unwritten(logits.len());
                let loss = kernels.softmax_cross_entropy(&logits, &targets, smoothing, &mut dlogits);
                let mut expected = vec![f32::NAN; logits.len()];
                let expected_loss = reference::softmax_cross_entropy(&logits, &targets, smoothing, &mut expected);
                assert_close(context, &dlogits, &expected, &vec![1.0; logits.len()]);
                assert_close(context, &[loss], &[expected_loss], &[expected_loss.abs() + 1e-9]);

                let mut probabilities = Guarded::unwritten(logits.len());
                kernels.softmax(&logits, classes, &mut probabilities);
                let mut expected = vec![f32::NAN; logits.len()];
                reference::softmax(&logits, classes, &mut expected);
                assert_close(context, &probabilities, &expected, &expected);
            }
        }
    }
}

#[test]
fn reference_cross_entropy_agrees_with_differences_and_known_values() {
    let mut random = Random::new(13);
    let (samples, classes) = (4, 6);
    let logits: Vec<f64> = random.values_f64(samples * classes).iter().map(|logit| 3.0 * logit).collect();
    let targets = random.indices(samples, classes as u32);
    for smoothing in [0.0, 0.1] {
        let mut gradient = vec![f64::NAN; logits.len()];
        reference::softmax_cross_entropy(&logits, &targets, smoothing, &mut gradient);
        assert_gradient(smoothing, &logits, &gradient, |logits| {
            reference::softmax_cross_entropy(logits, &targets, smoothing, &mut vec![0.0; logits.len()])
        });
    }

    // Probabilities 1/4 and 3/4: the target costs ln(4/3), and the other class, which gets half of the smoothing, ln 4.
    let logits = [0.0, 3f64.ln()];
    let mut gradient = [f64::NAN; 2];
    let loss = reference::softmax_cross_entropy(&logits, &[1], 0.0, &mut gradient);
    assert!((loss - (4f64 / 3.0).ln()).abs() < 1e-12, "{loss}");
    assert!((gradient[0] - 0.25).abs() < 1e-12 && (gradient[1] + 0.25).abs() < 1e-12, "{gradient:?}");
    let loss = reference::softmax_cross_entropy(&logits, &[1], 0.2, &mut gradient);
    let expected = 0.9 * (4f64 / 3.0).ln() + 0.1 * 4f64.ln();
    assert!((loss - expected).abs() < 1e-8, "{loss}");
}

#[test]
fn large_logits_do_not_overflow() {
    for kernels in kernels() {
        let mut dlogits = [f32::NAN; 3];
        let loss = kernels.softmax_cross_entropy(&[1e4, 0.0, -1e4], &[1], 0.0, &mut dlogits);
        assert_eq!((loss, dlogits), (1e4, [1.0, -1.0, 0.0]), "{kernels:?}");
    }
}

#[test]
#[should_panic(expected = "target 10 of 10 classes")]
fn a_target_that_is_no_class_is_refused() {
    let kernels = Kernels::with_isa(Isa::Scalar).expect("every processor has it");
    kernels.softmax_cross_entropy(&[0.0; 10], &[10], 0.0, &mut [0.0; 10]);
}
