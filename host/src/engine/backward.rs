//! The backward pass, region by region in reverse order.
//!
//! A batch norm's backward needs two sums over the whole batch, Σ dy and Σ dy·(z − mean). They are added up in the
//! region that completes dy, turned into coefficients behind its barrier, and used when the stage before the norm is
//! reached. The derivative by a mixing weight is a combination of the same two sums.

use std::array::from_fn;
use std::mem::{replace, take};
use std::ops::Range;

use darts_kernels_simd::{NormSums, NormTerm, OutputGradient, SeparableInput, SeparableInputGradient, Stored};

use super::chunk::Chunk;
use super::forward::mixing_weight;
use super::parallel::Workers;
use super::plan::{RegionPlan, Upstream, Written, sums_len};
use super::portions::Portion;
use super::scratch::{Buffer, Scratch, TERMS};
use super::stage::{GroupInput, InputGradient, StageGradients, Weights};
use super::terms::MixTerms;
use super::{Engine, Inputs, Network};
use crate::graph::{Graph, INPUT, Mix, NormId, TensorId, TermWeight};

/// Portions whose gradients of weights are added up in one pass.
const TOGETHER: usize = 16;

/// Where gradients go; everything is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to the flat weights, if wanted.
    pub weights: Option<&'a mut [f32]>,
    /// With respect to the mixing weights.
    pub mix_weights: &'a mut [f32],
}

/// One stage of a region on one image.
#[derive(Clone, Copy)]
pub(super) struct Work {
    /// Index in the region.
    pub index: usize,
    /// Index in the graph.
    pub stage: usize,
    pub image: usize,
}

/// The gradient `dy` of a mix on one image.
#[derive(Clone, Copy)]
pub(super) struct MixWork<'a> {
    pub mix: &'a Mix,
    /// What becomes of each of its terms.
    pub written: &'a [Written],
    pub image: usize,
    pub dy: &'a [f32],
}

impl MixWork<'_> {
    /// Where the sums of a term lie.
    pub fn sums_of(&self, graph: &Graph, index: usize) -> Range<usize> {
        let Some(start) = self.written[index].sums else {
            unreachable!("term {index} of {} has no sums", self.mix.name)
        };
        start..start + sums_len(graph, &self.mix.terms[index])
    }
}

/// What all tasks of a region share.
pub(super) struct Shared<'a> {
    pub network: &'a Network,
    region: usize,
    pub plan: &'a RegionPlan,
    pub inputs: &'a Inputs<'a>,
    want_weights: bool,
    /// Which tensors' gradients are begun before the region.
    pub live: &'a [bool],
}

impl Engine {
    /// Gradients of a loss with the given derivative by the logits (and by the auxiliary head's, which goes without if
    /// it is not given) at the last forward pass, which must have been in [`Mode::Batch`](super::Mode::Batch) with the
    /// same `inputs`.
    pub fn backward(
        &mut self,
        workers: &Workers,
        inputs: Inputs,
        dlogits: &[f32],
        auxiliary: Option<&[f32]>,
        mut gradients: Gradients,
    ) {
        self.begin_backward(workers, inputs.weights, &mut gradients);
        self.backward_head(workers, false, inputs.weights, dlogits, &mut gradients);
        if let Some(dlogits) = auxiliary {
            self.backward_head(workers, true, inputs.weights, dlogits, &mut gradients);
        }
        self.backward_regions(workers, &inputs, gradients);
    }

    /// The same from a given gradient `dy` `[N, H, W, C]` of one state instead of a head's.
    pub fn backward_from(
        &mut self,
        workers: &Workers,
        inputs: Inputs,
        state: TensorId,
        dy: &[f32],
        mut gradients: Gradients,
    ) {
        self.begin_backward(workers, inputs.weights, &mut gradients);
        let len = self.network.graph.tensors[state].len();
        self.chunks.write(|chunks| {
            for chunk in chunks {
                let dy = &dy[chunk.images.start * len..chunk.images.end * len];
                chunk.gradients[self.network.slot(state)][..dy.len()].copy_from_slice(dy);
            }
        });
        self.live[state] = true;
        self.backward_regions(workers, &inputs, gradients);
    }

