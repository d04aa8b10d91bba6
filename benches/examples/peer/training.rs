//! Training steps of a derived network: forward, cross-entropy, backward, SGD.

use std::error::Error;
use std::sync::Arc;

use darts_core::Genotype;
use darts_host::data::Batch;
use darts_host::engine::{Engine, Gradients, Inputs, Mode, RunningStatistics, Workers};
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::isa;
use darts_host::search::optimizer::Sgd;

use crate::Work;
use crate::case::{Case, Description, Results};

/// The work and what the last repetition left.
pub struct Training {
    engine: Engine,
    workers: Arc<Workers>,
    batch: Batch,
    weights: Vec<f32>,
    statistics: RunningStatistics,
    gradient: Vec<f32>,
    dlogits: Vec<f32>,
    sgd: Sgd,
    learning_rate: f32,
    loss: f64,
}

/// The size of the case's derived network.
pub fn config(description: &Description) -> DerivedConfig {
    DerivedConfig {
        kind: NetworkKind::Cifar,
        input: description.input,
        classes: description.classes,
        channels: description.channels,
        layers: description.layers,
        auxiliary: false,
    }
}

impl Training {
    /// From the state of the case's file.
    pub fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let description = &case.description;
        let genotype: Genotype = description.genotype.parse().map_err(|error| format!("genotype: {error}"))?;
        let graph = derived(&genotype, &config(description))?;
        let (weights, statistics) = case.state(&graph)?;
        let batch = case.batch("train")?;
        let momentum = vec![0.0; weights.len()];
        Ok(Self {
            gradient: vec![0.0; weights.len()],
            dlogits: vec![0.0; batch.count() * description.classes],
            engine: Engine::new(graph, batch.count(), isa::kernels()?),
            workers: Arc::new(Workers::new(description.threads)?),
            batch,
            weights,
            statistics,
            sgd: Sgd { momentum, momentum_decay: 0.9, weight_decay: 3e-4, grad_clip: 5.0 },
            learning_rate: description.learning_rate,
            loss: 0.0,
        })
    }
}

impl Training {
    fn step(&mut self) {
        let kernels = self.engine.kernels();
        let images = &self.batch.images;
        let inputs = Inputs { weights: &self.weights, mix_weights: &[], images, drop_path: None };
        self.engine.forward(&self.workers, inputs, Mode::Batch);
        self.engine.update_running(&mut self.statistics);
        let logits = self.engine.logits();
        self.loss = kernels.softmax_cross_entropy(logits, &self.batch.labels, 0.0, &mut self.dlogits);
        let gradients = Gradients { weights: Some(&mut self.gradient), mix_weights: &mut [] };
        self.engine.backward(&self.workers, inputs, &self.dlogits, None, gradients);
        self.sgd.step(kernels, &mut self.weights, &mut self.gradient, self.learning_rate);
    }
}

impl Work for Training {
    /// Inside of the pool, as a training.
    fn run(&mut self) {
        let workers = self.workers.clone();
        workers.pool().install(|| self.step());
    }

    fn results(&self) -> Results {
        let (mut results, graph) = (Results::default(), self.engine.graph());
        results.insert_number("train_loss", self.loss);
        results.insert("logits", vec![self.batch.count(), graph.classes], self.engine.logits());
        results.insert_statistics(graph, &self.statistics);
        results.insert_parameters("momentum", graph, &self.sgd.momentum);
        results.insert_parameters("weights", graph, &self.weights);
        results
    }
}
