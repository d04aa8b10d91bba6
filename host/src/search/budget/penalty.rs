//! What a derived network is expected to cost, and its share in α's loss.
//!
//! An edge costs what its operation costs, whose distribution is softmax(α) among the operations other than `none`,
//! which no derived cell has: the expectation is linear in the mixing weights, as the latency of ProxylessNAS (arXiv
//! 1812.00332, section 3.3) and FBNet (arXiv 1812.03443) and the resource constraint of SNAS (arXiv 1812.09926) are,
//! and its derivative is exact. A node of n inputs keeps two of them: each counts with 2/n, or where edges are weighted
//! with twice its weight.
//!
//! The loss has λ · max(0, expectation / target − 1) more: nothing below the target, as in the hard form of MnasNet's
//! reward (arXiv 1807.11626), and above it in units of the target, so that one λ holds for any of them.

use super::super::alpha::{COLUMNS, row, softmax_nodes, split};
use crate::graph::space::Space;

/// Column of `none`.
const NONE: usize = darts_core::Primitive::None as usize;

/// What a derived network costs: `base`, and for each operation on each edge so much more, in the order of α's
/// matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// What all networks have.
    pub base: f64,
    /// What an operation adds where it is on an edge.
    pub added: Vec<f64>,
}

/// One penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct Penalty {
    /// What is penalized.
    pub cost: Linear,
    /// λ.
    pub weight: f64,
    /// From where on.
    pub target: f64,
}

/// The penalties of a search in `space` with cells of `nodes` nodes; by default none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalties {
    /// All that are added.
    pub each: Vec<Penalty>,
    /// Nodes of a cell.
    pub nodes: usize,
    /// The operations that are derived.
    pub space: Space,
}

impl Penalties {
    /// The sum of the penalties; its gradient with respect to α is added to `gradient`.
    ///
    /// # Panics
    /// As [`Linear::expected`].
    pub fn add_gradient(&self, alpha: &[f32], gradient: &mut [f32]) -> f64 {
        self.each.iter().map(|penalty| penalty.add_gradient(alpha, self.nodes, self.space, gradient)).sum()
    }
}

/// How often edges are kept and operations chosen.
struct Choices {
    /// Softmax among the operations of the space other than `none`; 0 for the others.
    operations: Vec<f64>,
    /// Of each edge.
    edges: Vec<f64>,
}

impl Choices {
    fn new(alpha: &[f32], nodes: usize, space: Space) -> Self {
        let (matrices, beta) = split(alpha, nodes);
        let mut operations: Vec<f64> = matrices.iter().map(|&value| f64::from(value)).collect();
        for operations in operations.chunks_exact_mut(COLUMNS) {
            let chosen = |column: usize| column != NONE && space.allowed()[column];
            let largest = (0..COLUMNS).filter(|&column| chosen(column)).map(|column| operations[column]);
            let largest = largest.fold(f64::NEG_INFINITY, f64::max);
            for (column, value) in operations.iter_mut().enumerate() {
                *value = if chosen(column) { (*value - largest).exp() } else { 0.0 };
            }
            let sum: f64 = operations.iter().sum();
            operations.iter_mut().for_each(|value| *value /= sum);
        }
        let mut weights = beta.to_vec();
        softmax_nodes(&mut weights);
        let weighted = weights.into_iter().map(|weight| 2.0 * f64::from(weight)).collect::<Vec<_>>();
        let equal = || (0..2).flat_map(|_| nodes_of(nodes)).map(|(_, inputs)| 2.0 / inputs as f64).collect();
        Self { operations, edges: if weighted.is_empty() { equal() } else { weighted } }
    }
}

/// For each edge of a cell the first edge of its node, and the inputs of that.
fn nodes_of(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(|node| (0..node + 2).map(move |_| (row(node, 0), node + 2)))
}

impl Linear {
    /// The expectation under α of a search with cells of `nodes` nodes.
    ///
    /// # Panics
    /// If α does not have two matrices for such cells, or there are not as many costs.
    pub fn expected(&self, alpha: &[f32], nodes: usize, space: Space) -> f64 {
        let Choices { operations, edges } = Choices::new(alpha, nodes, space);
        self.base + self.of_edges(&operations).zip(edges).map(|(cost, edge)| edge * cost).sum::<f64>()
    }

    /// The expected cost of each edge, if it is kept.
    fn of_edges<'a>(&'a self, operations: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        assert_eq!(self.added.len(), operations.len(), "a cost for every element of α");
        let rows = operations.chunks_exact(COLUMNS).zip(self.added.chunks_exact(COLUMNS));
        rows.map(|(operations, added)| operations.iter().zip(added).map(|(share, cost)| share * cost).sum())
    }
}

