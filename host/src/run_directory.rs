//! The folder of a run: what was asked for, what was measured, what came out.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::atomic::{self, WriteError};

/// The resolved configuration.
pub const CONFIG: &str = "config.json";
/// One JSON object a line: what was measured each epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The genotype, in the original's form.
pub const GENOTYPE: &str = "genotype.txt";
/// α as of the last step of a search.
pub const ALPHA: &str = "alpha.json";
/// The weights of a derived network.
pub const WEIGHTS: &str = "weights.safetensors";
/// The model file.
pub const MODEL: &str = "model.darts";

/// A folder that cannot be used for a run.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// The operating system refused.
    #[error("cannot use the folder {} for the run: {source}; choose another one with --out", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is something in it.
    #[error("the folder {} is not empty, and a run overwrites nothing; choose another one with --out", .0.display())]
    NotEmpty(PathBuf),
}

/// A new folder for one run. If the run ends before it has written anything, all folders that were made for it are removed
/// again.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// The folders that were made, innermost first.
    made: Vec<PathBuf>,
}

impl RunDirectory {
    /// Makes the folder `path`, or the first of `runs/<command>-1`, `-2`, … that is not there.
    ///
    /// # Errors
    /// If the folder cannot be made or has something in it.
    pub fn create(path: Option<&Path>, command: &str) -> Result<Self, RunDirectoryError> {
        match path {
            Some(path) => Self::at(path),
            None => Self::numbered(Path::new("runs"), command),
        }
    }

    fn at(path: &Path) -> Result<Self, RunDirectoryError> {
        let io_error = |source| RunDirectoryError::Io { path: path.to_owned(), source };
        let run = Self { path: path.to_owned(), made: missing(path) };
        fs::create_dir_all(path).map_err(io_error)?;
        if fs::read_dir(path).map_err(io_error)?.next().is_some() {
            return Err(RunDirectoryError::NotEmpty(path.to_owned()));
        }
        run.probe()?;
        Ok(run)
    }

    fn numbered(parent: &Path, command: &str) -> Result<Self, RunDirectoryError> {
        let mut made = missing(parent);
        fs::create_dir_all(parent).map_err(|source| RunDirectoryError::Io { path: parent.to_owned(), source })?;
        let mut number = 1;
        loop {
            let path = parent.join(format!("{command}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    made.insert(0, path.clone());
                    return Ok(Self { path, made });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(RunDirectoryError::Io { path, source }),
            }
        }
    }

    /// Finds out now, not after hours of work, whether files can be made.
    fn probe(&self) -> Result<(), RunDirectoryError> {
        let probe = tempfile::tempfile_in(&self.path);
        probe.map(drop).map_err(|source| RunDirectoryError::Io { path: self.path.clone(), source })
    }

    /// All files in the folder and those below it, sorted.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.path.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() { &mut folders } else { &mut files }.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Removes everything in the folder: for a run that failed before there was anything worth keeping. What cannot be
    /// removed stays; the failure is what the user has to hear of.
    pub fn discard(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name` in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `text` and a line end to the file `name`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), WriteError> {
        atomic::write(&self.file(name), format!("{text}\n").as_bytes())
    }

    /// Writes `value` as JSON to the file `name`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), WriteError> {
        atomic::write_with(&self.file(name), |file| {
            serde_json::to_writer_pretty(&mut *file, value)?;
            writeln!(file)
        })
    }

    /// Starts the log of measurements.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn metrics(&self) -> Result<Metrics, WriteError> {
        let path = self.file(METRICS);
        match File::options().append(true).create(true).open(&path) {
            Ok(file) => Ok(Metrics { file, path }),
            Err(source) => Err(WriteError { path, source }),
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        for folder in &self.made {
            // Removes only an empty folder, which is the aim.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The folders of `path` that are not there, innermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let folders = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    folders.map(Path::to_owned).collect()
}

/// A file of one JSON object a line, each written as soon as it is known.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Appends one line.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&mut self, value: &impl Serialize) -> Result<(), WriteError> {
        let line = serde_json::to_string(value).map_err(io::Error::from);
        let written = line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| WriteError { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_numbered_and_go_when_nothing_was_written() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let first = RunDirectory::numbered(parent.path(), "search").expect("writable");
        first.write_text(GENOTYPE, "cells").expect("writable");
        let second = RunDirectory::numbered(parent.path(), "search").expect("writable");
        assert_eq!(first.path(), parent.path().join("search-1"));
        let path = second.path().to_owned();
        assert_eq!(path, parent.path().join("search-2"));
        drop((first, second));
        assert!(!path.exists());
        let third = RunDirectory::numbered(parent.path(), "search").expect("writable");
        third.write_text(CONFIG, "{}").expect("writable");
        third.discard();
        drop(third);
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(parent.path().join("search-1").join(GENOTYPE)).expect("it stays"), "cells\n");
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("a/b");
        let run = RunDirectory::create(Some(&path), "train").expect("writable");
        run.write_json(CONFIG, &[1, 2]).expect("writable");
        assert_eq!(run.files().expect("readable"), [run.file(CONFIG)]);
        assert!(matches!(RunDirectory::create(Some(&path), "train"), Err(RunDirectoryError::NotEmpty(_))));
        assert!(matches!(RunDirectory::create(Some(&run.file(CONFIG)), "train"), Err(RunDirectoryError::Io { .. })));
    }

    #[test]
    fn metrics_are_lines_of_json() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let run = RunDirectory::create(Some(parent.path()), "train").expect("writable");
        let mut metrics = run.metrics().expect("writable");
        metrics.push(&serde_json::json!({"epoch": 1})).expect("writable");
        metrics.push(&serde_json::json!({"epoch": 2})).expect("writable");
        let text = fs::read_to_string(run.file(METRICS)).expect("readable");
        assert_eq!(text, "{\"epoch\":1}\n{\"epoch\":2}\n");
    }
}
