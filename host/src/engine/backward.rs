//! The backward pass, region by region in reverse order.
//!
//! A batch norm's backward needs two sums over the whole batch, Σ dy and Σ dy·(z − mean). They are added up in the region
//! that completes dy, turned into coefficients behind its barrier, and used when the stage before the norm is reached.
//! The derivative by a mixing weight is a combination of the same two sums.

use std::mem::take;
use std::ops::Range;

use darts_kernels_simd::norm_backward_coefficients;

use super::aligned::AlignedBuffer;
use super::forward::{drop_factor, mixing_weight};
use super::norms::NormState;
use super::parallel::{Workers, chunks, split};
use super::scratch::Scratch;
use super::stage::{GroupInput, Weights};
use super::{Engine, Inputs, Upstream};
use crate::graph::{INPUT, NormId, Region, Source, TensorId, TermWeight};

/// Where gradients go; everything is overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to the flat weights, if wanted.
    pub weights: Option<&'a mut [f32]>,
    /// With respect to the mixing weights.
    pub mix_weights: &'a mut [f32],
}

/// What one region writes, laid out before it starts.
struct Layout {
    /// Tensors whose gradients are written.
    targets: Vec<TensorId>,
    /// Those of the targets that start at zero.
    fresh: Vec<bool>,
    /// What is reduced over the batch, and where its sums start.
    reductions: Vec<(Reduction, usize)>,
    sums: usize,
    /// Where each stage's weight gradients start in a chunk's part.
    weights: Vec<usize>,
    weights_len: usize,
}

/// Sums over the batch that a region's barrier has to complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reduction {
    /// Σ dy and Σ dy·(z − mean) of a norm that a stage reads.
    Read(NormId),
    /// The same for a term of a mix.
    Term { mix: usize, term: usize },
}

/// One chunk of the batch in one region.
struct Task<'a> {
    images: Range<usize>,
    /// The chunk's part of each target.
    targets: Vec<&'a mut [f32]>,
    sums: &'a mut [f64],
    weights: &'a mut [f32],
}

/// What all tasks of a region share.
struct Shared<'a> {
    engine: &'a Engine,
    region: &'a Region,
    layout: &'a Layout,
    inputs: &'a Inputs<'a>,
    want_weights: bool,
}

impl Engine {
    /// Gradients of a loss with the given derivative by the logits (and by the auxiliary head's) at the last forward
    /// pass, which must have been in [`Mode::Batch`](super::Mode::Batch) with the same `inputs`.
    pub fn backward(
        &mut self,
        workers: &Workers,
        inputs: Inputs,
        dlogits: &[f32],
        auxiliary: Option<&[f32]>,
        mut gradients: Gradients,
    ) {
        self.begin_backward(inputs.weights, &mut gradients);
        self.backward_head(false, inputs.weights, dlogits, &mut gradients);
        if let Some(dlogits) = auxiliary {
            self.backward_head(true, inputs.weights, dlogits, &mut gradients);
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
        let mut gradient = self.acquire_gradient(state);
        gradient[..dy.len()].copy_from_slice(dy);
        self.gradients[state] = gradient;
        self.backward_regions(workers, &inputs, gradients);
    }

    fn begin_backward(&mut self, weights: &[f32], gradients: &mut Gradients) {
        for tensor in 0..self.gradients.len() {
            self.release_gradient(tensor);
        }
        for plan in &self.plans {
            plan.transpose(self.kernels, weights, &mut self.transposed);
        }
        if let Some(weights) = gradients.weights.as_deref_mut() {
            weights.fill(0.0);
        }
        gradients.mix_weights.fill(0.0);
    }

    /// A zeroed gradient buffer for the images of the last forward pass.
    pub(super) fn acquire_gradient(&mut self, tensor: TensorId) -> AlignedBuffer {
        let len = self.graph.tensors[tensor].len() * self.batch;
        let mut buffer = self.resting.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| AlignedBuffer::new(len));
        buffer.fill(0.0);
        buffer
    }

    fn release_gradient(&mut self, tensor: TensorId) {
        let buffer = take(&mut self.gradients[tensor]);
        if !buffer.is_empty() {
            self.resting.entry(buffer.len()).or_default().push(buffer);
        }
    }

