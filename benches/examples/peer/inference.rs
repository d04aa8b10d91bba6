//! Inference of a derived network, exported and run by the core: images one by one, spread over the threads.

use std::error::Error;
use std::path::Path;

use darts_core::{Genotype, Network};
use darts_host::data::{Batch, Normalization};
use darts_host::engine::Workers;
use darts_host::export::{Precision, export};
use darts_host::graph::derived::derived;
use darts_host::isa;
use darts_host::model_file::ModelFile;
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::Kernels;
use rayon::prelude::*;

use crate::Work;
use crate::case::{Case, Results};
use crate::training::config;

/// The model, its input and what the last repetition left.
pub struct Inference {
    network: Network<'static>,
    kernels: Kernels,
    workers: Workers,
    batch: Batch,
    /// One a thread.
    workspaces: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

impl Inference {
    /// With the state of the case's file.
    pub fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let description = &case.description;
        let genotype: Genotype = description.genotype.parse().map_err(|error| format!("genotype: {error}"))?;
        let config = config(description);
        let (weights, statistics) = case.state(&derived(&genotype, &config)?)?;
        let channels = description.input[0];
        let network = TrainedNetwork {
            config,
            genotype,
            weights,
            statistics,
            // The images of a case are normalised already.
            normalization: Normalization::new(vec![0.0; channels], vec![1.0; channels], channels)?,
            class_names: (0..description.classes).map(|class| class.to_string()).collect(),
        };
        let model = ModelFile::new(&export(&network, Precision::F32)?, Path::new("the exported model"));
        // The model lives as long as the process: the network can borrow it.
        let network = Box::leak(Box::new(model)).network()?;
        let workspace = vec![0.0; network.required_bytes() / size_of::<f32>()];
        let batch = case.batch("test")?;
        Ok(Self {
            kernels: isa::kernels()?,
            workers: Workers::new(description.threads)?,
            workspaces: vec![workspace; description.threads],
            logits: vec![0.0; batch.count() * network.classes()],
            batch,
            network,
        })
    }
}

impl Work for Inference {
    fn run(&mut self) {
        let Self { network, kernels, workers, batch, workspaces, logits } = self;
        let pixels = network.input_len();
        let classes = network.classes();
        let share = batch.count().div_ceil(workspaces.len());
        let run = |((workspace, images), logits): ((&mut Vec<f32>, &[f32]), &mut [f32])| {
            for (image, logits) in images.chunks_exact(pixels).zip(logits.chunks_exact_mut(classes)) {
                network.run(*kernels, image, workspace, logits).expect("the lengths are the network's");
            }
        };
        if share == batch.count() {
            run(((&mut workspaces[0], &batch.images), logits));
        } else {
            let images = batch.images.par_chunks(share * pixels);
            let tasks = workspaces.par_iter_mut().zip(images).zip(logits.par_chunks_mut(share * classes));
            workers.pool().install(|| tasks.for_each(run));
        }
    }

    fn results(&self) -> Results {
        let mut results = Results::default();
        results.insert("logits", vec![self.batch.count(), self.network.classes()], &self.logits);
        results
    }
}
