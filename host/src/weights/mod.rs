//! A trained network in a file: weights and running statistics under the names and in the layouts of the original's
//! state dict, as safetensors, with everything that is needed to build the network again.

mod import;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

use darts_core::Genotype;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::data::{DataError, Normalization};
use crate::engine::RunningStatistics;
use crate::graph::derived::{DerivedConfig, derived};
use crate::graph::supernet::ConfigError;
use crate::graph::{Graph, Parameter};
use crate::run_directory;

pub use import::Import;

/// Key of the description in the file's metadata.
const DESCRIPTION: &str = "darts";

/// A derived network with all that it learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedNetwork {
    /// Size of the network.
    pub config: DerivedConfig,
    /// Its cells.
    pub genotype: Genotype,
    /// The flat weight vector of its graph.
    pub weights: Vec<f32>,
    /// What its batch norms collected in training.
    pub statistics: RunningStatistics,
    /// How its images are normalised.
    pub normalization: Normalization,
    /// A name for each class.
    pub class_names: Vec<String>,
}

/// What the file holds beside tensors, as JSON.
#[derive(Serialize, Deserialize)]
struct Description<'a> {
    config: Cow<'a, DerivedConfig>,
    genotype: Cow<'a, Genotype>,
    normalization: Cow<'a, Normalization>,
    class_names: Cow<'a, [String]>,
}

/// A weights file that cannot be used. The message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot read the weights {}: {source}; give those that `darts train` has written, or its run directory", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not safetensors.
    #[error("{}: not a safetensors file, or cut off: {error}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SafeTensorError,
    },
    /// The file is safetensors, but not of such a network as was said.
    #[error(
        "{}: {problem}; give the weights of a network of this genotype, under the names of the original's state dict",
        path.display()
    )]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// The file is safetensors, but not those of a trained network.
    #[error("{}: {problem}; give a weights file that `darts train` has written", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with the content of a weights file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no description of the network.
    #[error(
        "the metadata has no entry \"{DESCRIPTION}\" (weights of another program: `darts export --genotype` takes them)"
    )]
    NoDescription,
    /// The description does not say what it must.
    #[error("the metadata's entry \"{DESCRIPTION}\": {0}")]
    Description(serde_json::Error),
    /// No such network can be built.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The normalisation is not one for the network's images.
    #[error(transparent)]
    Normalization(#[from] DataError),
    /// There are more or fewer class names than classes.
    #[error("{names} class names for {classes} classes")]
    ClassNames {
        /// Names.
        names: usize,
        /// Classes.
        classes: usize,
    },
    /// A tensor of the network is not there.
    #[error("the tensor {0} is missing")]
    Missing(String),
    /// The network has no such tensor.
    #[error("the network has no tensor {0}")]
    Unknown(String),
    /// A tensor from which a size is taken has too few dimensions.
    #[error("the tensor {name} has the shape {found:?}, which is too short")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has another type or shape than the network's.
    #[error("the tensor {name} is {found_type:?} {found:?}, it must be F32 {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the network.
        expected: Vec<usize>,
        /// Type of its elements in the file.
        found_type: Dtype,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// An element is not a number that it can be.
    #[error("element {index} of the tensor {name} is {value}")]
    Value {
        /// The tensor.
        name: String,
        /// Index of the element in the file's order.
        index: usize,
        /// Its value.
        value: f32,
    },
}

impl TrainedNetwork {
    /// The network's graph.
    ///
    /// # Errors
    /// If the configuration is not one that a network can have; that of a loaded network is.
    pub fn graph(&self) -> Result<Graph, ConfigError> {
        derived(&self.genotype, &self.config)
    }