    fn backward_regions(&mut self, workers: &Workers, inputs: &Inputs, mut gradients: Gradients) {
        for region in (0..self.graph.regions.len()).rev() {
            self.backward_region(workers, region, inputs, &mut gradients);
            for tensor in 0..self.gradients.len() {
                if self.last_reader[tensor] == region && tensor != INPUT {
                    self.release_gradient(tensor);
                }
            }
        }
    }

    fn backward_region(&mut self, workers: &Workers, index: usize, inputs: &Inputs, gradients: &mut Gradients) {
        let layout = self.layout(&self.graph.regions[index]);
        let mut buffers = Vec::with_capacity(layout.targets.len());
        for &tensor in &layout.targets {
            let buffer = take(&mut self.gradients[tensor]);
            buffers.push(if buffer.is_empty() { self.acquire_gradient_unset(tensor) } else { buffer });
        }
        let lens: Vec<usize> = layout.targets.iter().map(|&tensor| self.graph.tensors[tensor].len()).collect();
        let ranges = chunks(self.images);
        let want_weights = gradients.weights.is_some();
        let weights_len = if want_weights { layout.weights_len } else { 0 };
        let mut sums = vec![0.0; layout.sums * ranges.len()];
        let mut weights = vec![0.0; weights_len * ranges.len()];
        let mut parts = split(&mut buffers, &lens, &ranges).into_iter();
        let mut sum_parts = sums.chunks_mut(layout.sums.max(1));
        let mut weight_parts = weights.chunks_mut(weights_len.max(1));
        let tasks = ranges.iter().map(|images| Task {
            images: images.clone(),
            targets: parts.next().unwrap_or_default(),
            sums: sum_parts.next().unwrap_or_default(),
            weights: weight_parts.next().unwrap_or_default(),
        });
        let region = &self.graph.regions[index];
        let shared = Shared { engine: self, region, layout: &layout, inputs, want_weights };
        workers.run(tasks.collect(), |mut task, scratch| {
            for image in task.images.clone() {
                shared.backward_image(image, &mut task, scratch);
            }
        });
        if let Some(dw) = gradients.weights.as_deref_mut() {
            for part in weights.chunks_exact(weights_len.max(1)) {
                for (&stage, &start) in region.stages.iter().zip(&layout.weights) {
                    let range = self.plans[stage].weights.clone();
                    self.kernels.axpy(1.0, &part[start..start + range.len()], &mut dw[range]);
                }
            }
        }
        for (&tensor, buffer) in layout.targets.iter().zip(buffers) {
            self.gradients[tensor] = buffer;
        }
        self.finish_reductions(&layout, &sums, inputs, gradients);
    }

