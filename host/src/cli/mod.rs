//! The command line: one file a subcommand, each an argument struct and a function that calls the library.

mod accuracy;
mod amount;
mod bench;
mod bench_step;
mod budget;
mod collapse;
mod common;
mod compare;
mod comparison;
mod data;
mod eval;
mod export;
mod genotype;
mod import;
mod info;
mod inspect;
mod limits;
mod memory;
mod quantization;
mod random;
mod report;
mod resume;
mod run;
mod runs;
mod search;
mod seeds;
mod supernet;
mod table;
mod train;
mod training;
mod watch;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use darts_host::interrupt::{self, Interrupted};
use darts_host::progress::stderr_line;

use common::WrongUsage;
use comparison::WrongOptions;

/// Exit status, the same as for arguments that cannot be parsed.
const WRONG_USAGE: u8 = 2;

/// Why a subcommand failed; the message is the one line that the user sees.
type Failure = Box<dyn Error + Send + Sync>;

/// What a subcommand returns.
type Outcome = Result<(), Failure>;

#[derive(Debug, Parser)]
#[command(name = "darts", version, override_usage = "darts [COMMAND]", max_term_width = 110, args_override_self = true)]
#[command(about = "Differentiable architecture search on a CPU, from images to a model for a microcontroller")]
#[command(after_help = "Without a command: `darts run`, the whole pipeline on the embedded images.\n\
    Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.\n\
    Environment: DARTS_ISA=scalar|avx2|avx512|neon forces an instruction set.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Search(Box<search::Arguments>),
    Train(train::Arguments),
    Export(export::Arguments),
    Eval(eval::Arguments),
    Accuracy(accuracy::Arguments),
    Inspect(inspect::Arguments),
    Run(run::Arguments),
    Seeds(seeds::Arguments),
    Random(random::Arguments),
    Report(report::Arguments),
    Runs(runs::Arguments),
    Compare(compare::Arguments),
    Data(data::Arguments),
    Bench(bench::Arguments),
    Info(info::Arguments),
}

/// Parses the arguments, runs the command and reports its failure.
pub fn main() -> ExitCode {
    // A negative number is told to be out of range, rather than to be an option that there is not.
    let command = Arguments::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    // Without arguments: the whole pipeline.
    let without = std::env::args_os().len() <= 1;
    let matches = if without { command.get_matches_from(["darts", "run"]) } else { command.get_matches() };
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match arguments.command {
        Command::Search(arguments) => search::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Accuracy(arguments) => accuracy::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Seeds(arguments) => seeds::run(&arguments),
        Command::Random(arguments) => random::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(error.as_ref()),
    }
}

fn failure(error: &(dyn Error + 'static)) -> ExitCode {
    if error.is::<Interrupted>() {
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    // Every file's error is wrapped with its name: what is left is stdout's.
    match error.downcast_ref::<io::Error>() {
        // Whoever read the output has seen enough of it.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Some(error) => stderr_line(format_args!("error: cannot write the results to stdout: {error}")),
        None => stderr_line(format_args!("error: {error}")),
    }
    if error.is::<WrongUsage>() || error.is::<WrongOptions>() { ExitCode::from(WRONG_USAGE) } else { ExitCode::FAILURE }
}
