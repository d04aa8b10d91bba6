//! The search as a loop over epochs.

use std::mem::swap;
use std::sync::Arc;
use std::time::Instant;

use darts_core::Genotype;
use darts_kernels_simd::Kernels;
use serde::{Deserialize, Serialize};

use super::alpha::{self, AlphaSummary};
use super::bilevel::{Bilevel, Order, StepReport};
use super::objective::SupernetObjective;
use super::optimizer::{Adam, Sgd, SgdSettings, cosine};
use crate::atomic::WriteError;
use crate::data::draw::{Purpose, generator};
use crate::data::prefetch::prefetch;
use crate::data::{self, Augment, Batch, BatchSettings, Batcher, DataError, Dataset, Normalization, Split};
use crate::engine::{Engine, Mode, Options, Saved, Workers};
use crate::evaluate::evaluate;
use crate::graph::Graph;
use crate::graph::supernet::{ConfigError, SupernetConfig, supernet};
use crate::interrupt::Interrupted;

/// Everything that decides a search, apart from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSettings {
    /// Channels of the supernet's first cell.
    pub channels: usize,
    /// Cells of the supernet.
    pub layers: usize,
    /// Nodes of a cell.
    pub nodes: usize,
    /// States that are concatenated to a cell's output.
    pub multiplier: usize,
    /// First or second order.
    pub order: Order,
    /// Passes over the half of the data that the weights learn on.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// How the weights learn, with a cosine schedule.
    #[serde(flatten)]
    pub sgd: SgdSettings,
    /// Learning rate of α.
    pub arch_learning_rate: f64,
    /// Weight decay of α.
    pub arch_weight_decay: f64,
    /// Whether α starts at zeros, as the paper has it, and not at `1e-3 · N(0, 1)`, as the original code has it.
    pub zero_alpha: bool,
    /// Whether each epoch's evaluation uses the statistics of the batch at hand, as the paper has it, and not the running
    /// ones, as the original code has it.
    pub batch_statistics: bool,
    /// Augmentation of both halves.
    pub augment: Augment,
    /// Scale of the pixels; computed from the training set where absent.
    pub normalization: Option<Normalization>,
    /// How stage outputs are kept between the passes.
    pub saved: Saved,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

impl SearchSettings {
    /// The paper's hyper-parameters (section A.1.1) as the original code has them.
    pub const PAPER: Self = Self {
        channels: 16,
        layers: 8,
        nodes: 4,
        multiplier: 4,
        order: Order::Second,
        epochs: 50,
        batch_size: 64,
        sgd: SgdSettings {
            learning_rate: 0.025,
            learning_rate_min: 0.001,
            momentum: 0.9,
            weight_decay: 3e-4,
            grad_clip: 5.0,
        },
        arch_learning_rate: 3e-4,
        arch_weight_decay: 1e-3,
        zero_alpha: false,
        batch_statistics: false,
        augment: Augment::STANDARD,
        normalization: None,
        saved: Saved::F32,
        seed: 2,
    };

    /// A search of a minute or so on a small data set: a small supernet, first order, and a faster α for the few steps.
    pub const QUICK: Self = Self {
        channels: 4,
        layers: 4,
        order: Order::First,
        epochs: 3,
        sgd: SgdSettings { learning_rate: 0.05, ..Self::PAPER.sgd },
        arch_learning_rate: 6e-3,
        ..Self::PAPER
    };
}

/// What an epoch of a search came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchEpoch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate of the weights.
    pub learning_rate: f64,
    /// Mean loss of the weight steps.
    pub train_loss: f64,
    /// Share of correct predictions in the weight steps.
    pub train_accuracy: f64,
    /// Mean loss on the half that α learns on.
    pub valid_loss: f64,
    /// Accuracy there.
    pub valid_accuracy: f64,
    /// Genotype of the epoch's α.
    pub genotype: String,
    /// Normal cells.
    pub normal: AlphaSummary,
    /// Reduction cells.
    pub reduce: AlphaSummary,
    /// α, `[edges][operations]`, of normal and of reduction cells.
    pub alpha_normal: Vec<Vec<f32>>,
    /// See `alpha_normal`.
    pub alpha_reduce: Vec<Vec<f32>>,
    /// Wall time.
    pub seconds: f64,
}

