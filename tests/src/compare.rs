//! Comparisons that know how large an error may be.

use std::fmt::Debug;

/// Allowed error in units of the sum of the magnitudes that were added up.
const TOLERANCE: f64 = 2e-6;

/// The absolute values.
pub fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| value.abs()).collect()
}

/// Asserts that `actual` is `expected` to rounding: each error is at most `2e-6` times the element of `magnitude`,
/// which is the same operation on the absolute values of its operands, `Σ|x·w|`.
///
/// # Panics
///
/// When it is not, with `context` and the first element that differs.
pub fn assert_close<T: Copy + Into<f64>>(context: impl Debug, actual: &[T], expected: &[T], magnitude: &[T]) {
    assert_eq!((actual.len(), magnitude.len()), (expected.len(), expected.len()), "{context:?}");
    for (i, ((&actual, &expected), &magnitude)) in actual.iter().zip(expected).zip(magnitude).enumerate() {
        let (actual, expected, magnitude): (f64, f64, f64) = (actual.into(), expected.into(), magnitude.into());
        let allowed = TOLERANCE * magnitude + f64::from(f32::MIN_POSITIVE);
        // Written so that NaN fails.
        let close = (actual - expected).abs() <= allowed;
        assert!(close, "{context:?}: element {i} is {actual}, expected {expected} ± {allowed:e}");
    }
}

/// Asserts equality of all bits but those of NaN and the sign of zero.
///
/// # Panics
///
/// When an element differs, with `context` and the first such element.
pub fn assert_same(context: impl Debug, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{context:?}");
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(actual == expected, "{context:?}: element {i} is {actual}, expected {expected}");
    }
}

/// Asserts `⟨dy, K x⟩ = ⟨Kᵀ dy, x⟩`, which a linear operation and its gradient satisfy: `y = K x`, `dx = Kᵀ dy`.
///
/// # Panics
///
/// When the two differ by more than rounding.
pub fn assert_adjoint(context: impl Debug, x: &[f32], y: &[f32], dy: &[f32], dx: &[f32]) {
    let product = |a: &[f32], b: &[f32]| -> (f64, f64) {
        assert_eq!(a.len(), b.len(), "{context:?}");
        let terms = || a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        (terms().sum(), terms().map(f64::abs).sum())
    };
    let (forward, size) = product(dy, y);
    let (backward, _) = product(dx, x);
    assert!(
        (forward - backward).abs() <= 1e-5 * size + 1e-30,
        "{context:?}: ⟨dy, Kx⟩ = {forward}, ⟨Kᵀdy, x⟩ = {backward}"
    );
}

/// Asserts that `gradient` is the derivative of `f` at `x`, by central differences.
///
/// # Panics
///
/// When an element differs by more than `1e-6` of the largest.
pub fn assert_gradient(context: impl Debug, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{context:?}");
    let largest = gradient.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        moved[i] = x[i] + STEP;
        let above = f(&moved);
        moved[i] = x[i] - STEP;
        let difference = (above - f(&moved)) / (2.0 * STEP);
        moved[i] = x[i];
        let close = (difference - gradient[i]).abs() <= 1e-6 * largest + 1e-9;
        assert!(close, "{context:?}: element {i} is {}, differences give {difference}", gradient[i]);
    }
}
