//! The backward pass, region by region in reverse order.
//!
//! A batch norm's backward needs two sums over the whole batch, Σ dy and Σ dy·(z − mean). They are added up in the region
//! that completes dy, turned into coefficients behind its barrier, and used when the stage before the norm is reached.
//! The derivative by a mixing weight is a combination of the same two sums.

use std::mem::{replace, take};

use super::chunk::Chunk;
use super::forward::mixing_weight;
use super::parallel::Workers;
use super::plan::{RegionPlan, Upstream, Written};
use super::scratch::{Buffer, Scratch};
use super::stage::{GroupInput, InputGradient, Weights};
use super::{Engine, Inputs, Network};
use crate::graph::{INPUT, NormId, TensorId, TermWeight};

/// Where gradients go; everything is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to the flat weights, if wanted.
    pub weights: Option<&'a mut [f32]>,
    /// With respect to the mixing weights.
    pub mix_weights: &'a mut [f32],
}

/// What all tasks of a region share.
struct Shared<'a> {
    network: &'a Network,
    region: usize,
    plan: &'a RegionPlan,
    inputs: &'a Inputs<'a>,
    want_weights: bool,
    /// Which tensors' gradients are begun before the region.
    live: &'a [bool],
}

impl Engine {
    /// Gradients of a loss with the given derivative by the logits (and by the auxiliary head's, which goes without if it
    /// is not given) at the last forward pass, which must have been in [`Mode::Batch`](super::Mode::Batch) with the same
    /// `inputs`.
    pub fn backward(
        &mut self,
        workers: &Workers,
        inputs: Inputs,
        dlogits: &[f32],
        auxiliary: Option<&[f32]>,
        mut gradients: Gradients,
    ) {
        self.begin_backward(inputs.weights, &mut gradients);
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
        self.begin_backward(inputs.weights, &mut gradients);
        let len = self.network.graph.tensors[state].len();
        for chunk in &mut self.chunks[..self.in_use] {
            let dy = &dy[chunk.images.start * len..chunk.images.end * len];
            chunk.gradients[self.network.slot(state)][..dy.len()].copy_from_slice(dy);
        }
        self.live[state] = true;
        self.backward_regions(workers, &inputs, gradients);
    }

    fn begin_backward(&mut self, weights: &[f32], gradients: &mut Gradients) {
        self.live.fill(false);
        let Network { plan, kernels, transposed, .. } = &mut self.network;
        plan.stages.iter().for_each(|stage| stage.transpose(*kernels, weights, transposed));
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
        let Self { network, chunks, in_use, live, .. } = self;
        let chunks = &mut chunks[..*in_use];
        let plan = &network.plan.regions[index];
        let want_weights = gradients.weights.is_some();
        let shared = Shared { network, region: index, plan, inputs, want_weights, live };
        workers.run(chunks, |chunk, scratch| shared.backward_chunk(chunk, scratch));
        if let Some(dw) = gradients.weights.as_deref_mut() {
            for chunk in &*chunks {
                for (&stage, &start) in network.graph.regions[index].stages.iter().zip(&plan.weights) {
                    let range = network.plan.stages[stage].weights.clone();
                    network.kernels.axpy(1.0, &chunk.weights[start..start + range.len()], &mut dw[range]);
                }
            }
        }
        for (&tensor, &written) in plan.targets.iter().zip(&chunks[0].written) {
            live[tensor] = written;
        }
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

    /// Adds `factor` times the sums of one image's `dy` and `dy·(z − mean)`.
    pub(super) fn reduce(&self, norm: NormId, dy: &[f32], z: &[f32], factor: f32, sums: &mut [f64]) {
        let range = self.graph.norms[norm].range.clone();
        let (sum, dot) = sums[..2 * range.len()].split_at_mut(range.len());
        self.kernels.norm_backward_reduce(dy, z, &self.norms.mean[range], factor, sum, dot);
    }
}

impl Shared<'_> {
    fn backward_chunk(&self, chunk: &mut Chunk, scratch: &mut Scratch) {
        let Network { graph, .. } = self.network;
        chunk.sums[..self.plan.sums_len].fill(0.0);
        if self.want_weights {
            chunk.weights[..self.plan.weights_len].fill(0.0);
        }
        for image in 0..chunk.images.len() {
            chunk.written.clear();
            chunk.written.extend(self.plan.targets.iter().map(|&tensor| self.live[tensor]));
            for index in (0..graph.regions[self.region].stages.len()).rev() {
                self.backward_stage(index, image, chunk, scratch);
            }
            for index in (0..graph.regions[self.region].mixes.len()).rev() {
                self.backward_mix(index, image, chunk, &mut scratch.value);
            }
        }
    }

