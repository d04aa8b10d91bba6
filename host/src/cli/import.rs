//! Options that say what the weights of another program are.

use std::path::Path;

use clap::Args;
use darts_host::data::Normalization;
use darts_host::weights::{Import, TrainedNetwork};

use super::Failure;
use super::common::ImageSize;
use super::genotype::resolve;

#[derive(Debug, Args)]
#[command(next_help_heading = "Weights of another program")]
pub struct Options {
    /// The cells of the network: a name, file, text or run directory. Says that the weights are a safetensors file
    /// without our description, with the names and layouts of the original's state dict.
    #[arg(long, value_name = "GENOTYPE", requires_all = ["mean", "std"])]
    genotype: Option<String>,

    /// Image size: channels, height, width [default: 3x32x32, or 3x224x224 with the stems for ImageNet].
    #[arg(long, value_name = "CxHxW", requires = "genotype")]
    input: Option<ImageSize>,

    /// Mean of each channel by which images are normalised, on the scale 0 to 1.
    #[arg(long, value_name = "M,…", value_delimiter = ',', requires = "genotype")]
    mean: Option<Vec<f32>>,

    /// Standard deviation of each channel, on the same scale.
    #[arg(long, value_name = "S,…", value_delimiter = ',', requires = "genotype")]
    std: Option<Vec<f32>>,

    /// A name for each class [default: numbers from 0].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "genotype")]
    class_names: Option<Vec<String>>,
}

impl Options {
    /// Reads our own weights file or run directory `path`, or with --genotype that of another program.
    pub fn load(&self, path: &Path) -> Result<TrainedNetwork, Failure> {
        let (Some(genotype), Some(mean), Some(std)) = (&self.genotype, &self.mean, &self.std) else {
            return Ok(TrainedNetwork::load(path)?);
        };
        let import = Import {
            genotype: resolve(genotype)?,
            input: self.input.map(|ImageSize(input)| input),
            normalization: Normalization { mean: mean.clone(), std: std.clone() },
            class_names: self.class_names.clone(),
        };
        Ok(TrainedNetwork::import(path, &import)?)
    }
}
