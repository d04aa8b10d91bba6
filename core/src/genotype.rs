//! A pair of cells, as data.

use core::fmt;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::primitive::Primitive;

/// Most nodes that a cell may have.
pub const MAX_NODES: usize = 12;
/// Most edges of a cell: two for each node.
pub const MAX_EDGES: usize = 2 * MAX_NODES;
/// Most states of a cell: the two inputs and the nodes.
pub const MAX_STATES: usize = MAX_NODES + 2;

/// An operation that is applied to an earlier state of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The operation.
    pub primitive: Primitive,
    /// The state it reads: 0 is the output of the cell before the previous one, 1 that of the previous cell, `2 + i`
    /// node `i` of this cell.
    pub source: u8,
}

/// One cell: every node is the sum of two edges, the output is the concatenation of some states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellGenotype {
    /// Edges `2i` and `2i + 1` lead to node `i`, which is state `2 + i`.
    pub edges: Vec<Edge, MAX_EDGES>,
    /// The states whose concatenation, in this order, is the output.
    pub concat: Vec<u8, MAX_STATES>,
}

impl CellGenotype {
    /// A cell of these `(operation, source)` edges, two for each node, and these output states.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn new(edges: &[(Primitive, u8)], concat: &[u8]) -> Result<Self, CellError> {
        let mut cell = Self { edges: Vec::new(), concat: Vec::new() };
        for &(primitive, source) in edges {
            let edge = Edge { primitive, source };
            cell.edges.push(edge).map_err(|_| CellError::TooManyNodes)?;
        }
        cell.concat.extend_from_slice(concat).map_err(|_| CellError::ConcatTooLong)?;
        cell.validate()?;
        Ok(cell)
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.edges.len() / 2
    }

    /// Checks that there are two edges for each of at least one node, that each edge starts at a state that exists when
    /// its node is computed, and that the output is made of existing states, at least one.
    ///
    /// # Errors
    ///
    /// The first of these that does not hold.
    pub fn validate(&self) -> Result<(), CellError> {
        if self.edges.is_empty() || !self.edges.len().is_multiple_of(2) {
            return Err(CellError::EdgeCount { edges: self.edges.len() });
        }
        for (i, edge) in self.edges.iter().enumerate() {
            let node = i / 2;
            if usize::from(edge.source) >= node + 2 {
                return Err(CellError::EdgeFromTheFuture { edge: i, node, source: edge.source });
            }
        }
        if self.concat.is_empty() {
            return Err(CellError::ConcatEmpty);
        }
        let states = self.nodes() + 2;
        match self.concat.iter().find(|&&state| usize::from(state) >= states) {
            Some(&state) => Err(CellError::ConcatState { state, states }),
            None => Ok(()),
        }
    }
}

/// What is wrong with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellError {
    /// No edge, or an odd number of them.
    EdgeCount {
        /// Number of edges.
        edges: usize,
    },
    /// More than [`MAX_NODES`] nodes.
    TooManyNodes,
    /// An edge reads a state that is not computed before its node.
    EdgeFromTheFuture {
        /// Index of the edge.
        edge: usize,
        /// The node it leads to, from 0.
        node: usize,
        /// The state it asks for.
        source: u8,
    },
    /// The output has no state.
    ConcatEmpty,
    /// The output has more than [`MAX_STATES`] states.
    ConcatTooLong,
    /// The output asks for a state that the cell does not have.
    ConcatState {
        /// The state asked for.
        state: u8,
        /// Number of states of the cell.
        states: usize,
    },
    /// The output of the reduction cell asks for an input of the cell, which has twice the height and width.
    ConcatInputOfReduction {
        /// The state asked for.
        state: u8,
    },
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EdgeCount { edges } => write!(f, "{edges} edges; every node takes two, and there must be a node"),
            Self::TooManyNodes => write!(f, "more than {MAX_EDGES} edges ({MAX_NODES} nodes)"),
            Self::EdgeFromTheFuture { edge, node, source } => write!(
                f,
                "edge {edge} takes state {source} to node {node} (state {}), which can take only states 0 to {}",
                node + 2,
                node + 1
            ),
            Self::ConcatEmpty => f.write_str("the concat list is empty; it must name at least one state"),
            Self::ConcatTooLong => write!(f, "the concat list has more than {MAX_STATES} states"),
            Self::ConcatState { state, states } => {
                write!(f, "the concat list names state {state}; this cell has states 0 to {}", states.saturating_sub(1))
            }
            Self::ConcatInputOfReduction { state } => write!(
                f,
                "the concat list names state {state}, an input of the cell; in a reduction cell it does not have the \
                 size of the nodes, so name nodes only (2 and above)"
            ),
        }
    }
}

impl core::error::Error for CellError {}

