//! Arguments and output that several subcommands share.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use darts_host::data::DataSource;
use darts_host::engine::Workers;
use darts_host::graph::derived::NetworkKind;
use darts_host::isa;
use darts_host::progress::Progress;
use darts_kernels_simd::Kernels;
use serde::Serialize;

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
    pub fn start(machine: &Machine, silent: bool) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self {
            kernels: isa::kernels()?,
            workers: Arc::new(Workers::new(usize::from(machine.threads))?),
            progress: Progress::new(silent),
        })
    }

    /// What a run directory records: everything that decides the result, and what ran it.
    pub fn record<'a, S>(&self, settings: &'a S, source: &'a DataSource) -> RunRecord<'a, S> {
        RunRecord {
            version: env!("CARGO_PKG_VERSION"),
            isa: self.kernels.isa().name(),
            threads: self.workers.threads(),
            data: &source.name,
            data_fingerprint: format!("{:016x}", source.fingerprint()),
            settings,
        }
    }
}

/// The configuration of a run as it was resolved.
#[derive(Serialize)]
pub struct RunRecord<'a, S> {
    version: &'static str,
    isa: &'static str,
    threads: usize,
    data: &'a str,
    data_fingerprint: String,
    settings: &'a S,
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
        match numbers.as_deref() {
            Ok(&[channels, height, width]) if channels * height * width > 0 => Ok(Self([channels, height, width])),
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
        assert_eq!("3x32x24".parse(), Ok(ImageSize([3, 32, 24])));
        for text in ["", "3x32", "3x32x32x1", "3x0x32", "axbxc", "3x-1x2"] {
            assert!(text.parse::<ImageSize>().is_err(), "{text}");
        }
    }
}
