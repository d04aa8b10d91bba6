//! Classifier heads: global average over all inputs, in parallel over images, then a linear layer, which is small
//! against the rest and runs on one thread.

use darts_kernels_simd::{Padding, Prelude};

use super::backward::Gradients;
use super::chunk::Chunk;
use super::parallel::Workers;
use super::scratch::Scratch;
use super::stage::prelude;
use super::{Engine, Network};
use crate::graph::{Head, Source};

/// What a head keeps from the forward pass, and its gradients.
#[derive(Debug, Default)]
pub(super) struct HeadState {
    /// Averages `[N, features]`.
    features: Vec<f32>,
    /// `[N, classes]`.
    pub logits: Vec<f32>,
    d_features: Vec<f32>,
    d_weight: Vec<f32>,
    d_bias: Vec<f32>,
}

impl Engine {
    pub(super) fn forward_heads(&mut self, workers: &Workers, weights: &[f32]) {
        let Self { network, chunks, images, main, auxiliary, .. } = self;
        for (index, state) in [main, auxiliary].into_iter().enumerate() {
            let Some(head) = network.head(index == 1) else { continue };
            state.features.clear();
            chunks.write(|chunks| {
                workers.run(chunks, |chunk, scratch| network.average(head, index, chunk, scratch));
                for chunk in chunks {
                    let features = &chunk.features[index][..chunk.images.len() * head.features];
                    state.features.extend_from_slice(features);
                }
            });
            state.logits.resize(*images * network.graph.classes, 0.0);
            let (weight, bias) = (&weights[head.weight.clone()], &weights[head.bias.clone()]);
            network.kernels.linear(&state.features, weight, bias, &mut state.logits);
        }
    }

    /// Backward through the main or the auxiliary head: sets the gradients of its parameters, adds to those of its
    /// inputs.
    pub(super) fn backward_head(
        &mut self,
        workers: &Workers,
        auxiliary: bool,
        weights: &[f32],
        dlogits: &[f32],
        gradients: &mut Gradients,
    ) {
        let Self { network, chunks, live, .. } = self;
        let state = if auxiliary { &mut self.auxiliary } else { &mut self.main };
        let Some(head) = network.head(auxiliary) else { return };
        let HeadState { features, d_features, d_weight, d_bias, .. } = state;
        d_features.resize(features.len(), 0.0);
        d_weight.resize(head.weight.len(), 0.0);
        d_bias.resize(head.bias.len(), 0.0);
        d_weight.fill(0.0);
        d_bias.fill(0.0);
        network.kernels.linear_backward(features, &weights[head.weight.clone()], dlogits, d_features, d_weight, d_bias);
        if let Some(gradient) = gradients.weights.as_deref_mut() {
            gradient[head.weight.clone()].copy_from_slice(d_weight);
            gradient[head.bias.clone()].copy_from_slice(d_bias);
        }
        let (d_features, begun) = (&*d_features, &*live);
        chunks.write(|chunks| {
            workers.run(chunks, |chunk, scratch| network.average_backward(head, d_features, begun, chunk, scratch));
        });
        head.inputs.iter().for_each(|source| live[source.tensor] = true);
        let (inputs, features) = (head.inputs.len(), head.features);
        self.add_up_sums(2 * features);
        let mut start = 0;
        for input in 0..inputs {
            let Some(source) = self.network.head(auxiliary).map(|head| head.inputs[input]) else { return };
            if let Some(norm) = source.norm {
                let dw = gradients.weights.as_deref_mut();
                self.network.finish_norm(norm, self.images, 1.0, &self.totals[start..], weights, dw);
                start += 2 * self.network.graph.tensors[source.tensor].channels;
            }
        }
    }
}

impl Network {
    fn head(&self, auxiliary: bool) -> Option<&Head> {
        if auxiliary { self.graph.auxiliary.as_ref() } else { Some(&self.graph.head) }
    }

    fn head_prelude(&self, head: &Head, source: Source) -> Prelude<'_> {
        prelude(head.relu, self.source_fold(source))
    }

    /// Writes the features of a chunk's images.
    fn average(&self, head: &Head, index: usize, chunk: &mut Chunk, scratch: &mut Scratch) {
        let Scratch { stage, value, .. } = scratch;
        let mut all = std::mem::take(&mut chunk.features[index]);
        for (image, features) in all.chunks_exact_mut(head.features).enumerate().take(chunk.images.len()) {
            let mut start = 0;
            for &source in &head.inputs {
                let shape = self.graph.tensors[source.tensor];
                let x = self.value(&chunk.values, source.tensor, image, value);
                let activated = stage.output.sized(shape.len());
                self.kernels.prelude(x, shape, Padding::NONE, self.head_prelude(head, source), activated);
                self.kernels.global_avg_pool(activated, shape, &mut features[start..start + shape.channels]);
                start += shape.channels;
            }
        }
        chunk.features[index] = all;
    }

    /// Backward through the averages of a chunk's images. Leaves the sums for the norms of those inputs that have one
    /// in the sums, one behind the other.
    fn average_backward(
        &self,
        head: &Head,
        d_features: &[f32],
        begun: &[bool],
        chunk: &mut Chunk,
        scratch: &mut Scratch,
    ) {
        let Scratch { stage, value, .. } = scratch;
        chunk.portions.clear(2 * head.features);
        for image in 0..chunk.images.len() {
            let mut d_features = &d_features[(chunk.images.start + image) * head.features..];
            let mut sums = 0;
            for &source in &head.inputs {
                let shape = self.graph.tensors[source.tensor];
                let gradient = std::mem::take(&mut chunk.gradients[self.slot(source.tensor)]);
                let dx = &mut gradient[Chunk::place(&self.graph, source.tensor, image)];
                let x = self.value(&chunk.values, source.tensor, image, value);
                let spread = stage.input_gradient.sized(shape.len());
                self.kernels.global_avg_pool_backward(&d_features[..shape.channels], shape, spread, false);
                let accumulate = begun[source.tensor];
                let prelude = self.head_prelude(head, source);
                self.kernels.prelude_backward(x, shape, Padding::NONE, prelude, spread, dx, accumulate);
                if let Some(norm) = source.norm {
                    self.reduce(norm, dx, x, 1.0, &mut chunk.portions.of(image).sums[sums..]);
                    sums += 2 * shape.channels;
                }
                chunk.gradients[self.slot(source.tensor)] = gradient;
                d_features = &d_features[shape.channels..];
            }
        }
    }
}