    fn begin_backward(&mut self, workers: &Workers, weights: &[f32], gradients: &mut Gradients) {
        self.live.fill(false);
        let Network { plan, kernels, transposed, .. } = &mut self.network;
        let range = |&stage: &usize| plan.stages[stage].weights.clone();
        workers.run_parts(&plan.weighted, transposed, range, |&stage, transposed| {
            plan.stages[stage].transpose(*kernels, weights, transposed);
        });
        if let Some(weights) = gradients.weights.as_deref_mut() {
            weights.fill(0.0);
        }
        gradients.mix_weights.fill(0.0);
    }

    fn backward_regions(&mut self, workers: &Workers, inputs: &Inputs, mut gradients: Gradients) {
        for region in (0..self.network.graph.regions.len()).rev() {
            self.backward_region(workers, region, inputs, &mut gradients);
            for (tensor, live) in self.live.iter_mut().enumerate() {
                if self.network.plan.last_reader[tensor] == region && tensor != INPUT {
                    *live = false;
                }
            }
        }
    }

    fn backward_region(&mut self, workers: &Workers, index: usize, inputs: &Inputs, gradients: &mut Gradients) {
        let Self { network, chunks, live, .. } = self;
        let plan = &network.plan.regions[index];
        let want_weights = gradients.weights.is_some();
        chunks.write(|chunks| {
            let shared = Shared { network, region: index, plan, inputs, want_weights, live };
            workers.run(chunks, |chunk, scratch| shared.backward_chunk(chunk, scratch));
            if let Some(dw) = gradients.weights.as_deref_mut() {
                let range = |&(stage, _): &(usize, usize)| network.plan.stages[stage].weights.clone();
                workers.run_parts(&plan.weighted, dw, range, |&(_, start), dw| {
                    network.add_up_weights(chunks, start, dw);
                });
            }
            for (&tensor, &written) in plan.targets.iter().zip(&chunks[0].written) {
                live[tensor] = written;
            }
        });
        let sums = plan.sums_len;
        self.add_up_sums(sums);
        self.finish_reductions(index, inputs, gradients);
    }
}

impl Network {
    /// The buffer of a tensor's gradient.
    pub(super) fn slot(&self, tensor: TensorId) -> usize {
        match self.plan.slots[tensor] {
            Some(slot) => slot,
            None => unreachable!("tensor {tensor} has no gradient"),
        }
    }

    /// Adds the gradients of weights that lie from `start` on in each portion to `dw`, in the order of the portions.
    fn add_up_weights(&self, chunks: &[Chunk], start: usize, dw: &mut [f32]) {
        let (count, range) = (Chunk::all_portions(chunks).count(), start..start + dw.len());
        let mut parts = Chunk::all_portions(chunks).map(|portion| &portion.weights[range.clone()]);
        for first in (0..count).step_by(TOGETHER) {
            let together: [&[f32]; TOGETHER] = from_fn(|_| parts.next().unwrap_or_default());
            self.kernels.add_all(&together[..TOGETHER.min(count - first)], dw);
        }
    }

    /// Adds `factor` times the sums of one image's `dy` and `dy·(z − mean)`.
    pub(super) fn reduce(&self, norm: NormId, dy: &[f32], z: &[f32], factor: f32, sums: &mut [f64]) {
        let NormSums { mean, scale, sum, dot } = self.norm_sums(norm, factor, sums);
        self.kernels.norm_backward_reduce(dy, z.into(), mean, scale, sum, dot);
    }

    /// What a kernel needs to add `factor` times these sums at the front of `sums`.
    pub(super) fn norm_sums<'a>(&'a self, norm: NormId, factor: f32, sums: &'a mut [f64]) -> NormSums<'a> {
        let range = self.graph.norms[norm].range.clone();
        let (sum, dot) = sums[..2 * range.len()].split_at_mut(range.len());
        NormSums { mean: &self.norms.mean[range], scale: factor, sum, dot }
    }
}