/// Watches a search or a training; all methods have empty defaults.
pub trait Observer<Epoch> {
    /// A step is done.
    fn step(&mut self, _progress: StepProgress) {}
    /// An epoch is done. An error ends the run.
    ///
    /// # Errors
    /// A file that the observer cannot write.
    fn epoch(&mut self, _record: &Epoch) -> Result<(), WriteError> {
        Ok(())
    }
    /// Whether to stop after the step at hand, or after the batch of an evaluation.
    fn stop(&self) -> bool {
        false
    }
    /// [`stop`](Self::stop) as an error, for use with `?`.
    ///
    /// # Errors
    /// [`Interrupted`] if the observer wants to stop.
    fn go_on(&self) -> Result<(), Interrupted> {
        if self.stop() { Err(Interrupted) } else { Ok(()) }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct StepProgress {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step within the epoch, from 0.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Images of the step.
    pub images: usize,
    /// Training loss of the step.
    pub loss: f64,
}

/// What a search ends with.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// The cell that α stands for.
    pub genotype: Genotype,
    /// α of normal, then of reduction cells, as of the last step.
    pub alpha: Vec<f32>,
    /// Last weights of the supernet.
    pub weights: Vec<f32>,
    /// Records of all complete epochs.
    pub epochs: Vec<SearchEpoch>,
    /// Whether the observer stopped the search early.
    pub interrupted: bool,
}

/// A search that cannot be started or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A size is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data does not fit.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Something is no number any more.
    #[error(
        "{what} is {value} after step {step} of epoch {epoch}: try a smaller learning rate or a smaller gradient clip"
    )]
    NotFinite {
        /// What: a loss, or the norm of the gradient or of the weights.
        what: &'static str,
        /// What it is.
        value: f64,
        /// Epoch, from 0.
        epoch: usize,
        /// Step, from 0.
        step: usize,
    },
    /// The observer failed.
    #[error(transparent)]
    Observer(#[from] WriteError),
}

