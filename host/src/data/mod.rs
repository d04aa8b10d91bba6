//! Images and labels: loading, checking, splitting, augmenting and batching.
//!
//! ```
//! use darts_host::data::{self, Augment, Batch, BatchSettings, Batcher, Normalization, Order, Split};
//!
//! let source = data::load("embedded", &data::LoadOptions::default())?;
//! let halves = Split::for_search(&source.train, 1)?;
//! let settings = BatchSettings {
//!     batch_size: 64,
//!     order: Order::Shuffled,
//!     seed: 1,
//!     augment: Augment::STANDARD,
//!     normalization: Normalization::of(&source.train),
//! };
//! let mut batcher = Batcher::new(&source.train, halves.first, settings)?;
//! let mut batch = Batch::default();
//! batcher.fill(0, 3, &mut batch);
//! assert_eq!(batch.images.len(), 64 * 28 * 28);
//! # Ok::<(), data::DataError>(())
//! ```

mod augment;
mod batch;
mod cache;
pub mod catalogue;
pub mod check;
mod cifar;
mod dataset;
mod digest;
pub(crate) mod draw;
mod embedded;
mod ending;
mod error;
pub mod fetch;
mod folder;
mod idx;
mod normalization;
pub mod prefetch;
mod split;

use std::path::PathBuf;

pub use augment::Augment;
pub use batch::{Batch, BatchSettings, Batcher, Order};
pub use cache::default_folder;
pub(crate) use dataset::CRC;
pub use dataset::{DataSource, Dataset};
pub use error::DataError;
pub use normalization::Normalization;
pub use split::Split;

use crate::progress::Progress;

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where decoded image folders are kept; if not given, `darts` in `$XDG_CACHE_HOME` or in `~/.cache`.
    pub cache_folder: Option<PathBuf>,
    /// Where the progress of decoding is shown.
    pub progress: Progress,
}

impl Default for LoadOptions {
    /// The user's cache folder, and silence.
    fn default() -> Self {
        Self { cache_folder: None, progress: Progress::Silent }
    }
}

/// Loads a data set. `spec` is `embedded`, the [name](catalogue) of a set that is in the cache, or a folder whose form
/// is told from the files in it:
///
/// - IDX files, plain or gzipped (MNIST, Fashion-MNIST);
/// - CIFAR-10 or CIFAR-100 in their binary versions;
/// - JPEG or PNG images in a folder for each class, below `train` and `test` or without those, and then every sixth
///   image of a class, by name, is for testing. All have one size; they are RGB, or one channel if none has colour.
///   Their order is a fixed permutation of the files sorted by class and name.
///
/// # Errors
/// If there is no data set of these forms, or something in it is wrong.
pub fn load(spec: &str, options: &LoadOptions) -> Result<DataSource, DataError> {
    if spec == "embedded" {
        return embedded::load();
    }
    let folder = &catalogue::locate(spec, options.cache_folder.as_deref())?;
    if folder.is_dir() && idx::is_in(folder) {
        return idx::load(folder);
    }
    if let Some(loaded) = cifar::load(folder) {
        return loaded;
    }
    if folder::is_in(folder) {
        return folder::load(folder, options);
    }
    let (problem, remedy) = if folder.is_dir() {
        (
            "no data set of a known form is in there",
            "it needs IDX files, CIFAR binary files or images in a folder per class",
        )
    } else if folder.exists() {
        ("this is a file", "unpack it and give the folder")
    } else {
        ("there is no such folder", "give `embedded`, a name of `darts data list`, or a folder with a data set")
    };
    Err(DataError::Unusable { path: folder.to_owned(), problem: problem.to_owned(), remedy })
}