    /// Writes the file `path`; it is whole or not there.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If weights or statistics do not have the lengths of the network's graph.
    pub fn save(&self, path: &Path) -> Result<(), atomic::WriteError> {
        let written = |source| atomic::WriteError { path: path.to_owned(), source };
        let graph = self.graph().expect("the network was built before");
        assert_eq!(self.weights.len(), graph.weights(), "weights");
        let statistics = [self.statistics.mean.len(), self.statistics.variance.len()];
        assert_eq!(statistics, [graph.statistics(); 2], "statistics");
        let tensors = places(&graph).into_iter().map(|place| (place.name(), place.stored(self)));
        let description = Description {
            config: Cow::Borrowed(&self.config),
            genotype: Cow::Borrowed(&self.genotype),
            normalization: Cow::Borrowed(&self.normalization),
            class_names: Cow::Borrowed(&self.class_names),
        };
        let description = serde_json::to_string(&description).map_err(|error| written(error.into()))?;
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description)]);
        let bytes =
            safetensors::serialize(tensors, Some(metadata)).map_err(|error| written(io::Error::other(error)))?;
        atomic::write(path, &bytes)
    }

    /// Reads the file `path`, or the weights of the run directory `path`, and checks names, shapes and values.
    ///
    /// # Errors
    /// If the file cannot be read or is not what [`save`](Self::save) writes.
    pub fn load(path: &Path) -> Result<Self, WeightsError> {
        let path = if path.is_dir() { &path.join(run_directory::WEIGHTS) } else { path };
        let bytes = fs::read(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        let format = |error| WeightsError::Format { path: path.to_owned(), error };
        let tensors = SafeTensors::deserialize(&bytes).map_err(format)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        Self::read(&tensors, metadata.metadata().as_ref())
            .map_err(|problem| WeightsError::Content { path: path.to_owned(), problem })
    }

    fn read(tensors: &SafeTensors, metadata: Option<&HashMap<String, String>>) -> Result<Self, Problem> {
        let description = metadata.and_then(|metadata| metadata.get(DESCRIPTION)).ok_or(Problem::NoDescription)?;
        let description: Description = serde_json::from_str(description).map_err(Problem::Description)?;
        let config = description.config.into_owned();
        let genotype = description.genotype.into_owned();
        config.validate()?;
        let Normalization { mean, std } = description.normalization.into_owned();
        let normalization = Normalization::new(mean, std, config.input[0])?;
        let class_names = description.class_names.into_owned();
        Self::of_tensors(tensors, config, genotype, normalization, class_names)
    }

    /// The network of these cells and this size with the weights and statistics of `tensors`.
    fn of_tensors(
        tensors: &SafeTensors,
        config: DerivedConfig,
        genotype: Genotype,
        normalization: Normalization,
        class_names: Vec<String>,
    ) -> Result<Self, Problem> {
        let graph = derived(&genotype, &config)?;
        if class_names.len() != config.classes {
            return Err(Problem::ClassNames { names: class_names.len(), classes: config.classes });
        }
        // All shapes first: the file holds what is allocated below.
        let places = places(&graph);
        let mut unknown: HashMap<&str, _> = tensors.iter().collect();
        let found = places.iter().map(|place| {
            let name = place.name();
            let tensor = unknown.remove(name.as_str()).ok_or(Problem::Missing(name.clone()))?;
            let expected = place.shape();
            if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
                let (found_type, found) = (tensor.dtype(), tensor.shape().to_vec());
                return Err(Problem::Shape { name, expected, found_type, found });
            }
            Ok(tensor)
        });
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        // PyTorch counts batches; nothing here depends on it.
        if let Some(name) = unknown.into_keys().filter(|name| !name.ends_with(".num_batches_tracked")).min() {
            return Err(Problem::Unknown(name.to_owned()));
        }
        let weights = vec![0.0; graph.weights()];
        let statistics = RunningStatistics::new(&graph);
        let mut network = Self { config, genotype, weights, statistics, normalization, class_names };
        for (place, tensor) in places.iter().zip(found) {
            let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            place.load(&values, &mut network)?;
        }
        Ok(network)
    }
}

/// A tensor of the file and where it belongs.
enum Place<'a> {
    Weight(&'a Parameter),
    Mean(&'a str, Range<usize>),
    Variance(&'a str, Range<usize>),
}

/// All tensors of a network's file.
fn places(graph: &Graph) -> Vec<Place<'_>> {
    let weights = graph.parameters.iter().map(Place::Weight);
    let means = graph.norms.iter().map(|norm| Place::Mean(&norm.name, norm.range.clone()));
    let variances = graph.norms.iter().map(|norm| Place::Variance(&norm.name, norm.range.clone()));
    weights.chain(means).chain(variances).collect()
}

impl Place<'_> {
    fn name(&self) -> String {
        match self {
            Self::Weight(parameter) => parameter.name.clone(),
            Self::Mean(norm, _) => format!("{norm}.running_mean"),
            Self::Variance(norm, _) => format!("{norm}.running_var"),
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Weight(parameter) => parameter.original_shape(),
            Self::Mean(_, range) | Self::Variance(_, range) => vec![range.len()],
        }
    }

    fn stored(&self, network: &TrainedNetwork) -> Stored {
        let values = match self {
            Self::Weight(parameter) => parameter.to_original(&network.weights[parameter.range.clone()]),
            Self::Mean(_, range) => network.statistics.mean[range.clone()].to_vec(),
            Self::Variance(_, range) => network.statistics.variance[range.clone()].to_vec(),
        };
        Stored { shape: self.shape(), values }
    }

    /// Puts `values`, in the file's order, to their place.
    fn load(&self, values: &[f32], network: &mut TrainedNetwork) -> Result<(), Problem> {
        let lowest = if matches!(self, Self::Variance(..)) { 0.0 } else { f32::MIN };
        let wrong = values.iter().position(|value| !(lowest..=f32::MAX).contains(value));
        if let Some(index) = wrong {
            return Err(Problem::Value { name: self.name(), index, value: values[index] });
        }
        match self {
            Self::Weight(parameter) => {
                parameter.from_original(values, &mut network.weights[parameter.range.clone()]);
            }
            Self::Mean(_, range) => network.statistics.mean[range.clone()].copy_from_slice(values),
            Self::Variance(_, range) => network.statistics.variance[range.clone()].copy_from_slice(values),
        }
        Ok(())
    }
}

/// A tensor on its way into a file.
struct Stored {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(&self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values.as_slice())
    }
}
