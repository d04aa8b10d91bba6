//! The supernet's loss as an objective of the bilevel optimizer.

use std::sync::Arc;

use super::alpha::{softmax_backward, softmax_rows_in_place};
use super::bilevel::{Objective, Split, Wanted};
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
            train_correct: 0,
            workers,
            dlogits: Vec::new(),
            mix_weights: Vec::new(),
            mix_gradient: Vec::new(),
        }
    }
}

impl Objective for SupernetObjective {
    fn loss_grad(&mut self, split: Split, live: bool, weights: &[f32], alpha: &[f32], wanted: Wanted) -> f64 {
        let Self { engine, space, workers, dlogits, mix_weights, mix_gradient, .. } = self;
        let batch = if split == Split::Train { &self.train } else { &self.valid };
        mix_weights.clear();
        mix_weights.extend_from_slice(alpha);
        softmax_rows_in_place(mix_weights, *space);
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
        mix_gradient.resize(alpha.len(), 0.0);
        let gradients = Gradients { weights: wanted.weights, mix_weights: mix_gradient };
        engine.backward(workers, inputs, dlogits, None, gradients);
        if let Some(alpha_gradient) = wanted.alpha {
            softmax_backward(mix_weights, mix_gradient);
            alpha_gradient.copy_from_slice(mix_gradient);
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