    /// Brings the gradient of a stage's stored value to `dz`; false if there is none.
    fn stored_gradient(
        &self,
        stage: usize,
        image: usize,
        chunk: &Chunk,
        value: &mut Buffer,
        target: &mut Buffer,
    ) -> bool {
        let Network { graph, kernels, plan, norms, .. } = self.network;
        let output = graph.stages[stage].output;
        let (from, weight, factor) = match plan.upstream[stage] {
            Upstream::Mix { mix, term } => {
                let term = &graph.mixes[mix].terms[term];
                let factor = self.network.drop_factor(term, self.inputs, chunk, image);
                (graph.mixes[mix].output, mixing_weight(term, self.inputs), factor)
            }
            Upstream::Own => (output, 1.0, 1.0),
        };
        if !self.live[from] {
            return false;
        }
        let dy = &chunk.gradients[self.network.slot(from)][Chunk::place(graph, from, image)];
        let dz = target.sized(dy.len());
        match graph.stages[stage].norm {
            Some(norm) => {
                let range = graph.norms[norm].range.clone();
                let [mean, p, q, r] = [&norms.mean, &norms.p, &norms.q, &norms.r].map(|all| &all[range.clone()]);
                let z = self.network.value(&chunk.values, output, image, value);
                kernels.norm_backward_apply(dy, z, mean, p, q, r, factor, dz);
            }
            None => {
                dz.fill(0.0);
                kernels.axpy(weight * factor, dy, dz);
            }
        }
        true
    }

    fn backward_stage(&self, index: usize, image: usize, chunk: &mut Chunk, scratch: &mut Scratch) {
        let network = self.network;
        let id = network.graph.regions[self.region].stages[index];
        let (stage, plan) = (&network.graph.stages[id], &network.plan.stages[id]);
        let Scratch { stage: stage_scratch, value, .. } = scratch;
        if !self.stored_gradient(id, image, chunk, value, &mut stage_scratch.stored_gradient) {
            return;
        }
        let weights = Weights { flat: self.inputs.weights, transposed: &network.transposed };
        let start = self.plan.weights[index];
        let mut all_weights = take(&mut chunk.weights);
        for (group, (&source, read)) in stage.inputs.iter().zip(&self.plan.reads[index]).enumerate() {
            let dw = self.want_weights.then(|| &mut all_weights[start..start + plan.weights.len()]);
            let prelude = plan.prelude(network.source_fold(source));
            let Some(Written { target: Some(target), sums }) = *read else {
                let x = network.value(&chunk.values, source.tensor, image, value);
                plan.backward(network.kernels, weights, GroupInput { group, x, prelude }, dw, None, stage_scratch);
                continue;
            };
            let mut gradient = take(&mut chunk.gradients[network.slot(source.tensor)]);
            let values = &mut gradient[Chunk::place(&network.graph, source.tensor, image)];
            let accumulate = replace(&mut chunk.written[target], true);
            let x = network.value(&chunk.values, source.tensor, image, value);
            let input = GroupInput { group, x, prelude };
            let dx = Some(InputGradient { values, accumulate });
            plan.backward(network.kernels, weights, input, dw, dx, stage_scratch);
            if let (Some(norm), Some(start)) = (source.norm, sums) {
                network.reduce(norm, values, x, 1.0, &mut chunk.sums[start..]);
            }
            chunk.gradients[network.slot(source.tensor)] = gradient;
        }
        chunk.weights = all_weights;
    }

    fn backward_mix(&self, index: usize, image: usize, chunk: &mut Chunk, value: &mut Buffer) {
        let network = self.network;
        let Network { graph, kernels, .. } = network;
        let node = &graph.mixes[graph.regions[self.region].mixes[index]];
        let (own, terms) = &self.plan.mixes[index];
        if !chunk.written[*own] {
            return;
        }
        let place = Chunk::place(graph, node.output, image);
        let gradient = take(&mut chunk.gradients[network.slot(node.output)]);
        let dy = &gradient[place.clone()];
        for (term, &Written { target, sums }) in node.terms.iter().zip(terms) {
            let factor = network.drop_factor(term, self.inputs, chunk, image);
            let start = sums.unwrap_or_default();
            match term.source.norm {
                Some(norm) => {
                    let z = network.value(&chunk.values, term.source.tensor, image, value);
                    network.reduce(norm, dy, z, factor, &mut chunk.sums[start..]);
                }
                None if matches!(term.weight, TermWeight::Alpha(_)) => {
                    let z = network.value(&chunk.values, term.source.tensor, image, value);
                    chunk.sums[start] += f64::from(factor) * kernels.dot(dy, z);
                }
                None => {}
            }
            if let Some(target) = target {
                let dx = &mut chunk.gradients[network.slot(term.source.tensor)][place.clone()];
                let weight = mixing_weight(term, self.inputs) * factor;
                if !replace(&mut chunk.written[target], true) {
                    dx.fill(0.0);
                }
                kernels.axpy(weight, dy, dx);
            }
        }
        chunk.gradients[network.slot(node.output)] = gradient;
    }
}
