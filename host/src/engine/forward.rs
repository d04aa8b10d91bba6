//! The forward pass, region by region.

use std::iter::once;
use std::mem::take;

use darts_kernels_simd::{MixTerm, Moments, SeparableInput, Stored, StoredMut};

use super::chunk::{Chunk, Values};
use super::parallel::Workers;
use super::plan::RegionPlan;
use super::pool::{PAIR_SCALES, Pool};
use super::scratch::{Buffer, Scratch, TERMS};
use super::stage::GroupInput;
use super::{Engine, Inputs, Mode, Network};
use crate::graph::{INPUT, Source, TensorId, Term, TermWeight};

impl Engine {
    /// Computes the logits of `images` (at most [`batch`](Self::batch)) and keeps what the backward pass needs.
    ///
    /// The first pass, and one on another number of threads, allots the memory.
    ///
    /// # Panics
    /// If the lengths do not fit the graph, or the system has not as much memory.
    pub fn forward(&mut self, workers: &Workers, inputs: Inputs, mode: Mode) {
        let graph = &self.network.graph;
        let image = graph.input.len();
        let images = inputs.images.len() / image;
        assert!(images * image == inputs.images.len() && (1..=self.batch).contains(&images), "{images} images");
        assert_eq!(inputs.weights.len(), graph.weights(), "weights");
        assert_eq!(inputs.mix_weights.len(), graph.mix_weights, "mixing weights");
        assert!(inputs.drop_path.is_none_or(|factors| factors.len() == images * graph.drop_paths), "drop-path");
        let regions = graph.regions.len();
        self.start_batch(images, workers.threads());
        workers.prepare(|scratch| self.network.prepare(scratch));
        if let Mode::Running(statistics) = mode {
            let Network { graph, norms, .. } = &mut self.network;
            norms.fold_running(graph, inputs.weights, statistics);
        }
        for region in 0..regions {
            self.forward_region(workers, region, &inputs, matches!(mode, Mode::Batch));
        }
        self.forward_heads(workers, inputs.weights);
    }

    fn forward_region(&mut self, workers: &Workers, region: usize, inputs: &Inputs, batch_statistics: bool) {
        let Self { network, chunks, images, .. } = self;
        chunks.write(|chunks| {
            let task = |chunk: &mut Chunk, scratch: &mut Scratch| {
                network.forward_region(region, inputs, batch_statistics, chunk, scratch);
            };
            workers.run(chunks, task);
            if batch_statistics {
                let Network { graph, plan, norms, .. } = network;
                for (&stage, &start) in graph.regions[region].stages.iter().zip(&plan.regions[region].moments) {
                    for &norm in &graph.stages[stage].norms {
                        let norm = &graph.norms[norm];
                        norms.add_up(norm, Chunk::all_portions(chunks).map(|portion| &portion.sums[start..]));
                        norms.fold_batch(graph, norm, *images, inputs.weights);
                    }
                }
            }
        });
    }
}

impl Network {
    /// Makes all buffers as large as any pass needs them.
    fn prepare(&self, scratch: &mut Scratch) {
        let stages = self.graph.stages.iter().map(|stage| stage.output);
        let longest = stages.map(|tensor| self.graph.tensors[tensor].len()).max().unwrap_or(0);
        let Scratch { stage, value, scaled, part, scales, zeros, stored, stored_gradient, relus } = scratch;
        for buffer in [value, scaled, part, stored, stored_gradient] {
            buffer.sized(longest);
        }
        let channels = self.graph.tensors.iter().map(|shape| shape.channels).max().unwrap_or(0);
        let terms = self.graph.mixes.iter().map(|mix| mix.terms.len()).max().unwrap_or(0);
        // The backward pass of a pool has three, that of a pair more.
        scales.sized((terms + 1).max(PAIR_SCALES) * channels);
        zeros.sized(channels).fill(0.0);
        self.plan.stages.iter().for_each(|plan| plan.prepare(stage));
        self.prepare_relus(relus);
    }

    /// Scale and shift of the batch norm through which a source is read.
    pub(super) fn source_fold(&self, source: Source) -> Option<(&[f32], &[f32])> {
        source.norm.map(|norm| self.norms.fold(&self.graph.norms[norm]))
    }

