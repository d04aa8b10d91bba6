//! The part of a batch that one task works on, with all memory that only this task touches: what a chunk writes comes
//! to lie near the core that writes it, and the tasks of a region share nothing that changes.

use std::mem::take;
use std::ops::Range;

use super::division::{Division, images_of};
use super::memory::Parts;
use super::plan::{Plan, Storage};
use super::portions::{Portion, Portions};
use crate::graph::{Graph, Head, TensorId};

/// Values of one tensor for the images of a chunk, `[N, H, W, C]`.
#[derive(Debug)]
pub(super) enum Values<'m> {
    F32(&'m mut [f32]),
    /// IEEE half precision.
    F16(&'m mut [u16]),
    /// Computed again from the input of the stage with this index.
    Recomputed(usize),
}

impl Default for Values<'_> {
    fn default() -> Self {
        Self::F32(&mut [])
    }
}

/// A chunk's memory, allotted for all passes on as many threads.
#[derive(Debug)]
pub(super) struct Chunk<'m> {
    /// Which images of the batch.
    pub images: Range<usize>,
    /// By tensor.
    pub values: Vec<Values<'m>>,
    /// By slot of the plan.
    pub gradients: Vec<&'m mut [f32]>,
    /// What is added up.
    pub portions: Portions,
    /// Features `[N, features]` of the main and of the auxiliary head.
    pub features: [Vec<f32>; 2],
    /// Which targets of the region hold a gradient already.
    pub written: Vec<bool>,
    /// The same as it was before the operation at hand.
    written_before: Vec<bool>,
}

impl<'m> Chunk<'m> {
    /// Memory for chunk `chunk` of batches, values and gradients from `parts`.
    pub fn new(graph: &Graph, plan: &Plan, division: Division, chunk: usize, parts: &mut Parts<'m>) -> Self {
        let images = division.most_images(chunk);
        let values = graph.tensors.iter().zip(&plan.storage).map(|(shape, storage)| {
            let part = parts.next(storage.floats(shape.len() * images));
            match *storage {
                Storage::F32 => Values::F32(part),
                Storage::F16 => Values::F16(bytemuck::cast_slice_mut(part)),
                Storage::Recomputed(stage) => Values::Recomputed(stage),
            }
        });
        let values = values.collect();
        let gradients = plan.slot_lens.iter().map(|len| parts.next(len * images)).collect();
        let head_norms = |head: &Head| 2 * head.features;
        let heads = head_norms(&graph.head).max(graph.auxiliary.as_ref().map_or(0, head_norms));
        let sums = plan.regions.iter().map(|region| region.moments_len.max(region.sums_len)).max().unwrap_or(0);
        let targets = plan.regions.iter().map(|region| region.targets.len()).max().unwrap_or(0);
        let auxiliary = graph.auxiliary.as_ref().map_or(0, |head| head.features);
        Self {
            images: 0..0,
            values,
            gradients,
            portions: Portions::new(plan, division, chunk, sums.max(heads)),
            features: [vec![0.0; graph.head.features * images], vec![0.0; auxiliary * images]],
            written: Vec::with_capacity(targets),
            written_before: Vec::with_capacity(targets),
        }
    }

    /// Floats that a chunk for up to `images` images takes of the parts.
    pub fn floats(graph: &Graph, plan: &Plan, images: usize) -> usize {
        let values = graph.tensors.iter().zip(&plan.storage);
        let values = values.map(|(shape, storage)| storage.floats(shape.len() * images));
        values.chain(plan.slot_lens.iter().map(|len| len * images)).map(Parts::taken).sum()
    }

    /// Takes `portions` of a batch of `images`.
    pub fn begin(&mut self, portions: Range<usize>, images: usize) {
        self.images = images_of(&portions, images);
        self.portions.begin(portions, images);
    }

    /// Runs an operation of the backward pass on each of `images`; for each of them, the same targets are written
    /// before.
    pub fn each(&mut self, images: Range<usize>, mut run: impl FnMut(usize, &mut Self)) {
        let mut before = take(&mut self.written_before);
        before.clone_from(&self.written);
        for image in images {
            self.written.clone_from(&before);
            run(image, self);
        }
        self.written_before = before;
    }

    /// The portions of a batch, in order.
    pub fn all_portions<'a>(chunks: &'a [Chunk]) -> impl Iterator<Item = &'a Portion> {
        chunks.iter().flat_map(|chunk| chunk.portions.in_use())
    }

    /// Where the values of image `image` of the chunk lie in a buffer of a tensor.
    pub fn place(graph: &Graph, tensor: TensorId, image: usize) -> Range<usize> {
        let len = graph.tensors[tensor].len();
        image * len..(image + 1) * len
    }
}
