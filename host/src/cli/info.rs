//! `darts info`: what this build uses on this machine.

use std::io::{self, Write};

use clap::Args;
use darts_host::isa;
use serde::Serialize;

use super::Outcome;
use super::common::{Machine, Session, print_json};

/// Show the instruction sets, the number of threads and the version
///
/// DARTS_ISA=scalar|avx2|avx512|neon in the environment forces an instruction set for every command; asking for one
/// that the machine lacks is an error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  darts info\n  DARTS_ISA=scalar darts info --json")]
pub struct Arguments {
    #[command(flatten)]
    machine: Machine,

    /// Print one JSON object: isa, isas, int8_dot, threads, version.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Info {
    isa: &'static str,
    isas: Vec<&'static str>,
    int8_dot: Option<&'static str>,
    threads: usize,
    version: &'static str,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::start(&arguments.machine, true)?;
    let info = Info {
        isa: session.kernels.isa().name(),
        isas: isa::available(),
        int8_dot: session.kernels.int8_dot(),
        threads: session.workers.threads(),
        version: env!("CARGO_PKG_VERSION"),
    };
    if arguments.json {
        print_json(&info)?;
    } else {
        let mut output = io::stdout().lock();
        writeln!(output, "version                {}", info.version)?;
        writeln!(output, "instruction set        {}", info.isa)?;
        writeln!(output, "available              {}", info.isas.join(", "))?;
        writeln!(output, "8-bit dot product      {}", info.int8_dot.unwrap_or("none"))?;
        writeln!(output, "threads                {}", info.threads)?;
    }
    Ok(())
}
