//! What a supernet and a derived network share: the sizes that both have, and the stack of cells.

use darts_kernels_simd::ImageShape;

use super::builder::strided;
use super::primitives::is_reduction;
use super::supernet::{ConfigError, check};
use super::{GraphBuilder, INPUT, Source};

/// Checks input `[C, H, W]`, classes, channels of the first cell and cells.
pub(super) fn check_sizes(
    [input_channels, height, width]: [usize; 3],
    classes: usize,
    channels: usize,
    layers: usize,
) -> Result<(), ConfigError> {
    check("the number of input channels", input_channels, 1..=1024)?;
    check("the image height", height, 1..=4096)?;
    check("the image width", width, 1..=4096)?;
    check("the number of classes", classes, 2..=65536)?;
    check("the number of channels", channels, 1..=4096)?;
    check("the number of cells", layers, 1..=1000)
}

/// A cell that is to be built.
pub(super) struct Cell {
    /// Its name in the original's state dict.
    pub name: String,
    /// Its two inputs, preprocessed to its number of channels.
    pub inputs: [Source; 2],
    /// Whether its nodes are half the size of its inputs.
    pub reduction: bool,
}

impl Cell {
    /// Stride of an operation that reads state `source`.
    pub fn stride(&self, source: usize) -> usize {
        if self.reduction && source < 2 { 2 } else { 1 }
    }

    /// Shape of its nodes.
    pub fn node_shape(&self, builder: &GraphBuilder) -> ImageShape {
        strided(builder.shape(self.inputs[0]), self.stride(0))
    }
}

/// A cell alone: both its inputs are 1×1 convolutions of the image to `channels`.
pub(super) fn alone(builder: &mut GraphBuilder, channels: usize, reduction: bool) -> Cell {
    let image = Source { tensor: INPUT, norm: None };
    let inputs = ["preprocess0", "preprocess1"].map(|name| builder.preprocess(name, vec![image], channels, false));
    Cell { name: "cells.0".to_owned(), inputs, reduction }
}

/// Stacks `layers` cells upon the states `previous`, which are at twice the first cell's size where `reduced`: each
/// reads the outputs of the two before it, those at a third and two thirds of the depth reduce and double the channels.
/// `build` adds the nodes of a cell and returns the states of its output. Returns the last of the states `previous` and
/// the outputs of all cells.
pub(super) fn stack(
    builder: &mut GraphBuilder,
    layers: usize,
    mut channels: usize,
    previous: [Vec<Source>; 2],
    mut reduced: bool,
    mut build: impl FnMut(&mut GraphBuilder, &Cell) -> Vec<Source>,
) -> Vec<Vec<Source>> {
    let [mut before, last] = previous;
    let mut outputs = vec![last];
    for index in 0..layers {
        let reduction = is_reduction(index, layers);
        if reduction {
            channels *= 2;
        }
        let (name, last) = (format!("cells.{index}"), outputs[index].clone());
        let inputs = [
            builder.preprocess(&format!("{name}.preprocess0"), before, channels, reduced),
            builder.preprocess(&format!("{name}.preprocess1"), last.clone(), channels, false),
        ];
        outputs.push(build(builder, &Cell { name, inputs, reduction }));
        before = last;
        reduced = reduction;
    }
    outputs
}

/// The tensors of `states`.
pub(super) fn tensors(states: &[Vec<Source>]) -> Vec<Vec<usize>> {
    states.iter().map(|states| states.iter().map(|source| source.tensor).collect()).collect()
}
