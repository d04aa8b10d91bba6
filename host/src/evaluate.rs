//! Evaluation of a network on a data set.

use darts_kernels_simd::{ImageShape, Kernels};

use crate::data::prefetch::prefetch;
use crate::data::{Augment, Batch, BatchSettings, Batcher, DataError, Dataset, Order};
use crate::engine::{Engine, Inputs, Mode, Workers};
use crate::graph::supernet::ConfigError;
use crate::interrupt::Interrupted;
use crate::model_file::size;
use crate::search::objective::correct;
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

/// An evaluation that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// There is no such network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data does not fit.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The images or classes are not those that the network was made for.
    #[error(
        "the weights are of a network for images of {} and {} classes; the data set has {} and {}: give the weights of \
         a training on this data set",
        size(expected.0), expected.1, size(found.0), found.1
    )]
    Mismatch {
        /// Image shape and number of classes of the network.
        expected: (ImageShape, usize),
        /// Those of the data set.
        found: (ImageShape, usize),
    },
    /// The network's output is no number.
    #[error(
        "the loss on the {images} images is {loss}: the weights grew too large in training; train again with a smaller \
         learning rate or a smaller gradient clip"
    )]
    NotFinite {
        /// Mean cross-entropy.
        loss: f64,
        /// Number of images.
        images: usize,
    },
    /// `after_batch` asked for a stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Runs all batches of an epoch of `batcher`; `after_batch` is told the number of images of each.
///
/// # Errors
/// The first error of `after_batch`, which ends the evaluation.
pub fn evaluate<E>(
    engine: &mut Engine,
    workers: &Workers,
    weights: &[f32],
    mix_weights: &[f32],
    mode: Mode,
    batcher: &mut Batcher,
    mut after_batch: impl FnMut(usize) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let mut evaluation = Evaluation::default();
    let mut unused = Vec::new();
    let count = batcher.batches_per_epoch();
    prefetch(
        count,
        |index, batch: &mut Batch| batcher.fill(0, index, batch),
        |batches| {
            while let Some(batch) = batches.next_item() {
                let inputs = Inputs { weights, mix_weights, images: &batch.images, drop_path: None };
                engine.forward(workers, inputs, mode);
                let logits = engine.logits();
                unused.resize(logits.len(), 0.0);
                let loss = engine.kernels().softmax_cross_entropy(logits, &batch.labels, 0.0, &mut unused);
                evaluation.loss += loss * batch.count() as f64;
                evaluation.correct += correct(logits, &batch.labels);
                evaluation.images += batch.count();
                evaluation.logits.extend_from_slice(logits);
                after_batch(batch.count())?;
            }
            Ok(())
        },
    )?;
    evaluation.loss /= evaluation.images.max(1) as f64;
    Ok(evaluation)
}

/// Runs `network` with its running statistics on all images of `data`, in their order; `after_batch` is told the number
/// of images of each batch, and may end the evaluation.
///
/// # Errors
/// If images or classes are not the network's, the loss is no number, or `after_batch` asks for a stop.
pub fn evaluate_network(
    network: &TrainedNetwork,
    data: &Dataset,
    kernels: Kernels,
    workers: &Workers,
    after_batch: impl FnMut(usize) -> Result<(), Interrupted>,
) -> Result<Evaluation, EvaluateError> {
    let graph = network.graph()?;
    let (expected, found) = ((graph.input, graph.classes), (data.shape(), data.classes()));
    if expected != found {
        return Err(EvaluateError::Mismatch { expected, found });
    }
    let settings = BatchSettings {
        batch_size: BATCH,
        order: Order::Sequential,
        seed: 0,
        augment: Augment::NONE,
        normalization: network.normalization.clone(),
    };
    let mut batcher = Batcher::new(data, (0..data.len()).collect(), settings)?;
    let mut engine = Engine::new(graph, BATCH, kernels);
    let TrainedNetwork { weights, statistics, .. } = network;
    let mode = Mode::Running(statistics);
    let evaluation = evaluate(&mut engine, workers, weights, &[], mode, &mut batcher, after_batch)?;
    let Evaluation { loss, images, .. } = evaluation;
    if loss.is_finite() { Ok(evaluation) } else { Err(EvaluateError::NotFinite { loss, images }) }
}