impl Penalty {
    /// The penalty; its gradient with respect to α is added to `gradient`.
    ///
    /// # Panics
    /// As [`Linear::expected`].
    pub fn add_gradient(&self, alpha: &[f32], nodes: usize, space: Space, gradient: &mut [f32]) -> f64 {
        let expected = self.cost.expected(alpha, nodes, space);
        let excess = expected / self.target - 1.0;
        if excess <= 0.0 {
            return 0.0;
        }
        let slope = self.weight / self.target;
        let Choices { operations, edges } = Choices::new(alpha, nodes, space);
        let costs: Vec<f64> = self.cost.of_edges(&operations).collect();
        let (matrices, beta) = gradient.split_at_mut(operations.len());
        let columns = operations.iter().zip(&self.cost.added).zip(matrices).enumerate();
        for (index, ((share, cost), gradient)) in columns {
            let edge = index / COLUMNS;
            *gradient += (slope * edges[edge] * share * (cost - costs[edge])) as f32;
        }
        let in_cell = edges.len() / 2;
        for (index, (gradient, (first, inputs))) in
            beta.iter_mut().zip((0..2).flat_map(|_| nodes_of(nodes))).enumerate()
        {
            // The weights of a node's edges have a sum of 1, and count twice.
            let first = index / in_cell * in_cell + first;
            let node = first..first + inputs;
            let mean: f64 = node.map(|edge| edges[edge] / 2.0 * costs[edge]).sum();
            *gradient += (slope * edges[index] * (costs[index] - mean)) as f32;
        }
        self.weight * excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: usize = 3;
    const EDGES: usize = 9;

    fn numbers(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        (0..len).map(|_| next()).collect()
    }

    fn penalty(target: f64) -> Penalty {
        let added = numbers(2 * EDGES * COLUMNS, 1).iter().map(|value| 100.0 * value).collect();
        Penalty { cost: Linear { base: 50.0, added }, weight: 0.7, target }
    }

    /// α with β if edges are weighted.
    fn alpha(weighted: bool) -> Vec<f32> {
        let len = 2 * EDGES * (COLUMNS + usize::from(weighted));
        numbers(len, 2).iter().map(|&value| (2.0 * value - 1.0) as f32).collect()
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        for (weighted, space) in [(false, Space::DARTS), (true, Space::DARTS), (false, Space::S3), (true, Space::S3)] {
            let (penalty, alpha) = (penalty(300.0), alpha(weighted));
            let at = |alpha: &[f32]| {
                let mut unused = vec![0.0; alpha.len()];
                penalty.add_gradient(alpha, NODES, space, &mut unused)
            };
            let mut gradient = vec![1.0; alpha.len()];
            let value = penalty.add_gradient(&alpha, NODES, space, &mut gradient);
            let expected = penalty.cost.expected(&alpha, NODES, space);
            assert!((value - 0.7 * (expected / 300.0 - 1.0)).abs() < 1e-12 && value > 0.0, "{value}");
            for index in 0..alpha.len() {
                let step = 1.0 / 256.0;
                let shifted = |by: f32| {
                    let mut alpha = alpha.clone();
                    alpha[index] += by;
                    (at(&alpha), f64::from(alpha[index]))
                };
                let ((more, right), (less, left)) = (shifted(step), shifted(-step));
                let (found, slope) = (f64::from(gradient[index]) - 1.0, (more - less) / (right - left));
                assert!((found - slope).abs() < 2e-6 + 1e-3 * slope.abs(), "{index}: {found} for {slope}");
                if index < 2 * EDGES * COLUMNS && (index % COLUMNS == NONE || !space.allowed()[index % COLUMNS]) {
                    assert_eq!(gradient[index], 1.0, "operations that are not derived have no gradient");
                }
            }
        }
    }

    #[test]
    fn below_the_target_there_is_nothing() {
        let alpha = alpha(true);
        let expected = penalty(1.0).cost.expected(&alpha, NODES, Space::DARTS);
        let mut gradient = vec![0.25; alpha.len()];
        let value = penalty(1.001 * expected).add_gradient(&alpha, NODES, Space::DARTS, &mut gradient);
        assert_eq!((value, gradient), (0.0, vec![0.25; alpha.len()]));
    }

    #[test]
    fn equal_operations_and_edges_count_by_how_many_are_kept() {
        // Two of the edges of each node, three nodes, two cells; every operation costs 10.
        let cost = Linear { base: 5.0, added: vec![10.0; 2 * EDGES * COLUMNS] };
        for weighted in [false, true] {
            let expected = cost.expected(&alpha(weighted), NODES, Space::DARTS);
            assert!((expected - (5.0 + 12.0 * 10.0)).abs() < 1e-4, "{expected}");
        }
    }
}
