//! Images and labels: loading, checking, splitting, augmenting and batching.
//!
//! ```
//! use darts_host::data::{self, Augment, Batch, BatchSettings, Batcher, Normalization, Order, Split};
//!
//! let source = data::load("embedded", &data::LoadOptions::default())?;
//! let halves = Split::halves(source.train.len(), None)?;
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
mod dataset;
mod draw;
mod embedded;
mod error;
mod idx;
mod normalization;
mod split;

use std::path::Path;

pub use augment::Augment;
pub use batch::{Batch, BatchSettings, Batcher, Order};
pub use dataset::{DataSource, Dataset};
pub use error::DataError;
pub use normalization::Normalization;
pub use split::Split;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {}

/// Loads a data set. `spec` is `embedded`, or a folder whose form is told from its content: IDX files.
///
/// # Errors
/// If there is nothing of a known form, or something in it is wrong.
pub fn load(spec: &str, _options: &LoadOptions) -> Result<DataSource, DataError> {
    if spec == "embedded" {
        return embedded::load();
    }
    let folder = Path::new(spec);
    let unusable = |problem: &str, remedy| {
        Err(DataError::Unusable { path: folder.to_owned(), problem: problem.to_owned(), remedy })
    };
    if !folder.exists() {
        return unusable("there is no such folder", "give `embedded` or a folder with a data set");
    }
    if idx::is_in(folder) {
        return idx::load(folder);
    }
    unusable("no data set of a known form is in there", "give a folder with IDX files")
}
