//! Batch normalisation: the passes over the data, and the arithmetic per channel between them.
//!
//! With batch statistics, `y = γ·x̂ + β`, `x̂ = (z − mean)·s`, `s = 1/√(variance + ε)`. Forward is one pass that adds
//! up moments ([`Kernels::channel_moments`](crate::Kernels::channel_moments)) and a fold into `scale·z + shift`
//! ([`norm_fold_batch`]), which the next operation applies. Backward is one pass of reductions
//! ([`Kernels::norm_backward_reduce`](crate::Kernels::norm_backward_reduce)), [`norm_backward_coefficients`], and one
//! pass that writes `dz` ([`Kernels::norm_backward_apply`](crate::Kernels::norm_backward_apply)).

mod apply;
mod reduce;

pub use reduce::NormTerm;

/// ε of the variance, in PyTorch and in the original DARTS.
pub const NORM_EPSILON: f64 = 1e-5;

/// Weight of a new batch in the running statistics, in PyTorch and in the original DARTS.
pub const NORM_MOMENTUM: f64 = 0.1;

/// A batch normalisation of one channel, folded: `y = scale·z + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormFold {
    /// Mean of the channel.
    pub mean: f32,
    /// `1/√(variance + ε)`.
    pub inverse_deviation: f32,
    /// `γ / √(variance + ε)`.
    pub scale: f32,
    /// `β − mean·scale`.
    pub shift: f32,
}

/// Mean and biased variance of `count` values from their sum and sum of squares.
fn mean_and_variance(sum: f64, sum_of_squares: f64, count: usize) -> (f64, f64) {
    let mean = sum / count as f64;
    (mean, (sum_of_squares / count as f64 - mean * mean).max(0.0))
}

/// Folds one channel with the statistics of the batch: `count` values with this sum and sum of squares. The variance is
/// the biased one. Without affine parameters `gamma` is 1 and `beta` 0.
pub fn norm_fold_batch(sum: f64, sum_of_squares: f64, count: usize, epsilon: f64, gamma: f32, beta: f32) -> NormFold {
    let (mean, variance) = mean_and_variance(sum, sum_of_squares, count);
    fold(mean, variance, epsilon, gamma, beta)
}

/// Folds one channel with given statistics: those that training has kept, for evaluation.
pub fn norm_fold_running(mean: f32, variance: f32, epsilon: f64, gamma: f32, beta: f32) -> NormFold {
    fold(f64::from(mean), f64::from(variance), epsilon, gamma, beta)
}

fn fold(mean: f64, variance: f64, epsilon: f64, gamma: f32, beta: f32) -> NormFold {
    let inverse_deviation = 1.0 / libm::sqrt(variance + epsilon);
    let scale = f64::from(gamma) * inverse_deviation;
    NormFold {
        mean: mean as f32,
        inverse_deviation: inverse_deviation as f32,
        scale: scale as f32,
        shift: (f64::from(beta) - mean * scale) as f32,
    }
}

/// Moves the running statistics of one channel towards a batch of `count` values by `momentum`. The running variance is
/// the unbiased one (with a single value, 0).
pub fn norm_update_running(
    mean: &mut f32,
    variance: &mut f32,
    momentum: f64,
    sum: f64,
    sum_of_squares: f64,
    count: usize,
) {
    let (batch_mean, biased) = mean_and_variance(sum, sum_of_squares, count);
    let unbiased = biased * count as f64 / count.saturating_sub(1).max(1) as f64;
    *mean = (f64::from(*mean) * (1.0 - momentum) + batch_mean * momentum) as f32;
    *variance = (f64::from(*variance) * (1.0 - momentum) + unbiased * momentum) as f32;
}

/// Backward of one channel through batch statistics: `dz = p·dy + q·(z − mean) + r`, and the gradients of `γ` and `β`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormBackward {
    /// Factor of `dy`.
    pub p: f32,
    /// Factor of `z − mean`.
    pub q: f32,
    /// Summand.
    pub r: f32,
    /// Gradient of `γ`: `Σ dy·x̂`. It is also the derivative of the loss by a factor in front of `x̂`.
    pub dgamma: f32,
    /// Gradient of `β`: `Σ dy`.
    pub dbeta: f32,
}

/// The coefficients of `dz = γ·s·(dy − mean(dy) − x̂·mean(dy·x̂))`, from the sums over the whole batch of
/// [`Kernels::norm_backward_reduce`](crate::Kernels::norm_backward_reduce): `sum = Σ dy` and `dot = Σ dy·(z − mean)`
/// over `count` values.
///
/// Where `y` enters a weighted sum `weight·y`, either `dy` is scaled by `weight` in both passes, or the pass of
/// reductions is made without (`dgamma` is then the derivative by `weight` if `γ = 1`) and `γ·weight` given here as
/// `gamma`.
pub fn norm_backward_coefficients(
    sum: f64,
    dot: f64,
    count: usize,
    inverse_deviation: f32,
    gamma: f32,
) -> NormBackward {
    let s = f64::from(inverse_deviation);
    let p = f64::from(gamma) * s;
    let dgamma = dot * s;
    NormBackward {
        p: p as f32,
        q: (-p * s * dgamma / count as f64) as f32,
        r: (-p * sum / count as f64) as f32,
        dgamma: dgamma as f32,
        dbeta: sum as f32,
    }
}
