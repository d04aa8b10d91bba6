//! `darts compare`: runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use darts_core::CellGenotype;
use darts_host::config::settings;
use darts_host::report::{EpochRecord, RunRecord};
use serde::Serialize;

use super::common::print_json;
use super::table::Table;
use super::{Failure, Outcome};

/// Set runs side by side: settings that differ, measurements, genotypes
///
/// Measurements are those of the last epoch that is complete; times, rates and memory depend on the machine and on what
/// else it did. Of the genotypes the nodes that differ are shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  darts compare runs/search-1 runs/search-2\n  darts compare runs/train-* --json")]
pub struct Arguments {
    /// The run directories.
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    runs: Vec<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    runs: Vec<PathBuf>,
    settings: Vec<Compared<Option<String>>>,
    metrics: Vec<Compared<Option<f64>>>,
    genotypes: Vec<Node>,
}

/// One thing, and what it is in each run.
#[derive(Serialize)]
struct Compared<T> {
    name: String,
    values: Vec<T>,
}

/// A node that is not the same in all runs: its edges, the earlier state first.
#[derive(Serialize)]
struct Node {
    cell: &'static str,
    node: usize,
    values: Vec<Vec<String>>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let runs = arguments.runs.iter().map(|path| RunRecord::read(path)).collect::<Result<Vec<_>, _>>()?;
    let report = Report {
        runs: arguments.runs.clone(),
        settings: differing_settings(&runs)?,
        metrics: metrics(&runs),
        genotypes: differing_nodes(&runs),
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&report, runs.iter().all(|run| run.genotype.is_some()))?;
    }
    Ok(())
}

fn differing_settings(runs: &[RunRecord]) -> Result<Vec<Compared<Option<String>>>, Failure> {
    let runs = runs.iter().map(|run| Ok(settings(&run.config.value()?))).collect::<Result<Vec<_>, Failure>>()?;
    let names: BTreeSet<&String> = runs.iter().flat_map(BTreeMap::keys).filter(|name| *name != "genotype").collect();
    let compared = names.into_iter().map(|name| Compared {
        name: name.clone(),
        values: runs.iter().map(|settings| settings.get(name).cloned()).collect(),
    });
    Ok(compared.filter(|compared| compared.values.iter().any(|value| *value != compared.values[0])).collect())
}

