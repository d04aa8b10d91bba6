//! The search network: every edge carries all primitives, weighted by softmax(α) (section 2.2 of the paper).

use darts_core::Primitive;
use darts_kernels_simd::ImageShape;
use serde::{Deserialize, Serialize};

use super::builder::strided;
use super::primitives::is_reduction;
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
        check("the number of input channels", self.input[0], 1..=1024)?;
        check("the image height", self.input[1], 1..=4096)?;
        check("the image width", self.input[2], 1..=4096)?;
        check("the number of classes", self.classes, 2..=65536)?;
        check("the number of channels", self.channels, 1..=4096)?;
        check("the number of cells", self.layers, 1..=1000)?;
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
    config.validate()?;
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, false);
    let stem = builder.cifar_stem(3 * config.channels);
    let mut outputs = vec![vec![stem]];
    let mut previous = [vec![stem], vec![stem]];
    let mut channels = config.channels;
    let mut reduced = false;
    for cell in 0..config.layers {
        let reduction = is_reduction(cell, config.layers);
        if reduction {
            channels *= 2;
        }
        let [s0, s1] = previous;
        let name = format!("cells.{cell}");
        let states = [
            builder.preprocess(&format!("{name}.preprocess0"), s0, channels, reduced),
            builder.preprocess(&format!("{name}.preprocess1"), s1.clone(), channels, false),
        ];
        let output = mixed_cell(&mut builder, config, &name, states, reduction);
        previous = [s1, output.clone()];
        outputs.push(output);
        reduced = reduction;
    }
    let [_, last] = previous;
    let head = builder.head("classifier", last, false);
    let outputs = outputs.iter().map(|states| states.iter().map(|source| source.tensor).collect()).collect();
    Ok(builder.finish(head, None, outputs, 2 * config.alpha_len()))
}

/// One cell of mixed operations; returns the states of its output.
fn mixed_cell(
    builder: &mut GraphBuilder,
    config: &SupernetConfig,
    name: &str,
    inputs: [Source; 2],
    reduction: bool,
) -> Vec<Source> {
    let mut states = inputs.to_vec();
    let mut edge = 0;
    let matrix = if reduction { config.alpha_len() } else { 0 };
    for node in 0..config.nodes {
        let mut terms = Vec::new();
        for (from, &state) in states.iter().enumerate() {
            let stride = if reduction && from < 2 { 2 } else { 1 };
            for (column, &primitive) in Primitive::SEARCH.iter().enumerate() {
                let op = format!("{name}._ops.{edge}._ops.{column}");
                if let Some(source) = builder.primitive(primitive, &op, state, stride, true) {
                    let weight = TermWeight::Alpha(matrix + edge * Primitive::SEARCH.len() + column);
                    terms.push(Term { source, weight, drop_path: None });
                }
            }
            edge += 1;
        }
        let input = builder.shape(inputs[0]);
        let shape = if reduction { strided(input, 2) } else { input };
        states.push(builder.mix(&format!("{name}.node{node}"), shape, terms));
    }
    states.split_off(states.len() - config.multiplier)
}
