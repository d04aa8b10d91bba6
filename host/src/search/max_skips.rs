//! A limit to the skip connections of a cell (P-DARTS, arXiv 1904.12760, section 3.3: two in its normal cells).

use darts_core::{CellGenotype, Primitive};

use super::alpha::{COLUMNS, cell, row};

/// Column of `skip_connect`.
const SKIP: usize = Primitive::SkipConnect as usize;

/// The cell of these strengths `[edges][operations]` with at most `limit` skip connections: as long as there are more,
/// the weakest of them (the first of equals) loses its strength, and the cell is derived anew, edges and all.
///
/// Strengths that were lost are −∞ afterwards. Every edge must have an operation other than `none` and `skip_connect`.
pub(super) fn cell_within(strengths: &mut [f32], nodes: usize, multiplier: usize, limit: usize) -> CellGenotype {
    loop {
        let derived = cell(strengths, nodes, multiplier);
        let edges = derived.edges.iter().enumerate();
        let skips = edges.filter(|(_, edge)| edge.primitive == Primitive::SkipConnect);
        let places: Vec<usize> =
            skips.map(|(index, edge)| row(index / 2, edge.source.into()) * COLUMNS + SKIP).collect();
        if places.len() <= limit {
            return derived;
        }
        let weakest = places.into_iter().min_by(|&a, &b| strengths[a].total_cmp(&strengths[b]));
        strengths[weakest.expect("more than the limit are some")] = f32::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: usize = 3;

    /// Strengths of nine edges: `skips` by row, 0.3 for sep_conv_3x3 and less for all others.
    fn strengths(skips: [f32; 9]) -> Vec<f32> {
        let row = |skip| [0.9, 0.01, 0.01, skip, 0.3, 0.02, 0.01, 0.01];
        skips.into_iter().flat_map(row).collect()
    }

    fn within(skips: [f32; 9], limit: usize) -> Vec<(Primitive, u8)> {
        let derived = cell_within(&mut strengths(skips), NODES, NODES, limit);
        derived.edges.iter().map(|edge| (edge.primitive, edge.source)).collect()
    }

    const SKIPS: [f32; 9] = [0.5, 0.6, 0.0, 0.7, 0.4, 0.0, 0.0, 0.0, 0.8];

    #[test]
    fn the_weakest_skips_go_first_and_other_edges_may_take_their_place() {
        use Primitive::{SepConv3x3, SkipConnect};
        let all =
            [(SkipConnect, 1), (SkipConnect, 0), (SkipConnect, 1), (SkipConnect, 2), (SkipConnect, 3), (SepConv3x3, 0)];
        assert_eq!(within(SKIPS, 6), all);
        assert_eq!(within(SKIPS, 5), all);
        // The edge from state 2 to node 1 (0.4) is no stronger without its skip than that from state 0, which comes
        // first.
        let mut expected = all;
        expected[3] = (SepConv3x3, 0);
        assert_eq!(within(SKIPS, 4), expected);
        expected[1] = (SepConv3x3, 0);
        assert_eq!(within(SKIPS, 3), expected);
        let none = within(SKIPS, 0);
        assert_eq!(none.iter().map(|edge| edge.1).collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1]);
        assert!(none.iter().all(|edge| edge.0 == SepConv3x3));
    }

    #[test]
    fn of_equal_skips_the_first_goes() {
        let mut skips = SKIPS;
        (skips[0], skips[1]) = (0.35, 0.35);
        let derived = within(skips, 4);
        assert_eq!(derived[..2], [(Primitive::SkipConnect, 1), (Primitive::SepConv3x3, 0)]);
    }

    #[test]
    fn rows_of_edges() {
        let rows: Vec<_> = (0..4).flat_map(|node| (0..node + 2).map(move |source| row(node, source))).collect();
        assert!(rows.into_iter().eq(0..14));
    }
}
