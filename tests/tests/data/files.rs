//! Small data sets on disk.

use std::fs;
use std::io::Write;
use std::path::Path;

use darts_host::data::{self, DataSource, LoadOptions};
use flate2::{Compression, write::GzEncoder};

pub const IDX_NAMES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

pub fn load(folder: &Path) -> DataSource {
    data::load(folder.to_str().expect("UTF-8"), &LoadOptions::default()).expect("a good data set")
}

/// The message of the error that loading `folder` ends with.
pub fn error(folder: &Path) -> String {
    let message = data::load(folder.to_str().expect("UTF-8"), &LoadOptions::default()).expect_err("a bad data set");
    let message = message.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Fails unless loading `folder` is refused with a message that has all of `parts`.
#[track_caller]
pub fn refused(folder: &Path, parts: &[&str]) {
    let message = error(folder);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

pub fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let header = [0x0800 + sizes.len() as u32].into_iter().chain(sizes.iter().copied());
    header.flat_map(u32::to_be_bytes).chain(values.iter().copied()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Three training images and two test images of 2×3.
pub fn write_idx_set(folder: &Path) {
    let pixels: Vec<u8> = (0..30).collect();
    let contents =
        [idx(&[3, 2, 3], &pixels[..18]), idx(&[3], &[7, 0, 9]), idx(&[2, 2, 3], &pixels[18..]), idx(&[2], &[1, 2])];
    for (name, content) in IDX_NAMES.iter().zip(contents) {
        fs::write(folder.join(name), content).expect("writable");
    }
}
