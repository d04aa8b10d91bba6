//! `darts report`: the report of a run, and its figures.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use darts_host::report::{Fonts, RunRecord, write, write_figures};
use darts_host::run_directory::REPORT;
use serde::Serialize;

use super::Outcome;
use super::common::print_json;

/// Make the report of a run again, and pictures of its figures
///
/// The report (report.html) is one file that a browser shows without a network: curves, α over the epochs, both cells,
/// configuration and all measurements. A search or a training writes it behind every epoch; this command makes it from
/// config.toml and metrics.jsonl, of runs of older versions and unfinished ones too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts report runs/search-1\n  \
    darts report runs/search-1 --figures pictures\n  \
    darts report runs/search-1 --figures pictures --png")]
pub struct Arguments {
    /// The run directory.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Write each figure as an SVG picture to this folder.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,

    /// Write each figure as a PNG picture too; takes a font of the machine.
    #[arg(long, requires = "figures")]
    png: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    report: PathBuf,
    figures: usize,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let run = RunRecord::read(&arguments.run)?;
    write(&run)?;
    let mut report = Report { report: arguments.run.join(REPORT), figures: 0 };
    if let Some(folder) = &arguments.figures {
        let fonts = if arguments.png { Some(Fonts::installed()?) } else { None };
        report.figures = write_figures(&run, folder, fonts.as_ref())?;
    }
    if arguments.json {
        print_json(&report)?;
        return Ok(());
    }
    let mut output = io::stdout().lock();
    writeln!(output, "wrote {}", report.report.display())?;
    if let Some(folder) = &arguments.figures {
        writeln!(output, "wrote {} pictures to {}", report.figures, folder.display())?;
    }
    Ok(())
}
