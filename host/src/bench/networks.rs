//! Whole cells, steps of searches and trainings, and the core's inference.

use std::fmt;
use std::path::Path;

use darts_core::Genotype;
use darts_kernels_simd::{ImageShape, Kernels};

use super::buffer::buffer;
use super::case::{Case, Direction, Timer, Work, text};
use super::random;
use super::step::{Step, StepKind};
use crate::data::{Dataset, Normalization};
use crate::engine::{Options, RunningStatistics};
use crate::export::{Calibration, ExportError, Precision, export, export_int8};
use crate::graph::Graph;
use crate::graph::count::totals;
use crate::graph::derived::{DerivedConfig, NetworkKind, derived, derived_cell_alone};
use crate::graph::supernet::{ConfigError, SupernetConfig, supernet, supernet_cell};
use crate::model_file::ModelFile;
use crate::search::mixing::Mixing;
use crate::search::run::initial_weights;
use crate::weights::TrainedNetwork;

/// Images in a batch: more than what the caches hold, few enough for a step to take about a second.
const BATCH: usize = 16;

/// The built-in genotype that is measured.
const GENOTYPE: &str = "DARTS_V2";

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let genotype = Genotype::builtin(GENOTYPE).expect("a built-in name");
    build(&genotype).expect("sizes that networks can have")
}

fn build(genotype: &Genotype) -> Result<Vec<Case>, ConfigError> {
    let mut cases = Vec::new();
    for (kind, channels, extent) in [("normal", 16, 32), ("normal", 32, 16), ("normal", 64, 8), ("reduction", 32, 32)] {
        let config = search_size(channels, 1, [64, extent, extent]);
        cases.extend(cell(&format!("search cell, {kind}"), supernet_cell(&config, kind == "reduction")?));
    }
    for (kind, channels, extent) in [("normal", 36, 32), ("normal", 72, 16), ("normal", 144, 8), ("reduction", 72, 32)]
    {
        let reduction = kind == "reduction";
        let config = derived_size(channels, 1, [144, extent, extent]);
        let nodes = if reduction { &genotype.reduce } else { &genotype.normal };
        let graph = derived_cell_alone(nodes, &config, reduction)?;
        cases.extend(cell(&format!("{GENOTYPE} cell, {kind}"), graph));
    }
    for (channels, layers, input) in [(8, 5, [1, 28, 28]), (16, 8, [3, 32, 32])] {
        let name = format!("search, C={channels}, {layers} cells");
        let graph = supernet(&search_size(channels, layers, input))?;
        cases.push(step(&format!("{name}, weights"), graph.clone(), StepKind::Weights));
        cases.push(step(&format!("{name}, first order"), graph.clone(), StepKind::First));
        cases.push(step(&format!("{name}, second order"), graph, StepKind::Second));
    }
    for (channels, layers, input) in [(8, 5, [1, 28, 28]), (16, 8, [3, 32, 32]), (36, 20, [3, 32, 32])] {
        let config = derived_size(channels, layers, input);
        let graph = derived(genotype, &config)?;
        let name = format!("{GENOTYPE}, C={channels}, {layers} cells");
        cases.push(step(&format!("{name}, training"), graph.clone(), StepKind::Weights));
        for form in [Form::Real(Precision::F32), Form::Real(Precision::F16), Form::Int8] {
            cases.push(inference(&format!("{name}, inference {form}"), &config, genotype, &graph, form));
        }
    }
    Ok(cases)
}

fn search_size(channels: usize, layers: usize, input: [usize; 3]) -> SupernetConfig {
    SupernetConfig { input, classes: 10, channels, layers, nodes: 4, multiplier: 4 }
}

fn derived_size(channels: usize, layers: usize, input: [usize; 3]) -> DerivedConfig {
    DerivedConfig { kind: NetworkKind::Cifar, input, classes: 10, channels, layers, auxiliary: false }
}

/// Bytes of a value and of a weight.
type Sizes = [usize; 2];

/// In single precision.
const FLOATS: Sizes = [size_of::<f32>(); 2];

/// Bytes that the operations of a forward pass of `images` images read and write, each operand and result of each
/// operation once.
fn moved(graph: &Graph, images: usize, [value, weight]: Sizes) -> usize {
    let len = |tensor: usize| graph.tensors[tensor].len();
    let stages =
        graph.stages.iter().flat_map(|stage| stage.inputs.iter().map(|source| source.tensor).chain([stage.output]));
    let mixes = graph.mixes.iter().flat_map(|mix| mix.terms.iter().map(|term| term.source.tensor).chain([mix.output]));
    let values: usize = stages.chain(mixes).map(len).sum();
    images * values * value + totals(graph).parameters * weight
}

