//! Softmax and the cross-entropy loss.

use super::Real;

/// `ln Σ_k exp(row[k])`.
fn log_sum_exp<T: Real>(row: &[T]) -> f64 {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(x.get()));
    largest + libm::log(row.iter().map(|x| libm::exp(x.get() - largest)).sum())
}

/// Softmax of each row of `classes` elements; `y` is overwritten.
pub fn softmax<T: Real>(x: &[T], classes: usize, y: &mut [T]) {
    for (x, y) in x.chunks_exact(classes).zip(y.chunks_exact_mut(classes)) {
        let total = log_sum_exp(x);
        for (x, y) in x.iter().zip(y) {
            *y = T::from_f64(libm::exp(x.get() - total));
        }
    }
}

/// Mean over the rows of `−Σ_k q[k]·ln softmax(logits)[k]` with `q[k] = (1 − ε)·[k = target] + ε/K`, and its gradient.
pub fn softmax_cross_entropy<T: Real>(logits: &[T], targets: &[u32], label_smoothing: f32, dlogits: &mut [T]) -> f64 {
    let samples = targets.len();
    let classes = logits.len() / samples;
    let smoothing = label_smoothing.get();
    let mut loss = 0.0;
    for (n, &target) in targets.iter().enumerate() {
        let row = &logits[n * classes..(n + 1) * classes];
        let total = log_sum_exp(row);
        for k in 0..classes {
            let hit = if k == target as usize { 1.0 } else { 0.0 };
            let wanted = (1.0 - smoothing) * hit + smoothing / classes as f64;
            let log_probability = row[k].get() - total;
            loss -= wanted * log_probability / samples as f64;
            dlogits[n * classes + k] = T::from_f64((libm::exp(log_probability) - wanted) / samples as f64);
        }
    }
    loss
}
