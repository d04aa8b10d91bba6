//! `darts inspect`: sizes and pictures of a network before it is trained.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use darts_core::{CellGenotype, Genotype, Step};
use darts_host::atomic;
use darts_host::device::{Device, NetworkBytes};
use darts_host::draw::Drawing;
use darts_host::export::{Plan, Precision, model_bytes, plan};
use darts_host::graph::Graph;
use darts_host::graph::count::{LayerRow, Totals, layers, totals};
use darts_host::graph::derived::{DerivedConfig, derived};
use darts_host::graph::supernet::{ConfigError, SupernetConfig, supernet};
use darts_host::model_file::{ModelFile, is_model};
use darts_host::run_directory;
use darts_host::weights::TrainedNetwork;
use indicatif::HumanCount;
use serde::Serialize;

use super::budget::{Budget, TargetReport};
use super::common::{FileError, ImageSize, Network, WrongUsage, print_json};
use super::genotype::resolve;
use super::memory::{MemoryPlan, picture};
use super::table::Table;
use super::{Failure, Outcome};

/// Show parameters, multiply-adds and memory of a network, and draw its cells
///
/// Counts are exact. Multiply-adds are those of convolutions and linear layers for one image; the auxiliary head, which
/// only training has, is counted apart.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts inspect DARTS_V2\n  \
    darts inspect DARTS_V2 --network imagenet --json\n  \
    darts inspect runs/search-1 --channels 16 --layers 8 --input 1x28x28 --svg pictures\n  \
    darts inspect supernet --channels 16 --layers 8\n  \
    darts inspect runs/train-1/model.darts --memory plan.svg\n  \
    darts inspect runs/train-1/model.darts --target cortex-m4 --flash 256K --ram 64K")]
pub struct Arguments {
    /// A genotype (name, file, text, or the run directory of a search), a model file, the run directory of a training
    /// (its model.darts or, without one, its weights), or `supernet`.
    #[arg(value_name = "GENOTYPE|MODEL|RUN|supernet")]
    subject: String,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    /// Show every layer, not only the sum of each cell.
    #[arg(long)]
    all_layers: bool,

    /// Show what sets the peak of the workspace and the bound below it, and with a name draw what lies where during
    /// each step.
    #[arg(long, value_name = "FILE.svg", value_parser = picture)]
    memory: Option<Option<PathBuf>>,

    #[command(flatten)]
    size: Size,

    #[command(flatten)]
    budget: Budget,

    /// Write the cells as DIR/normal.svg and DIR/reduce.svg.
    #[arg(long, value_name = "DIR", help_heading = "Drawings")]
    svg: Option<PathBuf>,

    /// Write the cells as DIR/normal.dot and DIR/reduce.dot for Graphviz.
    #[arg(long, value_name = "DIR", help_heading = "Drawings")]
    dot: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct Size {
    /// Stem and head [default: cifar].
    #[arg(long, value_name = "KIND")]
    network: Option<Network>,

    /// Channels of the first cell [default: 36; imagenet 48; supernet 16].
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// Number of cells [default: 20; imagenet 14; supernet 8].
    #[arg(long, value_name = "N")]
    layers: Option<usize>,

    /// Image size: channels, height, width [default: 3x32x32; imagenet 3x224x224].
    #[arg(long, value_name = "CxHxW")]
    input: Option<ImageSize>,

    /// Number of classes [default: 10; imagenet 1000].
    #[arg(long, value_name = "N")]
    classes: Option<usize>,

    /// Nodes of a cell, for `supernet` [default: 4].
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,

    /// States in the output of a cell, for `supernet` [default: 4].
    #[arg(long, value_name = "N")]
    multiplier: Option<usize>,
}

impl Size {
    fn supernet(&self) -> Result<Graph, ConfigError> {
        supernet(&SupernetConfig {
            input: self.input.map_or([3, 32, 32], |size| size.0),
            classes: self.classes.unwrap_or(10),
            channels: self.channels.unwrap_or(16),
            layers: self.layers.unwrap_or(8),
            nodes: self.nodes.unwrap_or(4),
            multiplier: self.multiplier.unwrap_or(4),
        })
    }