    /// A gradient buffer of any content.
    fn acquire_gradient_unset(&mut self, tensor: TensorId) -> AlignedBuffer {
        let len = self.graph.tensors[tensor].len() * self.batch;
        self.resting.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| AlignedBuffer::new(len))
    }

    fn layout(&self, region: &Region) -> Layout {
        let mut layout =
            Layout { targets: vec![], fresh: vec![], reductions: vec![], sums: 0, weights: vec![], weights_len: 0 };
        for &stage in &region.stages {
            let (stage, plan) = (&self.graph.stages[stage], &self.plans[stage]);
            layout.weights.push(layout.weights_len);
            layout.weights_len += plan.weights.len();
            for (source, _) in stage.inputs.iter().zip(&plan.input_gradient).filter(|(_, wanted)| **wanted) {
                self.add_target(&mut layout, source.tensor);
                if let Some(norm) = source.norm {
                    layout.reductions.push((Reduction::Read(norm), layout.sums));
                    layout.sums += 2 * self.graph.norms[norm].range.len();
                }
            }
        }
        for &mix in &region.mixes {
            self.add_target(&mut layout, self.graph.mixes[mix].output);
            for (index, term) in self.graph.mixes[mix].terms.iter().enumerate() {
                layout.reductions.push((Reduction::Term { mix, term: index }, layout.sums));
                layout.sums += match term.source.norm {
                    Some(norm) => 2 * self.graph.norms[norm].range.len(),
                    None => 1,
                };
                if self.is_state(term.source) {
                    self.add_target(&mut layout, term.source.tensor);
                }
            }
        }
        layout
    }

    fn add_target(&self, layout: &mut Layout, tensor: TensorId) {
        if !layout.targets.contains(&tensor) {
            layout.targets.push(tensor);
            layout.fresh.push(self.gradients[tensor].is_empty());
        }
    }

    /// Whether a term's source is a state itself (a skip connection or the image), not a stage's output.
    fn is_state(&self, source: Source) -> bool {
        source.norm.is_none() && !self.stage_outputs[source.tensor]
    }

    /// Adds up the chunks' sums in order and turns them into coefficients and gradients.
    fn finish_reductions(&mut self, layout: &Layout, sums: &[f64], inputs: &Inputs, gradients: &mut Gradients) {
        let total: Vec<f64> =
            (0..layout.sums).map(|index| sums.iter().skip(index).step_by(layout.sums).sum()).collect();
        for &(reduction, start) in &layout.reductions {
            match reduction {
                Reduction::Read(norm) => {
                    self.finish_norm(norm, 1.0, &total[start..], inputs.weights, gradients.weights.as_deref_mut());
                }
                Reduction::Term { mix, term } => {
                    let term = self.graph.mixes[mix].terms[term];
                    let derivative = match term.source.norm {
                        Some(norm) => {
                            let weight = f64::from(mixing_weight(&term, inputs));
                            let sums = &total[start..];
                            self.finish_norm(norm, weight, sums, inputs.weights, gradients.weights.as_deref_mut());
                            self.term_derivative(norm, sums, inputs.weights)
                        }
                        None => total[start],
                    };
                    if let TermWeight::Alpha(index) = term.weight {
                        // All cells of a kind share one α.
                        gradients.mix_weights[index] += derivative as f32;
                    }
                }
            }
        }
    }

    /// Sets the coefficients of `norm` from the sums of `dy`, of which `weight` times reaches the norm.
    pub(super) fn finish_norm(
        &mut self,
        norm: NormId,
        weight: f64,
        sums: &[f64],
        weights: &[f32],
        mut dw: Option<&mut [f32]>,
    ) {
        let norm = &self.graph.norms[norm];
        let channels = norm.range.len();
        let count = self.images * self.graph.tensors[norm.tensor].pixels();
        for (channel, index) in norm.range.clone().enumerate() {
            let (gamma, _) = NormState::affine(norm, weights, channel);
            let (sum, dot) = (weight * sums[channel], weight * sums[channels + channel]);
            let backward = norm_backward_coefficients(sum, dot, count, self.norms.inverse_deviation[index], gamma);
            self.norms.p[index] = weight as f32 * backward.p;
            self.norms.q[index] = backward.q;
            self.norms.r[index] = backward.r;
            if let (Some([gamma, beta]), Some(dw)) = (&norm.affine, dw.as_deref_mut()) {
                dw[gamma.start + channel] = backward.dgamma;
                dw[beta.start + channel] = backward.dbeta;
            }
        }
    }

    /// ⟨dy, BN(z)⟩ from Σ dy and Σ dy·(z − mean).
    fn term_derivative(&self, norm: NormId, sums: &[f64], weights: &[f32]) -> f64 {
        let norm = &self.graph.norms[norm];
        let channels = norm.range.len();
        let of_channel = |(channel, index): (usize, usize)| {
            let (gamma, beta) = NormState::affine(norm, weights, channel);
            let scale = f64::from(gamma) * f64::from(self.norms.inverse_deviation[index]);
            scale * sums[channels + channel] + f64::from(beta) * sums[channel]
        };
        norm.range.clone().enumerate().map(of_channel).sum()
    }
}

