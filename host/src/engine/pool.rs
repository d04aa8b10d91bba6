//! Pools whose values are not kept: whatever needs them computes them from the pool's input, without storing them.

use std::mem::take;

use darts_kernels_simd::{
    MixTerm, Moments, NormGradient, NormSums, PAIR_TERMS, PairFactors, PairGradient, PairSums, PairTerm, PoolGradient,
    PoolShape, Pooling,
};

use super::Network;
use super::backward::{MixWork, Shared, Work};
use super::chunk::{Chunk, Values};
use super::forward::mixing_weight;
use super::plan::{Storage, Upstream, Written};
use super::scratch::{Buffer, Scratch};
use super::terms::{PoolPair, PoolTerms};
use crate::graph::{Graph, Mix, NormId, Op, Stage, TensorId};

/// What the backward pass of a pair of pools needs for each channel: `q` and `r` of both, and two factors for each
/// term.
pub(super) const PAIR_SCALES: usize = 4 + 2 * PAIR_TERMS;

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

    /// Whether the two are the maximum and the average of the same windows.
    pub fn pairs_with(&self, other: &Pool) -> bool {
        let windows = |pool: &Pool| (pool.input, pool.shape);
        windows(self) == windows(other) && self.pooling != other.pooling
    }

    /// Whether there is a kernel for the backward passes of both pools of these windows together.
    pub fn has_pair_backward(&self) -> bool {
        self.shape.has_pair_backward()
    }

    /// Makes the scratch of that as large as it needs it.
    pub fn prepare(&self, kernel: &mut Buffer) {
        if self.has_pair_backward() {
            kernel.sized(self.shape.pair_backward_scratch());
        }
    }

    /// Whether it takes the maximum of each window.
    pub fn is_maximum(&self) -> bool {
        self.pooling == Pooling::Maximum
    }

    /// The state of which it is a pool.
    pub fn input(&self) -> TensorId {
        self.input
    }
}

impl Network {
    /// The pool that a term of a mix is.
    fn pool_of(&self, mix: &Mix, term: usize) -> &Pool {
        let tensor = mix.terms[term].source.tensor;
        let Storage::Recomputed(stage) = self.plan.storage[tensor] else { unreachable!("tensor {tensor} is kept") };
        self.pool(stage)
    }

    /// The mix that reads a pool, and its pair of terms whose backward pass is one.
    fn pair_of(&self, upstream: Upstream) -> Option<(&Mix, PoolPair)> {
        let Upstream::Term { mix, term } = upstream else { return None };
        Some((&self.graph.mixes[mix], self.plan.terms[mix].backward_pair(term)?))
    }

    /// Sets `p` to the first factor of the gradient behind a norm, times `factor`, and adds the others to `q` and `r`.
    fn add_coefficients(&self, norm: NormId, factor: f32, p: &mut [f32], [q, r]: [&mut [f32]; 2]) {
        let (norms, range) = (&self.norms, self.graph.norms[norm].range.clone());
        p.iter_mut().zip(&norms.p[range.clone()]).for_each(|(scaled, p)| *scaled = factor * p);
        q.iter_mut().zip(&norms.q[range.clone()]).for_each(|(sum, q)| *sum += q);
        r.iter_mut().zip(&norms.r[range]).for_each(|(sum, r)| *sum += r);
    }

    /// The means of the norm behind a pool that is a term of a pair.
    fn mean_of(&self, mix: &Mix, term: usize) -> &[f32] {
        let norm = self.norm_of(mix, term);
        &self.norms.mean[self.graph.norms[norm].range.clone()]
    }

    /// The norm behind a pool that is a term of a pair.
    fn norm_of(&self, mix: &Mix, term: usize) -> NormId {
        let Some(norm) = mix.terms[term].source.norm else { unreachable!("a pair of {} without norms", mix.name) };
        norm
    }

    /// Adds terms of a mix, each times the factors that `scale` has for it, to the mix `y` of one image.
    pub(super) fn mix_pools<'a>(
        &self,
        terms: &PoolTerms,
        mix: &Mix,
        scale: impl Fn(usize) -> &'a [f32],
        (all, image): (&[Values], usize),
        y: &mut [f32],
    ) {
        match *terms {
            PoolTerms::One(term) => self.pool_of(mix, term).mix(self, all, image, scale(term), y),
            PoolTerms::Pair(PoolPair { maximum, average, state, .. }) => {
                let Pool { input, shape, .. } = *self.pool_of(mix, maximum);
                let own = state.map(|term| scale(term)[0]);
                let factors = PairFactors { maximum: scale(maximum), average: scale(average), image: own };
                self.kernels.pool_pair_mix(self.stored(all, input, image), shape, factors, y);
            }
        }
    }
}

