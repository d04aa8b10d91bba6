//! A step of a search or of a training on random images.

use std::sync::Arc;

use darts_kernels_simd::Kernels;
use serde::Serialize;

use super::random;
use super::timing::seconds;
use crate::data::Batch;
use crate::engine::{Engine, Inputs, Mode, Options, Workers};
use crate::graph::Graph;
use crate::graph::count::totals;
use crate::search::bilevel::{Bilevel, Order};
use crate::search::mixing::Mixing;
use crate::search::objective::SupernetObjective;
use crate::search::run::start;
use crate::search::settings::SearchSettings;

/// What a step updates, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// α by the first-order gradient, then the weights.
    First,
    /// α by the second-order gradient, then the weights.
    Second,
    /// The weights only, as in the training of a derived network.
    Weights,
}

impl StepKind {
    /// Forward and backward passes in a step.
    pub fn passes(self) -> usize {
        match self {
            Self::First => 2,
            // At w on the training batch, at w′ on the validation batch, at w± on the training batch; the weight step.
            Self::Second => 5,
            Self::Weights => 1,
        }
    }

    /// Floating-point operations of one step on a batch: two for each multiply-add of the convolutions and linear
    /// layers of `graph`, and three times those of the forward pass for a forward and backward pass.
    pub fn flops(self, graph: &Graph, batch: usize) -> f64 {
        2.0 * 3.0 * (totals(graph).multiply_adds * batch * self.passes()) as f64
    }
}

/// A network with its optimizers and batches of random images, the same in every run.
#[derive(Debug)]
pub struct Step {
    kind: StepKind,
    bilevel: Bilevel,
    objective: SupernetObjective,
    workers: Arc<Workers>,
}

impl Step {
    /// Steps of `kind` on `graph`, a supernet or (only for [`StepKind::Weights`]) a derived network, in batches of
    /// `batch` images; `mixing` is that of a supernet.
    pub fn new(
        graph: Graph,
        mixing: Mixing,
        kind: StepKind,
        batch: usize,
        options: Options,
        kernels: Kernels,
        workers: Arc<Workers>,
    ) -> Self {
        let order = if kind == StepKind::Second { Order::Second } else { Order::First };
        let settings = SearchSettings { order, ..SearchSettings::PAPER };
        let bilevel = start(&settings, &graph, mixing, kernels);
        let images = Batch {
            images: random(batch * graph.input.len()),
            labels: (0..batch).map(|image| (image % graph.classes) as u32).collect(),
        };
        let engine = Engine::with_options(graph, batch, kernels, options);
        let mut objective = SupernetObjective::new(engine, workers.clone());
        objective.mixing = mixing;
        (objective.train, objective.valid) = (images.clone(), images);
        Self { kind, bilevel, objective, workers }
    }

    /// See [`StepKind::flops`].
    pub fn flops(&self) -> f64 {
        self.kind.flops(self.objective.engine.graph(), self.objective.engine.batch())
    }

    /// A forward pass on the training batch.
    pub(super) fn forward(&mut self) {
        let mut mix_weights = Vec::new();
        self.objective.mixing.weights(&self.bilevel.alpha, &mut mix_weights);
        let images = &self.objective.train.images;
        let inputs = Inputs { weights: &self.bilevel.weights, mix_weights: &mix_weights, images, drop_path: None };
        self.objective.engine.forward(&self.workers, inputs, Mode::Batch);
    }

    /// One step, inside of the pool as a search takes it.
    pub fn run(&mut self) {
        let workers = self.workers.clone();
        workers.pool().install(|| self.take());
    }

    fn take(&mut self) {
        let learning_rate = SearchSettings::PAPER.sgd.learning_rate as f32;
        if self.kind != StepKind::Weights {
            self.bilevel.alpha_step(&mut self.objective, learning_rate);
        }
        self.bilevel.weight_step(&mut self.objective, learning_rate);
    }

    /// One step, timed.
    pub fn seconds(&mut self) -> f64 {
        seconds(|| self.run())
    }
}
