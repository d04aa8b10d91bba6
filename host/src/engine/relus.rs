//! States after their ReLU, made once for all stages of a region that read them.
//!
//! The operations on the edges from a state all begin with its ReLU. Done by each of them, it was 6 % of a pass of a
//! search at C = 16; shared, a pass takes 3 % less there and at C = 8 (AMD EPYC, Zen 5, two threads,
//! `darts bench step`, 2026-11-29).

use std::ops::Range;

use darts_kernels_simd::{Padding, Prelude, Preluded};

use super::Network;
use super::chunk::Chunk;
use super::plan::RegionPlan;
use super::scratch::{Buffer, Scratch};
use super::stage::StagePlan;
use crate::graph::{Graph, Region, TensorId};

/// States that several fused stages of a region read through a ReLU.
#[derive(Debug, Default)]
pub(super) struct Relus {
    states: Vec<Relu>,
    /// For each stage of the region, which of them it reads.
    of_stage: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Relu {
    tensor: TensorId,
    /// Columns of zeros that the widest window wants on either side.
    border: usize,
    /// Elements of an image with these.
    len: usize,
}

impl Relus {
    /// `is_state`, by tensor: whether it is stored as it is read.
    pub fn new(graph: &Graph, stages: &[StagePlan], is_state: &[bool], region: &Region) -> Self {
        let read = |&stage: &usize| {
            let source = graph.stages[stage].inputs[0];
            let is_state = source.norm.is_none() && is_state[source.tensor];
            stages[stage].border_of_relu().filter(|_| is_state).map(|border| (source.tensor, border))
        };
        let reads: Vec<Option<(TensorId, usize)>> = region.stages.iter().map(read).collect();
        let mut relus = Self { states: Vec::new(), of_stage: Vec::with_capacity(reads.len()) };
        for read in &reads {
            let of_stage = read.and_then(|(tensor, _)| relus.share(graph, tensor, &reads));
            relus.of_stage.push(of_stage);
        }
        relus
    }

    /// Index of a state, which is added if it is new, if more than one of `reads` is of it.
    fn share(&mut self, graph: &Graph, tensor: TensorId, reads: &[Option<(TensorId, usize)>]) -> Option<usize> {
        let known = self.states.iter().position(|relu| relu.tensor == tensor);
        known.or_else(|| {
            let borders = reads.iter().flatten().filter(|read| read.0 == tensor).map(|read| read.1);
            let border = borders.clone().max().filter(|_| borders.count() > 1)?;
            let len = graph.tensors[tensor].padded(columns(border)).len();
            self.states.push(Relu { tensor, border, len });
            Some(self.states.len() - 1)
        })
    }

    /// Each state with its buffer.
    fn with_buffers<'a>(&'a self, buffers: &'a mut Vec<Buffer>) -> impl Iterator<Item = (&'a Relu, &'a mut Buffer)> {
        buffers.resize_with(buffers.len().max(self.states.len()), Buffer::default);
        self.states.iter().zip(buffers)
    }
}

fn columns(border: usize) -> Padding {
    Padding { left: border, right: border, ..Padding::NONE }
}

impl Network {
    /// Makes the buffers as large as any region needs them.
    pub(super) fn prepare_relus(&self, buffers: &mut Vec<Buffer>) {
        for plan in &self.plan.regions {
            for (relu, buffer) in plan.relus.with_buffers(buffers) {
                buffer.sized(plan.group * relu.len);
            }
        }
    }

    /// Computes those of `plan` for the group `images` of a chunk.
    pub(super) fn compute_relus(&self, plan: &RegionPlan, images: Range<usize>, chunk: &Chunk, scratch: &mut Scratch) {
        for (relu, buffer) in plan.relus.with_buffers(&mut scratch.relus) {
            let (shape, buffer) = (self.graph.tensors[relu.tensor], buffer.sized(plan.group * relu.len));
            for (image, y) in images.clone().zip(buffer.chunks_exact_mut(relu.len)) {
                let x = self.stored(&chunk.values, relu.tensor, image);
                self.kernels.prelude(x, shape, columns(relu.border), Prelude::Relu, y);
            }
        }
    }
}

impl RegionPlan {
    /// What the stage with index `index` in the region reads of an image of the last group that was computed to
    /// `buffers`, if that is one of them.
    ///
    /// In the caller's code, as [`Network::kept`](super::Network::kept).
    #[inline(always)]
    pub fn relu<'a>(&self, index: usize, image: usize, buffers: &'a [Buffer]) -> Option<Preluded<'a>> {
        let state = self.relus.of_stage[index]?;
        let Relu { border, len, .. } = self.relus.states[state];
        let values = &buffers[state].get(self.group * len)[image % self.group * len..][..len];
        Some(Preluded { values, border })
    }
}
