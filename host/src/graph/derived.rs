//! Derived networks: one operation per kept edge, as the original's CIFAR and ImageNet networks.

use darts_core::{CellGenotype, Genotype, Primitive};
use darts_kernels_simd::ImageShape;
use serde::{Deserialize, Serialize};

use super::cells::{Cell, alone, check_sizes, stack, tensors};
use super::supernet::{ConfigError, check};
use super::{Graph, GraphBuilder, Head, INPUT, Op, Source, Term, TermWeight};

/// Stem and auxiliary head of a derived network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// 3×3 stem at full size.
    Cifar,
    /// Three 3×3 stem convolutions at stride 2; the first cell is treated as following a reduction.
    ImageNet,
}

/// Size of a derived network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedConfig {
    /// Stem and head.
    pub kind: NetworkKind,
    /// Input `[C, H, W]`.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// Channels of the first cell.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// Whether the auxiliary head is built (for training).
    pub auxiliary: bool,
}

impl DerivedConfig {
    /// Checks every size.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_sizes(self.input, self.classes, self.channels, self.layers)?;
        if self.kind == NetworkKind::ImageNet && self.channels % 2 == 1 {
            return Err(ConfigError { what: "the number of channels", value: self.channels, range: "even".into() });
        }
        Ok(())
    }
}

/// Builds the network of a genotype.
///
/// The original's auxiliary head rectifies its input in place, so that with up to three cells its classifier learns on
/// rectified features and is evaluated on others; here the classifier reads the same features in both.
pub fn derived(genotype: &Genotype, config: &DerivedConfig) -> Result<Graph, ConfigError> {
    config.validate()?;
    for &state in &genotype.reduce.concat {
        // Inputs of a reduction cell are twice the size of its nodes.
        check("a state in reduce_concat", usize::from(state), 2..=genotype.reduce.nodes() + 1)?;
    }
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, true);
    let (previous, reduced) = match config.kind {
        NetworkKind::Cifar => {
            let stem = builder.cifar_stem(3 * config.channels);
            ([vec![stem], vec![stem]], false)
        }
        NetworkKind::ImageNet => (imagenet_stems(&mut builder, config.channels), true),
    };
    let build = |builder: &mut GraphBuilder, cell: &Cell| {
        derived_cell(builder, if cell.reduction { &genotype.reduce } else { &genotype.normal }, cell)
    };
    let outputs = stack(&mut builder, config.layers, config.channels, previous, reduced, build);
    let auxiliary_input = outputs[1 + 2 * config.layers / 3].clone();
    let auxiliary = config.auxiliary.then(|| auxiliary_head(&mut builder, config.kind, auxiliary_input)).transpose()?;
    let head = builder.head("classifier", outputs[config.layers].clone(), false);
    Ok(builder.finish(head, auxiliary, tensors(&outputs), 0))
}

/// One cell of the network of a genotype, and a classifier behind it: the image stands for the outputs of the cells
/// before, and the cell has `config.channels`, whether it reduces or not. For measurements.
pub fn derived_cell_alone(
    genotype: &CellGenotype,
    config: &DerivedConfig,
    reduction: bool,
) -> Result<Graph, ConfigError> {
    config.validate()?;
    let [channels, height, width] = config.input;
    let mut builder = GraphBuilder::new(ImageShape::new(height, width, channels), config.classes, true);
    let cell = alone(&mut builder, config.channels, reduction);
    let output = derived_cell(&mut builder, genotype, &cell);
    let head = builder.head("classifier", output.clone(), false);
    Ok(builder.finish(head, None, tensors(&[cell.inputs.to_vec(), output]), 0))
}

