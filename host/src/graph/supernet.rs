//! The search network: every edge carries all primitives, weighted by softmax(α) (section 2.2 of the paper).

use darts_core::Primitive;
use darts_kernels_simd::ImageShape;
use serde::{Deserialize, Serialize};

use super::cells::{Cell, alone, check_sizes, stack, tensors};
use super::space::Space;
use super::{Graph, GraphBuilder, Source, Term, TermWeight};

/// Size of a supernet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupernetConfig {
    /// Input `[C, H, W]`.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// Channels of the first cell.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// Nodes of a cell (the original's `steps`).
    pub nodes: usize,
    /// How many of the last states are concatenated to the cell's output.
    pub multiplier: usize,
}

/// A size that no network can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} is {value}: it must be {range}")]
pub struct ConfigError {
    /// Which value.
    pub what: &'static str,
    /// What it is.
    pub value: usize,
    /// What it may be.
    pub range: String,
}

/// Checks that `value` lies in `range`.
pub fn check(what: &'static str, value: usize, range: std::ops::RangeInclusive<usize>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(ConfigError { what, value, range: format!("from {} to {}", range.start(), range.end()) })
    }
}

impl SupernetConfig {
    /// Checks every size.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_sizes(self.input, self.classes, self.channels, self.layers)?;
        check("the number of nodes", self.nodes, 1..=darts_core::MAX_NODES)?;
        check("the multiplier", self.multiplier, 1..=self.nodes)
    }

    /// Edges of one cell: node i has i + 2.
    pub fn edges(&self) -> usize {
        (0..self.nodes).map(|node| node + 2).sum()
    }

    /// Elements of one α matrix `[edges, 8]`; α holds the one of normal cells, then the one of reduction cells.
    pub fn alpha_len(&self) -> usize {
        self.edges() * Primitive::SEARCH.len()
    }
}

/// Builds the supernet; its mixing weights are the softmaxed rows of α, normal cells first.
pub fn supernet(config: &SupernetConfig) -> Result<Graph, ConfigError> {
    supernet_of(config, Space::DARTS)
}

/// [`supernet`] with the operations of `space` only; α and the mixing weights keep their columns for the others.
pub fn supernet_of(config: &SupernetConfig, space: Space) -> Result<Graph, ConfigError> {
    config.validate()?;
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, false);
    let stem = builder.cifar_stem(3 * config.channels);
    let previous = [vec![stem], vec![stem]];
    let build = |builder: &mut GraphBuilder, cell: &Cell| mixed_cell(builder, config, space, cell);
    let outputs = stack(&mut builder, config.layers, config.channels, previous, false, build);
    let head = builder.head("classifier", outputs[config.layers].clone(), false);
    Ok(builder.finish(head, None, tensors(&outputs), 2 * config.alpha_len()))
}

/// One cell of the supernet, and a classifier behind it: the image stands for the outputs of the cells before, and the cell has
/// `config.channels`, whether it reduces or not. For measurements.
pub fn supernet_cell(config: &SupernetConfig, reduction: bool) -> Result<Graph, ConfigError> {
    config.validate()?;
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, false);
    let cell = alone(&mut builder, config.channels, reduction);
    let output = mixed_cell(&mut builder, config, Space::DARTS, &cell);
    let head = builder.head("classifier", output.clone(), false);
    Ok(builder.finish(head, None, tensors(&[cell.inputs.to_vec(), output]), 2 * config.alpha_len()))
}

/// One cell of mixed operations; returns the states of its output.
fn mixed_cell(builder: &mut GraphBuilder, config: &SupernetConfig, space: Space, cell: &Cell) -> Vec<Source> {
    let name = &cell.name;
    let mut states = cell.inputs.to_vec();
    let mut edge = 0;
    let matrix = if cell.reduction { config.alpha_len() } else { 0 };
    for node in 0..config.nodes {
        let mut terms = Vec::new();
        for (from, &state) in states.iter().enumerate() {
            for (column, &primitive) in Primitive::SEARCH.iter().enumerate() {
                if !space.allowed()[column] {
                    continue;
                }
                let op = format!("{name}._ops.{edge}._ops.{column}");
                if let Some(source) = builder.primitive(primitive, &op, state, cell.stride(from), true) {
                    let weight = TermWeight::Alpha(matrix + edge * Primitive::SEARCH.len() + column);
                    terms.push(Term { source, weight, drop_path: None });
                }
            }
            edge += 1;
        }
        let shape = cell.node_shape(builder);
        states.push(builder.mix(&format!("{name}.node{node}"), shape, terms));
    }
    states.split_off(states.len() - config.multiplier)
}
