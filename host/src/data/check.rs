//! Whether the files of a folder are those of a published data set.

use std::path::Path;

use super::catalogue::{self, KNOWN_SETS, KnownSet};
use super::{DataError, digest};

/// What the files of a folder are.
#[derive(Debug)]
pub enum Identity {
    /// All files of this set, as published.
    Published(&'static KnownSet),
    /// Some files of this set as published; the named ones are missing or have something else in them.
    Altered(&'static KnownSet, Vec<&'static str>),
    /// No file of any set that the program knows.
    Unknown,
}

/// Tells what is in `folder` by the SHA-256 of its files, decompressed.
///
/// # Errors
/// If a file cannot be read or decompressed.
pub fn identify(folder: &Path) -> Result<Identity, DataError> {
    // MNIST and Fashion-MNIST have the same file names: each file is read once.
    let mut digests: Vec<(&str, Option<String>)> = Vec::new();
    for content in KNOWN_SETS.iter().flat_map(|set| set.contents) {
        if digests.iter().all(|(name, _)| *name != content.name) {
            digests.push((content.name, of_stored(folder, content.name)?));
        }
    }
    let as_published = |content: &catalogue::Content| {
        digests.iter().any(|(name, found)| *name == content.name && found.as_deref() == Some(content.sha256))
    };
    let matches = |set: &KnownSet| set.contents.iter().filter(|content| as_published(content)).count();
    let Some(set) = KNOWN_SETS.iter().filter(|set| matches(set) > 0).max_by_key(|set| matches(set)) else {
        return Ok(Identity::Unknown);
    };
    let altered = set.contents.iter().filter(|content| !as_published(content)).map(|content| content.name);
    let altered: Vec<&str> = altered.collect();
    Ok(if altered.is_empty() { Identity::Published(set) } else { Identity::Altered(set, altered) })
}

/// The digest of what is in the file `name`, if it is there.
fn of_stored(folder: &Path, name: &str) -> Result<Option<String>, DataError> {
    let Some(path) = catalogue::stored(folder, name) else {
        return Ok(None);
    };
    match digest::of_content(&path) {
        Ok(digest) => Ok(Some(digest)),
        Err(source) => {
            Err(DataError::Io { path, source, remedy: "the file is damaged or cannot be read: fetch it again" })
        }
    }
}
