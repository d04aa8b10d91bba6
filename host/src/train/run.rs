//! The training loop.

use std::sync::Arc;
use std::time::Instant;

use darts_core::Genotype;
use darts_kernels_simd::Kernels;
use serde::{Deserialize, Serialize};

use super::TrainSettings;
use crate::atomic::WriteError;
use crate::data::draw::{Purpose, generator};
use crate::data::prefetch::prefetch;
use crate::data::{Augment, Batch, BatchSettings, Batcher, Dataset, Normalization, Order, Split};
use crate::drop_path;
use crate::engine::{Engine, Gradients, Inputs, Mode, Options, RunningStatistics, Workers};
use crate::evaluate::evaluate;
use crate::graph::derived::derived;
use crate::observer::{Observer, StepProgress};
use crate::search::objective::correct;
use crate::search::optimizer::Sgd;
use crate::search::run::{RunError, initial_weights};
use crate::state::{Position, State, Values};
use crate::weights::TrainedNetwork;

/// What an epoch of training came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainEpoch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Drop-path probability.
    pub drop_path: f64,
    /// Images of the steps; 0 in records of older versions.
    #[serde(default)]
    pub images: usize,
    /// Mean loss of the steps, auxiliary loss and label smoothing included.
    pub train_loss: f64,
    /// Share of correct predictions in the steps.
    pub train_accuracy: f64,
    /// Mean loss on the images held out, if any are.
    pub valid_loss: Option<f64>,
    /// Accuracy there.
    pub valid_accuracy: Option<f64>,
    /// Wall time.
    pub seconds: f64,
}

/// Watches a training; what it is told beside an [`Observer`] has empty defaults too.
pub trait TrainObserver: Observer<TrainEpoch> {
    /// The network as an epoch leaves it, before [`epoch`](Observer::epoch) is told of the epoch. An error ends the
    /// training.
    ///
    /// # Errors
    /// A file that the observer cannot write.
    fn network(&mut self, _network: &TrainedNetwork) -> Result<(), WriteError> {
        Ok(())
    }
}

/// What a training ends with.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    /// The network as of the last step.
    pub network: TrainedNetwork,
    /// Records of all complete epochs.
    pub epochs: Vec<TrainEpoch>,
    /// Whether the observer stopped the training early.
    pub interrupted: bool,
}

/// A training under way.
struct Trainer<'a> {
    settings: &'a TrainSettings,
    engine: Engine,
    workers: Arc<Workers>,
    network: TrainedNetwork,
    gradient: Vec<f32>,
    sgd: Sgd,
    factors: Vec<f32>,
    dlogits: Vec<f32>,
    dauxiliary: Vec<f32>,
    position: Position,
    epochs: Vec<TrainEpoch>,
    /// Up to when the position's seconds are counted.
    clock: Instant,
}

/// Trains the network of `genotype` on the training set `data` from scratch.
///
/// # Errors
/// If a size is out of range, the data set too small for the batch, the loss not finite, or the observer fails.
pub fn train(
    genotype: &Genotype,
    settings: &TrainSettings,
    data: &Dataset,
    kernels: Kernels,
    workers: Arc<Workers>,
    observer: &mut impl TrainObserver,
) -> Result<TrainOutcome, RunError> {
    let config = settings.config(data);
    let graph = derived(genotype, &config)?;
    let normalization = settings.normalization.clone().unwrap_or_else(|| Normalization::of(data));
    let batches = |order, augment| BatchSettings {
        batch_size: settings.batch_size,
        order,
        seed: settings.seed,
        augment,
        normalization: normalization.clone(),
    };
    let (first, second) = match settings.held_out(data) {
        0 => ((0..data.len()).collect(), Vec::new()),
        held_out => {
            let split = Split::hold_out(data, held_out, settings.seed)?;
            (split.first, split.second)
        }
    };
    let mut training = Batcher::new(data, first, batches(Order::Shuffled, settings.augment))?;
    let mut held = Batcher::new(data, second, batches(Order::Sequential, Augment::NONE))?;

    let weights = initial_weights(&graph, settings.seed);
    let mut trainer = Trainer {
        settings,
        gradient: vec![0.0; weights.len()],
        sgd: Sgd::new(&settings.sgd, weights.len()),
        network: TrainedNetwork {
            config,
            genotype: genotype.clone(),
            weights,
            statistics: RunningStatistics::new(&graph),
            normalization,
            class_names: data.class_names().to_vec(),
        },
        engine: Engine::with_options(
            graph,
            settings.batch_size,
            kernels,
            Options { saved: settings.saved, ..Options::default() },
        ),
        workers,
        factors: Vec::new(),
        dlogits: Vec::new(),
        dauxiliary: Vec::new(),
        position: Position::default(),
        epochs: Vec::new(),
        clock: Instant::now(),
    };
    observer.restore(trainer.state())?;
    trainer.clock = Instant::now();
    while trainer.position.epoch < settings.epochs {
        let stopped = trainer.steps(&mut training, observer)?;
        let record = if stopped { None } else { trainer.record(&mut held, observer)? };
        let Some(record) = record else {
            trainer.save(observer)?;
            return Ok(trainer.outcome(true));
        };
        observer.network(&trainer.network)?;
        observer.epoch(&record)?;
        trainer.epochs.push(record);
        trainer.position = Position::start_of(trainer.position.epoch + 1);
        trainer.save(observer)?;
    }
    Ok(trainer.outcome(false))
}

