//! The search as a loop over epochs.

use std::mem::swap;
use std::sync::Arc;
use std::time::Instant;

use darts_core::Genotype;
use darts_kernels_simd::Kernels;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::alpha::{self, AlphaSummary};
use super::bilevel::{Bilevel, StepReport};
use super::budget::{BudgetRecord, Budgets};
use super::early_stop;
use super::eigenvalue::largest_eigenvalue;
use super::mixing::Mixing;
use super::objective::SupernetObjective;
use super::optimizer::{Adam, Sgd, SgdSettings, cosine};
pub use super::run_error::RunError;
use super::selection::{Select, select};
use super::settings::{SearchSettings, search_graph};
use super::smoothing;
use super::trial::{SupernetTrial, TrialError};
use crate::data::draw::{Purpose, generator};
use crate::data::prefetch::prefetch;
use crate::data::{self, Augment, Batch, BatchSettings, Batcher, Dataset, Normalization, Split};
use crate::engine::{Engine, Mode, Options, Workers};
use crate::evaluate::evaluate;
use crate::graph::Graph;
use crate::interrupt::Interrupted;
use crate::observer::{Observer, StepProgress};
use crate::state::{Position, State, Values};

/// What an epoch of a search came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchEpoch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate of the weights.
    pub learning_rate: f64,
    /// Images of the steps; 0 in records of older versions.
    #[serde(default)]
    pub images: usize,
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
    /// Largest eigenvalue of ∇²α L_val on the first validation images, if it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenvalue: Option<f64>,
    /// β, `[edges]`, of normal and then of reduction cells, where edges are weighted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beta: Vec<f32>,
    /// What networks cost, if that is limited or penalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetRecord>,
    /// Wall time.
    pub seconds: f64,
}

/// What a search ends with.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// The cell that α stands for, or that was selected.
    pub genotype: Genotype,
    /// α of normal, then of reduction cells, as of the last step, or of the epoch that an early stop went back to.
    pub alpha: Vec<f32>,
    /// The epoch that an early stop went back to, from 0.
    pub went_back_to: Option<usize>,
    /// β likewise, where edges are weighted.
    pub beta: Vec<f32>,
    /// Last weights of the supernet.
    pub weights: Vec<f32>,
    /// Records of all complete epochs.
    pub epochs: Vec<SearchEpoch>,
    /// Whether the observer stopped the search early.
    pub interrupted: bool,
}

/// Searches a cell on the training set `data`: one half trains the weights, the other α (see [`Split::for_search`]).
///
/// # Errors
/// If a size is out of range, guards do not go together, the data set is too small for the batch, the loss not finite,
/// or the observer fails.
pub fn search(
    settings: &SearchSettings,
    data: &Dataset,
    kernels: Kernels,
    workers: Arc<Workers>,
    observer: &mut impl Observer<SearchEpoch>,
) -> Result<SearchOutcome, RunError> {
    settings.check_guards()?;
    let graph = search_graph(settings, data)?;
    let budgets = settings.budgets(data)?;
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

    let mixing = Mixing { variant: settings.variant(), ..Mixing::default() };
    let bilevel = start(settings, &graph, mixing, kernels);
    let engine = Engine::with_options(
        graph,
        settings.batch_size,
        kernels,
        Options { saved: settings.saved, ..Options::default() },
    );
    let mut objective = SupernetObjective::new(engine, workers.clone());
    objective.mixing = mixing;
    let (position, epochs, clock) = (Position::default(), Vec::new(), Instant::now());
    let start = settings.derivation().genotype(&bilevel.alpha);
    let mut searcher =
        Searcher { settings, kernels, workers, bilevel, objective, budgets, start, position, epochs, clock };
    observer.restore(searcher.state())?;
    searcher.clock = Instant::now();
    while searcher.position.epoch < settings.epochs && searcher.stop_epoch().is_none() {
        let stopped = searcher.steps(&mut train, &mut valid, observer)?;
        let record = if stopped { None } else { searcher.record(&mut held, observer)? };
        let Some(record) = record else {
            searcher.save(observer)?;
            return Ok(searcher.outcome(true));
        };
        observer.epoch(&record)?;
        searcher.epochs.push(record);
        searcher.position = Position::start_of(searcher.position.epoch + 1);
        searcher.save(observer)?;
    }
    match settings.guards.select {
        Select::Alpha => Ok(searcher.outcome(false)),
        Select::Perturbation => searcher.select(&mut train, &mut held, observer),
    }
}

