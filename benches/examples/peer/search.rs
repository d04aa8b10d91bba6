//! A supernet: its gradients, or whole steps of the search.

use std::error::Error;
use std::sync::Arc;

use darts_host::engine::{Engine, Workers};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::isa;
use darts_host::search::bilevel::{Bilevel, Objective, Order, Split, StepReport, Wanted};
use darts_host::search::objective::SupernetObjective;
use darts_host::search::optimizer::{Adam, Sgd};

use crate::Work;
use crate::case::{Case, Kind, Results};

/// The work and what the last repetition left.
pub struct Search {
    work: Kind,
    /// α before the first repetition.
    initial_alpha: Vec<f32>,
    workers: Arc<Workers>,
    objective: SupernetObjective,
    bilevel: Bilevel,
    learning_rate: f32,
    weight_gradient: Vec<f32>,
    alpha_gradient: Vec<f32>,
    losses: StepReport,
}

impl Search {
    /// From the state of the case's file.
    pub fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let description = &case.description;
        let config = SupernetConfig {
            input: description.input,
            classes: description.classes,
            channels: description.channels,
            layers: description.layers,
            nodes: 4,
            multiplier: 4,
        };
        let graph = supernet(&config)?;
        let (weights, statistics) = case.state(&graph)?;
        let (train, valid) = (case.batch("train")?, case.batch("valid")?);
        let (kernels, workers) = (isa::kernels()?, Arc::new(Workers::new(description.threads)?));
        let mut objective = SupernetObjective::new(Engine::new(graph, train.count(), kernels), workers.clone());
        (objective.train, objective.valid, objective.statistics) = (train, valid, statistics);
        let alpha = case.alpha()?;
        let momentum = vec![0.0; weights.len()];
        let sgd = Sgd { momentum, momentum_decay: 0.9, weight_decay: 3e-4, grad_clip: 5.0 };
        let adam = Adam::new(alpha.len(), 3e-4, [0.5, 0.999], 1e-3);
        let order = if description.work == Kind::Second { Order::Second } else { Order::First };
        Ok(Self {
            work: description.work,
            workers,
            objective,
            weight_gradient: vec![0.0; weights.len()],
            alpha_gradient: vec![0.0; alpha.len()],
            initial_alpha: alpha.clone(),
            bilevel: Bilevel::new(weights, alpha, sgd, adam, order, kernels),
            learning_rate: description.learning_rate,
            losses: StepReport { valid_loss: None, train_loss: 0.0, grad_norm: 0.0 },
        })
    }
}

impl Search {
    fn pass_or_step(&mut self) {
        if self.work == Kind::Gradient {
            let wanted = Wanted { weights: Some(&mut self.weight_gradient), alpha: Some(&mut self.alpha_gradient) };
            let Bilevel { weights, alpha, .. } = &self.bilevel;
            self.losses.train_loss = self.objective.loss_grad(Split::Train, true, weights, alpha, wanted);
        } else {
            self.losses = self.bilevel.step(&mut self.objective, self.learning_rate);
        }
    }
}

impl Work for Search {
    /// Inside of the pool, as a search.
    fn run(&mut self) {
        let workers = self.workers.clone();
        workers.pool().install(|| self.pass_or_step());
    }

    fn results(&self) -> Results {
        let (mut results, graph) = (Results::default(), self.objective.engine.graph());
        results.insert_number("train_loss", self.losses.train_loss);
        results.insert_statistics(graph, &self.objective.statistics);
        if self.work == Kind::Gradient {
            results.insert("alpha_gradient", vec![self.alpha_gradient.len()], &self.alpha_gradient);
            results.insert_parameters("gradient", graph, &self.weight_gradient);
        } else {
            let Bilevel { weights, alpha, alpha_gradient, sgd, unrolled, .. } = &self.bilevel;
            let alpha_step: Vec<f32> = alpha.iter().zip(&self.initial_alpha).map(|(new, old)| new - old).collect();
            results.insert_number("valid_loss", self.losses.valid_loss.expect("a step of α has it"));
            results.insert("alpha_gradient", vec![alpha_gradient.len()], alpha_gradient);
            results.insert("alpha_step", vec![alpha_step.len()], &alpha_step);
            if self.work == Kind::Second {
                results.insert("direct", vec![unrolled.direct.len()], &unrolled.direct);
                results.insert("implicit", vec![unrolled.implicit.len()], &unrolled.implicit);
            }
            results.insert_parameters("momentum", graph, &sgd.momentum);
            results.insert_parameters("weights", graph, weights);
        }
        results
    }
}
