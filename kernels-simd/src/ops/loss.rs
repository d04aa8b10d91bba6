//! Softmax and the cross-entropy loss. Both are small: plain `f64` arithmetic, the same bits on every instruction set.

use crate::kernels::Kernels;

/// `ln Σ_k exp(row[k])`, without overflow.
fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|&x| libm::exp(f64::from(x) - largest)).sum();
    largest + libm::log(sum)
}

impl Kernels {
    /// Softmax of each row of `x` `[N, classes]`; `y` is overwritten.
    ///
    /// # Panics
    ///
    /// When the lengths differ or are no multiple of `classes`.
    pub fn softmax(self, x: &[f32], classes: usize, y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "softmax: lengths of x and y");
        assert!(x.len().is_multiple_of(classes), "softmax: {} values are no rows of {classes} classes", x.len());
        for (x, y) in x.chunks_exact(classes).zip(y.chunks_exact_mut(classes)) {
            let total = log_sum_exp(x);
            for (&x, y) in x.iter().zip(y) {
                *y = libm::exp(f64::from(x) - total) as f32;
            }
        }
    }

    /// Cross-entropy of `logits` `[N, K]` against the class indices `targets` `[N]`: the mean over the rows of `−Σ_k
    /// q_k·ln p_k` with `p` the softmax of the row and `q_k = (1 − ε)·[k = target] + ε/K`, ε being `label_smoothing`
    /// (Szegedy et al., 2016). Gives the loss and overwrites `dlogits` with its gradient `(p − q)/N`.
    ///
    /// # Panics
    ///
    /// When there is no target, a length does not fit, or a target is not below `K`.
    pub fn softmax_cross_entropy(
        self,
        logits: &[f32],
        targets: &[u32],
        label_smoothing: f32,
        dlogits: &mut [f32],
    ) -> f64 {
        let samples = targets.len();
        let classes = logits.len() / samples;
        assert_eq!(
            (logits.len(), dlogits.len()),
            (samples * classes, samples * classes),
            "softmax_cross_entropy: logits"
        );
        let smoothing = f64::from(label_smoothing);
        let spread = smoothing / classes as f64;
        let mut loss = 0.0;
        let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
        for ((row, gradient), &target) in rows.zip(targets) {
            let target = target as usize;
            assert!(target < classes, "softmax_cross_entropy: target {target} of {classes} classes");
            let total = log_sum_exp(row);
            for (k, (&logit, gradient)) in row.iter().zip(gradient).enumerate() {
                let wanted = spread + if k == target { 1.0 - smoothing } else { 0.0 };
                let log_probability = f64::from(logit) - total;
                loss -= wanted * log_probability;
                *gradient = ((libm::exp(log_probability) - wanted) / samples as f64) as f32;
            }
        }
        loss / samples as f64
    }
}
