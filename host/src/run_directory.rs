//! The folder of a run: what was asked for, what was measured, what came out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::{self, WriteError};
use crate::checkpoint::RestoreError;

/// The resolved configuration.
pub const CONFIG: &str = "config.toml";
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// One JSON object a line: what was measured each epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The genotype, in the original's form.
pub const GENOTYPE: &str = "genotype.txt";
/// The folder of the genotypes of all epochs of a search.
pub const GENOTYPES: &str = "genotypes";
/// The report.
pub const REPORT: &str = "report.html";
/// The measurements for TensorBoard, which knows its files by a part of the name.
pub const EVENTS: &str = "events.out.tfevents.darts";
/// α as of the last step of a search.
pub const ALPHA: &str = "alpha.json";
/// The weights of a derived network.
pub const WEIGHTS: &str = "weights.safetensors";
/// The results of a comparison, written last.
pub const SUMMARY: &str = "summary.json";
/// Drawings of the cells of a pipeline, written last.
pub const DRAWINGS: [&str; 2] = ["normal.svg", "reduce.svg"];
/// The model file.
pub const MODEL: &str = "model.darts";
/// Locked by the process whose run it is, as long as that lives; holds its number.
pub(crate) const LOCK: &str = ".lock";

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
    /// There is no run that could be gone on with.
    #[error("cannot go on with a run in {}: {source}; give the folder of a run, and see that it can be written", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is something in it.
    #[error("the folder {} is not empty, and a run overwrites nothing; choose another one with --out", .0.display())]
    NotEmpty(PathBuf),
    /// Another process has its run in it.
    #[error(
        "the folder {} is in use by the run of process {process}; wait for its end, or choose another folder with --out",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other process.
        process: String,
    },
}

/// The folder of one run, which no other process can use as long as this one does. If a new run ends before it has
/// written anything, all folders that were made for it are removed again.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// The folders that were made, innermost first.
    made: Vec<PathBuf>,
    /// Locked until it is dropped, or the process ends in any way.
    _lock: File,
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

    /// The folder of a run that is there, to go on with it. What a process that was killed left half written is
    /// removed.
    ///
    /// # Errors
    /// If it cannot be used or another process does.
    pub fn open(path: &Path) -> Result<Self, RunDirectoryError> {
        let io_error = |source| RunDirectoryError::Unusable { path: path.to_owned(), source };
        fs::metadata(path.join(CONFIG)).map_err(io_error)?;
        let run = Self { path: path.to_owned(), made: Vec::new(), _lock: lock(path)? };
        for folder in [path.to_owned(), run.file(CHECKPOINTS), run.file(GENOTYPES)] {
            atomic::remove_left_over(&folder).map_err(io_error)?;
        }
        Ok(run)
    }

    fn at(path: &Path) -> Result<Self, RunDirectoryError> {
        let io_error = |source| RunDirectoryError::Io { path: path.to_owned(), source };
        let made = missing(path);
        fs::create_dir_all(path).map_err(io_error)?;
        let not_empty = || Err(RunDirectoryError::NotEmpty(path.to_owned()));
        if !is_empty(path).map_err(io_error)? && !path.join(LOCK).exists() {
            return not_empty();
        }
        let lock = lock(path)?;
        atomic::remove_left_over(path).map_err(io_error)?;
        if !is_empty(path).map_err(io_error)? {
            return not_empty();
        }
        Ok(Self { path: path.to_owned(), made, _lock: lock })
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
                    return Ok(Self { _lock: lock(&path)?, path, made });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(RunDirectoryError::Io { path, source }),
            }
        }
    }

    /// All files in the folder and those below it, sorted; without locks.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.path.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if !path.ends_with(LOCK) {
                    if path.is_dir() { &mut folders } else { &mut files }.push(path);
                }
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

    /// Writes the genotype of an epoch (from 0) beside those of the others, under the number of epochs that are
    /// complete with it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_genotype(&self, epoch: usize, genotype: &str) -> Result<(), WriteError> {
        let folder = self.file(GENOTYPES);
        fs::create_dir_all(&folder).map_err(|source| WriteError { path: folder.clone(), source })?;
        atomic::write(&folder.join(format!("epoch-{:04}.txt", epoch + 1)), format!("{genotype}\n").as_bytes())
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

    /// The log of measurements, without what is behind its first `length` bytes.
    ///
    /// # Errors
    /// If the file cannot be made or cut.
    pub fn metrics(&self, length: u64) -> Result<Metrics, WriteError> {
        let path = self.file(METRICS);
        let open = || {
            let file = File::options().append(true).create(true).open(&path)?;
            if file.metadata()?.len() > length {
                file.set_len(length)?;
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Metrics { file, path }),
            Err(source) => Err(WriteError { path, source }),
        }
    }

    /// The records in the first `length` bytes of the log of measurements.
    ///
    /// # Errors
    /// If there are not so many bytes, or something in them is no record.
    pub fn records<T: DeserializeOwned>(&self, length: u64) -> Result<Vec<T>, RestoreError> {
        let path = self.file(METRICS);
        let wrong = |problem: String| RestoreError::Log { problem: format!("{}: {problem}", path.display()) };
        let mut bytes = Vec::new();
        if length > 0 {
            let read = File::open(&path).and_then(|file| file.take(length).read_to_end(&mut bytes));
            read.map_err(|error| wrong(error.to_string()))?;
        }
        if bytes.len() as u64 != length {
            return Err(wrong(format!("{} bytes of the {length} that the checkpoint knows of", bytes.len())));
        }
        let lines = bytes.split_inclusive(|&byte| byte == b'\n').zip(1..);
        lines
            .map(|(line, number)| {
                serde_json::from_slice(line).map_err(|error| wrong(format!("line {number} is no record: {error}")))
            })
            .collect()
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if is_empty(&self.path).is_ok_and(|empty| empty) {
            let _ = fs::remove_file(self.file(LOCK));
        }
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

/// How long a lock is waited for: who only looks whether it is taken (`darts runs`) holds it for a moment.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lock of the folder `path`. The system gives it back when the process ends, however it does.
fn lock(path: &Path) -> Result<File, RunDirectoryError> {
    let io_error = |source| RunDirectoryError::Io { path: path.to_owned(), source };
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).open(path.join(LOCK)).map_err(io_error)?;
    let start = Instant::now();
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PATIENCE / 100),
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(path.join(LOCK)).unwrap_or_default().trim().to_owned();
            return Err(RunDirectoryError::InUse { path: path.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(source)),
    }
    // Finds out now, not after hours of work, whether files can be written.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io_error)?;
    Ok(file)
}