impl Shared<'_> {
    fn backward_image(&self, image: usize, task: &mut Task, scratch: &mut Scratch) {
        for (index, &tensor) in self.layout.targets.iter().enumerate() {
            if self.layout.fresh[index] {
                let len = self.engine.graph.tensors[tensor].len();
                task.targets[index][(image - task.images.start) * len..][..len].fill(0.0);
            }
        }
        for index in (0..self.region.stages.len()).rev() {
            self.backward_stage(index, image, task, scratch);
        }
        for &mix in self.region.mixes.iter().rev() {
            self.backward_mix(mix, image, task);
        }
    }

    fn target(&self, tensor: TensorId) -> usize {
        match self.layout.targets.iter().position(|&target| target == tensor) {
            Some(index) => index,
            None => unreachable!("tensor {tensor} is no target of its region"),
        }
    }

    fn sums_start(&self, reduction: Reduction) -> usize {
        match self.layout.reductions.iter().find(|(other, _)| *other == reduction) {
            Some(&(_, start)) => start,
            None => unreachable!("a reduction of another region"),
        }
    }

    /// Values of one image.
    fn value(&self, tensor: TensorId, image: usize) -> &[f32] {
        let len = self.engine.graph.tensors[tensor].len();
        &self.engine.activations[tensor][image * len..][..len]
    }

    /// Writes the gradient of a stage's stored value for one image to `scratch.stored_gradient`.
    fn stored_gradient(&self, stage: usize, image: usize, scratch: &mut Scratch) {
        let Engine { graph, norms, kernels, upstream, gradients, images, .. } = self.engine;
        let output = graph.stages[stage].output;
        let len = graph.tensors[output].len();
        let (from, weight, factor) = match upstream[stage] {
            Upstream::Mix { mix, term } => {
                let term = &graph.mixes[mix].terms[term];
                let factor = drop_factor(term, self.inputs, image, *images);
                (graph.mixes[mix].output, mixing_weight(term, self.inputs), factor)
            }
            Upstream::Own => (output, 1.0, 1.0),
        };
        let dy = &gradients[from][image * len..][..len];
        let dz = scratch.stored_gradient.sized(len);
        match graph.stages[stage].norm {
            Some(norm) => {
                let range = graph.norms[norm].range.clone();
                let [mean, p, q, r] = [&norms.mean, &norms.p, &norms.q, &norms.r].map(|all| &all[range.clone()]);
                kernels.norm_backward_apply(dy, self.value(output, image), mean, p, q, r, factor, dz);
            }
            None => {
                dz.fill(0.0);
                kernels.axpy(weight * factor, dy, dz);
            }
        }
    }

    fn backward_stage(&self, index: usize, image: usize, task: &mut Task, scratch: &mut Scratch) {
        let engine = self.engine;
        let id = self.region.stages[index];
        let (stage, plan) = (&engine.graph.stages[id], &engine.plans[id]);
        self.stored_gradient(id, image, scratch);
        let weights = Weights { flat: self.inputs.weights, transposed: &engine.transposed };
        let start = self.layout.weights[index];
        for (group, &source) in stage.inputs.iter().enumerate() {
            let x = self.value(source.tensor, image);
            let input = GroupInput { group, x, prelude: plan.prelude(engine.source_fold(source)) };
            let dw = self.want_weights.then(|| &mut task.weights[start..start + plan.weights.len()]);
            if !plan.input_gradient[group] {
                plan.backward(engine.kernels, weights, input, dw, None, scratch);
                continue;
            }
            let local = (image - task.images.start) * x.len();
            let dx = &mut task.targets[self.target(source.tensor)][local..local + x.len()];
            plan.backward(engine.kernels, weights, input, dw, Some(dx), scratch);
            if let Some(norm) = source.norm {
                let start = self.sums_start(Reduction::Read(norm));
                self.reduce(norm, dx, x, 1.0, &mut task.sums[start..]);
            }
        }
    }

    /// Adds `factor` times the sums of one image's `dy` and `dy·(z − mean)`.
    fn reduce(&self, norm: NormId, dy: &[f32], z: &[f32], factor: f32, sums: &mut [f64]) {
        let range = self.engine.graph.norms[norm].range.clone();
        let (sum, dot) = sums[..2 * range.len()].split_at_mut(range.len());
        self.engine.kernels.norm_backward_reduce(dy, z, &self.engine.norms.mean[range], factor, sum, dot);
    }

    fn backward_mix(&self, mix: usize, image: usize, task: &mut Task) {
        let engine = self.engine;
        let node = &engine.graph.mixes[mix];
        let len = engine.graph.tensors[node.output].len();
        let local = (image - task.images.start) * len;
        let own = self.target(node.output);
        let gradient = take(&mut task.targets[own]);
        let dy = &gradient[local..local + len];
        for (index, term) in node.terms.iter().enumerate() {
            let start = self.sums_start(Reduction::Term { mix, term: index });
            let z = self.value(term.source.tensor, image);
            let factor = drop_factor(term, self.inputs, image, engine.images);
            if let Some(norm) = term.source.norm {
                self.reduce(norm, dy, z, factor, &mut task.sums[start..]);
                continue;
            }
            if matches!(term.weight, TermWeight::Alpha(_)) {
                task.sums[start] += f64::from(factor) * engine.kernels.dot(dy, z);
            }
            if engine.is_state(term.source) {
                let dx = &mut task.targets[self.target(term.source.tensor)][local..local + len];
                engine.kernels.axpy(mixing_weight(term, self.inputs) * factor, dy, dx);
            }
        }
        task.targets[own] = gradient;
    }
}