impl Shared<'_> {
    /// Adds what the barrier needs to know of terms that are pools.
    pub(super) fn reduce_pools(
        &self,
        work: MixWork,
        terms: &PoolTerms,
        chunk: &Chunk,
        (sums, buffer): (&mut [f64], &mut Buffer),
    ) {
        let (network, MixWork { mix, image, dy, .. }, all) = (self.network, work, &chunk.values);
        let range = |term: usize| work.sums_of(&network.graph, term);
        let factor = |term: usize| network.drop_factor(&mix.terms[term], self.inputs, chunk, image);
        let sums_of = |term: usize, sums| Some(network.norm_sums(mix.terms[term].source.norm?, factor(term), sums));
        match *terms {
            PoolTerms::One(term) => match sums_of(term, &mut sums[range(term)]) {
                Some(sums) => network.pool_of(mix, term).reduce(network, all, image, dy, sums),
                None => self.reduce_plain(work, term, chunk, &mut sums[range(term).start], buffer),
            },
            PoolTerms::Pair(PoolPair { maximum, average, state, .. }) => {
                let Pool { input, shape, .. } = *network.pool_of(mix, maximum);
                let mut of_state = state.map(|_| 0.0);
                let Ok([of_maximum, of_average]) = sums.get_disjoint_mut([range(maximum), range(average)]) else {
                    unreachable!("the sums of two terms of {} overlap", mix.name)
                };
                let both = sums_of(maximum, of_maximum).zip(sums_of(average, of_average));
                let Some((maximum, average)) = both else { unreachable!("a pair of {} without norms", mix.name) };
                let pair = PairSums { maximum, average, image: of_state.as_mut() };
                network.kernels.pool_pair_norm_reduce(network.stored(all, input, image), dy, shape, pair);
                if let Some((term, dot)) = state.zip(of_state) {
                    sums[range(term).start] += f64::from(factor(term)) * dot;
                }
            }
        }
    }

    /// Backward of a pool, and of the batch norms through which it is read, on one image.
    pub(super) fn backward_pool(&self, work: Work, pool: &Pool, chunk: &mut Chunk, scratch: &mut Scratch) {
        let network = self.network;
        let Some(read) = self.plan.reads[work.index][0] else { return };
        if let Some(&upstream) = network.plan.upstream[work.stage].first()
            && network.pair_of(upstream).is_some()
        {
            // Of the two, one computes both.
            if pool.is_maximum() {
                self.backward_pair(work, pool, read, chunk, scratch);
            }
            return;
        }
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

    /// Backward of both pools of a state, of the batch norms through which they are read, and of the state itself as a
    /// term of the same mixes.
    fn backward_pair(&self, work: Work, pool: &Pool, read: Written, chunk: &mut Chunk, scratch: &mut Scratch) {
        let network = self.network;
        let Network { graph, plan, .. } = network;
        let (shape, channels) = (pool.shape, pool.shape.input.channels);
        let mut accumulate = self.begin(read, chunk);
        let slot = network.slot(pool.input);
        let gradient = take(&mut chunk.gradients[slot]);
        let dx = &mut gradient[Chunk::place(graph, pool.input, work.image)];
        let x = network.stored(&chunk.values, pool.input, work.image);

        for readers in plan.upstream[work.stage].chunks(PAIR_TERMS) {
            let scales = scratch.scales.sized(PAIR_SCALES * channels);
            let (coefficients, factors) = scales.split_at_mut(4 * channels);
            coefficients.fill(0.0);
            let (of_maximum, of_average) = coefficients.split_at_mut(2 * channels);
            let ((q, r), (mean_q, mean_r)) = (of_maximum.split_at_mut(channels), of_average.split_at_mut(channels));
            let mut terms = [PairTerm { dy: &[], maximum: &[], average: &[], image: 0.0 }; PAIR_TERMS];
            let (mut count, mut means) = (0, [&[][..]; 2]);
            let live = readers.iter().filter(|&&upstream| self.is_live(work.stage, upstream));
            for (&upstream, factors) in live.zip(factors.chunks_exact_mut(2 * channels)) {
                let Some((mix, pair)) = network.pair_of(upstream) else { unreachable!("half a pair of pools") };
                let PoolPair { maximum, average, state, .. } = pair;
                let factor = |term: usize| network.drop_factor(&mix.terms[term], self.inputs, chunk, work.image);
                let (p, mean_p) = factors.split_at_mut(channels);
                network.add_coefficients(network.norm_of(mix, maximum), factor(maximum), p, [&mut *q, &mut *r]);
                let others = [&mut *mean_q, &mut *mean_r];
                network.add_coefficients(network.norm_of(mix, average), factor(average), mean_p, others);
                means = [maximum, average].map(|term| network.mean_of(mix, term));
                let dy = &chunk.gradients[network.slot(mix.output)][Chunk::place(graph, mix.output, work.image)];
                let image = state.map_or(0.0, |term| factor(term) * mixing_weight(&mix.terms[term], self.inputs));
                terms[count] = PairTerm { dy, maximum: p, average: mean_p, image };
                count += 1;
            }
            if count > 0 {
                let maximum = NormGradient { mean: means[0], q, r };
                let average = NormGradient { mean: means[1], q: mean_q, r: mean_r };
                let gradients = PairGradient { terms: &terms[..count], maximum, average };
                let rows = scratch.stage.kernel.sized(shape.pair_backward_scratch());
                network.kernels.pool_pair_norm_backward(x, gradients, dx, shape, accumulate, rows);
                accumulate = true;
            }
        }
        chunk.gradients[slot] = gradient;
    }

    /// Adds up what comes from all terms that read a pool: gradients, each with its factor, in
    /// `scratch.stored_gradient`; factors and summands of the batch norms, `q` and `r`, behind the first channels of
    /// `scratch.scales`. Returns one of these norms, all of which have the same mean.
    fn add_up_terms(&self, work: Work, chunk: &Chunk, scratch: &mut Scratch) -> Option<NormId> {
        let Network { graph, kernels, plan, .. } = self.network;
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
                    let (q, r) = coefficients.split_at_mut(channels);
                    self.network.add_coefficients(norm, factor, scale, [q, r]);
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
