//! `darts bench`: how fast this machine is.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use darts_host::bench::{Case, Pattern, Roof, Row, kernel_cases, network_cases};
use darts_host::engine::Workers;
use darts_host::{interrupt, isa};
use darts_kernels_simd::{Isa, Kernels};
use serde::Serialize;

use super::common::{Machine, Session, print_json};
use super::table::Table;
use super::{Failure, Outcome, bench_step};

/// Measure what this machine can do, and every kernel, stage, cell and step under it
///
/// First the roof: the peak of multiply-adds of each instruction set, and the bandwidth of each level of memory, for
/// reads and writes and for reads alone, on one thread and on all. Then each kernel on one thread, for every shape of a
/// DARTS network, instruction set and direction, and, with the fastest instruction set, cells and steps on all threads
/// and inference on one: the best time, and the share of the roof that applies, which is the peak or, where moving the
/// operands takes longer, the bandwidth of the cache that holds them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    darts bench\n  \
    darts bench --filter 'depthwise 3x3' --isa avx2\n  \
    darts bench --json\n  \
    darts bench step --order second --threads 2")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Only what has TEXT in its name, shape or direction, in capitals or not.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Only this instruction set: scalar, avx2, avx512 or neon.
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,

    /// Print one JSON object: version, roof, rows.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, Subcommand)]
enum Command {
    Step(bench_step::Arguments),
}

/// A filter that leaves nothing.
#[derive(Debug, thiserror::Error)]
#[error("nothing has '{0}' in its name, shape or direction: `darts bench` shows all names")]
struct NothingLeft(String);

#[derive(Serialize)]
struct Report {
    version: &'static str,
    roof: Roof,
    rows: Vec<Row>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    if let Some(Command::Step(arguments)) = &arguments.command {
        return bench_step::run(arguments);
    }
    let kernels = match arguments.isa {
        Some(isa) => vec![Kernels::with_isa(isa)?],
        None => isa::allowed()?,
    };
    let text = arguments.filter.as_ref().map(|filter| filter.to_lowercase());
    let wanted = |case: &Case| text.as_ref().is_none_or(|text| case.label().to_lowercase().contains(text));
    let [kernel_cases, network_cases] =
        [kernel_cases(), network_cases()].map(|cases| cases.into_iter().filter(wanted).collect::<Vec<_>>());
    if let (true, true, Some(filter)) = (kernel_cases.is_empty(), network_cases.is_empty(), &arguments.filter) {
        return Err(NothingLeft(filter.clone()).into());
    }
    let session = Session::start(&arguments.machine, arguments.json)?;
    interrupt::install()?;
    let report = measure(&session, &kernels, &kernel_cases, &network_cases)?;
    if arguments.json {
        print_json(&report)?
    } else {
        print(&report)?
    }
    Ok(())
}

fn measure(session: &Session, kernels: &[Kernels], one: &[Case], all: &[Case]) -> Result<Report, Failure> {
    let fastest = &kernels[kernels.len() - 1..];
    let work: Vec<(&Case, Kernels)> = [(one, kernels), (all, fastest)]
        .into_iter()
        .flat_map(|(cases, kernels)| cases.iter().flat_map(|case| kernels.iter().map(move |&kernels| (case, kernels))))
        .collect();
    let task = session.progress.task("bench", work.len() as u64);
    let roof = Roof::measure(kernels, &Workers::new(1)?, &session.workers);
    let mut rows = Vec::with_capacity(work.len());
    for (case, kernels) in work {
        interrupt::check()?;
        rows.push(Row::measure(case, kernels, &roof, &session.workers));
        task.advance(1);
    }
    interrupt::check()?;
    Ok(Report { version: env!("CARGO_PKG_VERSION"), roof, rows })
}

fn print(report: &Report) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let peaks = report.roof.multiply_adds.iter().map(|peak| (peak.isa.to_owned(), peak.threads, peak.gflops));
    writeln!(output, "{}", roof_table("multiply-adds", "GFLOP/s", peaks.collect()))?;
    let levels = report.roof.bandwidth.iter().map(|level| {
        let name = match level.pattern {
            Pattern::Triad => level.level.to_owned(),
            Pattern::Read => format!("{}, reading", level.level),
        };
        (name, level.threads, level.gbytes_per_second)
    });
    writeln!(output, "{}", roof_table("bandwidth", "GB/s", levels.collect()))?;
    let titles = ["operation", "shape", "direction", "isa", "threads", "us", "GFLOP/s", "GB/s", "bound", "% of it"];
    let mut table = Table::new(&titles);
    for row in &report.rows {
        table.row([
            row.name.clone(),
            row.shape.clone(),
            row.direction.clone(),
            row.isa.to_owned(),
            row.threads.to_string(),
            format!("{:.2}", 1e6 * row.seconds),
            number(row.gflops),
            number(row.gbytes_per_second),
            row.bound.to_owned(),
            format!("{:.0}", 100.0 * row.fraction_of_peak),
        ]);
    }
    write!(output, "{table}")
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// A row for each name and a column for each number of threads.
fn roof_table(what: &str, unit: &str, measured: Vec<(String, usize, f64)>) -> Table {
    let mut threads: Vec<usize> = measured.iter().map(|&(_, threads, _)| threads).collect();
    threads.dedup();
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in &measured {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let title = |&threads: &usize| format!("{unit}, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let titles: Vec<String> = threads.iter().map(title).collect();
    let mut table = Table::new(&[&[what], &titles.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    for name in names {
        let of = |&threads: &usize| {
            let found = measured.iter().find(|entry| (entry.0.as_str(), entry.1) == (name, threads));
            found.map_or("-".to_owned(), |entry| number(entry.2))
        };
        table.row([name.to_owned()].into_iter().chain(threads.iter().map(of)));
    }
    table
}
