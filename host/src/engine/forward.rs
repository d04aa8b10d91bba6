//! The forward pass, region by region.

use std::mem::take;
use std::ops::Range;

use darts_kernels_simd::MixTerm;

use super::parallel::{Workers, chunks, split};
use super::scratch::Scratch;
use super::{Engine, Inputs, Mode};
use crate::graph::{INPUT, Region, Source, TensorId, Term, TermWeight};

/// One chunk of the batch in one region.
struct Task<'a> {
    images: Range<usize>,
    /// The chunk's part of each output: those of the region's mixes, then those of its stages.
    outputs: Vec<&'a mut [f32]>,
    /// Σz and Σz² of each stage's output.
    sums: &'a mut [f64],
}

impl Engine {
    /// Computes the logits of `images` (at most [`batch`](Self::batch)) and keeps what the backward pass needs.
    ///
    /// # Panics
    /// If the lengths do not fit the graph.
    pub fn forward(&mut self, workers: &Workers, inputs: Inputs, mode: Mode) {
        let image = self.graph.input.len();
        let images = inputs.images.len() / image;
        assert!(images * image == inputs.images.len() && (1..=self.batch).contains(&images), "{images} images");
        assert_eq!(inputs.weights.len(), self.graph.weights(), "weights");
        assert_eq!(inputs.mix_weights.len(), self.graph.mix_weights, "mixing weights");
        assert!(inputs.drop_path.is_none_or(|factors| factors.len() == images * self.graph.drop_paths), "drop-path");
        self.images = images;
        self.activations[INPUT][..inputs.images.len()].copy_from_slice(inputs.images);
        if let Mode::Running(statistics) = mode {
            self.norms.fold_running(&self.graph, inputs.weights, statistics);
        }
        for region in 0..self.graph.regions.len() {
            self.forward_region(workers, region, &inputs, matches!(mode, Mode::Batch));
        }
        self.forward_heads(inputs.weights);
    }

    fn forward_region(&mut self, workers: &Workers, region: usize, inputs: &Inputs, batch_statistics: bool) {
        let region = &self.graph.regions[region];
        let outputs = region_outputs(self, region);
        let lens: Vec<usize> = outputs.iter().map(|&tensor| self.graph.tensors[tensor].len()).collect();
        let sums_len = 2 * region.stages.iter().map(|&stage| self.stage_channels(stage)).sum::<usize>();
        let mut buffers: Vec<Vec<f32>> = outputs.iter().map(|&tensor| take(&mut self.activations[tensor])).collect();
        let ranges = chunks(self.images);
        let mut sums = vec![0.0; sums_len * ranges.len()];
        let mut parts = split(&mut buffers, &lens, &ranges).into_iter();
        let mut sum_parts = sums.chunks_mut(sums_len.max(1));
        let tasks = ranges.iter().map(|images| Task {
            images: images.clone(),
            outputs: parts.next().unwrap_or_default(),
            sums: sum_parts.next().unwrap_or_default(),
        });
        let engine = &*self;
        workers.run(tasks.collect(), |mut task, scratch| {
            for image in task.images.clone() {
                for index in 0..region.mixes.len() {
                    engine.forward_mix(region, index, image, inputs, &mut task, scratch);
                }
                let mut sums = 0;
                for index in 0..region.stages.len() {
                    engine.forward_stage(region, index, image, inputs, batch_statistics, &mut task, &mut sums, scratch);
                }
            }
        });
        for (tensor, buffer) in outputs.into_iter().zip(buffers) {
            self.activations[tensor] = buffer;
        }
        if batch_statistics {
            self.fold_region(region.stages.clone(), &sums, sums_len, inputs.weights);
        }
    }

    /// Channels of a stage's output if a batch norm follows, else 0.
    fn stage_channels(&self, stage: usize) -> usize {
        self.graph.stages[stage].norm.map_or(0, |norm| self.graph.norms[norm].range.len())
    }

    /// Values of one image of a tensor, which may be a mix of the region at work.
    fn read<'a>(&'a self, region: &Region, task: &'a Task, tensor: TensorId, image: usize) -> &'a [f32] {
        let len = self.graph.tensors[tensor].len();
        let local = region.mixes.iter().position(|&mix| self.graph.mixes[mix].output == tensor);
        match local {
            Some(index) => &task.outputs[index][(image - task.images.start) * len..][..len],
            None => &self.activations[tensor][image * len..][..len],
        }
    }

