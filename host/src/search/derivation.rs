//! From α to a genotype.

use darts_core::Genotype;

use super::alpha::{COLUMNS, cell, softmax_nodes, softmax_rows_of, split};
use super::max_skips;
use crate::graph::space::Space;

/// How a genotype is read off α: of each node the two strongest edges, each with its strongest operation of the space
/// other than `none` (section 2.4 of the paper, as the original code does it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// Nodes of a cell.
    pub nodes: usize,
    /// States that are concatenated to a cell's output.
    pub multiplier: usize,
    /// The operations that there are.
    pub space: Space,
    /// Most skip connections of a cell, see [`max_skips`](super::max_skips). With a limit, the space must have an
    /// operation other than `none` and `skip_connect`.
    pub max_skips: Option<usize>,
}

impl Derivation {
    /// The genotype that α stands for. Where edges are weighted, the strength of an operation is its weight times that
    /// of its edge.
    ///
    /// # Panics
    /// If α does not have two matrices for cells of `nodes` nodes.
    pub fn genotype(&self, alpha: &[f32]) -> Genotype {
        let mut strengths = self.strengths(alpha);
        let half = strengths.len() / 2;
        let (normal, reduce) = strengths.split_at_mut(half);
        let [normal, reduce] = [normal, reduce].map(|strengths| match self.max_skips {
            Some(limit) => max_skips::cell_within(strengths, self.nodes, self.multiplier, limit),
            None => cell(strengths, self.nodes, self.multiplier),
        });
        Genotype { normal, reduce }
    }

    /// The strength of every operation on every edge, in the order of α's matrices; −∞ for operations that are not in
    /// the space.
    ///
    /// # Panics
    /// As [`genotype`](Self::genotype).
    pub fn strengths(&self, alpha: &[f32]) -> Vec<f32> {
        let (matrices, beta) = split(alpha, self.nodes);
        let mut strengths = softmax_rows_of(matrices, self.space);
        let mut edges = beta.to_vec();
        softmax_nodes(&mut edges);
        for (row, edge) in strengths.chunks_exact_mut(COLUMNS).zip(&edges) {
            row.iter_mut().for_each(|strength| *strength *= edge);
        }
        for row in strengths.chunks_exact_mut(COLUMNS) {
            // Below every operation of the space, however small its weight.
            let left_out = row.iter_mut().zip(self.space.allowed()).filter(|&(_, &allowed)| !allowed);
            left_out.for_each(|(strength, _)| *strength = f32::NEG_INFINITY);
        }
        strengths
    }
}

#[cfg(test)]
mod tests {
    use darts_core::Primitive;

    use super::*;

    #[test]
    fn only_operations_of_the_space_are_derived_however_weak() {
        let plain = Derivation { nodes: 2, multiplier: 2, space: Space::DARTS, max_skips: None };
        // α of what S3 leaves out is far above, and so far that of none that the others' weights are 0.
        let mut alpha = vec![0.0_f32; 2 * 5 * COLUMNS];
        for row in alpha.chunks_exact_mut(COLUMNS) {
            (row[0], row[3], row[4], row[1]) = (200.0, 1.0, 2.0, 300.0);
        }
        let derived = Derivation { space: Space::S3, ..plain }.genotype(&alpha);
        let operations = |genotype: &Genotype| -> Vec<Primitive> {
            let cells = [&genotype.normal, &genotype.reduce];
            cells.iter().flat_map(|cell| &cell.edges).map(|edge| edge.primitive).collect()
        };
        assert!(operations(&derived).iter().all(|&primitive| Space::S2.contains(primitive)), "{derived}");
        let derived = Derivation { space: Space::S2, ..plain }.genotype(&alpha);
        assert_eq!(operations(&derived), [Primitive::SepConv3x3; 8]);
        assert_eq!(operations(&plain.genotype(&alpha)), [Primitive::MaxPool3x3; 8]);
    }
}
