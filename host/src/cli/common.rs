//! Arguments and output that several subcommands share.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use darts_core::Genotype;
use darts_host::config::{DataConfig, MachineConfig, RunConfig};
use darts_host::data::Dataset;
use darts_host::engine::{Engine, Options, Saved, Workers};
use darts_host::evaluate::{EvaluateError, Evaluation, evaluate_network};
use darts_host::graph::Graph;
use darts_host::graph::derived::NetworkKind;
use darts_host::interrupt::{self, Interrupted};
use darts_host::isa;
use darts_host::memory::available_bytes;
use darts_host::model_file::{ModelFile, ModelFileError};
use darts_host::progress::Progress;
use darts_host::run_directory::RunDirectory;
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::Kernels;
use indicatif::HumanBytes;
use serde::Serialize;

use super::{Failure, Outcome};

/// How much of the machine is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Number of threads; 0 is one for each processor. The result does not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

/// What every command works with.
pub struct Session {
    /// The kernels of the chosen instruction set.
    pub kernels: Kernels,
    /// The threads.
    pub workers: Arc<Workers>,
    /// Where progress is shown.
    pub progress: Progress,
}

impl Session {
    /// Starts the threads; `silent` for programs that read the output.
    pub fn start(machine: &Machine, silent: bool) -> Result<Self, Failure> {
        Ok(Self {
            kernels: isa::kernels()?,
            workers: Arc::new(Workers::new(usize::from(machine.threads))?),
            progress: Progress::new(silent),
        })
    }

    /// Runs a trained network on `data` on the host, until Ctrl-C.
    pub fn evaluate(&self, label: &str, network: &TrainedNetwork, data: &Dataset) -> Result<Evaluation, Failure> {
        let task = self.progress.task(label, data.len() as u64);
        let after_batch = |images| {
            task.advance(images as u64);
            interrupt::check()
        };
        evaluate_network(network, data, self.kernels, &self.workers, after_batch).map_err(|error| match error {
            EvaluateError::Interrupted(interrupted) => interrupted.into(),
            error => error.into(),
        })
    }

    /// Runs a model file on `data` with the core, until Ctrl-C. Returns the logits.
    pub fn run_model(&self, label: &str, model: &ModelFile, data: &Dataset) -> Result<Vec<f32>, Failure> {
        let task = self.progress.task(label, data.len() as u64);
        let after_image = || {
            task.advance(1);
            interrupt::check()
        };
        let logits = self.workers.pool().install(|| model.logits(self.kernels, data, after_image));
        logits.map_err(|error| match error {
            ModelFileError::Interrupted(interrupted) => interrupted.into(),
            error => error.into(),
        })
    }

    /// Says what training `graph` takes of memory; fails where that is more than there is, as far as the system tells.
    pub fn check_memory(&self, graph: &Graph, batch: usize, saved: Saved) -> Result<(), NotEnoughMemory> {
        let needed = Engine::bytes_needed(graph, batch, Options { saved, ..Options::default() }) as u64;
        match available_bytes() {
            Some(available) if needed > available => Err(NotEnoughMemory { needed, available, batch }),
            _ => {
                self.progress.line(&format!("memory       {} for the network and a batch", HumanBytes(needed)));
                Ok(())
            }
        }
    }

    /// How a command ends after Ctrl-C: stdout stays empty, and `next` says how to go on.
    pub fn interrupted(&self, directory: &RunDirectory, next: &str) -> Outcome {
        self.progress.line(&format!("wrote {}{next}", directory.path().display()));
        Err(Interrupted.into())
    }

    /// What a run directory records: everything that decides the result, and what ran it.
    pub fn config<S>(&self, command: &str, genotype: Option<&Genotype>, data: DataConfig, settings: S) -> RunConfig<S> {
        let machine = MachineConfig {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            isa: self.kernels.isa().name().to_owned(),
            threads: self.workers.threads(),
        };
        let genotype = genotype.map(Genotype::to_string);
        RunConfig { command: command.to_owned(), genotype, machine, data, settings }
    }
}

/// Stem and head of a derived network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Small images: one 3×3 convolution, full size.
    Cifar,
    /// Large images: three 3×3 convolutions of stride 2.
    Imagenet,
}

impl From<Network> for NetworkKind {
    fn from(network: Network) -> Self {
        match network {
            Network::Cifar => Self::Cifar,
            Network::Imagenet => Self::ImageNet,
        }
    }
}

/// The size of an image as it is written, `3x32x32`: channels, height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize(pub [usize; 3]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
        match numbers.map(<[usize; 3]>::try_from) {
            Ok(Ok(size)) if !size.contains(&0) => Ok(Self(size)),
            _ => Err("expected CHANNELSxHEIGHTxWIDTH, such as 3x32x32".into()),
        }
    }
}

/// Writes one JSON object and a line end to stdout.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, value)?;
    writeln!(output)
}

/// Options that do not go together, found out only after the arguments were parsed.
#[derive(Debug, thiserror::Error)]
#[error("{option} does not apply to {subject}: leave it out")]
pub struct WrongUsage {
    /// The option.
    pub option: &'static str,
    /// What it was given for.
    pub subject: &'static str,
}

/// A network that the machine has no room for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the network takes at least {} of memory for batches of {batch} images, and {} are available: make the batch, the \
     channels or the layers fewer",
    HumanBytes(*needed),
    HumanBytes(*available)
)]
pub struct NotEnoughMemory {
    needed: u64,
    available: u64,
    batch: usize,
}

/// A failed operation on a file, with the file's name.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} ({}): {source}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// For use in `map_err`.
    pub fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_sizes() {
        for size in [[3, 32, 24], [usize::MAX; 3]] {
            assert_eq!(size.map(|number| number.to_string()).join("x").parse(), Ok(ImageSize(size)));
        }
        for text in ["", "3x32", "3x32x32x1", "3x0x32", "axbxc", "3x-1x2", "99999999999999999999x1x1"] {
            assert!(text.parse::<ImageSize>().is_err(), "{text}");
        }
    }
}
