//! What a region's barrier does in the backward pass: the portions' sums become coefficients of batch norms and
//! gradients of mixing weights and of γ and β.

use darts_kernels_simd::norm_backward_coefficients;

use super::backward::Gradients;
use super::chunk::Chunk;
use super::forward::mixing_weight;
use super::norms::NormState;
use super::plan::Reduction;
use super::{Engine, Inputs, Network};
use crate::graph::{NormId, TermWeight};

impl Engine {
    /// Adds up the first `len` sums of all portions, in order, to `totals`.
    pub(super) fn add_up_sums(&mut self, len: usize) {
        self.totals.clear();
        self.totals.resize(len, 0.0);
        self.chunks.read(|chunks| {
            for portion in Chunk::all_portions(chunks) {
                self.totals.iter_mut().zip(&portion.sums[..len]).for_each(|(total, part)| *total += part);
            }
        });
    }

    pub(super) fn finish_reductions(&mut self, region: usize, inputs: &Inputs, gradients: &mut Gradients) {
        let Self { network, totals, images, .. } = self;
        for index in 0..network.plan.regions[region].reductions.len() {
            let (reduction, start) = network.plan.regions[region].reductions[index];
            let sums = &totals[start..];
            match reduction {
                Reduction::Read(norm) => {
                    network.finish_norm(norm, *images, 1.0, sums, inputs.weights, gradients.weights.as_deref_mut());
                }
                Reduction::Term { mix, term } => {
                    let term = network.graph.mixes[mix].terms[term];
                    let derivative = match term.source.norm {
                        Some(norm) => {
                            let weight = f64::from(mixing_weight(&term, inputs));
                            let dw = gradients.weights.as_deref_mut();
                            network.finish_norm(norm, *images, weight, sums, inputs.weights, dw);
                            network.term_derivative(norm, sums, inputs.weights)
                        }
                        None => sums[0],
                    };
                    if let TermWeight::Alpha(index) = term.weight {
                        // All cells of a kind share one α.
                        gradients.mix_weights[index] += derivative as f32;
                    }
                }
            }
        }
    }
}

impl Network {
    /// Sets the coefficients of `norm` from the sums of `dy` over the batch, of which `weight` times reaches the norm.
    pub(super) fn finish_norm(
        &mut self,
        norm: NormId,
        images: usize,
        weight: f64,
        sums: &[f64],
        weights: &[f32],
        mut dw: Option<&mut [f32]>,
    ) {
        let norm = &self.graph.norms[norm];
        let channels = norm.range.len();
        let count = images * self.graph.tensors[norm.tensor].pixels();
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
