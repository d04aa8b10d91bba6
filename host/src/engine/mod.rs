//! Executes a [`Graph`] on batches, forward and backward, in parallel over images.
//!
//! What is kept between the passes is each stage's value before its batch norm, but for pools, and each mixed state;
//! everything else is computed again where the backward pass needs it. All memory is planned when the engine is made, and allotted by its
//! first pass.

pub(crate) mod aligned;
mod backward;
mod chunk;
mod division;
mod forward;
mod gather;
mod head;
mod memory;
mod norms;
pub(crate) mod op;
pub mod parallel;
mod plan;
mod pool;
mod portions;
mod reductions;
mod relus;
mod scratch;
mod stage;
mod terms;

use darts_kernels_simd::Kernels;
use serde::{Deserialize, Serialize};

pub use backward::Gradients;
pub use norms::RunningStatistics;
pub use parallel::{Workers, WorkersError};

use crate::graph::{Graph, INPUT, TensorId};
use chunk::Chunk;
use division::Division;
use head::HeadState;
use memory::Chunks;
use norms::NormState;
use plan::Plan;
use scratch::Buffer;

/// Which statistics the batch norms use.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Those of the batch, as in training.
    Batch,
    /// Those collected in training, for evaluation.
    Running(&'a RunningStatistics),
}

/// How an engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether separable stages run as one pass over rows that stays in the first cache, and the values of pools are
    /// computed again in the backward pass, and not operation by operation with all of them kept, which is slower and
    /// says the same in fewer words.
    pub fused: bool,
    /// How stage outputs are kept from the forward to the backward pass.
    pub saved: Saved,
}

impl Default for Options {
    /// Fused, and everything as `f32`.
    fn default() -> Self {
        Self { fused: true, saved: Saved::F32 }
    }
}

/// Form of a value that is kept from the forward to the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Saved {
    /// As it was computed.
    #[default]
    F32,
    /// In IEEE half precision: half the memory, and a relative error of up to 2⁻¹¹ in what is read back.
    F16,
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

/// A graph with its buffers for a largest batch.
#[derive(Debug)]
pub struct Engine {
    network: Network,
    options: Options,
    batch: usize,
    /// For the threads of the last forward pass, whose number decides how its memory is allotted.
    division: Option<Division>,
    chunks: Chunks,
    /// Images of the last forward pass.
    images: usize,
    main: HeadState,
    auxiliary: HeadState,
    /// Which tensors' gradients are complete or begun in the backward pass at hand.
    live: Vec<bool>,
    /// Sums of a region over all portions.
    totals: Vec<f64>,
}

/// What all chunks of a pass share.
#[derive(Debug)]
struct Network {
    graph: Graph,
    kernels: Kernels,
    plan: Plan,
    norms: NormState,
    /// The flat weights with every dense matrix transposed in its place.
    transposed: Vec<f32>,
}

impl Engine {
    /// An engine for `graph` and batches of up to `batch` images, with the default [`Options`].
    pub fn new(graph: Graph, batch: usize, kernels: Kernels) -> Self {
        Self::with_options(graph, batch, kernels, Options::default())
    }

    /// An engine for `graph` and batches of up to `batch` images.
    pub fn with_options(graph: Graph, batch: usize, kernels: Kernels, options: Options) -> Self {
        let plan = Plan::new(&graph, options, false);
        Self {
            options,
            batch,
            division: None,
            chunks: Chunks::map(0, |_| Vec::new()),
            images: 0,
            main: HeadState::default(),
            auxiliary: HeadState::default(),
            live: vec![false; graph.tensors.len()],
            totals: Vec::new(),
            network: Network {
                norms: NormState::new(graph.statistics()),
                transposed: vec![0.0; graph.weights()],
                plan,
                graph,
                kernels,
            },
        }
    }

    /// Deals `images` images out to chunks for `threads` threads.
    fn start_batch(&mut self, images: usize, threads: usize) {
        let division = Division::new(self.batch, threads);
        if self.division != Some(division) {
            self.chunks = self.network.chunks(division);
            self.division = Some(division);
        }
        self.images = images;
        self.chunks.write(|chunks| {
            for (index, chunk) in chunks.iter_mut().enumerate() {
                chunk.begin(division.portions(index, images), images);
            }
        });
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.network.graph
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.network.kernels
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
        self.graph().auxiliary.is_some().then_some(self.auxiliary.logits.as_slice())
    }

    /// Values `[N, H, W, C]` of a tensor in the last forward pass: raw, before any batch norm.
    pub fn activation(&self, tensor: TensorId) -> Vec<f32> {
        let mut buffer = Buffer::default();
        let mut values = Vec::with_capacity(self.images * self.graph().tensors[tensor].len());
        self.chunks.read(|chunks| {
            for chunk in chunks {
                for image in 0..chunk.images.len() {
                    values.extend_from_slice(self.network.value(&chunk.values, tensor, image, &mut buffer));
                }
            }
        });
        values
    }

    /// Gradient `[N, H, W, C]` with respect to the input image, kept by the last backward pass only if it was asked for
    /// with [`keep_input_gradient`](Self::keep_input_gradient); nothing where the result does not depend on the image.
    pub fn input_gradient(&self) -> Option<Vec<f32>> {
        let slot = self.network.plan.slots[INPUT].filter(|_| self.live[INPUT])?;
        let len = self.graph().input.len();
        let of_chunk = |chunk: &Chunk| chunk.gradients[slot][..chunk.images.len() * len].to_vec();
        Some(self.chunks.read(|chunks| chunks.iter().flat_map(of_chunk).collect()))
    }

    /// Makes backward passes compute the gradient with respect to the input image, from the next forward pass on.
    pub fn keep_input_gradient(&mut self) {
        self.network.plan = Plan::new(&self.network.graph, self.options, true);
        self.division = None;
    }

    /// Moves running statistics by those of the last forward pass in [`Mode::Batch`] (momentum 0.1).
    pub fn update_running(&self, statistics: &mut RunningStatistics) {
        self.network.norms.update_running(self.graph(), self.images, statistics);
    }

    /// Bytes that an engine takes for `graph` and batches of up to `batch` images, with the weights, their gradient and
    /// their momentum beside it.
    pub fn bytes_needed(graph: &Graph, batch: usize, options: Options) -> usize {
        let weights = graph.weights().saturating_mul(3 * size_of::<f32>());
        Plan::new(graph, options, false).bytes(graph, batch).saturating_add(weights)
    }
}

impl Network {
    fn chunks(&self, division: Division) -> Chunks {
        let Self { graph, plan, .. } = self;
        let floats = |chunk| Chunk::floats(graph, plan, division.most_images(chunk));
        Chunks::map((0..division.chunks()).map(floats).sum(), |mut parts| {
            (0..division.chunks()).map(|chunk| Chunk::new(graph, plan, division, chunk, &mut parts)).collect()
        })
    }
}
