//! From α to the mixing weights of a supernet, and back.
//!
//! Where edges are weighted (PC-DARTS, arXiv 1907.05737, section 3.3), α has one element more for each edge at its end,
//! β: the softmax of β over the edges of a node multiplies what comes along them.

use super::alpha::{COLUMNS, softmax_backward, softmax_nodes, softmax_nodes_backward, softmax_rows_in_place};
use crate::graph::variant::Variant;

/// How the mixing weights follow from α.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixing {
    /// What the supernet has.
    pub variant: Variant,
    /// Weight of the auxiliary skip connections of a [`Variant`] that has them.
    pub auxiliary_weight: f32,
}

impl Mixing {
    /// Elements of α in a supernet of this variant with `mix_weights` mixing weights.
    pub fn alpha_len(&self, mix_weights: usize) -> usize {
        let each = self.alpha_of_edge();
        mix_weights / (each + usize::from(self.variant.auxiliary_skip)) * each
    }

    /// Elements of the two matrices at the front of an α of `len` elements.
    pub fn matrices_len(&self, len: usize) -> usize {
        len / self.alpha_of_edge() * COLUMNS
    }

    fn alpha_of_edge(&self) -> usize {
        COLUMNS + usize::from(self.variant.is_partial())
    }

    /// Writes the mixing weights.
    pub fn weights(&self, alpha: &[f32], weights: &mut Vec<f32>) {
        weights.clear();
        weights.extend_from_slice(alpha);
        let (matrices, edges) = weights.split_at_mut(self.matrices_len(alpha.len()));
        softmax_rows_in_place(matrices, self.variant.space);
        softmax_nodes(edges);
        for (row, edge) in matrices.chunks_exact_mut(COLUMNS).zip(edges) {
            row.iter_mut().for_each(|weight| *weight *= *edge);
        }
        if self.variant.auxiliary_skip {
            for edge in 0..alpha.len() / self.alpha_of_edge() {
                weights.push(self.auxiliary_weight * self.edge_weight(alpha.len(), weights, edge));
            }
        }
    }

    /// Weight of an edge among the mixing weights, 1 where edges have none.
    fn edge_weight(&self, alpha_len: usize, weights: &[f32], edge: usize) -> f32 {
        if self.variant.is_partial() { weights[self.matrices_len(alpha_len) + edge] } else { 1.0 }
    }

    /// Writes the gradient with respect to α from that with respect to the mixing weights `weights`.
    pub fn backward(&self, weights: &[f32], gradient: &[f32], alpha_gradient: &mut [f32]) {
        let len = alpha_gradient.len();
        alpha_gradient.copy_from_slice(&gradient[..len]);
        let (by_matrices, by_edges) = alpha_gradient.split_at_mut(self.matrices_len(len));
        let (matrices, edges) = weights[..len].split_at(by_matrices.len());
        if !self.variant.is_partial() {
            softmax_backward(matrices, by_matrices);
            return;
        }
        let rows = matrices.chunks_exact(COLUMNS).zip(by_matrices.chunks_exact_mut(COLUMNS));
        for (edge, ((row, by_row), by_edge)) in rows.zip(by_edges.iter_mut()).enumerate() {
            // What the edge carries is Σ weight · operation; without the edge's own weight its derivative is `mean`.
            let products = row.iter().zip(&*by_row).map(|(&weight, &value)| f64::from(weight) * f64::from(value));
            let of_edge = f64::from(edges[edge]);
            let mean = if of_edge > 0.0 { products.sum::<f64>() / of_edge } else { 0.0 };
            for (value, &weight) in by_row.iter_mut().zip(row) {
                *value = (f64::from(weight) * (f64::from(*value) - mean)) as f32;
            }
            let auxiliary = gradient[len..].get(edge).map_or(0.0, |&value| f64::from(self.auxiliary_weight * value));
            *by_edge = (f64::from(*by_edge) + mean + auxiliary) as f32;
        }
        softmax_nodes_backward(edges, by_edges);
    }
}