/// A search under way.
struct Searcher<'a> {
    settings: &'a SearchSettings,
    kernels: Kernels,
    workers: Arc<Workers>,
    bilevel: Bilevel,
    objective: SupernetObjective,
    budgets: Option<Budgets>,
    /// What the first α stands for.
    start: Genotype,
    position: Position,
    epochs: Vec<SearchEpoch>,
    /// Up to when the position's seconds are counted.
    clock: Instant,
}

impl Searcher<'_> {
    /// The steps of the epoch that are left; true if the observer stopped them.
    fn steps(
        &mut self,
        train: &mut Batcher,
        valid: &mut Batcher,
        observer: &mut impl Observer<SearchEpoch>,
    ) -> Result<bool, RunError> {
        let (epoch, first, steps) = (self.position.epoch, self.position.step, train.batches_per_epoch());
        let learning_rate = self.learning_rate() as f32;
        let SearchSettings { epochs, ref guards, supernet_guards, .. } = *self.settings;
        let frozen = epoch < guards.warm_up;
        self.refresh_budgets()?;
        self.objective.mixing.auxiliary_weight = supernet_guards.auxiliary_weight(epoch, epochs) as f32;
        let fill = |step, pair: &mut Pair| {
            train.fill(epoch, first + step, &mut pair.train);
            if !frozen {
                valid.fill(epoch, first + step, &mut pair.valid);
            }
        };
        prefetch(steps.saturating_sub(first), fill, |pairs| {
            while let Some(pair) = pairs.next_item() {
                swap(&mut pair.train, &mut self.objective.train);
                swap(&mut pair.valid, &mut self.objective.valid);
                let workers = self.workers.clone();
                let report = workers.pool().install(|| self.step(learning_rate));
                let Self { objective, position, .. } = self;
                let (step, images, loss) = (position.step, objective.train.count(), report.train_loss);
                position.advance(images, objective.train_correct, loss);
                report.check(position)?;
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

    /// Has the penalties of the epoch at hand follow from the cells that were derived behind the one before, which a
    /// run that is gone on with knows too.
    fn refresh_budgets(&mut self) -> Result<(), RunError> {
        if let Some(budgets) = &mut self.budgets {
            let last = self.epochs.last().and_then(|epoch| epoch.genotype.parse().ok());
            let genotype = last.as_ref().unwrap_or(&self.start);
            self.workers.pool().install(|| budgets.refresh(genotype))?;
            self.objective.penalties = budgets.penalties();
        }
        Ok(())
    }

    /// The cells that α stands for, within the limits.
    fn genotype(&self, alpha: &[f32]) -> Genotype {
        let budgets = self.budgets.as_ref();
        budgets.map_or_else(|| self.settings.derivation().genotype(alpha), |budgets| budgets.genotype(alpha))
    }

    /// One step on the batches at hand: of α unless it is frozen, then of the weights.
    fn step(&mut self, learning_rate: f32) -> StepReport {
        let SearchSettings { epochs, seed, ref guards, supernet_guards, .. } = *self.settings;
        let Self { bilevel, objective, position: Position { epoch, step, .. }, .. } = self;
        objective.draw_factors(supernet_guards.skip_dropout(*epoch, epochs), seed, *epoch, *step);
        let valid_loss = (*epoch >= guards.warm_up).then(|| bilevel.alpha_step(objective, learning_rate));
        if let Some(smoothing) = guards.smooth {
            let epsilon = smoothing::epsilon(guards.smooth_epsilon, *epoch, epochs);
            // Far more room for a step than it draws.
            let mut rng = generator(seed, Purpose::Smooth, *epoch, *step << 20);
            objective.smooth(smoothing, epsilon, &bilevel.weights, &bilevel.alpha, &mut rng);
        }
        let (train_loss, grad_norm) = bilevel.weight_step(objective, learning_rate);
        objective.train_mix_weights.clear();
        StepReport { valid_loss, train_loss, grad_norm }
    }

    /// Evaluates behind the last step of the epoch; `None` if the observer stopped that.
    fn record(
        &mut self,
        held: &mut Batcher,
        observer: &impl Observer<SearchEpoch>,
    ) -> Result<Option<SearchEpoch>, RunError> {
        let settings = self.settings;
        let SupernetObjective { engine, statistics, mixing, .. } = &mut self.objective;
        let mut mix_weights = Vec::new();
        mixing.weights(&self.bilevel.alpha, &mut mix_weights);
        let mode = if settings.batch_statistics { Mode::Batch } else { Mode::Running(statistics) };
        let go_on = |_| observer.go_on();
        let Ok(valid) = evaluate(engine, &self.workers, &self.bilevel.weights, &mix_weights, mode, held, go_on) else {
            return Ok(None);
        };
        RunError::check_finite(&[("the validation loss", valid.loss)], &self.position)?;
        self.check_weights()?;
        let Ok(eigenvalue) = self.eigenvalue(held, observer) else { return Ok(None) };
        RunError::check_finite(&[("the eigenvalue of the Hessian", eigenvalue.unwrap_or(0.0))], &self.position)?;
        let alpha = &self.bilevel.alpha;
        let genotype = self.genotype(alpha);
        let [normal, reduce] = alpha::summaries(alpha, &settings.derivation(), &genotype);
        let budget = self.budgets.as_ref().map(|budgets| budgets.record(alpha, &genotype)).transpose()?;
        let (matrices, beta) = alpha::split(alpha, settings.nodes);
        let ([alpha_normal, alpha_reduce], beta) = (alpha::rows(matrices), beta.to_vec());
        self.count_seconds();
        Ok(Some(SearchEpoch {
            epoch: self.position.epoch,
            learning_rate: self.learning_rate(),
            images: self.position.images,
            train_loss: self.position.mean_loss(),
            train_accuracy: self.position.accuracy(),
            valid_loss: valid.loss,
            valid_accuracy: valid.accuracy(),
            genotype: genotype.to_string(),
            normal,
            reduce,
            alpha_normal,
            alpha_reduce,
            eigenvalue,
            beta,
            budget,
            seconds: self.position.seconds,
        }))
    }

    /// The eigenvalue of the epoch at hand, if it is asked for: on the first batch of α's half, as it is.
    fn eigenvalue(
        &mut self,
        held: &mut Batcher,
        observer: &impl Observer<SearchEpoch>,
    ) -> Result<Option<f64>, Interrupted> {
        let SearchSettings { seed, ref guards, .. } = *self.settings;
        if !guards.eigenvalue && guards.stop_eigenvalue.is_none() {
            return Ok(None);
        }
        let Self { bilevel: Bilevel { weights, alpha, .. }, objective, position, .. } = self;
        objective.drop_nothing();
        held.fill(0, 0, &mut objective.valid);
        let mut rng = generator(seed, Purpose::Eigenvalue, position.epoch, 0);
        let mut start: Vec<f64> = alpha.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
        largest_eigenvalue(objective, weights, alpha, &mut start, || observer.go_on()).map(Some)
    }

    /// The epoch that the search goes back to, if it is to stop before its last.
    fn stop_epoch(&self) -> Option<usize> {
        let factor = self.settings.guards.stop_eigenvalue?;
        let eigenvalues: Option<Vec<f64>> = self.epochs.iter().map(|epoch| epoch.eigenvalue).collect();
        early_stop::stop_epoch(&eigenvalues?, self.settings.epochs, factor)
    }

    /// Selects the cells by perturbation of the finished supernet.
    fn select<'d>(
        mut self,
        train: &mut Batcher<'d>,
        held: &mut Batcher<'d>,
        observer: &mut impl Observer<SearchEpoch>,
    ) -> Result<SearchOutcome, RunError> {
        let derivation = self.settings.derivation();
        // The supernet as it is at the end of all schedules.
        let SearchSettings { epochs, supernet_guards, .. } = *self.settings;
        self.objective.drop_nothing();
        self.objective.mixing.auxiliary_weight = supernet_guards.auxiliary_weight(epochs, epochs) as f32;
        let mut mix_weights = Vec::new();
        self.objective.mixing.weights(&self.bilevel.alpha, &mut mix_weights);
        let mut rng = generator(self.settings.seed, Purpose::Select, 0, 0);
        let Self { settings, ref workers, ref mut bilevel, ref mut objective, .. } = self;
        let mut trial = SupernetTrial::new(settings, workers, bilevel, objective, [train, held], observer);
        match select(&derivation, mix_weights, &mut rng, &mut trial) {
            Ok(genotype) => Ok(SearchOutcome { genotype, ..self.outcome(false) }),
            Err(TrialError::Interrupted) => Ok(self.outcome(true)),
            Err(TrialError::Failed(error)) => Err(error),
        }
    }

    fn learning_rate(&self) -> f64 {
        let SgdSettings { learning_rate, learning_rate_min, .. } = self.settings.sgd;
        cosine(learning_rate, learning_rate_min, self.position.epoch, self.settings.epochs)
    }

    fn count_seconds(&mut self) {
        let now = Instant::now();
        self.position.seconds += (now - self.clock).as_secs_f64();
        self.clock = now;
    }

    fn check_weights(&self) -> Result<(), RunError> {
        let norm = self.kernels.sum_of_squares(&self.bilevel.weights);
        let alpha = self.kernels.sum_of_squares(&self.bilevel.alpha);
        RunError::check_finite(&[("the norm of the weights", norm), ("the norm of α", alpha)], &self.position)
    }

    /// Hands the state to the observer, unless it is none that one would want back.
    fn save(&mut self, observer: &mut impl Observer<SearchEpoch>) -> Result<(), RunError> {
        self.check_weights()?;
        self.count_seconds();
        Ok(observer.save(self.state())?)
    }

    fn state(&mut self) -> State<'_, SearchEpoch> {
        let Bilevel { weights, alpha, sgd, adam, .. } = &mut self.bilevel;
        let statistics = &mut self.objective.statistics;
        let values = vec![
            Values::f32("weights", weights),
            Values::f32("momentum", &mut sgd.momentum),
            Values::f32("running_mean", &mut statistics.mean),
            Values::f32("running_variance", &mut statistics.variance),
            Values::f32("alpha", alpha),
            Values::f64("adam_first", &mut adam.first),
            Values::f64("adam_second", &mut adam.second),
            Values::count("adam_steps", &mut adam.steps),
        ];
        State { position: &mut self.position, epochs: &mut self.epochs, values }
    }

    fn outcome(self, interrupted: bool) -> SearchOutcome {
        let went_back_to = self.stop_epoch().filter(|_| !interrupted);
        let mut alpha = self.bilevel.alpha.clone();
        if let Some(epoch) = went_back_to {
            let SearchEpoch { alpha_normal, alpha_reduce, beta, .. } = &self.epochs[epoch];
            alpha = [alpha_normal.concat(), alpha_reduce.concat(), beta.clone()].concat();
        }
        let genotype = self.genotype(&alpha);
        let weights = self.bilevel.weights;
        let (matrices, beta) = alpha::split(&alpha, self.settings.nodes);
        let (alpha, beta) = (matrices.to_vec(), beta.to_vec());
        SearchOutcome { genotype, alpha, beta, went_back_to, weights, epochs: self.epochs, interrupted }
    }
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

/// Weights, α and their optimizers before the first step. A derived network has no α.
pub(crate) fn start(settings: &SearchSettings, graph: &Graph, mixing: Mixing, kernels: Kernels) -> Bilevel {
    let alpha_len = mixing.alpha_len(graph.mix_weights);
    let weights = initial_weights(graph, settings.seed);
    let mut alpha = if settings.zero_alpha {
        vec![0.0; alpha_len]
    } else {
        alpha::initial(alpha_len, &mut generator(settings.seed, Purpose::Alpha, 0, 0))
    };
    for row in alpha[..mixing.matrices_len(alpha_len)].chunks_exact_mut(alpha::COLUMNS) {
        // Nothing ever changes these: their gradients are 0.
        let left_out = row.iter_mut().zip(settings.guards.space.allowed()).filter(|&(_, &allowed)| !allowed);
        left_out.for_each(|(alpha, _)| *alpha = 0.0);
    }
    let sgd = Sgd::new(&settings.sgd, weights.len());
    let adam = Adam::new(alpha.len(), settings.arch_learning_rate, [0.5, 0.999], settings.arch_weight_decay);
    Bilevel::new(weights, alpha, sgd, adam, settings.order, kernels)
}

impl StepReport {
    /// `position` is that behind the step.
    fn check(&self, position: &Position) -> Result<(), RunError> {
        let losses = [("the training loss", self.train_loss), ("the validation loss", self.valid_loss.unwrap_or(0.0))];
        RunError::check_losses(&losses, position)?;
        RunError::check_finite(&[("the norm of the gradient", self.grad_norm)], position)
    }
}

/// The two batches of a step.
#[derive(Default)]
struct Pair {
    train: Batch,
    valid: Batch,
}
