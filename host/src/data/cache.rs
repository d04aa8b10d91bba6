//! Decoded image folders, kept in one file each, so that they are decoded once.
//!
//! Little-endian: magic, key, length of the header, header (JSON), labels (`u16`), pixels, CRC-64 of all before. A file
//! that is not exactly this, or of another key, is as good as none: the folder is decoded again.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darts_kernels_simd::ImageShape;
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::dataset::CRC;
use crate::atomic::{self, WriteError};

const MAGIC: &[u8; 8] = b"DARTSIMG";

#[derive(Serialize, Deserialize)]
struct Header {
    height: usize,
    width: usize,
    channels: usize,
    train: usize,
    test: usize,
    class_names: Vec<String>,
}

/// Where caches are kept unless told otherwise: `$XDG_CACHE_HOME/darts`, or `~/.cache/darts`; `None` if neither is set.
pub fn default_folder() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("darts"))
}

/// The cache file of an image folder: one for each path, replaced when its content changes.
pub(super) fn file(cache_folder: &Path, image_folder: &Path) -> PathBuf {
    let image_folder = fs::canonicalize(image_folder).unwrap_or_else(|_| image_folder.to_owned());
    let name = CRC.checksum(image_folder.as_os_str().as_encoded_bytes());
    cache_folder.join(format!("images-{name:016x}.bin"))
}

/// Training and test set of a cache file, if it is whole and of this `key`.
pub(super) fn read(path: &Path, key: u64) -> Option<[Dataset; 2]> {
    let bytes = fs::read(path).ok()?;
    let (bytes, checksum) = bytes.split_last_chunk()?;
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&key.to_le_bytes())?;
    if CRC.checksum(bytes) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let (length, rest) = rest.split_first_chunk()?;
    let (header, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let header: Header = serde_json::from_slice(header).ok()?;
    let shape = ImageShape::new(header.height, header.width, header.channels);
    let image = shape.height.checked_mul(shape.width)?.checked_mul(shape.channels)?;
    let images = header.train.checked_add(header.test)?;
    let (labels, pixels) = rest.split_at_checked(images.checked_mul(2)?)?;
    let labels: Vec<_> = labels.chunks_exact(2).map(|label| u16::from_le_bytes([label[0], label[1]])).collect();
    let classes = header.class_names.len();
    if image.checked_mul(images)? != pixels.len() || labels.iter().any(|&label| usize::from(label) >= classes) {
        return None;
    }
    let (train_labels, test_labels) = labels.split_at(header.train);
    let (train_pixels, test_pixels) = pixels.split_at(header.train * image);
    let set = |pixels: &[u8], labels: &[u16]| {
        Dataset::new(shape, pixels.to_vec(), labels.to_vec(), header.class_names.clone())
    };
    Some([set(train_pixels, train_labels), set(test_pixels, test_labels)])
}

/// Writes a cache file, and its folder if need be.
pub(super) fn write(path: &Path, key: u64, [train, test]: [&Dataset; 2]) -> Result<(), WriteError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| WriteError { path: folder.to_owned(), source })?;
    }
    atomic::write_with(path, |file| {
        let ImageShape { height, width, channels } = train.shape();
        let class_names = train.class_names().to_vec();
        let header = Header { height, width, channels, train: train.len(), test: test.len(), class_names };
        let header = serde_json::to_vec(&header)?;
        let mut file = Checked { file, digest: CRC.digest() };
        file.write_all(MAGIC)?;
        file.write_all(&key.to_le_bytes())?;
        file.write_all(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
        file.write_all(&header)?;
        for label in train.labels().iter().chain(test.labels()) {
            file.write_all(&label.to_le_bytes())?;
        }
        file.write_all(train.images())?;
        file.write_all(test.images())?;
        let Checked { file, digest } = file;
        file.write_all(&digest.finalize().to_le_bytes())
    })
}

/// Adds what is written to a checksum.
struct Checked<'a> {
    file: &'a mut dyn Write,
    digest: crc::Digest<'static, u64, crc::Table<16>>,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
