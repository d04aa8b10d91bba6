//! The supernet's loss as an objective of the bilevel optimizer.

use std::sync::Arc;

use rand::Rng;

use super::bilevel::{Objective, Split, Wanted};
use super::budget::Penalties;
use super::mixing::Mixing;
use super::smoothing::{Smoothing, perturb};
use crate::data::Batch;
use crate::data::draw::{Purpose, generator};
use crate::drop_path;
use crate::engine::{Engine, Gradients, Inputs, Mode, RunningStatistics, Workers};

/// Cross-entropy of a supernet on the batches of one step.
#[derive(Debug)]
pub struct SupernetObjective {
    /// The network.
    pub engine: Engine,
    /// Running statistics of the live model.
    pub statistics: RunningStatistics,
    /// Batch of the half that the weights learn on.
    pub train: Batch,
    /// Batch of the half that α learns on.
    pub valid: Batch,
    /// Mixing weights of passes on the training batch, where they are not those of α: then the gradient with respect to
    /// α is none. Empty where they are.
    pub train_mix_weights: Vec<f32>,
    /// Correct predictions in the last pass on the training batch.
    pub train_correct: usize,
    /// How the mixing weights follow from α.
    pub mixing: Mixing,
    /// What the loss of α has besides.
    pub penalties: Penalties,
    /// Drop-path factors for the batches of the step; without any nothing is dropped.
    factors: Factors,
    workers: Arc<Workers>,
    dlogits: Vec<f32>,
    mix_weights: Vec<f32>,
    mix_gradient: Vec<f32>,
}

/// Drop-path factors `[masks, images]`, one set for each batch: all passes of a step on a batch drop the same, so that
/// the loss stays one function of weights and α within the step.
#[derive(Debug, Default)]
struct Factors {
    train: Vec<f32>,
    valid: Vec<f32>,
}

impl SupernetObjective {
    /// An objective without batches yet, on the supernet of the paper.
    pub fn new(engine: Engine, workers: Arc<Workers>) -> Self {
        Self {
            statistics: RunningStatistics::new(engine.graph()),
            engine,
            train: Batch::default(),
            valid: Batch::default(),
            train_mix_weights: Vec::new(),
            train_correct: 0,
            mixing: Mixing::default(),
            penalties: Penalties::default(),
            factors: Factors::default(),
            workers,
            dlogits: Vec::new(),
            mix_weights: Vec::new(),
            mix_gradient: Vec::new(),
        }
    }

    /// Draws what is dropped with `probability` for each image of the two batches at hand, or nothing at a probability
    /// of 0.
    pub fn draw_factors(&mut self, probability: f64, seed: u64, epoch: usize, step: usize) {
        let masks = self.engine.graph().drop_paths;
        let batches = [(&mut self.factors.train, &self.train), (&mut self.factors.valid, &self.valid)];
        for (index, (factors, batch)) in batches.into_iter().enumerate() {
            factors.clear();
            if probability > 0.0 {
                let mut rng = generator(seed, Purpose::SkipDropout, epoch, (2 * step + index) << 20);
                drop_path::draw(factors, masks * batch.count(), probability, &mut rng);
            }
        }
    }

    /// Drops nothing any more.
    pub(super) fn drop_nothing(&mut self) {
        let Factors { train, valid } = &mut self.factors;
        [train, valid].into_iter().for_each(Vec::clear);
    }

    /// Makes passes on the training batch use mixing weights that are perturbed, see [`smoothing`](super::smoothing):
    /// those of operations, while those of auxiliary skip connections stay. Not for edges that are weighted.
    pub fn smooth(&mut self, smoothing: Smoothing, epsilon: f64, weights: &[f32], alpha: &[f32], rng: &mut impl Rng) {
        let (mixing, mut operations) = (self.mixing, Vec::new());
        mixing.weights(alpha, &mut operations);
        let auxiliary = operations.split_off(alpha.len());
        perturb(&mut operations, smoothing, epsilon, mixing.variant.space, rng, |operations, slope| {
            self.mix_weights.clear();
            self.mix_weights.extend(operations.iter().chain(&auxiliary));
            self.pass(Split::Train, false, weights, None);
            slope.copy_from_slice(&self.mix_gradient[..slope.len()]);
        });
        operations.extend(auxiliary);
        self.train_mix_weights = operations;
    }

    /// A pass in either direction at the mixing weights that are set; leaves their gradient.
    fn pass(&mut self, split: Split, live: bool, weights: &[f32], gradient: Option<&mut [f32]>) -> f64 {
        let Self { engine, workers, dlogits, mix_weights, mix_gradient, .. } = self;
        let (batch, factors) = match split {
            Split::Train => (&self.train, &self.factors.train),
            Split::Valid => (&self.valid, &self.factors.valid),
        };
        let drop_path = (!factors.is_empty()).then_some(factors.as_slice());
        let inputs = Inputs { weights, mix_weights, images: &batch.images, drop_path };
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
        let Self { mixing, mix_weights, train_mix_weights, .. } = self;
        if split == Split::Train && !train_mix_weights.is_empty() {
            mix_weights.clone_from(train_mix_weights);
        } else {
            mixing.weights(alpha, mix_weights);
        }
        let loss = self.pass(split, live, weights, wanted.weights);
        if let Some(alpha_gradient) = wanted.alpha {
            self.mixing.backward(&self.mix_weights, &self.mix_gradient, alpha_gradient);
        }
        loss
    }

    fn add_penalty_gradient(&self, alpha: &[f32], gradient: &mut [f32]) {
        self.penalties.add_gradient(alpha, gradient);
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