impl Trainer<'_> {
    /// The steps of the epoch that are left; true if the observer stopped them.
    fn steps(&mut self, training: &mut Batcher, observer: &mut impl TrainObserver) -> Result<bool, RunError> {
        let (epoch, first, steps) = (self.position.epoch, self.position.step, training.batches_per_epoch());
        let fill = |step, batch: &mut Batch| training.fill(epoch, first + step, batch);
        prefetch(steps.saturating_sub(first), fill, |batches| {
            while let Some(batch) = batches.next_item() {
                let (workers, step, images) = (self.workers.clone(), self.position.step, batch.count());
                let (loss, norm) = workers.pool().install(|| self.step(batch, epoch, step));
                self.position.advance(images, correct(self.engine.logits(), &batch.labels), loss);
                RunError::check_losses(&[("the training loss", loss)], &self.position)?;
                RunError::check_finite(&[("the norm of the gradient", norm)], &self.position)?;
                observer.step(StepProgress { epoch, step, steps, images, loss });
                if observer.stop() {
                    return Ok(true);
                }
                if observer.wants_state() {
                    self.save(observer)?;
                }
            }
            Ok(false)
        })
    }

    /// Evaluates behind the last step of the epoch; `None` if the observer stopped that.
    fn record(&mut self, held: &mut Batcher, observer: &impl TrainObserver) -> Result<Option<TrainEpoch>, RunError> {
        let Self { engine, workers, network: TrainedNetwork { weights, statistics, .. }, .. } = self;
        let valid = if held.images() > 0 {
            let mode = Mode::Running(statistics);
            let valid = evaluate(engine, workers, weights, &[], mode, held, |_| observer.go_on());
            let Ok(valid) = valid else { return Ok(None) };
            RunError::check_finite(&[("the validation loss", valid.loss)], &self.position)?;
            Some(valid)
        } else {
            None
        };
        self.check_weights()?;
        self.count_seconds();
        let epoch = self.position.epoch;
        Ok(Some(TrainEpoch {
            epoch,
            learning_rate: self.settings.learning_rate(epoch),
            drop_path: self.settings.drop_path(epoch),
            images: self.position.images,
            train_loss: self.position.mean_loss(),
            train_accuracy: self.position.accuracy(),
            valid_loss: valid.as_ref().map(|valid| valid.loss),
            valid_accuracy: valid.as_ref().map(|valid| valid.accuracy()),
            seconds: self.position.seconds,
        }))
    }

    fn count_seconds(&mut self) {
        let now = Instant::now();
        self.position.seconds += (now - self.clock).as_secs_f64();
        self.clock = now;
    }

    fn check_weights(&self) -> Result<(), RunError> {
        let norm = self.engine.kernels().sum_of_squares(&self.network.weights);
        RunError::check_finite(&[("the norm of the weights", norm)], &self.position)
    }

    /// Hands the state to the observer, unless it is none that one would want back.
    fn save(&mut self, observer: &mut impl TrainObserver) -> Result<(), RunError> {
        self.check_weights()?;
        self.count_seconds();
        Ok(observer.save(self.state())?)
    }

    fn state(&mut self) -> State<'_, TrainEpoch> {
        let TrainedNetwork { weights, statistics, .. } = &mut self.network;
        let values = vec![
            Values::f32("weights", weights),
            Values::f32("momentum", &mut self.sgd.momentum),
            Values::f32("running_mean", &mut statistics.mean),
            Values::f32("running_variance", &mut statistics.variance),
        ];
        State { position: &mut self.position, epochs: &mut self.epochs, values }
    }

    fn outcome(self, interrupted: bool) -> TrainOutcome {
        TrainOutcome { network: self.network, epochs: self.epochs, interrupted }
    }

    /// One step on `batch`; returns its loss and the norm of its gradient.
    fn step(&mut self, batch: &Batch, epoch: usize, step: usize) -> (f64, f64) {
        let settings = self.settings;
        let kernels = self.engine.kernels();
        let probability = settings.drop_path(epoch);
        let drop_path = (probability > 0.0).then(|| {
            let mut rng = generator(settings.seed, Purpose::DropPath, epoch, step << 20);
            let count = self.engine.graph().drop_paths * batch.count();
            drop_path::draw(&mut self.factors, count, probability, &mut rng);
            self.factors.as_slice()
        });
        let inputs = Inputs { weights: &self.network.weights, mix_weights: &[], images: &batch.images, drop_path };
        self.engine.forward(&self.workers, inputs, Mode::Batch);
        self.engine.update_running(&mut self.network.statistics);
        let smoothing = settings.label_smoothing as f32;
        let logits = self.engine.logits();
        self.dlogits.resize(logits.len(), 0.0);
        let mut loss = kernels.softmax_cross_entropy(logits, &batch.labels, smoothing, &mut self.dlogits);
        let auxiliary = self.engine.auxiliary_logits().map(|logits| {
            self.dauxiliary.resize(logits.len(), 0.0);
            let auxiliary = kernels.softmax_cross_entropy(logits, &batch.labels, smoothing, &mut self.dauxiliary);
            loss += settings.auxiliary_weight * auxiliary;
            let weight = settings.auxiliary_weight as f32;
            self.dauxiliary.iter_mut().for_each(|gradient| *gradient *= weight);
            self.dauxiliary.as_slice()
        });
        let gradients = Gradients { weights: Some(&mut self.gradient), mix_weights: &mut [] };
        self.engine.backward(&self.workers, inputs, &self.dlogits, auxiliary, gradients);
        let learning_rate = settings.learning_rate(epoch) as f32;
        let norm = self.sgd.step(kernels, &mut self.network.weights, &mut self.gradient, learning_rate);
        (loss, norm)
    }
}
