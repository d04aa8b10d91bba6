//! Evaluation of a network on a data set.

use darts_kernels_simd::Kernels;

use crate::data::{Augment, Batch, BatchSettings, Batcher, Dataset, Order};
use crate::engine::{Engine, Inputs, Mode, Workers};
use crate::search::objective::correct;
use crate::search::run::RunError;
use crate::weights::TrainedNetwork;

/// Images in a batch of [`evaluate_network`]; the result does not depend on it.
const BATCH: usize = 64;

/// What an evaluation came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Logits `[N, classes]` in the order of the batches.
    pub logits: Vec<f32>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images whose first largest logit is the label's.
    pub correct: usize,
    /// Number of images.
    pub images: usize,
}

impl Evaluation {
    /// Share of correct predictions.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// Runs all batches of an epoch of `batcher`; `after_batch` is told the number of images of each.
pub fn evaluate(
    engine: &mut Engine,
    workers: &Workers,
    weights: &[f32],
    mix_weights: &[f32],
    mode: Mode,
    batcher: &mut Batcher,
    mut after_batch: impl FnMut(usize),
) -> Evaluation {
    let mut evaluation = Evaluation::default();
    let mut batch = Batch::default();
    let mut unused = Vec::new();
    for index in 0..batcher.batches_per_epoch() {
        workers.pool().install(|| batcher.fill(0, index, &mut batch));
        let inputs = Inputs { weights, mix_weights, images: &batch.images, drop_path: None };
        engine.forward(workers, inputs, mode);
        let logits = engine.logits();
        unused.resize(logits.len(), 0.0);
        let loss = engine.kernels().softmax_cross_entropy(logits, &batch.labels, 0.0, &mut unused);
        evaluation.loss += loss * batch.count() as f64;
        evaluation.correct += correct(logits, &batch.labels);
        evaluation.images += batch.count();
        evaluation.logits.extend_from_slice(logits);
        after_batch(batch.count());
    }
    evaluation.loss /= evaluation.images.max(1) as f64;
    evaluation
}

/// Runs `network` with its running statistics on all images of `data`, in their order; `after_batch` is told the number of images of each batch.
///
/// # Errors
/// If the images have another number of channels than the network's.
///
/// # Panics
/// If the images have another height or width.
pub fn evaluate_network(
    network: &TrainedNetwork,
    data: &Dataset,
    kernels: Kernels,
    workers: &Workers,
    after_batch: impl FnMut(usize),
) -> Result<Evaluation, RunError> {
    let settings = BatchSettings {
        batch_size: BATCH,
        order: Order::Sequential,
        seed: 0,
        augment: Augment::NONE,
        normalization: network.normalization.clone(),
    };
    let mut batcher = Batcher::new(data, (0..data.len()).collect(), settings)?;
    let mut engine = Engine::new(network.graph()?, BATCH, kernels);
    let TrainedNetwork { weights, statistics, .. } = network;
    Ok(evaluate(&mut engine, workers, weights, &[], Mode::Running(statistics), &mut batcher, after_batch))
}