fn derived_cell(builder: &mut GraphBuilder, genotype: &CellGenotype, cell: &Cell) -> Vec<Source> {
    let name = &cell.name;
    let mut states = cell.inputs.to_vec();
    for (node, edges) in genotype.edges.chunks(2).enumerate() {
        let mut terms = Vec::new();
        for (half, edge) in edges.iter().enumerate() {
            let source = usize::from(edge.source);
            let (input, stride) = (states[source], cell.stride(source));
            let op = format!("{name}._ops.{}", 2 * node + half);
            // `none` has a mask too, although it adds nothing: the numbers of the masks are the original's.
            let identity = edge.primitive == Primitive::SkipConnect && stride == 1;
            let drop_path = (!identity).then(|| builder.drop_path());
            if let Some(source) = builder.primitive(edge.primitive, &op, input, stride, false) {
                terms.push(Term { source, weight: TermWeight::One, drop_path });
            }
        }
        let shape = cell.node_shape(builder);
        states.push(builder.mix(&format!("{name}.node{node}"), shape, terms));
    }
    genotype.concat.iter().map(|&state| states[usize::from(state)]).collect()
}

/// ImageNet's stems: the states at a quarter and at an eighth of the image's size.
fn imagenet_stems(builder: &mut GraphBuilder, channels: usize) -> [Vec<Source>; 2] {
    let input = Source { tensor: INPUT, norm: None };
    let input_channels = builder.shape(input).channels;
    let norm = |name: &str| Some((name.to_owned(), true));
    let conv = builder.dense("stem0.0", input_channels, channels / 2, [3, 3], [2, 2], [1, 1]);
    let half = builder.stage("stem0.0", vec![input], false, vec![conv], norm("stem0.1"));
    let conv = builder.dense("stem0.3", channels / 2, channels, [3, 3], [2, 2], [1, 1]);
    let quarter = builder.stage("stem0.3", vec![half], true, vec![conv], norm("stem0.4"));
    let quarter = builder.state("stem0", quarter);
    let conv = builder.dense("stem1.1", channels, channels, [3, 3], [2, 2], [1, 1]);
    let eighth = builder.stage("stem1", vec![quarter], true, vec![conv], norm("stem1.2"));
    let eighth = builder.state("stem1", eighth);
    [vec![quarter], vec![eighth]]
}

/// ReLU, 5×5 average pool to 2×2, 1×1 to 128, BN, ReLU, 2×2 to 768, BN (not for ImageNet), ReLU, linear. The pool's
/// stride is the original's (3 for CIFAR, 2 for ImageNet) where that gives 2×2, else `size − 5`.
fn auxiliary_head(builder: &mut GraphBuilder, kind: NetworkKind, input: Vec<Source>) -> Result<Head, ConfigError> {
    let shape = builder.shape(input[0]);
    let size = shape.height.min(shape.width);
    let original = if kind == NetworkKind::Cifar { 3 } else { 2 };
    let fits = |extent: usize| extent >= 5 && (extent - 5) / original == 1;
    let stride = if fits(shape.height) && fits(shape.width) { original } else { size.saturating_sub(5) };
    if stride == 0 || stride != original && shape.height != shape.width {
        return Err(ConfigError {
            what: "the map under the auxiliary head",
            value: size,
            range: "square and at least 6×6 (larger images, or no auxiliary head)".into(),
        });
    }
    let channels = input.iter().map(|&source| builder.shape(source).channels).sum();
    let pool = Op::AvgPool { kernel: 5, stride, padding: 0 };
    let name = "auxiliary_head.features";
    let conv = builder.dense(&format!("{name}.2"), channels, 128, [1, 1], [1, 1], [0, 0]);
    let norm = Some((format!("{name}.3"), true));
    let pooled = builder.stage("auxiliary_head.2", input, true, vec![pool, conv], norm);
    let conv = builder.dense(&format!("{name}.5"), 128, 768, [2, 2], [1, 1], [0, 0]);
    let norm = (kind == NetworkKind::Cifar).then(|| (format!("{name}.6"), true));
    let features = builder.stage("auxiliary_head.5", vec![pooled], true, vec![conv], norm);
    Ok(builder.head("auxiliary_head.classifier", vec![features], true))
}
