//! `darts bench step`: one step of a search or a training of any size.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use darts_host::bench::{Step, StepKind, median_seconds, multiply_add_peak};
use darts_host::engine::Options;
use darts_host::graph::Graph;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::supernet::{SupernetConfig, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::interrupt;
use darts_host::memory::peak_rss_bytes;
use darts_host::search::mixing::Mixing;
use darts_host::search::settings::SearchSettings;
use darts_host::train::TrainSettings;
use indicatif::HumanBytes;
use serde::Serialize;

use super::common::{ImageSize, Machine, Session, WrongUsage, print_json};
use super::genotype::resolve;
use super::training::{Saved, one_or_more};
use super::{Failure, Outcome};

/// Time one step of a search, or with --genotype of a training, on random images
///
/// Prints the median of a few steps after one that is not counted, the floating-point operations of a step, and its
/// place under the peak of multiply-adds, which is measured with the same threads in the same run. A forward and
/// backward pass counts as three forward passes, and a multiply-add of a convolution or linear layer as two operations;
/// nothing else is counted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts bench step\n  \
    darts bench step --channels 8 --layers 5 --input 1x28x28 --order second --threads 2\n  \
    darts bench step --genotype DARTS_V2 --channels 16 --layers 8 --batch 64 --json")]
pub struct Arguments {
    /// What a step of the search is [default: first; with --genotype, which has no α, weights].
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,

    /// Train the derived network of a genotype (name, file, text or run directory), without its auxiliary head.
    #[arg(long, value_name = "NAME|FILE|TEXT|RUN")]
    genotype: Option<String>,

    /// Channels of the first cell [default: 16; with --genotype 36].
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// Number of cells [default: 8; with --genotype 20].
    #[arg(long, value_name = "N")]
    layers: Option<usize>,

    /// One channel of so many goes through the mixed operations of a search.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = one_or_more(), conflicts_with = "genotype")]
    partial: usize,

    /// Images in a batch [default: 64; with --genotype 96].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    batch: Option<usize>,

    /// Image size: channels, height, width.
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32")]
    input: ImageSize,

    /// Number of classes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,

    /// How values are kept from the forward to the backward pass.
    #[arg(long, value_name = "FORM", default_value = "f32")]
    saved: Saved,

    /// Steps that are timed.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = one_or_more())]
    steps: usize,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// α by the first-order gradient, then the weights: two forward and backward passes.
    First,
    /// α by the second-order gradient, then the weights: five.
    Second,
    /// The weights only: one.
    Weights,
}

impl From<Order> for StepKind {
    fn from(order: Order) -> Self {
        match order {
            Order::First => Self::First,
            Order::Second => Self::Second,
            Order::Weights => Self::Weights,
        }
    }
}

impl Arguments {
    /// The network, how it mixes, what a step of it is, and the images in a batch.
    fn resolve(&self) -> Result<(Graph, Mixing, StepKind, usize), Failure> {
        let (input, classes) = (self.input.0, self.classes);
        let Some(genotype) = &self.genotype else {
            let paper = SearchSettings::PAPER;
            let config = SupernetConfig {
                input,
                classes,
                channels: self.channels.unwrap_or(paper.channels),
                layers: self.layers.unwrap_or(paper.layers),
                nodes: paper.nodes,
                multiplier: paper.multiplier,
            };
            let variant = Variant { partial: self.partial, ..Variant::default() };
            let mixing = Mixing { variant, ..Mixing::default() };
            let kind = self.order.unwrap_or(Order::First).into();
            return Ok((supernet_of(&config, variant)?, mixing, kind, self.batch.unwrap_or(paper.batch_size)));
        };
        if self.order.is_some_and(|order| order != Order::Weights) {
            return Err(WrongUsage { option: "--order first or second", subject: "a derived network" }.into());
        }
        let paper = TrainSettings::CIFAR;
        let config = DerivedConfig {
            kind: NetworkKind::Cifar,
            input,
            classes,
            channels: self.channels.unwrap_or(paper.channels),
            layers: self.layers.unwrap_or(paper.layers),
            auxiliary: false,
        };
        let graph = derived(&resolve(genotype)?, &config)?;
        Ok((graph, Mixing::default(), StepKind::Weights, self.batch.unwrap_or(paper.batch_size)))
    }
}

#[derive(Serialize)]
struct Report {
    order: StepKind,
    isa: &'static str,
    threads: usize,
    /// Median of the timed steps.
    seconds: f64,
    flops: f64,
    gflops: f64,
    peak_gflops: f64,
    fraction_of_peak: f64,
    peak_rss_bytes: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::start(&arguments.machine, arguments.json)?;
    let (graph, mixing, kind, batch) = arguments.resolve()?;
    let saved = arguments.saved.into();
    session.check_memory(&graph, batch, saved)?;
    interrupt::install()?;
    let task = session.progress.task("bench step", arguments.steps as u64 + 1);
    let peak = multiply_add_peak(session.kernels, &session.workers);
    let mut step = Step::new(
        graph,
        mixing,
        kind,
        batch,
        Options { saved, ..Options::default() },
        session.kernels,
        session.workers.clone(),
    );
    let mut seconds = Vec::with_capacity(arguments.steps);
    for index in 0..=arguments.steps {
        interrupt::check()?;
        let time = step.seconds();
        // The first step takes memory from the system.
        if index > 0 {
            seconds.push(time);
        }
        task.advance(1);
    }
    interrupt::check()?;
    drop(task);
    let (seconds, flops) = (median_seconds(seconds), step.flops());
    let report = Report {
        order: kind,
        isa: session.kernels.isa().name(),
        threads: session.workers.threads(),
        seconds,
        flops,
        gflops: flops / seconds / 1e9,
        peak_gflops: peak / 1e9,
        fraction_of_peak: flops / seconds / peak,
        peak_rss_bytes: peak_rss_bytes(),
    };
    if arguments.json {
        print_json(&report)?
    } else {
        print(&report, batch)?
    }
    Ok(())
}

fn print(report: &Report, batch: usize) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let Report { seconds, flops, gflops, peak_gflops, fraction_of_peak, .. } = report;
    writeln!(output, "instruction set  {}", report.isa)?;
    writeln!(output, "threads          {}", report.threads)?;
    writeln!(output, "step             {seconds:.4} s, {:.4} ms an image", seconds * 1e3 / batch as f64)?;
    writeln!(output, "work             {:.2} GFLOP", flops / 1e9)?;
    writeln!(output, "speed            {gflops:.1} GFLOP/s")?;
    writeln!(output, "peak             {peak_gflops:.1} GFLOP/s, of which {:.0} %", 100.0 * fraction_of_peak)?;
    if let Some(bytes) = report.peak_rss_bytes {
        writeln!(output, "peak memory      {}", HumanBytes(bytes))?;
    }
    Ok(())
}
