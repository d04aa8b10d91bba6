//! `darts runs`: the runs below a folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use darts_core::{CellGenotype, Primitive};
use darts_host::progress::stderr_line;
use darts_host::report::{RunRecord, RunState};
use darts_host::run_directory::{CONFIG, METRICS};
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use super::Outcome;
use super::common::{FileError, print_json};
use super::table::Table;

/// List the runs below a folder, the latest first
///
/// For each run: its folder, its command, whether it is running, finished or was interrupted, epochs, validation
/// accuracy of the last epoch, skip connections of the normal and the reduction cell, when it last wrote something, and
/// its size. Pipelines and comparisons (run, seeds, random) are listed beside their searches and trainings. Where the
/// terminal is narrow the last columns are left out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  darts runs\n  darts runs experiments --json")]
pub struct Arguments {
    /// The folder.
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    runs: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    path: PathBuf,
    command: String,
    state: RunState,
    epochs: usize,
    planned_epochs: Option<usize>,
    valid_accuracy: Option<f64>,
    best_valid_accuracy: Option<f64>,
    skips_normal: Option<usize>,
    skips_reduce: Option<usize>,
    /// Seconds since 1970.
    modified: Option<u64>,
    bytes: u64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut runs = Vec::new();
    let entries = fs::read_dir(&arguments.folder).map_err(FileError::new("list the folder", &arguments.folder));
    drop(entries?);
    find(&arguments.folder, &mut runs);
    runs.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.path.cmp(&b.path)));
    if arguments.json {
        print_json(&Report { runs })?;
        return Ok(());
    }
    let mut output = io::stdout().lock();
    if runs.is_empty() {
        writeln!(output, "no runs below {}", arguments.folder.display())?;
        return Ok(());
    }
    write!(output, "{}", table(&arguments.folder, &runs))?;
    Ok(())
}

/// Collects the runs in `folder` and below it; of those only comparisons and pipelines hold others.
fn find(folder: &Path, runs: &mut Vec<Row>) {
    if folder.join(CONFIG).exists() {
        match RunRecord::read_any(folder) {
            Ok(run) => {
                runs.push(row(&run));
                if !run.has_runs() {
                    return;
                }
            }
            Err(error) if folder.join(METRICS).exists() => {
                return stderr_line(format_args!("warning: {} is left out: {error}", folder.display()));
            }
            // The configuration of something else.
            Err(_) => {}
        }
    }
    // A folder that cannot be read has no runs that could be.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), runs);
        }
    }
}

fn row(run: &RunRecord) -> Row {
    let skips = |cell: &CellGenotype| cell.edges.iter().filter(|edge| edge.primitive == Primitive::SkipConnect).count();
    let modified = run.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    Row {
        path: run.path.clone(),
        command: run.config.command.clone(),
        state: run.state,
        epochs: run.epochs.len(),
        planned_epochs: run.planned,
        valid_accuracy: run.last().and_then(|epoch| epoch.valid_accuracy),
        best_valid_accuracy: run.best_valid_accuracy().map(|(accuracy, _)| accuracy),
        skips_normal: run.genotype.as_ref().map(|genotype| skips(&genotype.normal)),
        skips_reduce: run.genotype.as_ref().map(|genotype| skips(&genotype.reduce)),
        modified: modified.map(|time| time.as_secs()),
        bytes: size(&run.path),
    }
}

/// Bytes of all files in `folder` and below it.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// As many columns as the terminal has room for, at least run and state.
fn table(folder: &Path, runs: &[Row]) -> Table {
    const TITLES: [&str; 8] = ["run", "state", "epochs", "accuracy", "command", "skips", "written", "size"];
    let room = terminal_size::terminal_size().map_or(usize::MAX, |(width, _)| usize::from(width.0));
    let rows: Vec<[String; 8]> = runs.iter().map(|run| cells(folder, run)).collect();
    let mut columns = TITLES.len();
    loop {
        let mut table = Table::new(&TITLES[..columns]);
        rows.iter().for_each(|row| table.row(row[..columns].iter().cloned()));
        if columns == 2 || table.width() <= room {
            return table;
        }
        columns -= 1;
    }
}

fn cells(folder: &Path, run: &Row) -> [String; 8] {
    let none = || "–".to_owned();
    let path = run.path.strip_prefix(folder).unwrap_or(&run.path);
    let path = if path.as_os_str().is_empty() { &run.path } else { path };
    let skips = run.skips_normal.zip(run.skips_reduce).map(|(normal, reduce)| format!("{normal} {reduce}"));
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let age = |then: u64| format!("{} ago", HumanDuration(Duration::from_secs(now.saturating_sub(then))));
    [
        path.display().to_string(),
        run.state.name().to_owned(),
        run.planned_epochs.map_or_else(none, |planned| format!("{}/{planned}", run.epochs)),
        run.valid_accuracy.map_or_else(none, |accuracy| format!("{:.2} %", 100.0 * accuracy)),
        run.command.clone(),
        skips.unwrap_or_else(none),
        run.modified.map_or_else(none, age),
        HumanBytes(run.bytes).to_string(),
    ]
}