fn size(input: ImageShape, batch: usize) -> String {
    format!("{}, batch {batch}", text(input))
}

/// Forward pass and step of a cell, on the map that its preprocessing makes.
fn cell(name: &str, graph: Graph) -> [Case; 2] {
    let mut step = step(name, graph.clone(), StepKind::Weights);
    let map = graph.tensors[graph.cell_outputs[0][0]];
    step.shape = size(map, BATCH);
    let forward = Case {
        name: step.name.clone(),
        shape: step.shape.clone(),
        direction: Direction::Forward,
        work: Work::network(2.0 * (totals(&graph).multiply_adds * BATCH) as f64, moved(&graph, BATCH, FLOATS)),
        parallel: true,
        body: Box::new(move |kernels, workers, timer| {
            let options = Options::default();
            let mut step = Step::new(
                graph.clone(),
                Mixing::default(),
                StepKind::Weights,
                BATCH,
                options,
                kernels,
                workers.clone(),
            );
            timer(&mut || step.forward());
        }),
    };
    [forward, step]
}

fn step(name: &str, graph: Graph, kind: StepKind) -> Case {
    Case {
        name: name.to_owned(),
        shape: size(graph.input, BATCH),
        direction: Direction::Step,
        work: Work::network(kind.flops(&graph, BATCH), 3 * kind.passes() * moved(&graph, BATCH, FLOATS)),
        parallel: true,
        body: Box::new(move |kernels, workers, timer| {
            let mut step =
                Step::new(graph.clone(), Mixing::default(), kind, BATCH, Options::default(), kernels, workers.clone());
            timer(&mut || step.run());
        }),
    }
}

/// What a model computes on.
#[derive(Clone, Copy)]
enum Form {
    Real(Precision),
    Int8,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(precision) => precision.fmt(f),
            Self::Int8 => f.write_str("int8"),
        }
    }
}

impl Form {
    fn sizes(self) -> Sizes {
        match self {
            Self::Real(Precision::F32) => FLOATS,
            Self::Real(Precision::F16) => [size_of::<f32>(), size_of::<u16>()],
            Self::Int8 => [size_of::<i8>(); 2],
        }
    }

    fn export(self, network: &TrainedNetwork, kernels: Kernels) -> Result<Vec<u8>, ExportError> {
        match self {
            Self::Real(precision) => export(network, precision),
            Self::Int8 => {
                let [channels, height, width] = network.config.input;
                let shape = ImageShape::new(height, width, channels);
                let image = random(shape.len()).into_iter().map(|value| (128.0 + 127.0 * value) as u8).collect();
                let data = Dataset::new(shape, image, vec![0], vec![String::new()]);
                export_int8(network, &data, Calibration::MinMax, kernels)
            }
        }
    }
}

/// One image through the core on one thread.
fn inference(name: &str, config: &DerivedConfig, genotype: &Genotype, graph: &Graph, form: Form) -> Case {
    let channels = graph.input.channels;
    let network = TrainedNetwork {
        config: config.clone(),
        genotype: genotype.clone(),
        weights: initial_weights(graph, 1),
        statistics: RunningStatistics::new(graph),
        normalization: Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] },
        class_names: Vec::new(),
    };
    let body = move |kernels: Kernels, timer: &mut Timer| {
        let file = form.export(&network, kernels).expect("initial weights can be exported");
        let file = ModelFile::new(&file, Path::new("model.darts"));
        let model = file.network().expect("what an export writes can be read");
        let mut workspace = vec![0.0; model.required_bytes() / size_of::<f32>()];
        let (input, mut logits) = (buffer(model.input_len()), vec![0.0; model.classes()]);
        timer(&mut || model.run(kernels, &input, &mut workspace, &mut logits).expect("the lengths are the model's"));
    };
    Case {
        name: name.to_owned(),
        shape: size(graph.input, 1),
        direction: Direction::Forward,
        work: Work::network(2.0 * totals(graph).multiply_adds as f64, moved(graph, 1, form.sizes())),
        parallel: false,
        body: Box::new(move |kernels, _, timer| body(kernels, timer)),
    }
}
