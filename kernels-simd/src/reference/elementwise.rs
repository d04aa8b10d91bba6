//! Sums, scalings and reductions over flat slices.

use super::{Real, put};
use crate::MixTerm;

/// `y[p, c] (+)= shift[c] + Σ_t scale_t[c]·z_t[p, c]`.
pub fn mix(terms: &[MixTerm<'_>], shift: &[f32], y: &mut [f32], accumulate: bool) {
    let channels = shift.len();
    for (index, y) in y.iter_mut().enumerate() {
        let c = index % channels;
        let mut sum = shift[c].get();
        for term in terms {
            sum += term.scale[c].get() * term.z.get(index).get();
        }
        put(y, sum, accumulate);
    }
}

/// `y = max(x, 0)`.
pub fn relu<T: Real>(x: &[T], y: &mut [T]) {
    for (x, y) in x.iter().zip(y) {
        *y = T::from_f64(x.get().max(0.0));
    }
}

/// `dx (+)= dy·[x > 0]`.
pub fn relu_backward<T: Real>(x: &[T], dy: &[T], dx: &mut [T], accumulate: bool) {
    for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
        put(dx, if x.get() > 0.0 { dy.get() } else { 0.0 }, accumulate);
    }
}

/// `y += a·x`.
pub fn axpy<T: Real>(a: T, x: &[T], y: &mut [T]) {
    for (x, y) in x.iter().zip(y) {
        put(y, a.get() * x.get(), true);
    }
}

/// `y = a·x`.
pub fn scale<T: Real>(a: T, x: &[T], y: &mut [T]) {
    for (x, y) in x.iter().zip(y) {
        put(y, a.get() * x.get(), false);
    }
}

/// `y = a·x + b·y`.
pub fn scale_add<T: Real>(a: T, x: &[T], b: T, y: &mut [T]) {
    for (x, y) in x.iter().zip(y) {
        *y = T::from_f64(a.get() * x.get() + b.get() * y.get());
    }
}

/// `Σ x·y`.
pub fn dot<T: Real>(x: &[T], y: &[T]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x.get() * y.get()).sum()
}

/// `Σ x²`.
pub fn sum_of_squares<T: Real>(x: &[T]) -> f64 {
    dot(x, x)
}
