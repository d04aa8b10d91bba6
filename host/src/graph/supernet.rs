//! The search network: every edge carries all primitives, weighted by softmax(α) (section 2.2 of the paper).

use darts_core::Primitive;
use darts_kernels_simd::ImageShape;
use serde::{Deserialize, Serialize};

use super::cells::{Cell, alone, check_sizes, stack, tensors};
use super::variant::{MixLayout, Variant};
use super::{Graph, GraphBuilder, Op, Source, Term};

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
    supernet_of(config, Variant::default())
}

/// [`supernet`] in another variant; α and the mixing weights keep their columns for operations that it does not have.
pub fn supernet_of(config: &SupernetConfig, variant: Variant) -> Result<Graph, ConfigError> {
    config.validate()?;
    check("the part of the channels that is mixed, one of so many,", variant.partial, 1..=config.channels)?;
    if !config.channels.is_multiple_of(variant.partial) {
        let range = format!("a multiple of {}, one of so many being mixed", variant.partial);
        return Err(ConfigError { what: "the number of channels", value: config.channels, range });
    }
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, false);
    let stem = builder.cifar_stem(3 * config.channels);
    let previous = [vec![stem], vec![stem]];
    let build = |builder: &mut GraphBuilder, cell: &Cell| mixed_cell(builder, config, variant, cell);
    let outputs = stack(&mut builder, config.layers, config.channels, previous, false, build);
    let head = builder.head("classifier", outputs[config.layers].clone(), false);
    Ok(builder.finish(head, None, tensors(&outputs), MixLayout::new(config.edges(), variant).len()))
}

/// One cell of the supernet, and a classifier behind it: the image stands for the outputs of the cells before, and the
/// cell has `config.channels`, whether it reduces or not. For measurements.
pub fn supernet_cell(config: &SupernetConfig, reduction: bool) -> Result<Graph, ConfigError> {
    config.validate()?;
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, false);
    let cell = alone(&mut builder, config.channels, reduction);
    let output = mixed_cell(&mut builder, config, Variant::default(), &cell);
    let head = builder.head("classifier", output.clone(), false);
    Ok(builder.finish(head, None, tensors(&[cell.inputs.to_vec(), output]), 2 * config.alpha_len()))
}

/// A state of a cell: the channels that mixed operations read, and those that pass them by, if some do.
#[derive(Clone, Copy)]
struct State {
    mixed: Source,
    bypass: Option<Source>,
}

impl State {
    /// The channels of `pieces`, one behind the other, after a shuffle of `groups`; the first `1 / partial` of them are
    /// mixed.
    fn gather(builder: &mut GraphBuilder, name: &str, pieces: &[Source], groups: usize, partial: usize) -> Self {
        let channels: usize = pieces.iter().map(|&piece| builder.shape(piece).channels).sum();
        let mixed = builder.gather(name, pieces, groups, 0..channels / partial);
        let bypass = builder.gather(&format!("{name}.bypass"), pieces, groups, channels / partial..channels);
        Self { mixed, bypass: Some(bypass) }
    }
}

/// One cell of mixed operations; returns the states of its output.
fn mixed_cell(builder: &mut GraphBuilder, config: &SupernetConfig, variant: Variant, cell: &Cell) -> Vec<Source> {
    let layout = MixLayout::new(config.edges(), variant);
    let mut states: Vec<State> = cell.inputs.map(|mixed| State { mixed, bypass: None }).to_vec();
    if variant.is_partial() {
        for (index, state) in states.iter_mut().enumerate() {
            let name = format!("{}.preprocess{index}.mixed", cell.name);
            *state = State::gather(builder, &name, &[state.mixed], 1, variant.partial);
        }
    }
    let mut first_edge = 0;
    for node in 0..config.nodes {
        let edges = Edges { layout, variant, cell, first: first_edge };
        let name = format!("{}.node{node}", cell.name);
        let shape = cell.node_shape(builder);
        let terms = edges.mixed(builder, &states);
        let mixed = builder.mix(&name, ImageShape { channels: shape.channels / variant.partial, ..shape }, terms);
        first_edge += states.len();
        states.push(if variant.is_partial() {
            let terms = edges.bypass(builder, &states);
            let bypassed = ImageShape { channels: shape.channels - shape.channels / variant.partial, ..shape };
            let bypass = builder.mix(&format!("{name}.bypass"), bypassed, terms);
            State::gather(builder, &format!("{name}.shuffled"), &[mixed, bypass], variant.partial, variant.partial)
        } else {
            State { mixed, bypass: None }
        });
    }
    let outputs = states.split_off(states.len() - config.multiplier);
    outputs.into_iter().flat_map(|state| [Some(state.mixed), state.bypass]).flatten().collect()
}

/// The edges of a node: their numbers in the cell begin at `first`.
struct Edges<'a> {
    layout: MixLayout,
    variant: Variant,
    cell: &'a Cell,
    first: usize,
}

impl Edges<'_> {
    /// The mixed operations on `states`.
    fn mixed(&self, builder: &mut GraphBuilder, states: &[State]) -> Vec<Term> {
        let Self { layout, variant, cell, first } = *self;
        let mut terms = Vec::new();
        for (from, &State { mixed: state, .. }) in states.iter().enumerate() {
            let edge = first + from;
            let (op, stride) = (format!("{}._ops.{edge}", cell.name), cell.stride(from));
            for (column, &primitive) in Primitive::SEARCH.iter().enumerate() {
                if !variant.space.allowed()[column] {
                    continue;
                }
                if let Some(source) = builder.primitive(primitive, &format!("{op}._ops.{column}"), state, stride, true)
                {
                    let weight = layout.operation(cell.reduction, edge, column);
                    let dropped = variant.skip_dropout && source == state;
                    let drop_path = dropped.then(|| builder.drop_path());
                    terms.push(Term { source, weight, drop_path });
                }
            }
            if variant.auxiliary_skip {
                let skip = builder.skip_connect(&format!("{op}.auxiliary_op"), state, stride);
                let weight = layout.auxiliary_skip(cell.reduction, edge);
                terms.push(Term { source: skip, weight, drop_path: None });
            }
        }
        terms
    }

    /// What passes them by, in a cell that reduces the largest of each 2×2 pixels; of an odd size, of 3×3, as a pool
    /// that is an operation has it.
    fn bypass(&self, builder: &mut GraphBuilder, states: &[State]) -> Vec<Term> {
        let bypasses = states.iter().map(|state| state.bypass).enumerate();
        let terms = bypasses.filter_map(|(from, bypass)| {
            let bypass = bypass?;
            let shape = builder.shape(bypass);
            let even = [shape.height, shape.width].iter().all(|extent| extent.is_multiple_of(2));
            let (kernel, padding) = if even { (2, 0) } else { (3, 1) };
            let source = match self.cell.stride(from) {
                1 => bypass,
                stride => {
                    let name = format!("{}.bypass{from}", self.cell.name);
                    builder.shared_pool(&name, bypass, Op::MaxPool { kernel, stride, padding })
                }
            };
            let weight = self.layout.edge_weight(self.cell.reduction, self.first + from);
            Some(Term { source, weight, drop_path: None })
        });
        terms.collect()
    }
}