    /// With the auxiliary head where the image is large enough to have one.
    fn derived(&self, genotype: &Genotype) -> Result<Graph, ConfigError> {
        let kind = self.network.unwrap_or(Network::Cifar);
        let (input, classes, channels, layers) = match kind {
            Network::Cifar => ([3, 32, 32], 10, 36, 20),
            Network::Imagenet => ([3, 224, 224], 1000, 48, 14),
        };
        let config = DerivedConfig {
            kind: kind.into(),
            input: self.input.map_or(input, |size| size.0),
            classes: self.classes.unwrap_or(classes),
            channels: self.channels.unwrap_or(channels),
            layers: self.layers.unwrap_or(layers),
            auxiliary: true,
        };
        derived(genotype, &config).or_else(|_| derived(genotype, &DerivedConfig { auxiliary: false, ..config }))
    }
}

/// What is inspected.
struct Subject {
    genotype: Option<Genotype>,
    graph: Graph,
    /// In `f32`, unless it is a model file in half precision; `None` beyond the limits of a model file.
    steps: Option<Vec<Step>>,
    workspace_bytes: Option<usize>,
    model: Option<ModelSize>,
}

/// The model file, or the one in `f32` that an export of the network would write.
#[derive(Serialize)]
struct ModelSize {
    model_bytes: usize,
    weight_bytes: usize,
    steps: usize,
}

/// Refuses the first option that is given.
fn refuse(subject: &'static str, options: &[(&'static str, bool)]) -> Result<(), WrongUsage> {
    let given = options.iter().find(|(_, given)| *given);
    given.map_or(Ok(()), |&(option, _)| Err(WrongUsage { option, subject }))
}

impl Subject {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let Arguments { subject, size, .. } = arguments;
        let path = Path::new(subject);
        let cells = [("--nodes", size.nodes.is_some()), ("--multiplier", size.multiplier.is_some())];
        let sizes = [
            ("--network", size.network.is_some()),
            ("--channels", size.channels.is_some()),
            ("--layers", size.layers.is_some()),
            ("--input", size.input.is_some()),
            ("--classes", size.classes.is_some()),
        ];
        if subject == "supernet" {
            let drawings = [("--svg", arguments.svg.is_some()), ("--dot", arguments.dot.is_some())];
            let device = [("--target", arguments.budget.device().is_some())];
            refuse("the supernet", &[&sizes[..1], &drawings, &device].concat())?;
            Ok(Self::planned(size.supernet()?, None))
        } else if is_model(path) || is_model(&path.join(run_directory::MODEL)) {
            refuse("a model", &[&sizes[..], &cells].concat())?;
            Self::of_model(path)
        } else if path.join(run_directory::WEIGHTS).is_file() {
            refuse("a trained network", &[&sizes[..], &cells].concat())?;
            let TrainedNetwork { genotype, config, .. } = TrainedNetwork::load(path)?;
            Ok(Self::planned(derived(&genotype, &config)?, Some(genotype)))
        } else {
            refuse("a genotype", &cells)?;
            let genotype = resolve(subject)?;
            Ok(Self::planned(size.derived(&genotype)?, Some(genotype)))
        }
    }

    /// A network that has no model file yet; a supernet never has one.
    fn planned(graph: Graph, genotype: Option<Genotype>) -> Self {
        let plan = plan(&graph, Precision::F32).ok();
        let model = genotype.as_ref().zip(plan.as_ref()).map(|(genotype, plan)| ModelSize {
            model_bytes: model_bytes(&graph, genotype, plan),
            weight_bytes: plan.weight_bytes,
            steps: plan.steps.len(),
        });
        let (steps, workspace_bytes) = plan.map(|Plan { steps, workspace_bytes, .. }| (steps, workspace_bytes)).unzip();
        Self { genotype, graph, steps, workspace_bytes, model }
    }

    fn of_model(path: &Path) -> Result<Self, Failure> {
        let file = ModelFile::read(path)?;
        let network = file.network()?;
        let metadata = network.metadata();
        let shape = metadata.input;
        let size = Size {
            network: Some(match metadata.kind {
                darts_core::NetworkKind::Cifar => Network::Cifar,
                darts_core::NetworkKind::ImageNet => Network::Imagenet,
            }),
            channels: Some(metadata.channels),
            layers: Some(metadata.layers),
            input: Some(ImageSize([shape.channels, shape.height, shape.width])),
            classes: Some(metadata.classes),
            nodes: None,
            multiplier: None,
        };
        let steps: Vec<Step> = network.steps().collect();
        let model =
            ModelSize { model_bytes: file.bytes().len(), weight_bytes: network.weight_bytes(), steps: steps.len() };
        let genotype = network.genotype().clone();
        let graph = size.derived(&genotype)?;
        let workspace_bytes = Some(network.required_bytes());
        Ok(Self { graph, genotype: Some(genotype), steps: Some(steps), workspace_bytes, model: Some(model) })
    }

    fn memory(&self) -> Result<MemoryPlan, BeyondLimits> {
        self.steps.as_deref().map(MemoryPlan::new).ok_or(BeyondLimits)
    }

    fn on(&self, device: Device) -> Result<TargetReport, BeyondLimits> {
        let (model, workspace) = self.model.as_ref().zip(self.workspace_bytes).ok_or(BeyondLimits)?;
        let steps = self.steps.as_deref().ok_or(BeyondLimits)?;
        let float = size_of::<f32>();
        let [model, workspace, input, output] =
            [model.model_bytes, workspace, self.graph.input.len() * float, self.graph.classes * float]
                .map(|bytes| bytes as u64);
        Ok(TargetReport::new(device, NetworkBytes { model, workspace, input, output }, steps))
    }
}

