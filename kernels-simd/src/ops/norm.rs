//! Batch normalisation: the passes over the data, and the arithmetic per channel between them.
//!
//! With batch statistics, `y = γ·x̂ + β`, `x̂ = (z − mean)·s`, `s = 1/√(variance + ε)`. Forward is one pass that adds
//! up moments ([`Kernels::channel_moments`]) and a fold into `scale·z + shift` ([`norm_fold_batch`]), which the next
//! operation applies. Backward is one pass of reductions ([`Kernels::norm_backward_reduce`]),
//! [`norm_backward_coefficients`], and one pass that writes `dz` ([`Kernels::norm_backward_apply`]).

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, load, store, with_lanes};

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
/// [`Kernels::norm_backward_reduce`]: `sum = Σ dy` and `dot = Σ dy·(z − mean)` over `count` values.
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

impl Kernels {
    /// Adds `Σ z` and `Σ z²` of each channel of one image `z` `[P, C]` to `sum` and `sum_of_squares`, both `[C]`.
    ///
    /// # Panics
    ///
    /// When a length is not that of `channels` channels.
    pub fn channel_moments(self, z: &[f32], channels: usize, sum: &mut [f64], sum_of_squares: &mut [f64]) {
        assert_eq!(
            (sum.len(), sum_of_squares.len()),
            (channels, channels),
            "channel_moments: sums of {channels} channels"
        );
        self.reduce(z, z, None, 1.0, sum, sum_of_squares);
    }

    /// Adds `scale·Σ dy` and `scale·Σ dy·(z − mean)` of each channel of one image `[P, C]` to `sum` and `dot`, both
    /// `[C]`.
    ///
    /// # Panics
    ///
    /// When a length is not that of the channels of `mean`.
    pub fn norm_backward_reduce(
        self,
        dy: &[f32],
        z: &[f32],
        mean: &[f32],
        scale: f32,
        sum: &mut [f64],
        dot: &mut [f64],
    ) {
        let channels = mean.len();
        assert_eq!((sum.len(), dot.len()), (channels, channels), "norm_backward_reduce: sums of {channels} channels");
        assert_eq!(dy.len(), z.len(), "norm_backward_reduce: dy and z");
        self.reduce(dy, z, Some(mean), scale, sum, dot);
    }

    fn reduce(self, dy: &[f32], z: &[f32], mean: Option<&[f32]>, scale: f32, sum: &mut [f64], dot: &mut [f64]) {
        assert!(z.len().is_multiple_of(sum.len()), "{} values are no image of {} channels", z.len(), sum.len());
        // SAFETY: dy and z have the same length, a multiple of the channels; mean, sum and dot have one element per
        // channel.
        unsafe {
            dispatch!(
                self,
                reduce_image(
                    dy: &[f32],
                    z: &[f32],
                    mean: Option<&[f32]>,
                    scale: f32,
                    sum: &mut [f64],
                    dot: &mut [f64],
                )
            );
        }
    }

    /// `dz = scale·p·dy + q·(z − mean) + r` over one image `[P, C]`, all but `scale` per channel; `dz` is overwritten.
    ///
    /// # Panics
    ///
    /// When a length is not that of the channels of `mean`.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_backward_apply(
        self,
        dy: &[f32],
        z: &[f32],
        mean: &[f32],
        p: &[f32],
        q: &[f32],
        r: &[f32],
        scale: f32,
        dz: &mut [f32],
    ) {
        let channels = mean.len();
        let per_channel = (p.len(), q.len(), r.len());
        assert_eq!(per_channel, (channels, channels, channels), "norm_backward_apply: p, q, r of {channels} channels");
        assert_eq!((dy.len(), z.len()), (dz.len(), dz.len()), "norm_backward_apply: dy, z and dz");
        assert!(dz.len().is_multiple_of(channels), "{} values are no image of {channels} channels", dz.len());
        // SAFETY: dy, z and dz have the same length, a multiple of the channels; the others have one element per
        // channel.
        unsafe {
            dispatch!(
                self,
                apply_image(
                    dy: &[f32],
                    z: &[f32],
                    mean: &[f32],
                    p: &[f32],
                    q: &[f32],
                    r: &[f32],
                    scale: f32,
                    dz: &mut [f32],
                )
            );
        }
    }
}

