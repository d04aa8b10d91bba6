//! What a supernet is made of: the operations of its edges, and what it can have beside them against searches that end
//! in skip connections.

use darts_core::Primitive;

use super::TermWeight;
use super::space::Space;

/// What a supernet is made of; by default it is that of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The operations of each edge.
    pub space: Space,
    /// Whether the identity of each edge has a drop-path mask (P-DARTS, arXiv 1904.12760).
    pub skip_dropout: bool,
    /// Whether each edge has a skip connection beside its mixed operation (DARTS−, arXiv 2009.01027), with a mixing
    /// weight of its own behind those of α.
    pub auxiliary_skip: bool,
    /// One channel of so many goes through the mixed operations, the others pass them by (PC-DARTS, arXiv 1907.05737);
    /// 1 for all channels. With more than 1, edges have mixing weights too, behind those of α.
    pub partial: usize,
}

impl Default for Variant {
    fn default() -> Self {
        Self { space: Space::DARTS, skip_dropout: false, auxiliary_skip: false, partial: 1 }
    }
}

impl Variant {
    /// Whether channels pass the mixed operations by, and edges are weighted.
    pub fn is_partial(&self) -> bool {
        self.partial > 1
    }
}

/// Where the mixing weights of a supernet with `edges` edges a cell lie: those of operations, of normal, then of
/// reduction cells, `[edges, 8]` each; behind them, `[edges]` each, those of edges, if channels pass the mixed
/// operations by, and those of auxiliary skip connections, if there are any.
#[derive(Clone, Copy, Debug)]
pub(super) struct MixLayout {
    edges: usize,
    variant: Variant,
}

impl MixLayout {
    pub fn new(edges: usize, variant: Variant) -> Self {
        Self { edges, variant }
    }

    /// Number of mixing weights.
    pub fn len(&self) -> usize {
        self.start_of_auxiliary() + if self.variant.auxiliary_skip { 2 * self.edges } else { 0 }
    }

    /// The weight of an operation on an edge.
    pub fn operation(&self, reduction: bool, edge: usize, column: usize) -> TermWeight {
        TermWeight::Alpha(self.edge(reduction, edge) * Primitive::SEARCH.len() + column)
    }

    /// The weight of an edge.
    pub fn edge_weight(&self, reduction: bool, edge: usize) -> TermWeight {
        TermWeight::Alpha(self.start_of_edges() + self.edge(reduction, edge))
    }

    /// The weight of an edge's auxiliary skip connection.
    pub fn auxiliary_skip(&self, reduction: bool, edge: usize) -> TermWeight {
        TermWeight::Alpha(self.start_of_auxiliary() + self.edge(reduction, edge))
    }

    fn start_of_edges(&self) -> usize {
        2 * self.edges * Primitive::SEARCH.len()
    }

    fn start_of_auxiliary(&self) -> usize {
        self.start_of_edges() + if self.variant.is_partial() { 2 * self.edges } else { 0 }
    }

    /// Number of an edge among those of both cells.
    fn edge(&self, reduction: bool, edge: usize) -> usize {
        edge + if reduction { self.edges } else { 0 }
    }
}
