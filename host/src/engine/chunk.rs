//! The part of a batch that one task works on, with all memory that only this task touches: what a chunk writes comes to
//! lie near the core that writes it, and the tasks of a region share nothing that changes.

use std::ops::Range;

use super::aligned::AlignedBuffer;
use super::plan::{Plan, Storage};
use crate::graph::{Graph, Head, TensorId};

/// Values of one tensor for the images of a chunk, `[N, H, W, C]`.
#[derive(Debug)]
pub(super) enum Values {
    F32(AlignedBuffer),
    /// IEEE half precision.
    F16(Vec<u16>),
    /// Computed again from the input of the stage with this index.
    Recomputed(usize),
}

impl Default for Values {
    fn default() -> Self {
        Self::F32(AlignedBuffer::default())
    }
}

/// A chunk's memory, allotted once.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Which images of the batch.
    pub images: Range<usize>,
    /// By tensor.
    pub values: Vec<Values>,
    /// By slot of the plan.
    pub gradients: Vec<AlignedBuffer>,
    /// Sums over the chunk's images: moments in the forward, reductions in the backward pass.
    pub sums: Vec<f64>,
    /// Gradients of the weights of the region at hand.
    pub weights: Vec<f32>,
    /// Features `[N, features]` of the main and of the auxiliary head.
    pub features: [Vec<f32>; 2],
    /// Which targets of the region hold a gradient already.
    pub written: Vec<bool>,
}

impl Chunk {
    /// Memory for up to `images` images. Nothing of it is touched before the first pass.
    pub fn new(graph: &Graph, plan: &Plan, images: usize) -> Self {
        let values = graph.tensors.iter().zip(&plan.storage).map(|(shape, storage)| match *storage {
            Storage::F32 => Values::F32(AlignedBuffer::new(shape.len() * images)),
            Storage::F16 => Values::F16(vec![0; shape.len() * images]),
            Storage::Recomputed(stage) => Values::Recomputed(stage),
        });
        let head_norms = |head: &Head| 2 * head.features;
        let heads = head_norms(&graph.head).max(graph.auxiliary.as_ref().map_or(0, head_norms));
        let sums = plan.regions.iter().map(|region| region.moments_len.max(region.sums_len)).max().unwrap_or(0);
        let targets = plan.regions.iter().map(|region| region.targets.len()).max().unwrap_or(0);
        let auxiliary = graph.auxiliary.as_ref().map_or(0, |head| head.features);
        Self {
            images: 0..0,
            values: values.collect(),
            gradients: plan.slot_lens.iter().map(|len| AlignedBuffer::new(len * images)).collect(),
            sums: vec![0.0; sums.max(heads)],
            weights: vec![0.0; plan.weights_len()],
            features: [vec![0.0; graph.head.features * images], vec![0.0; auxiliary * images]],
            written: Vec::with_capacity(targets),
        }
    }

    /// Where the values of image `image` of the chunk lie in a buffer of a tensor.
    pub fn place(graph: &Graph, tensor: TensorId, image: usize) -> Range<usize> {
        let len = graph.tensors[tensor].len();
        image * len..(image + 1) * len
    }
}