/// Which of the two cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// The cell that keeps height and width.
    Normal,
    /// The cell that halves height and width.
    Reduce,
}

impl CellKind {
    /// `normal` or `reduce`, as the texts say.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reduce => "reduce",
        }
    }
}

/// A normal and a reduction cell.
///
/// `Display` prints the form of the original implementation, [`parse`](Self::parse) reads it and JSON. With serde it is
/// `{"normal":[["sep_conv_3x3",0],…],"normal_concat":[2,3,4,5],"reduce":[…],"reduce_concat":[…]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Lists", into = "Lists")]
pub struct Genotype {
    /// The cell that keeps height and width.
    pub normal: CellGenotype,
    /// The cell that halves height and width: its edges from states 0 and 1 have stride 2.
    pub reduce: CellGenotype,
}

impl Genotype {
    /// A genotype of two cells, which may differ in nodes and in the length of their concat lists.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn new(normal: CellGenotype, reduce: CellGenotype) -> Result<Self, GenotypeError> {
        let genotype = Self { normal, reduce };
        genotype.validate()?;
        Ok(genotype)
    }

    /// Checks both cells, and that the output of the reduction cell is made of nodes alone.
    ///
    /// # Errors
    ///
    /// [`GenotypeError::Cell`] with the first fault.
    pub fn validate(&self) -> Result<(), GenotypeError> {
        self.normal.validate().map_err(|error| GenotypeError::Cell { cell: CellKind::Normal, error })?;
        let input = self.reduce.concat.iter().find(|&&state| state < 2);
        self.reduce
            .validate()
            .and(match input {
                Some(&state) => Err(CellError::ConcatInputOfReduction { state }),
                None => Ok(()),
            })
            .map_err(|error| GenotypeError::Cell { cell: CellKind::Reduce, error })
    }
}

/// A text is not a genotype. Positions are bytes from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GenotypeError {
    /// The text breaks off or continues with something else than what must stand there.
    Syntax {
        /// Where.
        position: usize,
        /// What must stand there.
        expected: &'static str,
    },
    /// An operation has a name that is none of [`Primitive::ALL`].
    UnknownPrimitive {
        /// Where the name begins.
        position: usize,
        /// The name, cut after 32 bytes.
        name: heapless::String<32>,
    },
    /// One of the four lists is given twice.
    Duplicate {
        /// Where the second begins.
        position: usize,
        /// Its key.
        key: &'static str,
    },
    /// One of the four lists is not given.
    Missing {
        /// Its key.
        key: &'static str,
    },
    /// A cell does not make sense.
    Cell {
        /// Which cell.
        cell: CellKind,
        /// What is wrong with it.
        error: CellError,
    },
}

impl fmt::Display for GenotypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { position, expected } => write!(f, "genotype, byte {position}: expected {expected}"),
            Self::UnknownPrimitive { position, name } => {
                write!(f, "genotype, byte {position}: '{name}': {}", crate::primitive::UnknownPrimitive)
            }
            Self::Duplicate { position, key } => write!(f, "genotype, byte {position}: {key} is given twice"),
            Self::Missing { key } => write!(f, "genotype: {key} is missing"),
            Self::Cell { cell, error } => write!(f, "genotype, {} cell: {error}", cell.name()),
        }
    }
}

impl core::error::Error for GenotypeError {}

/// The four lists of a genotype.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lists {
    pub(crate) normal: Vec<(Primitive, u8), MAX_EDGES>,
    pub(crate) normal_concat: Vec<u8, MAX_STATES>,
    pub(crate) reduce: Vec<(Primitive, u8), MAX_EDGES>,
    pub(crate) reduce_concat: Vec<u8, MAX_STATES>,
}

impl TryFrom<Lists> for Genotype {
    type Error = GenotypeError;

    fn try_from(lists: Lists) -> Result<Self, GenotypeError> {
        let cell = |cell, edges: &[_], concat: &[_]| {
            CellGenotype::new(edges, concat).map_err(|error| GenotypeError::Cell { cell, error })
        };
        Self::new(
            cell(CellKind::Normal, &lists.normal, &lists.normal_concat)?,
            cell(CellKind::Reduce, &lists.reduce, &lists.reduce_concat)?,
        )
    }
}

impl From<Genotype> for Lists {
    fn from(genotype: Genotype) -> Self {
        let edges = |cell: &CellGenotype| {
            let mut edges = Vec::new();
            // There is room for as many as there are.
            let _ = cell.edges.iter().try_for_each(|edge| edges.push((edge.primitive, edge.source)));
            edges
        };
        Self {
            normal: edges(&genotype.normal),
            normal_concat: genotype.normal.concat,
            reduce: edges(&genotype.reduce),
            reduce_concat: genotype.reduce.concat,
        }
    }
}
