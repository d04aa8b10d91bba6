//! The supernet's loss as an objective of the bilevel optimizer.

use std::sync::Arc;

use rand::Rng;

use super::alpha::{softmax_backward, softmax_rows_in_place, softmax_rows_of};
use super::bilevel::{Objective, Split, Wanted};
use super::smoothing::{Smoothing, perturb};
use crate::data::Batch;
use crate::engine::{Engine, Gradients, Inputs, Mode, RunningStatistics, Workers};
use crate::graph::space::Space;

/// Cross-entropy of a supernet on the batches of one step.
#[derive(Debug)]
pub struct SupernetObjective {
    /// The network.
    pub engine: Engine,
    /// The operations that the network has.
    pub space: Space,
    /// Running statistics of the live model.
    pub statistics: RunningStatistics,
    /// Batch of the half that the weights learn on.
    pub train: Batch,
    /// Batch of the half that α learns on.
    pub valid: Batch,
    /// Mixing weights of passes on the training batch, where they are not those of α: then the gradient with respect to α is
    /// none. Empty where they are.
    pub train_mix_weights: Vec<f32>,
    /// Correct predictions in the last pass on the training batch.
    pub train_correct: usize,
    workers: Arc<Workers>,
    dlogits: Vec<f32>,
    mix_weights: Vec<f32>,
    mix_gradient: Vec<f32>,
}

impl SupernetObjective {
    /// An objective in the space of DARTS, without batches yet.
    pub fn new(engine: Engine, workers: Arc<Workers>) -> Self {
        Self {
            statistics: RunningStatistics::new(engine.graph()),
            space: Space::DARTS,
            engine,
            train: Batch::default(),
            valid: Batch::default(),
            train_mix_weights: Vec::new(),
            train_correct: 0,
            workers,
            dlogits: Vec::new(),
            mix_weights: Vec::new(),
            mix_gradient: Vec::new(),
        }
    }

    /// Makes passes on the training batch use mixing weights that are perturbed, see [`smoothing`](super::smoothing).
    pub fn smooth(&mut self, smoothing: Smoothing, epsilon: f64, weights: &[f32], alpha: &[f32], rng: &mut impl Rng) {
        let space = self.space;
        let mut mix_weights = softmax_rows_of(alpha, space);
        perturb(&mut mix_weights, smoothing, epsilon, space, rng, |mix_weights, slope| {
            self.mix_weights.clear();
            self.mix_weights.extend_from_slice(mix_weights);
            self.pass(Split::Train, false, weights, None);
            slope.copy_from_slice(&self.mix_gradient);
        });
        self.train_mix_weights = mix_weights;
    }

    /// A pass in either direction at the mixing weights that are set; leaves their gradient.
    fn pass(&mut self, split: Split, live: bool, weights: &[f32], gradient: Option<&mut [f32]>) -> f64 {
        let Self { engine, workers, dlogits, mix_weights, mix_gradient, .. } = self;
        let batch = if split == Split::Train { &self.train } else { &self.valid };
        let inputs = Inputs { weights, mix_weights, images: &batch.images, drop_path: None };
        engine.forward(workers, inputs, Mode::Batch);
        if live {
            engine.update_running(&mut self.statistics);
        }
        if split == Split::Train {
            self.train_correct = correct(engine.logits(), &batch.labels);
        }
        dlogits.resize(engine.logits().len(), 0.0);
        let loss = engine.kernels().softmax_cross_entropy(engine.logits(), &batch.labels, 0.0, dlogits);
        mix_gradient.resize(mix_weights.len(), 0.0);
        let gradients = Gradients { weights: gradient, mix_weights: mix_gradient };
        engine.backward(workers, inputs, dlogits, None, gradients);
        loss
    }
}

impl Objective for SupernetObjective {
    fn loss_grad(&mut self, split: Split, live: bool, weights: &[f32], alpha: &[f32], wanted: Wanted) -> f64 {
        let Self { mix_weights, train_mix_weights, .. } = self;
        mix_weights.clear();
        if split == Split::Train && !train_mix_weights.is_empty() {
            mix_weights.extend_from_slice(train_mix_weights);
        } else {
            mix_weights.extend_from_slice(alpha);
            softmax_rows_in_place(mix_weights, self.space);
        }
        let loss = self.pass(split, live, weights, wanted.weights);
        if let Some(alpha_gradient) = wanted.alpha {
            softmax_backward(&self.mix_weights, &mut self.mix_gradient);
            alpha_gradient.copy_from_slice(&self.mix_gradient);
        }
        loss
    }
}

/// How many rows of `logits` `[N, classes]` have their first maximum at the label.
pub fn correct(logits: &[f32], labels: &[u32]) -> usize {
    let rows = logits.chunks_exact(logits.len() / labels.len().max(1));
    rows.zip(labels).filter(|(row, label)| argmax(row) == **label as usize).count()
}

/// Index of the first maximum.
pub fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}