impl RunError {
    /// `Ok` for numbers.
    pub(crate) fn check_finite(values: &[(&'static str, f64)], epoch: usize, step: usize) -> Result<(), Self> {
        match values.iter().find(|(_, value)| !value.is_finite()) {
            Some(&(what, value)) => Err(Self::NotFinite { what, value, epoch, step }),
            None => Ok(()),
        }
    }
}

/// Supernet for images of `data`.
pub fn network(settings: &SearchSettings, data: &Dataset) -> SupernetConfig {
    let shape = data.shape();
    SupernetConfig {
        input: [shape.channels, shape.height, shape.width],
        classes: data.classes(),
        channels: settings.channels,
        layers: settings.layers,
        nodes: settings.nodes,
        multiplier: settings.multiplier,
    }
}

/// Searches a cell on the training set `data`: one half trains the weights, the other α (see [`Split::for_search`]).
///
/// # Errors
/// If a size is out of range, the data set too small for the batch, the loss not finite, or the observer fails.
pub fn search(
    settings: &SearchSettings,
    data: &Dataset,
    kernels: Kernels,
    workers: Arc<Workers>,
    observer: &mut impl Observer<SearchEpoch>,
) -> Result<SearchOutcome, RunError> {
    let graph = supernet(&network(settings, data))?;
    let halves = Split::for_search(data, settings.seed)?;
    let batches = |order, augment| BatchSettings {
        batch_size: settings.batch_size,
        order,
        seed: settings.seed,
        augment,
        normalization: settings.normalization.clone().unwrap_or_else(|| Normalization::of(data)),
    };
    let mut train = Batcher::new(data, halves.first, batches(data::Order::Shuffled, settings.augment))?;
    let mut valid = Batcher::new(data, halves.second.clone(), batches(data::Order::Random, settings.augment))?;
    let mut held = Batcher::new(data, halves.second, batches(data::Order::Sequential, Augment::NONE))?;

    let mut bilevel = start(settings, &graph, kernels);
    let engine = Engine::with_options(
        graph,
        settings.batch_size,
        kernels,
        Options { saved: settings.saved, ..Options::default() },
    );
    let mut objective = SupernetObjective::new(engine, workers.clone());
    let mut records = Vec::new();
    for epoch in 0..settings.epochs {
        let started = Instant::now();
        let learning_rate = cosine(settings.sgd.learning_rate, settings.sgd.learning_rate_min, epoch, settings.epochs);
        let mut totals = Totals::default();
        let steps = train.batches_per_epoch();
        let fill = |step, pair: &mut Pair| {
            train.fill(epoch, step, &mut pair.train);
            valid.fill(epoch, step, &mut pair.valid);
        };
        let stopped = prefetch(steps, fill, |pairs| -> Result<bool, RunError> {
            for step in 0..steps {
                let Some(pair) = pairs.next_item() else { break };
                swap(&mut pair.train, &mut objective.train);
                swap(&mut pair.valid, &mut objective.valid);
                let report = workers.pool().install(|| bilevel.step(&mut objective, learning_rate as f32));
                report.check(epoch, step)?;
                totals.add(&report, &objective);
                let images = objective.train.count();
                observer.step(StepProgress { epoch, step, steps, images, loss: report.train_loss });
                if observer.stop() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        if stopped? {
            return Ok(outcome(settings, bilevel, records, true));
        }
        let mix_weights = alpha::softmax_rows(&bilevel.alpha);
        let SupernetObjective { engine, statistics, .. } = &mut objective;
        let mode = if settings.batch_statistics { Mode::Batch } else { Mode::Running(statistics) };
        let go_on = |_| observer.go_on();
        let Ok(valid) = evaluate(engine, &workers, &bilevel.weights, &mix_weights, mode, &mut held, go_on) else {
            return Ok(outcome(settings, bilevel, records, true));
        };
        let norm = kernels.sum_of_squares(&bilevel.weights);
        let numbers = [("the validation loss", valid.loss), ("the norm of the weights", norm)];
        RunError::check_finite(&numbers, epoch, steps - 1)?;
        let [normal, reduce] = alpha::summaries(&bilevel.alpha, settings.nodes, settings.multiplier);
        let [alpha_normal, alpha_reduce] = alpha::rows(&bilevel.alpha);
        let record = SearchEpoch {
            epoch,
            learning_rate,
            train_loss: totals.loss / totals.images as f64,
            train_accuracy: totals.correct as f64 / totals.images as f64,
            valid_loss: valid.loss,
            valid_accuracy: valid.accuracy(),
            genotype: alpha::genotype(&bilevel.alpha, settings.nodes, settings.multiplier).to_string(),
            normal,
            reduce,
            alpha_normal,
            alpha_reduce,
            seconds: started.elapsed().as_secs_f64(),
        };
        observer.epoch(&record)?;
        records.push(record);
    }
    Ok(outcome(settings, bilevel, records, false))
}

/// Initial weights of a graph, drawn by `seed`.
pub fn initial_weights(graph: &Graph, seed: u64) -> Vec<f32> {
    let mut rng = generator(seed, Purpose::Weights, 0, 0);
    let mut weights = vec![0.0; graph.weights()];
    for parameter in &graph.parameters {
        parameter.initialize(&mut weights[parameter.range.clone()], &mut rng);
    }
    weights
}

/// Weights, α and their optimizers before the first step. A derived network is a graph without α.
pub(crate) fn start(settings: &SearchSettings, graph: &Graph, kernels: Kernels) -> Bilevel {
    let weights = initial_weights(graph, settings.seed);
    let alpha = if settings.zero_alpha {
        vec![0.0; graph.mix_weights]
    } else {
        alpha::initial(graph.mix_weights, &mut generator(settings.seed, Purpose::Alpha, 0, 0))
    };
    let sgd = Sgd::new(&settings.sgd, weights.len());
    let adam = Adam::new(alpha.len(), settings.arch_learning_rate, [0.5, 0.999], settings.arch_weight_decay);
    Bilevel::new(weights, alpha, sgd, adam, settings.order, kernels)
}

impl StepReport {
    fn check(&self, epoch: usize, step: usize) -> Result<(), RunError> {
        let values = [
            ("the training loss", self.train_loss),
            ("the validation loss", self.valid_loss),
            ("the norm of the gradient", self.grad_norm),
        ];
        RunError::check_finite(&values, epoch, step)
    }
}

/// The two batches of a step.
#[derive(Default)]
struct Pair {
    train: Batch,
    valid: Batch,
}

#[derive(Default)]
struct Totals {
    loss: f64,
    correct: usize,
    images: usize,
}

impl Totals {
    fn add(&mut self, report: &StepReport, objective: &SupernetObjective) {
        self.loss += report.train_loss * objective.train.count() as f64;
        self.correct += objective.train_correct;
        self.images += objective.train.count();
    }
}

fn outcome(settings: &SearchSettings, bilevel: Bilevel, epochs: Vec<SearchEpoch>, interrupted: bool) -> SearchOutcome {
    let genotype = alpha::genotype(&bilevel.alpha, settings.nodes, settings.multiplier);
    SearchOutcome { genotype, alpha: bilevel.alpha, weights: bilevel.weights, epochs, interrupted }
}
