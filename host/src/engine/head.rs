//! Classifier heads: global average over all inputs, linear. Small against the rest, so they run on one thread.

use darts_kernels_simd::{Padding, Prelude};

use super::Engine;
use super::backward::Gradients;
use super::stage::prelude;
use crate::graph::{Head, Source};

/// What a head keeps from the forward pass.
#[derive(Debug, Default)]
pub(super) struct HeadState {
    /// Averages `[N, features]`.
    features: Vec<f32>,
    /// `[N, classes]`.
    pub logits: Vec<f32>,
}

impl Engine {
    pub(super) fn forward_heads(&mut self, weights: &[f32]) {
        self.main = self.forward_head(&self.graph.head, weights);
        self.auxiliary = self.graph.auxiliary.as_ref().map(|head| self.forward_head(head, weights));
    }

    fn forward_head(&self, head: &Head, weights: &[f32]) -> HeadState {
        let mut features = vec![0.0; self.images * head.features];
        let mut activated = Vec::new();
        for (image, features) in features.chunks_exact_mut(head.features).enumerate() {
            let mut start = 0;
            for &source in &head.inputs {
                let shape = self.graph.tensors[source.tensor];
                let x = &self.activations[source.tensor][image * shape.len()..][..shape.len()];
                activated.resize(shape.len(), 0.0);
                self.kernels.prelude(x, shape, Padding::NONE, self.head_prelude(head, source), &mut activated);
                self.kernels.global_avg_pool(&activated, shape, &mut features[start..start + shape.channels]);
                start += shape.channels;
            }
        }
        let mut logits = vec![0.0; self.images * self.graph.classes];
        let (weight, bias) = (&weights[head.weight.clone()], &weights[head.bias.clone()]);
        self.kernels.linear(&features, weight, bias, &mut logits);
        HeadState { features, logits }
    }

    fn head_prelude(&self, head: &Head, source: Source) -> Prelude<'_> {
        prelude(head.relu, self.source_fold(source))
    }

    /// Backward through the main or the auxiliary head: sets the gradients of its parameters, adds to those of its inputs.
    pub(super) fn backward_head(
        &mut self,
        auxiliary: bool,
        weights: &[f32],
        dlogits: &[f32],
        gradients: &mut Gradients,
    ) {
        let (head, state) = match (&self.graph.auxiliary, &self.auxiliary) {
            (Some(head), Some(state)) if auxiliary => (head.clone(), state),
            _ => (self.graph.head.clone(), &self.main),
        };
        let mut d_features = vec![0.0; self.images * head.features];
        let (mut dw, mut dbias) = (vec![0.0; head.weight.len()], vec![0.0; head.bias.len()]);
        let weight = &weights[head.weight.clone()];
        self.kernels.linear_backward(&state.features, weight, dlogits, &mut d_features, &mut dw, &mut dbias);
        if let Some(gradient) = gradients.weights.as_deref_mut() {
            gradient[head.weight.clone()].copy_from_slice(&dw);
            gradient[head.bias.clone()].copy_from_slice(&dbias);
        }
        let mut start = 0;
        for &source in &head.inputs {
            self.backward_average(&head, source, &d_features[start..], weights, gradients);
            start += self.graph.tensors[source.tensor].channels;
        }
    }

    /// Backward through the average of one input; `d_features` starts at the input's first feature.
    fn backward_average(
        &mut self,
        head: &Head,
        source: Source,
        d_features: &[f32],
        weights: &[f32],
        gradients: &mut Gradients,
    ) {
        let shape = self.graph.tensors[source.tensor];
        let mut gradient = std::mem::take(&mut self.gradients[source.tensor]);
        if gradient.is_empty() {
            gradient = self.acquire_gradient(source.tensor);
        }
        let mut spread = vec![0.0; shape.len()];
        let mut sums = vec![0.0; 2 * shape.channels];
        for image in 0..self.images {
            let range = image * shape.len()..(image + 1) * shape.len();
            let x = &self.activations[source.tensor][range.clone()];
            let dx = &mut gradient[range];
            let dy = &d_features[image * head.features..][..shape.channels];
            self.kernels.global_avg_pool_backward(dy, shape, &mut spread, false);
            self.kernels.prelude_backward(x, shape, Padding::NONE, self.head_prelude(head, source), &spread, dx, true);
            if let Some(norm) = source.norm {
                let mean = &self.norms.mean[self.graph.norms[norm].range.clone()];
                let (sum, dot) = sums.split_at_mut(shape.channels);
                self.kernels.norm_backward_reduce(dx, x, mean, 1.0, sum, dot);
            }
        }
        self.gradients[source.tensor] = gradient;
        if let Some(norm) = source.norm {
            self.finish_norm(norm, 1.0, &sums, weights, gradients.weights.as_deref_mut());
        }
    }
}