/// Whether there is nothing in a folder but a lock, as a run leaves it that was killed before it wrote anything.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != LOCK {
            return Ok(false);
        }
    }
    Ok(true)
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

    /// Sees to it that all lines are on the disk, and returns their length in bytes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn sync(&mut self) -> Result<u64, WriteError> {
        let synced = self.file.sync_data().and_then(|()| Ok(self.file.metadata()?.len()));
        synced.map_err(|source| WriteError { path: self.path.clone(), source })
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
        third.write_text(CONFIG, "").expect("writable");
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
        run.write_json(ALPHA, &[1, 2]).expect("writable");
        assert_eq!(run.files().expect("readable"), [run.file(ALPHA)]);
        assert!(matches!(RunDirectory::create(Some(&path), "train"), Err(RunDirectoryError::InUse { .. })));
        drop(run);
        assert!(matches!(RunDirectory::create(Some(&path), "train"), Err(RunDirectoryError::NotEmpty(_))));
        assert!(matches!(RunDirectory::create(Some(&path.join(ALPHA)), "train"), Err(RunDirectoryError::Io { .. })));
    }

    #[test]
    fn who_only_looks_at_a_lock_keeps_nobody_out() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let looking = File::create(parent.path().join(LOCK)).expect("writable");
        looking.lock_shared().expect("nobody has it");
        let other = thread::spawn(move || {
            thread::sleep(PATIENCE / 20);
            drop(looking);
        });
        RunDirectory::create(Some(parent.path()), "train").expect("the lock is waited for");
        other.join().expect("no panic");
    }

    #[test]
    fn metrics_are_lines_of_json() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let run = RunDirectory::create(Some(parent.path()), "train").expect("writable");
        let mut metrics = run.metrics(0).expect("writable");
        metrics.push(&serde_json::json!({"epoch": 1})).expect("writable");
        metrics.push(&serde_json::json!({"epoch": 2})).expect("writable");
        let text = fs::read_to_string(run.file(METRICS)).expect("readable");
        assert_eq!(text, "{\"epoch\":1}\n{\"epoch\":2}\n");
    }

    #[test]
    fn a_run_that_was_killed_can_be_gone_on_with_by_one_process() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("run");
        assert!(matches!(RunDirectory::open(&path), Err(RunDirectoryError::Unusable { .. })));
        let run = RunDirectory::create(Some(&path), "search").expect("writable");
        run.write_text(CONFIG, "").expect("writable");
        let error = RunDirectory::open(&path).expect_err("it is in use").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(run);
        fs::create_dir(path.join(CHECKPOINTS)).expect("writable");
        let left_over = [path.join(".darts-a.tmp"), path.join(CHECKPOINTS).join(".darts-b.tmp")];
        left_over.iter().for_each(|file| fs::write(file, "half").expect("writable"));
        let run = RunDirectory::open(&path).expect("nobody has it");
        assert_eq!(run.files().expect("readable"), [path.join(CONFIG)]);

        // One that was killed before it wrote anything.
        let path = parent.path().join("early");
        fs::create_dir(&path).expect("writable");
        for name in [LOCK, ".darts-a.tmp"] {
            fs::write(path.join(name), "1").expect("writable");
        }
        let run = RunDirectory::create(Some(&path), "search").expect("there is nothing in it");
        assert_eq!(run.files().expect("readable"), Vec::<PathBuf>::new());
        drop(run);
        assert_eq!(fs::read_dir(&path).expect("it was there before").count(), 0);
    }

    #[test]
    fn a_log_is_cut_and_read_up_to_where_a_checkpoint_knows_of_it() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let run = RunDirectory::create(Some(parent.path()), "train").expect("writable");
        assert!(run.records::<u32>(0).expect("nothing is asked for").is_empty());
        let mut metrics = run.metrics(0).expect("writable");
        metrics.push(&1).expect("writable");
        let length = metrics.sync().expect("writable");
        metrics.push(&2).expect("writable");
        assert_eq!(run.records::<u32>(length).expect("records"), [1]);
        let mut metrics = run.metrics(length).expect("writable");
        metrics.push(&3).expect("writable");
        assert_eq!(fs::read_to_string(run.file(METRICS)).expect("readable"), "1\n3\n");
        for (length, part) in [(5, "4 bytes of the 5"), (3, "line 2")] {
            fs::write(run.file(METRICS), "1\n-\n").expect("writable");
            let error = run.records::<u32>(length).expect_err("it is not what it was").to_string();
            assert!(error.contains(METRICS) && error.contains(part), "{error}");
        }
    }
}
