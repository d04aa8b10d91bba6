//! The architecture parameters: two matrices `[edges, 8]`, the one of normal cells and the one of reduction cells, one
//! behind the other in a flat vector; behind them, where edges are weighted (PC-DARTS), β: one element for each edge.

use std::ops::Range;

use darts_core::{CellGenotype, Genotype, Primitive};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::derivation::Derivation;
use crate::graph::space::Space;

/// Columns of α: one for each operation that is searched over.
pub(super) const COLUMNS: usize = Primitive::SEARCH.len();

/// The columns of the operations of `space` other than `none`.
pub(super) fn columns(space: Space) -> impl Iterator<Item = usize> {
    (0..COLUMNS).filter(move |&column| Primitive::SEARCH[column] != Primitive::None && space.allowed()[column])
}

/// Initial α: `1e-3 · N(0, 1)`, as in the original code.
pub fn initial(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut draw = || -> f32 { StandardNormal.sample(rng) };
    (0..len).map(|_| 1e-3 * draw()).collect()
}

/// The two matrices of α without β, of normal and of reduction cells, row by row.
pub fn rows(alpha: &[f32]) -> [Vec<Vec<f32>>; 2] {
    let (normal, reduce) = alpha.split_at(alpha.len() / 2);
    [normal, reduce].map(|matrix| matrix.chunks_exact(COLUMNS).map(<[f32]>::to_vec).collect())
}

/// The mixing weights in the whole space of DARTS: softmax of every row of α.
pub fn softmax_rows(alpha: &[f32]) -> Vec<f32> {
    softmax_rows_of(alpha, Space::DARTS)
}

/// The mixing weights in `space`: softmax of every row over its operations, 0 for the others.
pub fn softmax_rows_of(alpha: &[f32], space: Space) -> Vec<f32> {
    let mut weights = alpha.to_vec();
    softmax_rows_in_place(&mut weights, space);
    weights
}

