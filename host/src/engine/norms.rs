//! Statistics and folds of all batch norms of a graph, side by side in flat vectors.

use darts_kernels_simd::{NORM_EPSILON, NORM_MOMENTUM, norm_fold_batch, norm_fold_running, norm_update_running};
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Norm};

/// Running mean and variance of all norms, in the order of the graph's norms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningStatistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances (unbiased).
    pub variance: Vec<f32>,
}

impl RunningStatistics {
    /// Mean 0 and variance 1.
    pub fn new(graph: &Graph) -> Self {
        Self { mean: vec![0.0; graph.statistics()], variance: vec![1.0; graph.statistics()] }
    }
}

/// What the batch norms came to in the last forward pass, and their coefficients in the backward pass.
#[derive(Debug)]
pub(super) struct NormState {
    pub sum: Vec<f64>,
    pub sum_of_squares: Vec<f64>,
    pub mean: Vec<f32>,
    pub inverse_deviation: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub p: Vec<f32>,
    pub q: Vec<f32>,
    pub r: Vec<f32>,
}

impl NormState {
    pub fn new(channels: usize) -> Self {
        let zeros = || vec![0.0; channels];
        Self {
            sum: vec![0.0; channels],
            sum_of_squares: vec![0.0; channels],
            mean: zeros(),
            inverse_deviation: zeros(),
            scale: zeros(),
            shift: zeros(),
            p: zeros(),
            q: zeros(),
            r: zeros(),
        }
    }

    /// Scale and shift of a norm.
    pub fn fold(&self, norm: &Norm) -> (&[f32], &[f32]) {
        (&self.scale[norm.range.clone()], &self.shift[norm.range.clone()])
    }

    /// γ and β of channel `channel` of `norm`.
    pub fn affine(norm: &Norm, weights: &[f32], channel: usize) -> (f32, f32) {
        match &norm.affine {
            Some([gamma, beta]) => (weights[gamma.start + channel], weights[beta.start + channel]),
            None => (1.0, 0.0),
        }
    }

    /// Adds up the sums of `norm` over the portions of a batch in order: each gives Σz, then Σz², at its front.
    pub fn add_up<'a>(&mut self, norm: &Norm, portions: impl Iterator<Item = &'a [f64]>) {
        let channels = norm.range.len();
        let (sum, sum_of_squares) = (&mut self.sum[norm.range.clone()], &mut self.sum_of_squares[norm.range.clone()]);
        sum.fill(0.0);
        sum_of_squares.fill(0.0);
        for portion in portions {
            sum.iter_mut().zip(&portion[..channels]).for_each(|(total, part)| *total += part);
            sum_of_squares.iter_mut().zip(&portion[channels..]).for_each(|(total, part)| *total += part);
        }
    }

    /// Folds `norm` with the sums over a batch that stand in `sum` and `sum_of_squares`.
    pub fn fold_batch(&mut self, graph: &Graph, norm: &Norm, images: usize, weights: &[f32]) {
        let count = images * graph.tensors[norm.tensor].pixels();
        for (channel, index) in norm.range.clone().enumerate() {
            let (gamma, beta) = Self::affine(norm, weights, channel);
            let fold = norm_fold_batch(self.sum[index], self.sum_of_squares[index], count, NORM_EPSILON, gamma, beta);
            self.mean[index] = fold.mean;
            self.inverse_deviation[index] = fold.inverse_deviation;
            self.scale[index] = fold.scale;
            self.shift[index] = fold.shift;
        }
    }

    /// Folds all norms with running statistics.
    pub fn fold_running(&mut self, graph: &Graph, weights: &[f32], statistics: &RunningStatistics) {
        for norm in &graph.norms {
            for (channel, index) in norm.range.clone().enumerate() {
                let (gamma, beta) = Self::affine(norm, weights, channel);
                let (mean, variance) = (statistics.mean[index], statistics.variance[index]);
                let fold = norm_fold_running(mean, variance, NORM_EPSILON, gamma, beta);
                self.scale[index] = fold.scale;
                self.shift[index] = fold.shift;
            }
        }
    }

    pub fn update_running(&self, graph: &Graph, images: usize, statistics: &mut RunningStatistics) {
        for norm in &graph.norms {
            let count = images * graph.tensors[norm.tensor].pixels();
            for index in norm.range.clone() {
                norm_update_running(
                    &mut statistics.mean[index],
                    &mut statistics.variance[index],
                    NORM_MOMENTUM,
                    self.sum[index],
                    self.sum_of_squares[index],
                    count,
                );
            }
        }
    }
}
