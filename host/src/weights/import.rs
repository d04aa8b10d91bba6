//! Weights that another program has written, under the names and in the layouts of the original's state dict.

use std::fs;
use std::path::Path;

use darts_core::Genotype;
use safetensors::tensor::SafeTensors;

use super::{Problem, TrainedNetwork, WeightsError};
use crate::data::Normalization;
use crate::graph::derived::{DerivedConfig, NetworkKind};

/// What the tensors do not say about their network.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its cells.
    pub genotype: Genotype,
    /// Input `[C, H, W]`; without it that of CIFAR-10 or ImageNet, as the stem is.
    pub input: Option<[usize; 3]>,
    /// Mean and standard deviation of each channel by which its images are normalised, on the scale 0..=1.
    pub normalization: Normalization,
    /// A name for each class; without them numbers from 0.
    pub class_names: Option<Vec<String>>,
}

impl TrainedNetwork {
    /// Reads the safetensors file `path`, which needs no metadata. Channels, cells, classes, stem and auxiliary head
    /// are those of its tensors; counters of batches (`num_batches_tracked`) are left out.
    ///
    /// # Errors
    /// If the file cannot be read, or is not of a network such as `import` says.
    pub fn import(path: &Path, import: &Import) -> Result<Self, WeightsError> {
        let bytes = fs::read(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| WeightsError::Format { path: path.to_owned(), error })?;
        Self::imported(&tensors, import).map_err(|problem| WeightsError::Import { path: path.to_owned(), problem })
    }

    fn imported(tensors: &SafeTensors, import: &Import) -> Result<Self, Problem> {
        let config = config(tensors, import.input)?;
        let Normalization { mean, std } = import.normalization.clone();
        let normalization = Normalization::new(mean, std, config.input[0])?;
        let numbers = || (0..config.classes).map(|class| class.to_string()).collect();
        let class_names = import.class_names.clone().unwrap_or_else(numbers);
        Self::of_tensors(tensors, config, import.genotype.clone(), normalization, class_names)
    }
}

/// The size of the network that `tensors` are of. That they have the shapes that belong to it is not checked here.
fn config(tensors: &SafeTensors, input: Option<[usize; 3]>) -> Result<DerivedConfig, Problem> {
    let names = tensors.names();
    let imagenet = names.contains(&"stem0.0.weight");
    let (kind, size) = if imagenet { (NetworkKind::ImageNet, 224) } else { (NetworkKind::Cifar, 32) };
    let [channels, input_channels] = if imagenet {
        [extent(tensors, "stem0.3.weight", 0)?, extent(tensors, "stem0.0.weight", 1)?]
    } else {
        [extent(tensors, "stem.0.weight", 0)? / 3, extent(tensors, "stem.0.weight", 1)?]
    };
    let cells = names.iter().filter_map(|name| name.strip_prefix("cells.")?.split('.').next()?.parse::<usize>().ok());
    Ok(DerivedConfig {
        kind,
        input: input.unwrap_or([input_channels, size, size]),
        classes: extent(tensors, "classifier.weight", 0)?,
        channels,
        layers: cells.max().map_or(0, |last| last.saturating_add(1)),
        auxiliary: names.iter().any(|name| name.starts_with("auxiliary_head.")),
    })
}

/// An extent of the tensor `name`.
fn extent(tensors: &SafeTensors, name: &str, dimension: usize) -> Result<usize, Problem> {
    let tensor = tensors.tensor(name).map_err(|_| Problem::Missing(name.to_owned()))?;
    let dimensions = || Problem::Dimensions { name: name.to_owned(), found: tensor.shape().to_vec() };
    tensor.shape().get(dimension).copied().ok_or_else(dimensions)
}