impl Shared<'_> {
    fn backward_chunk(&self, chunk: &mut Chunk, scratch: &mut Scratch) {
        let Network { graph, .. } = self.network;
        chunk.portions.clear(self.plan.sums_len);
        for images in self.plan.groups(chunk.images.len()) {
            chunk.written.clear();
            chunk.written.extend(self.plan.targets.iter().map(|&tensor| self.live[tensor]));
            if self.want_weights {
                self.network.compute_relus(self.plan, images.clone(), chunk, scratch);
            }
            for (index, &stage) in graph.regions[self.region].stages.iter().enumerate().rev() {
                if self.want_weights {
                    chunk.portions.clear_weights(&images, self.weights_of(index, stage));
                }
                if self.is_due(stage) {
                    chunk.each(images.clone(), |image, chunk| {
                        self.backward_stage(Work { index, stage, image }, chunk, scratch);
                    });
                }
            }
            for index in (0..graph.regions[self.region].mixes.len()).rev() {
                chunk.each(images.clone(), |image, chunk| self.backward_mix(index, image, chunk, &mut scratch.value));
            }
        }
    }

    /// The tensor from whose gradient that of a stage's (normalised) output comes.
    fn gradient_source(&self, stage: usize, upstream: Upstream) -> TensorId {
        let graph = &self.network.graph;
        match upstream {
            Upstream::Term { mix, .. } => graph.mixes[mix].output,
            Upstream::Own => graph.stages[stage].output,
        }
    }

    /// Whether a gradient comes that way.
    pub(super) fn is_live(&self, stage: usize, upstream: Upstream) -> bool {
        self.live[self.gradient_source(stage, upstream)]
    }

    /// What comes from `upstream` of the gradient of a stage's stored value; `buffer` is for what has no norm.
    fn output_gradient<'a>(
        &'a self,
        work: Work,
        upstream: Upstream,
        chunk: &'a Chunk,
        buffer: &'a mut Buffer,
    ) -> OutputGradient<'a> {
        let Network { graph, kernels, norms, .. } = self.network;
        let from = self.gradient_source(work.stage, upstream);
        let (norm, weight, scale) = match upstream {
            Upstream::Term { mix, term } => {
                let term = &graph.mixes[mix].terms[term];
                let factor = self.network.drop_factor(term, self.inputs, chunk, work.image);
                (term.source.norm, mixing_weight(term, self.inputs), factor)
            }
            Upstream::Own => (graph.stages[work.stage].norms.first().copied(), 1.0, 1.0),
        };
        let dy = &chunk.gradients[self.network.slot(from)][Chunk::place(graph, from, work.image)];
        match norm {
            Some(norm) => {
                let range = graph.norms[norm].range.clone();
                let [mean, p, q, r] = [&norms.mean, &norms.p, &norms.q, &norms.r].map(|all| &all[range.clone()]);
                let output = graph.stages[work.stage].output;
                let z = self.network.kept(&chunk.values, output, work.image);
                OutputGradient::Norm { dy, z, mean, p, q, r, scale }
            }
            None if weight * scale == 1.0 => OutputGradient::Ready(dy),
            None => {
                let dz = buffer.sized(dy.len());
                kernels.scale(weight * scale, dy, dz);
                OutputGradient::Ready(dz)
            }
        }
    }

    /// Where a stage's gradients of weights lie in a portion.
    fn weights_of(&self, index: usize, stage: usize) -> Range<usize> {
        let start = self.plan.weights[index];
        start..start + self.network.plan.stages[stage].weights.len()
    }

    /// Whether a gradient comes to a stage, and something depends on what becomes of it.
    fn is_due(&self, stage: usize) -> bool {
        let Network { graph, plan, .. } = self.network;
        let live = plan.upstream[stage].iter().any(|&upstream| self.is_live(stage, upstream));
        live && self.is_wanted(graph.stages[stage].output)
    }

    fn backward_stage(&self, work: Work, chunk: &mut Chunk, scratch: &mut Scratch) {
        let Work { index, stage, image } = work;
        let plan = &self.network.plan.stages[stage];
        if let Some(pool) = &plan.pool {
            self.backward_pool(work, pool, chunk, scratch);
            return;
        }
        let Portion { mut sums, mut weights } = take(chunk.portions.of(image));
        let dw = self.want_weights.then(|| &mut weights[self.weights_of(index, stage)]);
        if plan.is_fused() {
            self.backward_fused(work, chunk, dw, &mut sums, scratch);
        } else {
            self.backward_unfused(work, chunk, dw, &mut sums, scratch);
        }
        *chunk.portions.of(image) = Portion { sums, weights };
    }

    fn backward_fused(
        &self,
        work: Work,
        chunk: &mut Chunk,
        dw: Option<&mut [f32]>,
        sums: &mut [f64],
        scratch: &mut Scratch,
    ) {
        let network = self.network;
        let (source, plan) = (network.graph.stages[work.stage].inputs[0], &network.plan.stages[work.stage]);
        let read = self.plan.reads[work.index][0];
        let mut gradient = read.map(|_| take(&mut chunk.gradients[network.slot(source.tensor)]));
        let accumulate = read.is_some_and(|read| self.begin(read, chunk));
        let Scratch { stage, stored_gradient, relus, .. } = scratch;
        let [upstream] = network.plan.upstream[work.stage][..] else {
            unreachable!("stage {} has many readers", work.stage)
        };
        let dz = self.output_gradient(work, upstream, chunk, stored_gradient);
        let place = Chunk::place(&network.graph, source.tensor, work.image);
        let norm_sums = read.and_then(|read| read.sums).zip(source.norm);
        let norm_sums = norm_sums.map(|(start, norm)| network.norm_sums(norm, 1.0, &mut sums[start..]));
        let dx = gradient.as_mut().map(|gradient| SeparableInputGradient {
            dx: &mut gradient[place],
            accumulate,
            sums: norm_sums,
        });
        let x = network.kept(&chunk.values, source.tensor, work.image);
        // Without gradients of weights nothing reads it, and it is not computed.
        let preluded = if self.want_weights { self.plan.relu(work.index, work.image, relus) } else { None };
        let input = SeparableInput { x, prelude: plan.prelude(network.source_fold(source)), preluded };
        plan.backward_fused(network.kernels, self.weights(), input, StageGradients { dz, dw, dx }, stage);
        if let Some(gradient) = gradient {
            chunk.gradients[network.slot(source.tensor)] = gradient;
        }
    }

    fn backward_unfused(
        &self,
        work: Work,
        chunk: &mut Chunk,
        mut dw: Option<&mut [f32]>,
        sums: &mut [f64],
        scratch: &mut Scratch,
    ) {
        let network = self.network;
        let (stage, plan) = (&network.graph.stages[work.stage], &network.plan.stages[work.stage]);
        let Scratch { stage: stage_scratch, value, stored_gradient, scaled, part, .. } = scratch;
        let dz = stored_gradient.sized(network.graph.tensors[stage.output].len());
        let live = network.plan.upstream[work.stage].iter().filter(|&&upstream| self.is_live(work.stage, upstream));
        for (index, &upstream) in live.enumerate() {
            let target = if index == 0 { &mut *dz } else { part.sized(dz.len()) };
            match self.output_gradient(work, upstream, chunk, scaled) {
                OutputGradient::Ready(dz) => target.copy_from_slice(dz),
                OutputGradient::Norm { dy, z, mean, p, q, r, scale } => {
                    network.kernels.norm_backward_apply(dy, z, mean, p, q, r, scale, target);
                }
            }
            if index > 0 {
                network.kernels.axpy(1.0, part.get(dz.len()), dz);
            }
        }
        let dz = &*dz;
        for (group, (&source, &read)) in stage.inputs.iter().zip(&self.plan.reads[work.index]).enumerate() {
            let place = Chunk::place(&network.graph, source.tensor, work.image);
            let mut gradient = read.map(|_| take(&mut chunk.gradients[network.slot(source.tensor)]));
            let accumulate = read.is_some_and(|read| self.begin(read, chunk));
            let dx =
                gradient.as_mut().map(|gradient| InputGradient { values: &mut gradient[place.clone()], accumulate });
            let x = network.value(&chunk.values, source.tensor, work.image, value);
            let input = GroupInput { group, x, prelude: plan.prelude(network.source_fold(source)) };
            let gradients = StageGradients { dz, dw: dw.as_deref_mut(), dx };
            plan.backward(network.kernels, self.weights(), input, gradients, stage_scratch);
            if let (Some(norm), Some(start), Some(gradient)) = (source.norm, read.and_then(|read| read.sums), &gradient)
            {
                network.reduce(norm, &gradient[place], x, 1.0, &mut sums[start..]);
            }
            if let Some(gradient) = gradient {
                chunk.gradients[network.slot(source.tensor)] = gradient;
            }
        }
    }

    /// Whether anything depends on a tensor's gradient.
    pub(super) fn is_wanted(&self, tensor: TensorId) -> bool {
        self.want_weights || self.network.plan.mixed[tensor]
    }

    /// Whether a gradient that is about to be written is begun already; it is from now on.
    pub(super) fn begin(&self, written: Written, chunk: &mut Chunk) -> bool {
        written.target.is_some_and(|target| replace(&mut chunk.written[target], true))
    }

    fn weights(&self) -> Weights<'_> {
        Weights { flat: self.inputs.weights, transposed: &self.network.transposed }
    }

    fn backward_mix(&self, index: usize, image: usize, chunk: &mut Chunk, buffer: &mut Buffer) {
        let network = self.network;
        let Network { graph, kernels, .. } = network;
        let mix = graph.regions[self.region].mixes[index];
        let node = &graph.mixes[mix];
        let (own, terms) = &self.plan.mixes[index];
        if !chunk.written[*own] {
            return;
        }
        let place = Chunk::place(graph, node.output, image);
        let gradient = take(&mut chunk.gradients[network.slot(node.output)]);
        let dy = &gradient[place.clone()];
        if let Some(gather) = node.gather {
            self.scatter((node, gather), terms, image, dy, chunk);
            chunk.gradients[network.slot(node.output)] = gradient;
            return;
        }
        let mut sums = take(&mut chunk.portions.of(image).sums);
        let work = MixWork { mix: node, written: terms, image, dy };
        let MixTerms { kept, pools } = &network.plan.terms[mix];
        for kept in kept.chunks(TERMS) {
            self.reduce_kept(work, kept, chunk, (&mut sums, &mut *buffer));
        }
        for pools in pools {
            self.reduce_pools(work, pools, chunk, (&mut sums, &mut *buffer));
        }
        chunk.portions.of(image).sums = sums;
        for (term, &Written { target, .. }) in node.terms.iter().zip(terms) {
            if let Some(target) = target.filter(|_| self.is_wanted(term.source.tensor)) {
                let weight = mixing_weight(term, self.inputs) * network.drop_factor(term, self.inputs, chunk, image);
                let dx = &mut chunk.gradients[network.slot(term.source.tensor)][place.clone()];
                if replace(&mut chunk.written[target], true) {
                    kernels.axpy(weight, dy, dx);
                } else {
                    kernels.scale(weight, dy, dx);
                }
            }
        }
        chunk.gradients[network.slot(node.output)] = gradient;
    }

    /// Adds what the barrier needs to know of up to `TERMS` terms whose values are kept.
    fn reduce_kept(
        &self,
        work: MixWork,
        terms: &[usize],
        chunk: &Chunk,
        (mut sums, buffer): (&mut [f64], &mut Buffer),
    ) {
        let network = self.network;
        // Those behind a norm, in the order of their sums.
        let none = || NormSums { mean: &[], scale: 0.0, sum: &mut [], dot: &mut [] };
        let mut reductions = [(); TERMS].map(|()| NormTerm { z: Stored::F32(&[]), sums: none() });
        let (mut count, mut start) = (0, 0);
        for &index in terms {
            let (term, own) = (&work.mix.terms[index], work.sums_of(&network.graph, index));
            let Some(norm) = term.source.norm else {
                self.reduce_plain(work, index, chunk, &mut sums[own.start - start], buffer);
                continue;
            };
            let (before, rest) = take(&mut sums).split_at_mut(own.end - start);
            let factor = network.drop_factor(term, self.inputs, chunk, work.image);
            let sums_of_term = network.norm_sums(norm, factor, &mut before[own.start - start..]);
            let z = network.kept(&chunk.values, term.source.tensor, work.image);
            reductions[count] = NormTerm { z, sums: sums_of_term };
            (count, start, sums) = (count + 1, own.end, rest);
        }
        network.kernels.norm_backward_reduce_terms(work.dy, &mut reductions[..count]);
    }

    /// The same for a term that has no norm.
    pub(super) fn reduce_plain(&self, work: MixWork, index: usize, chunk: &Chunk, sum: &mut f64, buffer: &mut Buffer) {
        let (network, term) = (self.network, &work.mix.terms[index]);
        if matches!(term.weight, TermWeight::Alpha(_)) {
            let factor = network.drop_factor(term, self.inputs, chunk, work.image);
            let z = network.value(&chunk.values, term.source.tensor, work.image, buffer);
            *sum += f64::from(factor) * network.kernels.dot(work.dy, z);
        }
    }
}