    /// Values of one image of a tensor from `all` of a chunk; what is not stored as `f32` is brought to `buffer`.
    pub(super) fn value<'a>(
        &self,
        all: &'a [Values],
        tensor: TensorId,
        image: usize,
        buffer: &'a mut Buffer,
    ) -> &'a [f32] {
        match &all[tensor] {
            Values::F32(values) => &values[Chunk::place(&self.graph, tensor, image)],
            Values::F16(values) => {
                let target = buffer.sized(self.graph.tensors[tensor].len());
                self.kernels.f16_to_f32(&values[Chunk::place(&self.graph, tensor, image)], target);
                target
            }
            &Values::Recomputed(stage) => {
                let target = buffer.sized(self.graph.tensors[tensor].len());
                self.pool(stage).values(self, all, image, target);
                target
            }
        }
    }

    /// Values of one image of a tensor that are kept, in either form.
    ///
    /// In the caller's code: returned through memory, the three words would be copied as vectors, for which the
    /// processor waits until they are in the cache, behind stores past it (1 % of a pass at C=8; AMD EPYC, Zen 5,
    /// 2026-11-29).
    #[inline(always)]
    pub(super) fn kept<'a>(&self, all: &'a [Values], tensor: TensorId, image: usize) -> Stored<'a> {
        let place = Chunk::place(&self.graph, tensor, image);
        match &all[tensor] {
            Values::F32(values) => Stored::F32(&values[place]),
            Values::F16(values) => Stored::F16(&values[place]),
            Values::Recomputed(stage) => unreachable!("the values of stage {stage} are not kept"),
        }
    }

    /// Values of one image of a tensor that is stored as `f32`.
    pub(super) fn stored<'a>(&self, all: &'a [Values], tensor: TensorId, image: usize) -> &'a [f32] {
        let Values::F32(values) = &all[tensor] else { unreachable!("tensor {tensor} is not stored as it is") };
        &values[Chunk::place(&self.graph, tensor, image)]
    }

    /// The pool that makes a tensor whose values are not kept.
    pub(super) fn pool(&self, stage: usize) -> &Pool {
        let Some(pool) = &self.plan.stages[stage].pool else { unreachable!("stage {stage} is no pool") };
        pool
    }

    fn forward_region(
        &self,
        region: usize,
        inputs: &Inputs,
        batch_statistics: bool,
        chunk: &mut Chunk,
        scratch: &mut Scratch,
    ) {
        if let (0, Values::F32(values)) = (region, &mut chunk.values[INPUT]) {
            let len = self.graph.input.len();
            let images = &inputs.images[chunk.images.start * len..chunk.images.end * len];
            values[..images.len()].copy_from_slice(images);
        }
        let plan = &self.plan.regions[region];
        chunk.portions.clear(plan.moments_len);
        for images in plan.groups(chunk.images.len()) {
            for &mix in &self.graph.regions[region].mixes {
                for image in images.clone() {
                    self.forward_mix(mix, image, inputs, chunk, scratch);
                }
            }
            self.compute_relus(plan, images.clone(), chunk, scratch);
            for (index, (&stage, &start)) in self.graph.regions[region].stages.iter().zip(&plan.moments).enumerate() {
                let moments = batch_statistics.then_some(start);
                for image in images.clone() {
                    let work = StageWork { index, stage, image, weights: inputs.weights, moments };
                    self.forward_stage(work, plan, chunk, scratch);
                }
            }
        }
    }

    fn forward_mix(&self, index: usize, image: usize, inputs: &Inputs, chunk: &mut Chunk, scratch: &mut Scratch) {
        let mix = &self.graph.mixes[index];
        let channels = self.graph.tensors[mix.output].channels;
        let place = Chunk::place(&self.graph, mix.output, image);
        let mut values = take(&mut chunk.values[mix.output]);
        let Values::F32(target) = &mut values else { unreachable!("state {} is not stored", mix.output) };
        let y = &mut target[place];
        if let Some(gather) = mix.gather {
            self.gather(mix, gather, &chunk.values, image, y);
            chunk.values[mix.output] = values;
            return;
        }
        let (Scratch { scales, zeros, .. }, terms) = (scratch, &self.plan.terms[index]);
        let (shift, scales) = scales.sized((mix.terms.len() + 1) * channels).split_at_mut(channels);
        shift.fill(0.0);
        for (term, scale) in mix.terms.iter().zip(scales.chunks_exact_mut(channels)) {
            let weight = mixing_weight(term, inputs) * self.drop_factor(term, inputs, chunk, image);
            self.term_scale(term, weight, scale, shift);
        }
        let (all, scale_of) = (&chunk.values, |term: usize| &scales[term * channels..][..channels]);
        let (first, rest) = terms.kept.split_at(terms.kept.len().min(TERMS));
        for (group, terms) in once(first).chain(rest.chunks(TERMS)).enumerate() {
            let mut mixed = [MixTerm { z: Stored::F32(&[]), scale: &[] }; TERMS];
            for (mixed, &term) in mixed.iter_mut().zip(terms) {
                *mixed = MixTerm { z: self.kept(all, mix.terms[term].source.tensor, image), scale: scale_of(term) };
            }
            let shift = if group == 0 { &*shift } else { zeros.get(channels) };
            self.kernels.mix(&mixed[..terms.len()], shift, y, group > 0);
        }
        for pools in &terms.pools {
            self.mix_pools(pools, mix, scale_of, (all, image), y);
        }
        chunk.values[mix.output] = values;
    }

    /// Writes the factor of each channel of `term` to `scale` and adds its summand to `shift`.
    fn term_scale(&self, term: &Term, weight: f32, scale: &mut [f32], shift: &mut [f32]) {
        match self.source_fold(term.source) {
            Some((norm_scale, norm_shift)) => {
                for (scale, norm_scale) in scale.iter_mut().zip(norm_scale) {
                    *scale = weight * norm_scale;
                }
                for (shift, norm_shift) in shift.iter_mut().zip(norm_shift) {
                    *shift += weight * norm_shift;
                }
            }
            None => scale.fill(weight),
        }
    }

    /// Runs a stage on one image and, if its batch norm wants them, adds the moments to the sums of its portion from
    /// `moments` on.
    fn forward_stage(&self, work: StageWork, region: &RegionPlan, chunk: &mut Chunk, scratch: &mut Scratch) {
        let stage = &self.graph.stages[work.stage];
        let work = StageWork { moments: work.moments.filter(|_| !stage.norms.is_empty()), ..work };
        let place = Chunk::place(&self.graph, stage.output, work.image);
        let mut stored = take(&mut scratch.stored);
        let mut values = take(&mut chunk.values[stage.output]);
        let fused = self.plan.stages[work.stage].is_fused();
        match &mut values {
            Values::F32(target) if fused => {
                self.run_fused(work, region, chunk, StoredMut::F32(&mut target[place]), scratch)
            }
            Values::F16(target) if fused => {
                self.run_fused(work, region, chunk, StoredMut::F16(&mut target[place]), scratch)
            }
            Values::F32(target) => self.run_stage(work, chunk, &mut target[place], scratch),
            Values::F16(target) => {
                let z = stored.sized(place.len());
                self.run_stage(work, chunk, z, scratch);
                self.kernels.f32_to_f16(z, &mut target[place]);
            }
            Values::Recomputed(_) => {
                if let Some(start) = work.moments {
                    let channels = self.graph.tensors[stage.output].channels;
                    let moments = moments(&mut chunk.portions.of(work.image).sums[start..], channels);
                    self.pool(work.stage).moments(self, &chunk.values, work.image, moments);
                }
            }
        }
        chunk.values[stage.output] = values;
        scratch.stored = stored;
    }

    fn run_fused(&self, work: StageWork, region: &RegionPlan, chunk: &mut Chunk, z: StoredMut, scratch: &mut Scratch) {
        let (stage, plan) = (&self.graph.stages[work.stage], &self.plan.stages[work.stage]);
        let source = stage.inputs[0];
        let x = self.kept(&chunk.values, source.tensor, work.image);
        let channels = self.graph.tensors[stage.output].channels;
        let moments = work.moments.map(|start| moments(&mut chunk.portions.of(work.image).sums[start..], channels));
        let preluded = region.relu(work.index, work.image, &scratch.relus);
        let input = SeparableInput { x, prelude: plan.prelude(self.source_fold(source)), preluded };
        plan.forward_fused(self.kernels, work.weights, input, z, moments, &mut scratch.stage);
    }

    fn run_stage(&self, work: StageWork, chunk: &mut Chunk, z: &mut [f32], scratch: &mut Scratch) {
        let (stage, plan) = (&self.graph.stages[work.stage], &self.plan.stages[work.stage]);
        let channels = self.graph.tensors[stage.output].channels;
        let last = stage.inputs.len() - 1;
        for (group, &source) in stage.inputs.iter().enumerate() {
            let x = self.value(&chunk.values, source.tensor, work.image, &mut scratch.value);
            let input = GroupInput { group, x, prelude: plan.prelude(self.source_fold(source)) };
            let moments = work
                .moments
                .filter(|_| group == last)
                .map(|start| moments(&mut chunk.portions.of(work.image).sums[start..], channels));
            plan.forward(self.kernels, work.weights, input, z, moments, &mut scratch.stage);
        }
    }

    /// Drop-path factor of a term for one image of the chunk.
    pub(super) fn drop_factor(&self, term: &Term, inputs: &Inputs, chunk: &Chunk, image: usize) -> f32 {
        match (term.drop_path, inputs.drop_path) {
            (Some(mask), Some(factors)) => {
                let images = factors.len() / self.graph.drop_paths;
                factors[mask * images + chunk.images.start + image]
            }
            _ => 1.0,
        }
    }
}

/// One stage on one image in the forward pass.
#[derive(Clone, Copy)]
struct StageWork<'a> {
    /// Index in the region.
    index: usize,
    /// Index in the graph.
    stage: usize,
    image: usize,
    weights: &'a [f32],
    /// Where the portion's sums of the moments start, if they are wanted.
    moments: Option<usize>,
}

/// The two sums for `channels` channels at the front of `sums`.
fn moments(sums: &mut [f64], channels: usize) -> Moments<'_> {
    let (sum, sum_of_squares) = sums[..2 * channels].split_at_mut(channels);
    Moments { sum, sum_of_squares }
}

/// Mixing weight of a term.
pub(super) fn mixing_weight(term: &Term, inputs: &Inputs) -> f32 {
    match term.weight {
        TermWeight::One => 1.0,
        TermWeight::Alpha(index) => inputs.mix_weights[index],
    }
}
