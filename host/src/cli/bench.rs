//! `darts bench`: how fast this machine is.

use clap::{Args, Subcommand};

use super::{Outcome, bench_step};

/// Measure how fast this machine is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  darts bench step --order second --threads 2")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Step(bench_step::Arguments),
}

pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Step(arguments) => bench_step::run(arguments),
    }
}