/// A network for which there can be no model file.
#[derive(Debug, thiserror::Error)]
#[error("the network is beyond the limits of a model file, and has no memory plan: make it smaller")]
struct BeyondLimits;

#[derive(Serialize)]
struct Report {
    genotype: Option<String>,
    input: [usize; 3],
    classes: usize,
    #[serde(flatten)]
    totals: Totals,
    workspace_bytes: Option<usize>,
    #[serde(flatten)]
    model: Option<ModelSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryPlan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<TargetReport>,
    layers: Vec<LayerRow>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let subject = Subject::new(arguments)?;
    let memory = arguments.memory.as_ref().map(|_| subject.memory()).transpose()?;
    let device = arguments.budget.device();
    let device = device.map(|device| subject.on(device)).transpose()?;
    let Subject { genotype, graph, workspace_bytes, model, .. } = subject;
    let report = Report {
        genotype: genotype.as_ref().map(Genotype::to_string),
        input: [graph.input.channels, graph.input.height, graph.input.width],
        classes: graph.classes,
        totals: totals(&graph),
        workspace_bytes,
        model,
        memory,
        device,
        layers: layers(&graph),
    };
    let mut files = Vec::new();
    if let Some(genotype) = &genotype {
        files = draw(genotype, arguments)?;
    }
    if let Some((memory, file)) = report.memory.as_ref().zip(arguments.memory.as_ref().and_then(Option::as_ref)) {
        memory.draw(file)?;
        files.push(file.clone());
    }
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&mut io::stdout().lock(), &report, genotype.as_ref(), &graph, arguments.all_layers)?;
        for file in files {
            writeln!(io::stdout(), "wrote {}", file.display())?;
        }
    }
    Ok(report.device.map_or(Ok(()), |device| arguments.budget.check(&device.needs))?)
}

/// Writes the drawings that were asked for.
fn draw(genotype: &Genotype, arguments: &Arguments) -> Result<Vec<PathBuf>, Failure> {
    let cells = [("normal", Drawing::from(&genotype.normal)), ("reduce", Drawing::from(&genotype.reduce))];
    let mut files = Vec::new();
    let mut write = |folder: &Path, name: String, text: String| {
        fs::create_dir_all(folder).map_err(FileError::new("make the folder", folder))?;
        let path = folder.join(name);
        atomic::write(&path, text.as_bytes())?;
        files.push(path);
        Ok::<_, Failure>(())
    };
    for (name, cell) in &cells {
        if let Some(folder) = &arguments.svg {
            write(folder, format!("{name}.svg"), cell.svg())?;
        }
        if let Some(folder) = &arguments.dot {
            write(folder, format!("{name}.dot"), cell.dot())?;
        }
    }
    Ok(files)
}

