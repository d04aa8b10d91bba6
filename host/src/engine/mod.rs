//! Executes a [`Graph`] on batches, forward and backward, in parallel over images.
//!
//! What is kept between the passes is each stage's value before its batch norm and each mixed state; everything else
//! is computed again where the backward pass needs it.

mod aligned;
mod backward;
mod forward;
mod head;
mod norms;
pub(crate) mod op;
pub mod parallel;
mod scratch;
mod stage;

use std::collections::HashMap;

use darts_kernels_simd::Kernels;

pub use backward::Gradients;
pub use norms::RunningStatistics;
pub use parallel::{Workers, WorkersError};

use crate::graph::{Graph, INPUT, NormId, TensorId};
use aligned::AlignedBuffer;
use norms::NormState;
use stage::StagePlan;

/// Which statistics the batch norms use.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Those of the batch, as in training.
    Batch,
    /// Those collected in training, for evaluation.
    Running(&'a RunningStatistics),
}

/// What a forward pass depends on besides the images.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The flat weight vector.
    pub weights: &'a [f32],
    /// The mixing weights (empty for a derived network).
    pub mix_weights: &'a [f32],
    /// Images `[N, H, W, C]`.
    pub images: &'a [f32],
    /// Drop-path factors `[masks, N]` (0, or 1 over the probability to keep), if drop-path is on.
    pub drop_path: Option<&'a [f32]>,
}

/// Where the gradient with respect to a stage's (normalised) output comes from.
#[derive(Clone, Copy, Debug)]
enum Upstream {
    /// One term of a mix: the gradient of the mix times the term's weight.
    Mix { mix: usize, term: usize },
    /// A stage or head, which leaves the gradient in the tensor's own buffer.
    Own,
}

/// A graph with its buffers for a largest batch.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
    kernels: Kernels,
    plans: Vec<StagePlan>,
    /// Reader of each stage's output.
    upstream: Vec<Upstream>,
    /// Whether a tensor is a stage's output (not a state).
    stage_outputs: Vec<bool>,
    /// The region after whose backward pass a tensor's gradient is read no more.
    last_reader: Vec<usize>,
    batch: usize,
    /// Values of each tensor, `[N, H, W, C]`.
    activations: Vec<AlignedBuffer>,
    norms: NormState,
    /// Images of the last forward pass.
    images: usize,
    main: head::HeadState,
    auxiliary: Option<head::HeadState>,
    /// Gradients in use, by tensor.
    gradients: Vec<AlignedBuffer>,
    /// Gradient buffers at rest, by length.
    resting: HashMap<usize, Vec<AlignedBuffer>>,
    transposed: Vec<f32>,
}

impl Engine {
    /// Buffers for `graph` and batches of up to `batch` images.
    pub fn new(graph: Graph, batch: usize, kernels: Kernels) -> Self {
        let plans = graph.stages.iter().map(|stage| StagePlan::new(&graph, stage)).collect();
        let upstream = upstream(&graph);
        let last_reader = last_readers(&graph);
        let mut stage_outputs = vec![false; graph.tensors.len()];
        graph.stages.iter().for_each(|stage| stage_outputs[stage.output] = true);
        let activations = graph.tensors.iter().map(|shape| AlignedBuffer::new(shape.len() * batch)).collect();
        Self {
            plans,
            upstream,
            stage_outputs,
            last_reader,
            batch,
            activations,
            norms: NormState::new(graph.statistics()),
            images: 0,
            main: head::HeadState::default(),
            auxiliary: graph.auxiliary.is_some().then(head::HeadState::default),
            gradients: graph.tensors.iter().map(|_| AlignedBuffer::default()).collect(),
            resting: HashMap::new(),
            transposed: vec![0.0; graph.weights()],
            graph,
            kernels,
        }
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Largest batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Logits `[N, classes]` of the last forward pass.
    pub fn logits(&self) -> &[f32] {
        &self.main.logits
    }

    /// Logits `[N, classes]` of the auxiliary head in the last forward pass.
    pub fn auxiliary_logits(&self) -> Option<&[f32]> {
        self.auxiliary.as_ref().map(|head| head.logits.as_slice())
    }

    /// Values `[N, H, W, C]` of a tensor in the last forward pass: raw, before any batch norm.
    pub fn activation(&self, tensor: TensorId) -> &[f32] {
        &self.activations[tensor][..self.images * self.graph.tensors[tensor].len()]
    }

    /// Scale and shift `[C]` that the batch norm `norm` came to in the last forward pass.
    pub fn fold(&self, norm: NormId) -> (&[f32], &[f32]) {
        self.norms.fold(&self.graph.norms[norm])
    }

    /// Gradient `[N, H, W, C]` with respect to the input image, kept by the last backward pass only if it was asked for
    /// with [`keep_input_gradient`](Self::keep_input_gradient).
    pub fn input_gradient(&self) -> &[f32] {
        &self.gradients[INPUT]
    }

    /// Makes backward passes compute the gradient with respect to the input image.
    pub fn keep_input_gradient(&mut self) {
        self.plans.iter_mut().for_each(|plan| plan.input_gradient.fill(true));
    }

    /// Moves running statistics by those of the last forward pass in [`Mode::Batch`] (momentum 0.1).
    pub fn update_running(&self, statistics: &mut RunningStatistics) {
        self.norms.update_running(&self.graph, self.images, statistics);
    }

    /// Bytes that training `graph` in batches of `batch` images takes at least: the activations of a batch; weights,
    /// gradient and momentum.
    pub fn bytes_needed(graph: &Graph, batch: usize) -> usize {
        let image = graph.tensors.iter().fold(0, |sum: usize, shape| sum.saturating_add(shape.len()));
        image.saturating_mul(batch).saturating_add(graph.weights().saturating_mul(3)).saturating_mul(size_of::<f32>())
    }

    /// Bytes of all buffers held now.
    pub fn memory_bytes(&self) -> usize {
        let floats = |buffers: &[AlignedBuffer]| buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        let resting: usize = self.resting.values().map(|buffers| floats(buffers)).sum();
        4 * (floats(&self.activations) + floats(&self.gradients) + resting + self.transposed.len())
    }
}

fn upstream(graph: &Graph) -> Vec<Upstream> {
    let mut by_tensor = vec![Upstream::Own; graph.tensors.len()];
    for (mix, node) in graph.mixes.iter().enumerate() {
        for (term, source) in node.terms.iter().map(|term| term.source).enumerate() {
            by_tensor[source.tensor] = Upstream::Mix { mix, term };
        }
    }
    graph.stages.iter().map(|stage| by_tensor[stage.output]).collect()
}

fn last_readers(graph: &Graph) -> Vec<usize> {
    let mut region_of = vec![0; graph.stages.len()];
    let mut last = vec![0; graph.tensors.len()];
    for (index, region) in graph.regions.iter().enumerate() {
        for &stage in &region.stages {
            region_of[stage] = index;
            last[graph.stages[stage].output] = index;
        }
        for &mix in &region.mixes {
            last[graph.mixes[mix].output] = index;
        }
    }
    for mix in &graph.mixes {
        for term in &mix.terms {
            let made_by = graph.stages.iter().position(|stage| stage.output == term.source.tensor);
            if let Some(stage) = made_by {
                last[mix.output] = last[mix.output].min(region_of[stage]);
            }
        }
    }
    last
}