/// Numbers that at least one of the runs has.
fn metrics(runs: &[RunRecord]) -> Vec<Compared<Option<f64>>> {
    type Metric = (&'static str, fn(&RunRecord, &EpochRecord) -> Option<f64>);
    let metrics: [Metric; 16] = [
        ("epochs", |run, _| Some(run.epochs.len() as f64)),
        ("train_loss", |_, last| last.train_loss),
        ("train_accuracy", |_, last| last.train_accuracy),
        ("valid_loss", |_, last| last.valid_loss),
        ("valid_accuracy", |_, last| last.valid_accuracy),
        ("best_valid_accuracy", |run, _| run.best_valid_accuracy().map(|(accuracy, _)| accuracy)),
        ("best_epoch", |run, _| run.best_valid_accuracy().map(|(_, epoch)| epoch as f64 + 1.0)),
        ("entropy_normal", |_, last| last.normal.entropy),
        ("entropy_reduce", |_, last| last.reduce.entropy),
        ("skips_normal", |_, last| last.normal.skips.map(|skips| skips as f64)),
        ("skips_reduce", |_, last| last.reduce.skips.map(|skips| skips as f64)),
        ("lambda_max", |run, _| run.epochs.iter().rev().find_map(|epoch| epoch.lambda_max)),
        ("seconds", |run, _| Some(run.seconds()).filter(|&seconds| seconds > 0.0)),
        ("seconds_per_epoch", |run, _| Some(run.seconds() / run.epochs.len() as f64).filter(|&seconds| seconds > 0.0)),
        ("images_per_second", |_, last| last.images_per_second()),
        ("peak_rss_bytes", |_, last| last.process.peak_rss_bytes.map(|bytes| bytes as f64)),
    ];
    let none = EpochRecord::default();
    let compared = metrics.into_iter().map(|(name, value)| Compared {
        name: name.to_owned(),
        values: runs.iter().map(|run| value(run, run.last().unwrap_or(&none))).collect::<Vec<_>>(),
    });
    compared.filter(|compared| compared.values.iter().any(Option::is_some)).collect()
}

fn differing_nodes(runs: &[RunRecord]) -> Vec<Node> {
    type Cell = fn(&RunRecord) -> Option<&CellGenotype>;
    let cells: [(&'static str, Cell); 2] = [
        ("normal", |run| run.genotype.as_ref().map(|genotype| &genotype.normal)),
        ("reduce", |run| run.genotype.as_ref().map(|genotype| &genotype.reduce)),
    ];
    let mut differing = Vec::new();
    for (name, cell) in cells {
        let cells: Vec<_> = runs.iter().map(cell).collect();
        let nodes = cells.iter().flatten().map(|cell| cell.nodes()).max().unwrap_or(0);
        for node in 0..nodes {
            let values: Vec<_> =
                cells.iter().map(|cell| cell.map_or_else(Vec::new, |cell| edges(cell, node))).collect();
            if values.iter().any(|value| *value != values[0]) {
                differing.push(Node { cell: name, node, values });
            }
        }
    }
    differing
}

/// The edges of a node, none of one that is not there.
fn edges(cell: &CellGenotype, node: usize) -> Vec<String> {
    let mut edges: Vec<_> =
        cell.edges.iter().skip(2 * node).take(2).map(|edge| (edge.source, edge.primitive.name())).collect();
    edges.sort_unstable();
    let name = |(source, operation): (u8, &str)| match source {
        0 => format!("{operation} of c_{{k-2}}"),
        1 => format!("{operation} of c_{{k-1}}"),
        _ => format!("{operation} of {}", source - 2),
    };
    edges.into_iter().map(name).collect()
}

fn print(report: &Report, genotypes: bool) -> io::Result<()> {
    let names: Vec<String> = report.runs.iter().map(|path| path.display().to_string()).collect();
    let table =
        |title| Table::new(&[&[title], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    let mut output = io::stdout().lock();

    let mut settings = table("setting");
    for Compared { name, values } in &report.settings {
        let values = values.iter().map(|value| value.clone().unwrap_or_else(|| "–".to_owned()));
        settings.row([name.clone()].into_iter().chain(values));
    }
    if report.settings.is_empty() {
        writeln!(output, "all settings are the same")?;
    } else {
        write!(output, "{settings}")?;
    }

    let mut metrics = table("measurement");
    for Compared { name, values } in &report.metrics {
        let values = values.iter().map(|value| value.map_or_else(|| "–".to_owned(), |value| number(name, value)));
        metrics.row([name.replace('_', " ")].into_iter().chain(values));
    }
    write!(output, "\n{metrics}\n")?;

    if report.genotypes.is_empty() {
        return writeln!(
            output,
            "{}",
            if genotypes { "the genotypes are the same" } else { "no genotypes to compare" }
        );
    }
    let mut nodes = table("node");
    for Node { cell, node, values } in &report.genotypes {
        for edge in 0..2 {
            let name = if edge == 0 { format!("{cell} {node}") } else { String::new() };
            let values = values.iter().map(|edges| edges.get(edge).cloned().unwrap_or_else(|| "–".to_owned()));
            nodes.row([name].into_iter().chain(values));
        }
    }
    write!(output, "{nodes}")
}

fn number(name: &str, value: f64) -> String {
    if name.contains("accuracy") {
        format!("{:.2} %", 100.0 * value)
    } else if name == "peak_rss_bytes" {
        indicatif::HumanBytes(value as u64).to_string()
    } else if value.fract() == 0.0 {
        value.to_string()
    } else if name.starts_with("seconds") || name.starts_with("images") {
        format!("{value:.1}")
    } else {
        format!("{value:.4}")
    }
}