/// Partial sums kept side by side, so that additions do not wait for each other.
const CHAINS: usize = 4;
/// Pixels whose sum is taken in one go.
const SHORT: usize = 8 * CHAINS;
/// Pixels whose short sums are added up in `f32` before they go to `f64`.
const WIDE: usize = 32 * SHORT;

#[inline(always)]
unsafe fn reduce_image<S: Simd>(
    dy: &[f32],
    z: &[f32],
    mean: Option<&[f32]>,
    scale: f32,
    sum: &mut [f64],
    dot: &mut [f64],
) {
    let channels = sum.len();
    for (dy, z) in dy.chunks(WIDE * channels).zip(z.chunks(WIDE * channels)) {
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: dy and z are whole pixels, and mean has `channels` elements.
                let (wide_sum, wide_dot) = unsafe { reduce_wide::<S, PARTIAL>(dy, z, mean, channels, c, count) };
                for lane in 0..count {
                    sum[c + lane] += f64::from(scale) * f64::from(wide_sum[lane]);
                    dot[c + lane] += f64::from(scale) * f64::from(wide_dot[lane]);
                }
            });
        }
    }
}

/// Sums of `count` channels, from `channel` on, over at most `WIDE` pixels.
#[inline(always)]
unsafe fn reduce_wide<S: Simd, const PARTIAL: bool>(
    dy: &[f32],
    z: &[f32],
    mean: Option<&[f32]>,
    channels: usize,
    channel: usize,
    count: usize,
) -> ([f32; MAX_LANES], [f32; MAX_LANES]) {
    // SAFETY: the caller promises whole pixels; every pixel below is inside, and `channel + count <= channels`.
    unsafe {
        let zero = S::splat(0.0);
        let mean = mean.map_or(zero, |mean| load::<S, PARTIAL>(mean.as_ptr().add(channel), count));
        let (mut sum, mut dot) = (zero, zero);
        let pixels = z.len() / channels;
        for first in (0..pixels).step_by(SHORT) {
            let (mut sums, mut dots) = ([zero; CHAINS], [zero; CHAINS]);
            let mut pixel = first;
            let end = pixels.min(first + SHORT);
            while pixel < end {
                for chain in 0..CHAINS.min(end - pixel) {
                    let at = (pixel + chain) * channels + channel;
                    let dy = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                    let z = load::<S, PARTIAL>(z.as_ptr().add(at), count);
                    sums[chain] = S::add(sums[chain], dy);
                    dots[chain] = S::mul_add(dy, S::sub(z, mean), dots[chain]);
                }
                pixel += CHAINS;
            }
            sum = S::add(sum, S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
            dot = S::add(dot, S::add(S::add(dots[0], dots[1]), S::add(dots[2], dots[3])));
        }
        let mut result = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        S::store(result.0.as_mut_ptr(), sum);
        S::store(result.1.as_mut_ptr(), dot);
        result
    }
}

/// Pixels that are finished for one register of channels before the next: a tile that stays in the first cache.
const TILE: usize = 32;

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn apply_image<S: Simd>(
    dy: &[f32],
    z: &[f32],
    mean: &[f32],
    p: &[f32],
    q: &[f32],
    r: &[f32],
    scale: f32,
    dz: &mut [f32],
) {
    let channels = mean.len();
    let pixels = dz.len() / channels;
    for first in (0..pixels).step_by(TILE) {
        let tile = first..pixels.min(first + TILE);
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: pixels and channels are inside, and the per-channel slices have `channels` elements.
                unsafe {
                    let mean = load::<S, PARTIAL>(mean.as_ptr().add(c), count);
                    let p = S::mul(S::splat(scale), load::<S, PARTIAL>(p.as_ptr().add(c), count));
                    let q = load::<S, PARTIAL>(q.as_ptr().add(c), count);
                    let r = load::<S, PARTIAL>(r.as_ptr().add(c), count);
                    for pixel in tile.clone() {
                        let at = pixel * channels + c;
                        let dy = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                        let centred = S::sub(load::<S, PARTIAL>(z.as_ptr().add(at), count), mean);
                        let value = S::mul_add(p, dy, S::mul_add(q, centred, r));
                        store::<S, PARTIAL>(dz.as_mut_ptr().add(at), value, count);
                    }
                }
            });
        }
    }
}