/// The same in place.
pub fn softmax_rows_in_place(weights: &mut [f32], space: Space) {
    let allowed = space.allowed();
    for row in weights.chunks_exact_mut(COLUMNS) {
        let in_space = row.iter().zip(allowed).filter(|&(_, &allowed)| allowed);
        let largest = in_space.fold(f32::NEG_INFINITY, |largest, (&value, _)| largest.max(value));
        for (value, &allowed) in row.iter_mut().zip(allowed) {
            *value = if allowed { (*value - largest).exp() } else { 0.0 };
        }
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
}

/// Gradient with respect to α from that with respect to the mixing weights, in place.
pub fn softmax_backward(weights: &[f32], gradient: &mut [f32]) {
    for (row, weights) in gradient.chunks_exact_mut(COLUMNS).zip(weights.chunks_exact(COLUMNS)) {
        softmax_backward_of(weights, row);
    }
}

/// The same for one softmax.
fn softmax_backward_of(weights: &[f32], gradient: &mut [f32]) {
    let products = gradient.iter().zip(weights).map(|(&value, &weight)| f64::from(value) * f64::from(weight));
    let mean: f64 = products.sum();
    for (value, &weight) in gradient.iter_mut().zip(weights) {
        *value = (f64::from(weight) * (f64::from(*value) - mean)) as f32;
    }
}

/// Softmax of β over the edges of every node, in place: the edges of normal, then of reduction cells, two for the first
/// node of a cell and one more for each that follows. An empty β stays empty.
pub fn softmax_nodes(beta: &mut [f32]) {
    for_each_node(beta.len(), |edges| {
        let node = &mut beta[edges];
        let largest = node.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        node.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f32 = node.iter().sum();
        node.iter_mut().for_each(|value| *value /= sum);
    });
}

/// Gradient with respect to β from that with respect to its softmax `weights`, in place.
pub fn softmax_nodes_backward(weights: &[f32], gradient: &mut [f32]) {
    for_each_node(weights.len(), |edges| softmax_backward_of(&weights[edges.clone()], &mut gradient[edges]));
}

/// Hands out the edges of each node of both cells, which have `edges` edges together.
fn for_each_node(edges: usize, mut work: impl FnMut(Range<usize>)) {
    for cell in [0, edges / 2] {
        let (mut start, mut inputs) = (0, 2);
        while start < edges / 2 {
            work(cell + start..cell + start + inputs);
            start += inputs;
            inputs += 1;
        }
    }
}

/// The two matrices of α for cells of `nodes` nodes, and β, which is empty where edges are not weighted.
pub fn split(alpha: &[f32], nodes: usize) -> (&[f32], &[f32]) {
    alpha.split_at(nodes * (nodes + 3) * COLUMNS)
}

/// The genotype that α stands for in the whole space of DARTS, see [`Derivation`].
///
/// # Panics
/// If α does not have two matrices for cells of `nodes` nodes.
pub fn genotype(alpha: &[f32], nodes: usize, multiplier: usize) -> Genotype {
    Derivation { nodes, multiplier, space: Space::DARTS, max_skips: None }.genotype(alpha)
}

/// Row of the edge from state `source` to node `node` in the matrix of a cell: there are `i + 2` edges to node i.
pub(super) fn row(node: usize, source: usize) -> usize {
    node * (node + 3) / 2 + source
}

/// The cell of these strengths `[edges][operations]` (section 2.4 of the paper, as the original code does it): each
/// node keeps its two strongest edges, strongest first, each with its strongest operation; `none` counts for neither.
pub(super) fn cell(weights: &[f32], nodes: usize, multiplier: usize) -> CellGenotype {
    let mut rows = weights.chunks_exact(COLUMNS);
    let mut edges = Vec::with_capacity(2 * nodes);
    for node in 0..nodes {
        let mut candidates: Vec<(f32, Primitive, u8)> = rows
            .by_ref()
            .take(node + 2)
            .zip(0..)
            .map(|(row, source)| {
                let (strength, primitive) = strongest(row);
                (strength, primitive, source)
            })
            .collect();
        // A stable sort, so that of equal edges the one from the earlier state comes first.
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        edges.extend(candidates[..2].iter().map(|&(_, primitive, source)| (primitive, source)));
    }
    cell_of(&edges, nodes, multiplier)
}

/// The cell with these edges, two for each node, from states before it, whose output is the last `multiplier` states.
pub(super) fn cell_of(edges: &[(Primitive, u8)], nodes: usize, multiplier: usize) -> CellGenotype {
    CellGenotype::new(edges, &last_states(nodes, multiplier)).expect("two edges for each node, from states before it")
}

/// The last `multiplier` states of a cell of `nodes` nodes.
pub(super) fn last_states(nodes: usize, multiplier: usize) -> Vec<u8> {
    (0..nodes as u8 + 2).skip(nodes + 2 - multiplier).collect()
}

/// The strongest operation other than `none`, the first of equals.
fn strongest(row: &[f32]) -> (f32, Primitive) {
    let mut best = (f32::NEG_INFINITY, Primitive::None);
    for (&weight, primitive) in row.iter().zip(Primitive::SEARCH) {
        if primitive != Primitive::None && weight > best.0 {
            best = (weight, primitive);
        }
    }
    best
}

/// What can be said of one cell's α in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlphaSummary {
    /// Mean entropy of the softmaxed rows, in nats; where nothing is decided, the logarithm of the number of
    /// operations.
    pub entropy: f64,
    /// Edges whose largest weight is that of `skip_connect`.
    pub skip_edges: usize,
    /// Edges whose largest weight is that of `none`.
    pub none_edges: usize,
    /// Skip connections in the derived cell.
    pub skips: usize,
}

/// Summaries of the normal and the reduction cell of α, of which `derived` was derived.
pub fn summaries(alpha: &[f32], derivation: &Derivation, derived: &Genotype) -> [AlphaSummary; 2] {
    let weights = softmax_rows_of(split(alpha, derivation.nodes).0, derivation.space);
    let (normal, reduce) = weights.split_at(weights.len() / 2);
    [(normal, &derived.normal), (reduce, &derived.reduce)].map(|(weights, cell)| summary(weights, cell))
}

fn summary(weights: &[f32], cell: &CellGenotype) -> AlphaSummary {
    let rows = weights.chunks_exact(COLUMNS);
    let count = rows.len() as f64;
    let entropy = weights.iter().map(|&p| f64::from(p)).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum::<f64>();
    let largest = |row: &[f32]| {
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter().position(|&weight| weight == best).map(|column| Primitive::SEARCH[column])
    };
    let winners: Vec<_> = rows.map(largest).collect();
    let won = |primitive| winners.iter().filter(|&&winner| winner == Some(primitive)).count();
    AlphaSummary {
        entropy: entropy / count,
        skip_edges: won(Primitive::SkipConnect),
        none_edges: won(Primitive::None),
        skips: cell.edges.iter().filter(|edge| edge.primitive == Primitive::SkipConnect).count(),
    }
}
