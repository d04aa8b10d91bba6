//! The supernet of a search, tried with other mixing weights.

use std::mem::swap;

use super::bilevel::Bilevel;
use super::objective::SupernetObjective;
use super::optimizer::cosine;
use super::run::{RunError, SearchEpoch};
use super::selection::{Score, Trial, scores, tunings};
use super::settings::SearchSettings;
use crate::data::prefetch::prefetch;
use crate::data::{Batch, Batcher};
use crate::engine::{Mode, Workers};
use crate::evaluate::evaluate;
use crate::observer::Observer;
use crate::state::Position;

/// Why a trial ended early.
pub(super) enum TrialError {
    /// The observer stopped it.
    Interrupted,
    /// It cannot go on.
    Failed(RunError),
}

/// Learning rate of the first epoch of tuning: this share of that of the search (DARTS-PT, as its code has it).
const LEARNING_RATE: f64 = 0.1;

/// A supernet, the images it is tried on and those on which it is tuned.
pub(super) struct SupernetTrial<'a, 'd, O> {
    settings: &'a SearchSettings,
    workers: &'a Workers,
    bilevel: &'a mut Bilevel,
    objective: &'a mut SupernetObjective,
    train: &'a mut Batcher<'d>,
    held: &'a mut Batcher<'d>,
    observer: &'a mut O,
    /// Epochs of tuning so far, and all of them.
    tuned: usize,
    tunings: usize,
    /// Evaluations and epochs of tuning so far, and all of them.
    done: usize,
    parts: usize,
}

impl<'a, 'd, O: Observer<SearchEpoch>> SupernetTrial<'a, 'd, O> {
    /// `batches` are those of the half that the weights learn on, and those of the other half.
    pub fn new(
        settings: &'a SearchSettings,
        workers: &'a Workers,
        bilevel: &'a mut Bilevel,
        objective: &'a mut SupernetObjective,
        batches: [&'a mut Batcher<'d>; 2],
        observer: &'a mut O,
    ) -> Self {
        let [train, held] = batches;
        let derivation = settings.derivation();
        let tunings = settings.guards.select_tune_epochs * tunings(&derivation);
        // The weights begin anew, from where they are.
        bilevel.sgd.momentum.fill(0.0);
        let (tuned, done, parts) = (0, 0, scores(&derivation) + tunings);
        Self { settings, workers, bilevel, objective, train, held, observer, tuned, tunings, done, parts }
    }

    fn advance(&mut self) {
        self.done += 1;
        self.observer.selection(self.done, self.parts);
    }

    /// One epoch of weight steps; draws are those of the epochs behind the search's.
    fn tune_epoch(&mut self) -> Result<(), TrialError> {
        let SearchSettings { epochs, sgd, .. } = self.settings;
        let from = LEARNING_RATE * sgd.learning_rate;
        let learning_rate = cosine(from, sgd.learning_rate_min.min(from), self.tuned, self.tunings) as f32;
        let epoch = epochs + self.tuned;
        let mut position = Position::start_of(epoch);
        let Self { workers, bilevel, objective, train, observer, .. } = self;
        let steps = train.batches_per_epoch();
        let fill = |step, batch: &mut Batch| train.fill(epoch, step, batch);
        prefetch(steps, fill, |batches| {
            while let Some(batch) = batches.next_item() {
                swap(batch, &mut objective.train);
                let (loss, norm) = workers.pool().install(|| bilevel.weight_step(*objective, learning_rate));
                position.advance(objective.train.count(), objective.train_correct, loss);
                let diverged = RunError::check_losses(&[("the training loss", loss)], &position)
                    .and(RunError::check_finite(&[("the norm of the gradient", norm)], &position));
                diverged.map_err(TrialError::Failed)?;
                observer.go_on().map_err(|_| TrialError::Interrupted)?;
            }
            Ok(())
        })
    }
}

impl<O: Observer<SearchEpoch>> Trial for SupernetTrial<'_, '_, O> {
    type Error = TrialError;

    /// With the statistics of each batch: running ones are of other mixing weights.
    fn score(&mut self, mix_weights: &[f32]) -> Result<Score, TrialError> {
        let Self { workers, bilevel, objective, held, observer, .. } = self;
        let (engine, weights) = (&mut objective.engine, &bilevel.weights);
        let evaluation = evaluate(engine, workers, weights, mix_weights, Mode::Batch, held, |_| observer.go_on());
        let evaluation = evaluation.map_err(|_| TrialError::Interrupted)?;
        self.advance();
        Ok(Score { correct: evaluation.correct, loss: evaluation.loss })
    }

    fn tune(&mut self, mix_weights: &[f32]) -> Result<(), TrialError> {
        for _ in 0..self.settings.guards.select_tune_epochs {
            self.objective.train_mix_weights = mix_weights.to_vec();
            self.tune_epoch()?;
            self.tuned += 1;
            self.advance();
        }
        Ok(())
    }
}