    fn forward_mix(
        &self,
        region: &Region,
        index: usize,
        image: usize,
        inputs: &Inputs,
        task: &mut Task,
        scratch: &mut Scratch,
    ) {
        let mix = &self.graph.mixes[region.mixes[index]];
        let shape = self.graph.tensors[mix.output];
        let channels = shape.channels;
        let (shift, scales) = scratch.scales.sized((mix.terms.len() + 1) * channels).split_at_mut(channels);
        shift.fill(0.0);
        for (term, scale) in mix.terms.iter().zip(scales.chunks_exact_mut(channels)) {
            self.term_scale(term, self.term_weight(term, inputs, image), scale, shift);
        }
        let target = take(&mut task.outputs[index]);
        let terms: Vec<MixTerm> = mix
            .terms
            .iter()
            .zip(scales.chunks_exact(channels))
            .map(|(term, scale)| MixTerm { z: self.read(region, task, term.source.tensor, image), scale })
            .collect();
        let local = image - task.images.start;
        self.kernels.mix(&terms, shift, &mut target[local * shape.len()..][..shape.len()]);
        task.outputs[index] = target;
    }

    /// Factor of a term for one image: its mixing weight times its drop-path factor.
    pub(super) fn term_weight(&self, term: &Term, inputs: &Inputs, image: usize) -> f32 {
        mixing_weight(term, inputs) * drop_factor(term, inputs, image, self.images)
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

    /// Scale and shift of the batch norm through which a source is read.
    pub(super) fn source_fold(&self, source: Source) -> Option<(&[f32], &[f32])> {
        source.norm.map(|norm| self.norms.fold(&self.graph.norms[norm]))
    }

    #[allow(clippy::too_many_arguments)]
    fn forward_stage(
        &self,
        region: &Region,
        index: usize,
        image: usize,
        inputs: &Inputs,
        batch_statistics: bool,
        task: &mut Task,
        sums: &mut usize,
        scratch: &mut Scratch,
    ) {
        let stage = &self.graph.stages[region.stages[index]];
        let plan = &self.plans[region.stages[index]];
        let shape = self.graph.tensors[stage.output];
        let slot = region.mixes.len() + index;
        let target = take(&mut task.outputs[slot]);
        let z = &mut target[(image - task.images.start) * shape.len()..][..shape.len()];
        for (group, &source) in stage.inputs.iter().enumerate() {
            let x = self.read(region, task, source.tensor, image);
            let prelude = plan.prelude(self.source_fold(source));
            plan.forward(self.kernels, inputs.weights, group, x, prelude, z, scratch);
        }
        if batch_statistics && stage.norm.is_some() {
            let (sum, sum_of_squares) = task.sums[*sums..*sums + 2 * shape.channels].split_at_mut(shape.channels);
            self.kernels.channel_moments(z, shape.channels, sum, sum_of_squares);
            *sums += 2 * shape.channels;
        }
        task.outputs[slot] = target;
    }

    /// Adds up the chunks' sums in order and folds the batch norms of `stages`.
    fn fold_region(&mut self, stages: Vec<usize>, sums: &[f64], sums_len: usize, weights: &[f32]) {
        let mut offset = 0;
        for stage in stages {
            let Some(norm) = self.graph.stages[stage].norm else { continue };
            let norm = &self.graph.norms[norm];
            let channels = norm.range.len();
            let total = |index: usize| sums.iter().skip(index).step_by(sums_len).sum::<f64>();
            for (channel, index) in norm.range.clone().enumerate() {
                self.norms.sum[index] = total(offset + channel);
                self.norms.sum_of_squares[index] = total(offset + channels + channel);
            }
            self.norms.fold_batch(&self.graph, norm, self.images, weights);
            offset += 2 * channels;
        }
    }
}

/// Mixing weight of a term.
pub(super) fn mixing_weight(term: &Term, inputs: &Inputs) -> f32 {
    match term.weight {
        TermWeight::One => 1.0,
        TermWeight::Alpha(index) => inputs.mix_weights[index],
    }
}

/// Drop-path factor of a term for one image.
pub(super) fn drop_factor(term: &Term, inputs: &Inputs, image: usize, images: usize) -> f32 {
    match (term.drop_path, inputs.drop_path) {
        (Some(mask), Some(factors)) => factors[mask * images + image],
        _ => 1.0,
    }
}

/// Tensors that a region writes: its mixes' states, then its stages' outputs.
fn region_outputs(engine: &Engine, region: &Region) -> Vec<TensorId> {
    let mixes = region.mixes.iter().map(|&mix| engine.graph.mixes[mix].output);
    mixes.chain(region.stages.iter().map(|&stage| engine.graph.stages[stage].output)).collect()
}
