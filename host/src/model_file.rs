//! Model files on the host: reading them, and running the core on a whole data set.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use darts_core::{Kernels, MAGIC, ModelError, Network, RunError};
use darts_kernels_simd::ImageShape;
use rayon::prelude::*;

use crate::data::Dataset;
use crate::interrupt::Interrupted;
use crate::run_directory;

/// A model file that cannot be used. The message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The operating system refused.
    #[error("cannot read the model {}: {source}; give a model file that `darts export` has written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is no model.
    #[error("{}: {error}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ModelError,
    },
    /// The images or classes are not those that the model was made for.
    #[error(
        "the model {} takes images of {} and tells {} classes; the data set has {} and {}: give the data set \
         that it was trained on",
        path.display(), size(expected.0), expected.1, size(found.0), found.1
    )]
    Data {
        /// The file.
        path: PathBuf,
        /// Image shape and number of classes of the model.
        expected: (ImageShape, usize),
        /// Those of the data set.
        found: (ImageShape, usize),
    },
    /// The core refused to run.
    #[error("the model {} does not run: {error}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// Why.
        error: RunError,
    },
    /// `after_image` asked for a stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// An image shape as users write it.
pub fn size(shape: ImageShape) -> String {
    format!("{}x{}x{}", shape.channels, shape.height, shape.width)
}

/// The bytes of a model file at an address that the core accepts.
#[derive(Clone, Debug)]
pub struct ModelFile {
    words: Vec<u32>,
    len: usize,
    path: PathBuf,
}

impl ModelFile {
    /// Reads the file `path`, or the model of the run directory `path`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let path = if path.is_dir() { &path.join(run_directory::MODEL) } else { path };
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::new(&bytes, path)),
            Err(source) => Err(ModelFileError::Io { path: path.to_owned(), source }),
        }
    }

    /// A copy of `bytes`, which `path` names in messages.
    pub fn new(bytes: &[u8], path: &Path) -> Self {
        let mut words = vec![0u32; bytes.len().div_ceil(4)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len(), path: path.to_owned() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The checked network.
    ///
    /// # Errors
    /// If the bytes are no model.
    pub fn network(&self) -> Result<Network<'_>, ModelFileError> {
        Network::parse(self.bytes()).map_err(|error| ModelFileError::Model { path: self.path.clone(), error })
    }

    /// Logits `[N, classes]` of all images of `data`, computed by the core, an image at a time on every thread of the
    /// current pool; `after_image` is called after each, and may end the work.
    ///
    /// # Errors
    /// If the bytes are no model, the images or classes are not the model's, or `after_image` asks for a stop.
    pub fn logits(
        &self,
        kernels: Kernels,
        data: &Dataset,
        after_image: impl Fn() -> Result<(), Interrupted> + Sync,
    ) -> Result<Vec<f32>, ModelFileError> {
        let network = self.network()?;
        let expected = (network.input_shape(), network.classes());
        let found = (data.shape(), data.classes());
        if expected != found {
            return Err(ModelFileError::Data { path: self.path.clone(), expected, found });
        }
        let mut logits = vec![0.0; data.len() * network.classes()];
        let buffers = || (vec![0.0; network.input_len()], vec![0.0; network.required_bytes() / size_of::<f32>()]);
        let failed = |error| ModelFileError::Run { path: self.path.clone(), error };
        logits.par_chunks_exact_mut(network.classes()).enumerate().try_for_each_init(
            buffers,
            |(input, workspace), (index, output)| {
                network.normalize(data.image(index), input).map_err(failed)?;
                network.run(kernels, input, workspace, output).map_err(failed)?;
                Ok::<_, ModelFileError>(after_image()?)
            },
        )?;
        Ok(logits)
    }
}

/// Whether the file `path` begins as a model file does.
pub fn is_model(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC
}

/// Class with the largest logit, the first of equal ones, for each row of `logits` `[N, classes]`.
pub fn predictions(logits: &[f32], classes: usize) -> Vec<usize> {
    let largest = |row: &[f32]| (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    logits.chunks_exact(classes).map(largest).collect()
}

/// Share of images whose largest logit is their class's.
pub fn accuracy(logits: &[f32], data: &Dataset) -> f64 {
    correct(logits, data) as f64 / data.len().max(1) as f64
}

/// Number of images whose largest logit is their class's.
pub fn correct(logits: &[f32], data: &Dataset) -> usize {
    let predictions = predictions(logits, data.classes());
    predictions.iter().zip(data.labels()).filter(|&(&class, &label)| class == usize::from(label)).count()
}
