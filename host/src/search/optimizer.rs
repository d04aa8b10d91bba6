//! The two optimizers: SGD with momentum for the weights, Adam for α; weight decay is added to the gradient in both.

use darts_kernels_simd::Kernels;
use serde::{Deserialize, Serialize};

/// How the weights of a search or of a training are optimized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SgdSettings {
    /// Learning rate of the first epoch.
    pub learning_rate: f64,
    /// Where the cosine schedule would arrive after the last epoch.
    pub learning_rate_min: f64,
    /// Decay of the momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of a gradient.
    pub grad_clip: f64,
}

/// SGD with momentum and gradient clipping.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// The momentum buffer, zero before the first step.
    pub momentum: Vec<f32>,
    /// Its decay, μ.
    pub momentum_decay: f32,
    /// Weight decay, λ.
    pub weight_decay: f32,
    /// Largest total norm of a gradient.
    pub grad_clip: f32,
}

impl Sgd {
    /// Before the first step, for `len` weights.
    pub fn new(settings: &SgdSettings, len: usize) -> Self {
        Self {
            momentum: vec![0.0; len],
            momentum_decay: settings.momentum as f32,
            weight_decay: settings.weight_decay as f32,
            grad_clip: settings.grad_clip as f32,
        }
    }

    /// One step, `gradient` being used up. Returns the norm of the gradient before clipping.
    pub fn step(&mut self, kernels: Kernels, weights: &mut [f32], gradient: &mut [f32], learning_rate: f32) -> f64 {
        let norm = kernels.sum_of_squares(gradient).sqrt();
        let clip = (f64::from(self.grad_clip) / (norm + 1e-6)).min(1.0);
        kernels.scale_add(self.weight_decay, weights, clip as f32, gradient);
        kernels.scale_add(1.0, gradient, self.momentum_decay, &mut self.momentum);
        kernels.axpy(-learning_rate, &self.momentum, weights);
        norm
    }
}

/// Adam (arXiv 1412.6980) with L2 weight decay.
#[derive(Clone, Debug)]
pub struct Adam {
    /// Running mean of the gradient.
    pub first: Vec<f64>,
    /// Running mean of its square.
    pub second: Vec<f64>,
    /// Steps taken.
    pub steps: u32,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the running means.
    pub betas: [f64; 2],
    /// Weight decay.
    pub weight_decay: f64,
}

/// Added to the root of the second moment.
const ADAM_EPSILON: f64 = 1e-8;

impl Adam {
    /// Before the first step, for `len` parameters.
    pub fn new(len: usize, learning_rate: f64, betas: [f64; 2], weight_decay: f64) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], steps: 0, learning_rate, betas, weight_decay }
    }

    /// One step.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        self.steps += 1;
        let [beta1, beta2] = self.betas;
        let [correction1, correction2] = self.betas.map(|beta| 1.0 - beta.powf(f64::from(self.steps)));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, &gradient), (first, second)) in parameters.iter_mut().zip(gradient).zip(moments) {
            let gradient = f64::from(gradient) + self.weight_decay * f64::from(*parameter);
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            let step = (*first / correction1) / ((*second / correction2).sqrt() + ADAM_EPSILON);
            *parameter = (f64::from(*parameter) - self.learning_rate * step) as f32;
        }
    }
}

/// The cosine schedule from `from` to `to` over `epochs`, at the start of epoch `epoch`.
pub fn cosine(from: f64, to: f64, epoch: usize, epochs: usize) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * epoch as f64 / epochs as f64).cos()) / 2.0
}
