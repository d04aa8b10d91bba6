//! The forward pass, region by region.

use std::mem::take;
use std::ops::Range;

use darts_kernels_simd::MixTerm;

use super::aligned::AlignedBuffer;
use super::parallel::{Workers, chunks, split};
use super::scratch::Scratch;
use super::stage::GroupInput;
use super::{Engine, Inputs, Mode};
use crate::graph::{INPUT, Region, Source, TensorId, Term, TermWeight};

/// What all tasks of a region share.
struct Shared<'a> {
    engine: &'a Engine,
    region: &'a Region,
    inputs: &'a Inputs<'a>,
    /// Where the sums of each stage's output start, where they are wanted.
    sums: Option<&'a [usize]>,
}

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
        let (starts, sums_len) = self.sums_layout(region);
        let mut buffers: Vec<AlignedBuffer> =
            outputs.iter().map(|&tensor| take(&mut self.activations[tensor])).collect();
        let ranges = chunks(self.images);
        let mut sums = vec![0.0; sums_len * ranges.len()];
        let mut parts = split(&mut buffers, &lens, &ranges).into_iter();
        let mut sum_parts = sums.chunks_mut(sums_len.max(1));
        let tasks = ranges.iter().map(|images| Task {
            images: images.clone(),
            outputs: parts.next().unwrap_or_default(),
            sums: sum_parts.next().unwrap_or_default(),
        });
        let shared = Shared { engine: self, region, inputs, sums: batch_statistics.then_some(&starts) };
        workers.run(tasks.collect(), |mut task, scratch| {
            for image in task.images.clone() {
                for index in 0..region.mixes.len() {
                    shared.forward_mix(index, image, &mut task, scratch);
                }
                for index in 0..region.stages.len() {
                    shared.forward_stage(index, image, &mut task, scratch);
                }
            }
        });
        if batch_statistics {
            for (&stage, start) in region.stages.iter().zip(starts) {
                if let Some(norm) = self.graph.stages[stage].norm {
                    let norm = &self.graph.norms[norm];
                    self.norms.add_up(norm, &sums, start, sums_len);
                    self.norms.fold_batch(&self.graph, norm, self.images, inputs.weights);
                }
            }
        }
        for (tensor, buffer) in outputs.into_iter().zip(buffers) {
            self.activations[tensor] = buffer;
        }
    }

    /// Where the sums of each stage of a region start, and how many there are in all.
    fn sums_layout(&self, region: &Region) -> (Vec<usize>, usize) {
        let mut len = 0;
        let starts = region.stages.iter().map(|&stage| {
            let start = len;
            len += self.graph.stages[stage].norm.map_or(0, |norm| 2 * self.graph.norms[norm].range.len());
            start
        });
        (starts.collect(), len)
    }

    /// Scale and shift of the batch norm through which a source is read.
    pub(super) fn source_fold(&self, source: Source) -> Option<(&[f32], &[f32])> {
        source.norm.map(|norm| self.norms.fold(&self.graph.norms[norm]))
    }
}

impl Shared<'_> {
    /// Values of one image of a tensor, which may be a mix of the region at work.
    fn read<'a>(&'a self, task: &'a Task, tensor: TensorId, image: usize) -> &'a [f32] {
        let graph = &self.engine.graph;
        let len = graph.tensors[tensor].len();
        let local = self.region.mixes.iter().position(|&mix| graph.mixes[mix].output == tensor);
        match local {
            Some(index) => &task.outputs[index][(image - task.images.start) * len..][..len],
            None => &self.engine.activations[tensor][image * len..][..len],
        }
    }

    fn forward_mix(&self, index: usize, image: usize, task: &mut Task, scratch: &mut Scratch) {
        let Engine { graph, kernels, images, .. } = self.engine;
        let mix = &graph.mixes[self.region.mixes[index]];
        let shape = graph.tensors[mix.output];
        let channels = shape.channels;
        let (shift, scales) = scratch.scales.sized((mix.terms.len() + 1) * channels).split_at_mut(channels);
        shift.fill(0.0);
        for (term, scale) in mix.terms.iter().zip(scales.chunks_exact_mut(channels)) {
            let weight = mixing_weight(term, self.inputs) * drop_factor(term, self.inputs, image, *images);
            self.term_scale(term, weight, scale, shift);
        }
        let target = take(&mut task.outputs[index]);
        let terms: Vec<MixTerm> = mix
            .terms
            .iter()
            .zip(scales.chunks_exact(channels))
            .map(|(term, scale)| MixTerm { z: self.read(task, term.source.tensor, image), scale })
            .collect();
        let local = image - task.images.start;
        kernels.mix(&terms, shift, &mut target[local * shape.len()..][..shape.len()]);
        task.outputs[index] = target;
    }

    /// Writes the factor of each channel of `term` to `scale` and adds its summand to `shift`.
    fn term_scale(&self, term: &Term, weight: f32, scale: &mut [f32], shift: &mut [f32]) {
        match self.engine.source_fold(term.source) {
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

    fn forward_stage(&self, index: usize, image: usize, task: &mut Task, scratch: &mut Scratch) {
        let Engine { graph, kernels, plans, .. } = self.engine;
        let id = self.region.stages[index];
        let (stage, plan) = (&graph.stages[id], &plans[id]);
        let shape = graph.tensors[stage.output];
        let slot = self.region.mixes.len() + index;
        let target = take(&mut task.outputs[slot]);
        let z = &mut target[(image - task.images.start) * shape.len()..][..shape.len()];
        for (group, &source) in stage.inputs.iter().enumerate() {
            let prelude = plan.prelude(self.engine.source_fold(source));
            let input = GroupInput { group, x: self.read(task, source.tensor, image), prelude };
            plan.forward(*kernels, self.inputs.weights, input, z, scratch);
        }
        if let (Some(starts), Some(_)) = (self.sums, stage.norm) {
            let sums = &mut task.sums[starts[index]..][..2 * shape.channels];
            let (sum, sum_of_squares) = sums.split_at_mut(shape.channels);
            kernels.channel_moments(z, shape.channels, sum, sum_of_squares);
        }
        task.outputs[slot] = target;
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