fn print(
    output: &mut impl Write,
    report: &Report,
    genotype: Option<&Genotype>,
    graph: &Graph,
    all_layers: bool,
) -> io::Result<()> {
    write!(output, "{}", if all_layers { layer_table(&report.layers) } else { cell_table(&report.layers, graph) })?;
    writeln!(output)?;
    let totals = &report.totals;
    writeln!(output, "parameters       {}", HumanCount(totals.parameters as u64))?;
    if totals.auxiliary_parameters > 0 {
        writeln!(output, "auxiliary head   {}", HumanCount(totals.auxiliary_parameters as u64))?;
    }
    writeln!(output, "multiply-adds    {}", HumanCount(totals.multiply_adds as u64))?;
    if let Some(bytes) = report.workspace_bytes {
        writeln!(output, "peak workspace   {} bytes", HumanCount(bytes as u64))?;
    }
    if let Some(model) = &report.model {
        writeln!(output, "plan             {} steps", HumanCount(model.steps as u64))?;
        writeln!(output, "weights          {} bytes", HumanCount(model.weight_bytes as u64))?;
        writeln!(output, "model file       {} bytes", HumanCount(model.model_bytes as u64))?;
    }
    if let Some(memory) = &report.memory {
        memory.print(output)?;
    }
    if let Some(device) = &report.device {
        device.print(output)?;
    }
    if let Some(genotype) = genotype {
        print_cell(output, "normal cell", &genotype.normal)?;
        print_cell(output, "reduction cell", &genotype.reduce)?;
        writeln!(output, "\n{genotype}")?;
    }
    Ok(())
}

fn print_cell(output: &mut impl Write, title: &str, cell: &CellGenotype) -> io::Result<()> {
    let state = |index: u8| match index {
        0 => "c_{k-2}".to_owned(),
        1 => "c_{k-1}".to_owned(),
        _ => (index - 2).to_string(),
    };
    writeln!(output, "\n{title}")?;
    for (node, edges) in cell.edges.chunks(2).enumerate() {
        let terms: Vec<String> =
            edges.iter().map(|edge| format!("{}({})", edge.primitive, state(edge.source))).collect();
        writeln!(output, "  {node:<5} = {}", terms.join(" + "))?;
    }
    let concat: Vec<String> = cell.concat.iter().map(|&index| state(index)).collect();
    writeln!(output, "  c_{{k}} = [{}]", concat.join(", "))
}

fn shape([height, width, channels]: [usize; 3]) -> String {
    format!("{channels}x{height}x{width}")
}

fn layer_table(rows: &[LayerRow]) -> Table {
    let mut table = Table::new(&["layer", "operation", "output", "parameters", "multiply-adds"]);
    for row in rows {
        table.row([
            row.name.clone(),
            row.operation.clone(),
            shape(row.output),
            HumanCount(row.parameters as u64).to_string(),
            HumanCount(row.multiply_adds as u64).to_string(),
        ]);
    }
    table
}

/// The rows of each cell in one, with the shape of the cell's output.
fn cell_table(rows: &[LayerRow], graph: &Graph) -> Table {
    let mut table = Table::new(&["layer", "output", "parameters", "multiply-adds"]);
    for group in rows.chunk_by(|a, b| part(&a.name) == part(&b.name)) {
        let name = part(&group[0].name);
        let cell = name.strip_prefix("cells.").and_then(|index| index.parse::<usize>().ok());
        let output = match cell {
            Some(index) => {
                let states = &graph.cell_outputs[index + 1];
                let first = graph.tensors[states[0]];
                [first.height, first.width, states.iter().map(|&state| graph.tensors[state].channels).sum()]
            }
            None => group[group.len() - 1].output,
        };
        table.row([
            name.to_owned(),
            shape(output),
            HumanCount(group.iter().map(|row| row.parameters as u64).sum()).to_string(),
            HumanCount(group.iter().map(|row| row.multiply_adds as u64).sum()).to_string(),
        ]);
    }
    table
}

/// The part of the network that a layer belongs to: `cells.3` of `cells.3._ops.5`, `stem0` of `stem0.3`.
fn part(name: &str) -> &str {
    let dots = if name.starts_with("cells.") { 2 } else { 1 };
    name.match_indices('.').nth(dots - 1).map_or(name, |(end, _)| &name[..end])
}
