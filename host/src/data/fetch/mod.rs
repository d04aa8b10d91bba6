//! Fetching a known data set into the cache: every file is whole and has the published SHA-256, or is not there.

mod connection;
mod download;
mod part;
mod unpack;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalogue::{KnownSet, Packing};
use super::digest;
use crate::atomic::WriteError;
use crate::interrupt::Interrupted;
use crate::progress::Progress;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Folders on the web to fetch from, instead of those of the set if there is one.
    pub mirrors: Vec<String>,
    /// A server that says nothing for so long is given up.
    pub silence: Duration,
    /// How long to wait before the same server is asked again.
    pub pause: Duration,
    /// Where the progress is shown.
    pub progress: Progress,
}

impl Default for FetchOptions {
    /// The mirrors of the set, 30 seconds of silence, one second between attempts, and nothing shown.
    fn default() -> Self {
        let (silence, pause) = (Duration::from_secs(30), Duration::from_secs(1));
        Self { mirrors: Vec::new(), silence, pause, progress: Progress::Silent }
    }
}

/// A data set that could not be fetched. What came of its files is kept, for the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No mirror gave the file.
    #[error("cannot fetch {file}: {}; {remedy}", Reasons(reasons))]
    NoMirror {
        /// The file.
        file: &'static str,
        /// Each address and what was wrong there.
        reasons: Vec<(String, String)>,
        /// What to do.
        remedy: String,
    },
    /// Another process is at it.
    #[error("{} is being fetched by another process; wait for its end", path.display())]
    InUse {
        /// The unfinished file.
        path: PathBuf,
    },
    /// An archive cannot be read, or does not have the files that it should have.
    #[error("{}: {problem}; remove the file and fetch it again", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file or folder of the cache could not be read or written.
    #[error(transparent)]
    File(#[from] WriteError),
    /// Ctrl-C.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Addresses and reasons in one line.
struct Reasons<'a>(&'a [(String, String)]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (url, reason)) in self.0.iter().enumerate() {
            write!(f, "{}{url}: {reason}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What [`get`] found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Nothing: all files were there, as published.
    Already,
    /// All files are there now.
    Now,
}

/// Fetches `set` into `folder`, which is made if need be. Files that are there already and as published are not fetched
/// again, and what an earlier attempt left is gone on with.
///
/// # Errors
/// If a file is to be had nowhere or cannot be written, if another process is at it, or at Ctrl-C.
pub fn get(set: &KnownSet, folder: &Path, options: &FetchOptions) -> Result<Fetched, FetchError> {
    if set.is_in(folder) && is_as_published(set, folder) {
        return Ok(Fetched::Already);
    }
    fs::create_dir_all(folder).map_err(|source| WriteError { path: folder.to_owned(), source })?;
    let fetched = fetch(set, folder, options);
    if fetched.is_err() {
        // A folder that stayed empty need not stay; one that has something in it cannot be removed like this.
        let _ = fs::remove_dir(folder);
    }
    fetched.map(|()| Fetched::Now)
}

fn fetch(set: &KnownSet, folder: &Path, options: &FetchOptions) -> Result<(), FetchError> {
    for file in set.remote {
        let path = download::file(set, file, folder, options)?;
        if let Packing::Archive(beside) = set.packing {
            unpack::archive(&path, set.contents, beside, folder)?;
            fs::remove_file(&path).map_err(|source| WriteError { path, source })?;
        }
    }
    Ok(())
}

fn is_as_published(set: &KnownSet, folder: &Path) -> bool {
    set.contents.iter().all(|content| {
        let stored = super::catalogue::stored(folder, content.name);
        stored.is_some_and(|path| digest::of_content(&path).is_ok_and(|found| found == content.sha256))
    })
}
