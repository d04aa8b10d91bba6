//! Pools whose values are not kept: whatever needs them computes them from the pool's input, without storing them.

use std::mem::take;

use darts_kernels_simd::{MixTerm, Moments, NormSums, PoolGradient, PoolShape, Pooling};

use super::Network;
use super::backward::{Shared, Work};
use super::chunk::{Chunk, Values};
use super::forward::mixing_weight;
use super::plan::Upstream;
use super::scratch::Scratch;
use crate::graph::{Graph, NormId, Op, Stage, TensorId};

/// A pool of a state, which is stored.
#[derive(Debug)]
pub(super) struct Pool {
    input: TensorId,
    pooling: Pooling,
    shape: PoolShape,
}

impl Pool {
    /// The pool that is all of `stage`, if it is one.
    pub fn new(graph: &Graph, stage: &Stage) -> Option<Self> {
        let [source] = stage.inputs.as_slice() else { return None };
        let input = graph.tensors[source.tensor];
        let (pooling, kernel, stride, padding) = match *stage.ops.as_slice() {
            [Op::MaxPool { kernel, stride, padding }] => (Pooling::Maximum, kernel, stride, padding),
            [Op::AvgPool { kernel, stride, padding }] => (Pooling::Average, kernel, stride, padding),
            _ => return None,
        };
        let from_state = graph.stages.iter().all(|other| other.output != source.tensor);
        let shape = PoolShape { input, kernel, stride, padding };
        (from_state && !stage.relu).then_some(Self { input: source.tensor, pooling, shape })
    }

    /// The values of one image.
    pub fn values(&self, network: &Network, all: &[Values], image: usize, z: &mut [f32]) {
        let x = network.stored(all, self.input, image);
        match self.pooling {
            Pooling::Maximum => network.kernels.max_pool(x, z, self.shape),
            Pooling::Average => network.kernels.avg_pool(x, z, self.shape),
        }
    }

    /// Adds the sums of one image that a batch norm needs.
    pub fn moments(&self, network: &Network, all: &[Values], image: usize, moments: Moments) {
        network.kernels.pool_moments(self.pooling, network.stored(all, self.input, image), self.shape, moments);
    }

    /// Adds `scale` times the values of one image to `y`.
    pub fn mix(&self, network: &Network, all: &[Values], image: usize, scale: &[f32], y: &mut [f32]) {
        network.kernels.pool_mix(self.pooling, network.stored(all, self.input, image), self.shape, scale, y);
    }

    /// Adds the sums of one image that the backward pass of a batch norm needs.
    pub fn reduce(&self, network: &Network, all: &[Values], image: usize, dy: &[f32], sums: NormSums) {
        network.kernels.pool_norm_reduce(self.pooling, network.stored(all, self.input, image), dy, self.shape, sums);
    }
}

impl Shared<'_> {
    /// Backward of a pool, and of the batch norms through which it is read, on one image.
    pub(super) fn backward_pool(&self, work: Work, pool: &Pool, chunk: &mut Chunk, scratch: &mut Scratch) {
        let network = self.network;
        let Some(read) = self.plan.reads[work.index][0] else { return };
        let norm = self.add_up_terms(work, chunk, scratch);
        let slot = network.slot(pool.input);
        let gradient = take(&mut chunk.gradients[slot]);
        let accumulate = self.begin(read, chunk);
        let dx = &mut gradient[Chunk::place(&network.graph, pool.input, work.image)];
        let x = network.stored(&chunk.values, pool.input, work.image);
        let dy = scratch.stored_gradient.get(pool.shape.output().len());
        match (norm, pool.pooling) {
            (Some(norm), _) => {
                let channels = pool.shape.input.channels;
                let (q, r) = scratch.scales.get(3 * channels)[channels..].split_at(channels);
                let mean = &network.norms.mean[network.graph.norms[norm].range.clone()];
                let gradient = PoolGradient { dy, mean, q, r };
                network.kernels.pool_norm_backward(pool.pooling, x, gradient, dx, pool.shape, accumulate);
            }
            (None, Pooling::Maximum) => network.kernels.max_pool_backward(x, dy, dx, pool.shape, accumulate),
            (None, Pooling::Average) => network.kernels.avg_pool_backward(dy, dx, pool.shape, accumulate),
        }
        chunk.gradients[slot] = gradient;
    }

    /// Adds up what comes from all terms that read a pool: gradients, each with its factor, in `scratch.stored_gradient`;
    /// factors and summands of the batch norms, `q` and `r`, behind the first channels of `scratch.scales`. Returns one of
    /// these norms, all of which have the same mean.
    fn add_up_terms(&self, work: Work, chunk: &Chunk, scratch: &mut Scratch) -> Option<NormId> {
        let Network { graph, kernels, norms, plan, .. } = self.network;
        let output = graph.tensors[graph.stages[work.stage].output];
        let Scratch { stored_gradient, scales, zeros, .. } = scratch;
        let gradient = stored_gradient.sized(output.len());
        let channels = output.channels;
        let scales = scales.sized(3 * channels);
        scales.fill(0.0);
        let (scale, coefficients) = scales.split_at_mut(channels);
        let (mut begun, mut any_norm) = (false, None);
        for &upstream in plan.upstream[work.stage].iter().filter(|&&upstream| self.is_live(work.stage, upstream)) {
            let Upstream::Term { mix, term } = upstream else { unreachable!("a pool that no mix reads") };
            let (mix, term) = (&graph.mixes[mix], &graph.mixes[mix].terms[term]);
            let factor = self.network.drop_factor(term, self.inputs, chunk, work.image);
            match term.source.norm {
                Some(norm) => {
                    let range = graph.norms[norm].range.clone();
                    scale.iter_mut().zip(&norms.p[range.clone()]).for_each(|(scale, p)| *scale = factor * p);
                    let (q, r) = coefficients.split_at_mut(channels);
                    q.iter_mut().zip(&norms.q[range.clone()]).for_each(|(sum, q)| *sum += q);
                    r.iter_mut().zip(&norms.r[range]).for_each(|(sum, r)| *sum += r);
                    any_norm = Some(norm);
                }
                None => scale.fill(factor * mixing_weight(term, self.inputs)),
            }
            let z = &chunk.gradients[self.network.slot(mix.output)][Chunk::place(graph, mix.output, work.image)];
            kernels.mix(&[MixTerm { z: z.into(), scale }], zeros.get(channels), gradient, begun);
            begun = true;
        }
        any_norm
    }
}
