//! Mean and standard deviation per channel.

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, Dataset};

/// What makes pixels zero-mean and unit-variance: `(p / 255 − mean) / std` for a pixel `p` of 0 to 255, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean of each channel, of pixels scaled to 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Vec<f32>,
}

impl Normalization {
    /// A given normalisation, for images of `channels` channels.
    ///
    /// # Errors
    /// If there is not one finite mean and one positive, finite standard deviation a channel.
    pub fn new(mean: Vec<f32>, std: Vec<f32>, channels: usize) -> Result<Self, DataError> {
        let problem = if mean.len() != channels || std.len() != channels {
            format!("{} means and {} deviations", mean.len(), std.len())
        } else if let Some(mean) = mean.iter().find(|mean| !mean.is_finite()) {
            format!("a mean of {mean}")
        } else if let Some(std) = std.iter().find(|std| !std.is_normal() || **std < 0.0) {
            format!("a standard deviation of {std}")
        } else {
            return Ok(Self { mean, std });
        };
        Err(DataError::Normalization { problem, channels })
    }

    /// The statistics of `data` (population variance). A channel without variance keeps its scale: deviation 1.
    ///
    /// They come from integer counts, so that they do not depend on the order of the images.
    pub fn of(data: &Dataset) -> Self {
        let channels = data.shape().channels;
        let zero = || vec![[0u64; 256]; channels];
        let histograms = data
            .images()
            .par_chunks(channels << 16)
            .fold(zero, |mut counts, pixels| {
                for pixel in pixels.chunks_exact(channels) {
                    for (count, &value) in counts.iter_mut().zip(pixel) {
                        count[usize::from(value)] += 1;
                    }
                }
                counts
            })
            .reduce(zero, |mut left, right| {
                for (left, right) in left.iter_mut().flatten().zip(right.iter().flatten()) {
                    *left += right;
                }
                left
            });
        let (mean, std) = histograms.iter().map(moments).unzip();
        Self { mean, std }
    }

    /// Normalised value of every pixel value, `[C, 256]`.
    pub(super) fn table(&self) -> Vec<[f32; 256]> {
        let channel = |(&mean, &std): (&f32, &f32)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(channel).collect()
    }
}

/// Mean and standard deviation of a histogram of pixel values, scaled to 0..=1.
fn moments(counts: &[u64; 256]) -> (f32, f32) {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let weighted = |value: &dyn Fn(f64) -> f64| {
        counts.iter().enumerate().map(|(pixel, &count)| count as f64 * value(pixel as f64 / 255.0)).sum::<f64>() / total
    };
    let mean = weighted(&|value| value);
    let std = weighted(&|value| (value - mean).powi(2)).sqrt();
    (mean as f32, if std > 0.0 { std as f32 } else { 1.0 })
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[f32]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
        write!(f, "mean {}; standard deviation {}", list(&self.mean), list(&self.std))
    }
}
