//! What can be wrong with a data set.

use std::io;
use std::path::PathBuf;

/// A data set that cannot be used. The message is one line: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}; {remedy}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The reason given.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A binary file breaks its format.
    #[error("{}: byte {offset}: {problem}; {remedy}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where the fault begins, in bytes from the start; of a gzipped file, in the decompressed data.
        offset: u64,
        /// What is wrong there.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A folder or an image file that does not fit.
    #[error("{}: {problem}; {remedy}", path.display())]
    Unusable {
        /// The folder or image file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No full batch can be drawn.
    #[error(
        "a batch of {batch} cannot be drawn from {images} images; choose a batch size from 1 to {images}, or more images"
    )]
    BatchSize {
        /// Images in a batch.
        batch: usize,
        /// Images to draw from.
        images: usize,
    },
    /// A split that would leave one side without an image.
    #[error(
        "{held_out} of {images} training images cannot be set apart, as both parts need at least one: set fewer apart, or use \
         more images"
    )]
    Split {
        /// Images to be held out.
        held_out: usize,
        /// Images there are.
        images: usize,
    },
    /// A mean and standard deviation that do not fit the images.
    #[error(
        "normalisation: {problem}; give one finite mean and one positive standard deviation for each of {channels} channels"
    )]
    Normalization {
        /// What is wrong.
        problem: String,
        /// Channels of the images.
        channels: usize,
    },
}
