//! The checkpoints of a run: when they are written, which are kept, and which one a run goes on from.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde_json::Value;

use super::format::{Checkpoint, Damage, Header};
use crate::atomic::{self, WriteError};
use crate::state::{Position, State};

/// The checkpoint of the epoch with the best validation accuracy.
const BEST: &str = "best.safetensors";

/// When checkpoints are written within an epoch, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Time between two; there is one behind every epoch in any case.
    pub every: Duration,
    /// How many are kept beside the best one, at least one.
    pub keep: usize,
}

impl Default for Policy {
    /// Every five minutes; the last two are kept.
    fn default() -> Self {
        Self { every: Duration::from_secs(5 * 60), keep: 2 }
    }
}

/// Writes the checkpoints of one run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    policy: Policy,
    config: Value,
    best_accuracy: Option<f64>,
    /// Name and time of the last one that was written.
    last: Option<PathBuf>,
    written: Instant,
}

impl Checkpoints {
    /// Checkpoints in `folder` of a run with configuration `config`, which goes on from the file and header `from`, if
    /// any.
    pub fn new(folder: PathBuf, policy: Policy, config: Value, from: Option<(&Path, &Header)>) -> Self {
        let best_accuracy = from.and_then(|(_, header)| header.best_accuracy);
        let last = from.map(|(path, _)| path.to_owned());
        Self { folder, policy, config, best_accuracy, last, written: Instant::now() }
    }

    /// Whether it is time for one.
    pub fn due(&self) -> bool {
        self.written.elapsed() >= self.policy.every
    }

    /// The last one that was written.
    pub fn last(&self) -> Option<&Path> {
        self.last.as_deref()
    }

    /// Writes one, and removes those that are not to be kept. `log_bytes` is the length of the log of measurements;
    /// `accuracy` the validation accuracy of the epoch, right behind one that has it.
    ///
    /// # Errors
    /// If it cannot be written; then those before are still there.
    pub fn save<Epoch>(
        &mut self,
        state: &State<Epoch>,
        log_bytes: u64,
        accuracy: Option<f64>,
    ) -> Result<(), WriteError> {
        let is_best = accuracy.is_some_and(|accuracy| self.best_accuracy.is_none_or(|best| accuracy > best));
        if is_best {
            self.best_accuracy = accuracy;
        }
        let position = *state.position;
        let header = Header { position, log_bytes, best_accuracy: self.best_accuracy, config: self.config.clone() };
        let path = self.folder.join(file_name(&position));
        let failed = |source| WriteError { path: path.clone(), source };
        let bytes = Checkpoint::encode(&header, &state.values).map_err(failed)?;
        fs::create_dir_all(&self.folder).map_err(failed)?;
        if is_best {
            atomic::write(&self.folder.join(BEST), &bytes)?;
        }
        atomic::write(&path, &bytes)?;
        self.prune(&position).map_err(failed)?;
        (self.last, self.written) = (Some(path), Instant::now());
        Ok(())
    }

    /// Removes all but the last few up to `position`. Those behind it are of a run that went on from one that turned
    /// out to be damaged.
    fn prune(&self, position: &Position) -> io::Result<()> {
        let found = list(&self.folder)?;
        let current = (position.epoch, position.step);
        let (behind, up_to): (Vec<_>, Vec<_>) = found.into_iter().partition(|&(at, _)| at > current);
        let old = up_to.len().saturating_sub(self.policy.keep.max(1));
        behind.iter().chain(&up_to[..old]).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// No checkpoint can be used.
#[derive(Debug, thiserror::Error)]
#[error("no checkpoint in {} is whole (the last one, {}: {damage}): start a new run", folder.display(), name.display())]
pub struct NoneWhole {
    folder: PathBuf,
    name: PathBuf,
    damage: Damage,
}

/// The last checkpoint in `folder` that is whole and its path, or `None` if there is none at all; `damaged` is told of
/// those that were left out. Where none of the last ones is whole, the best one is taken.
///
/// # Errors
/// If there are some and none is whole.
pub fn latest(
    folder: &Path,
    mut damaged: impl FnMut(&Path, &Damage),
) -> Result<Option<(PathBuf, Checkpoint)>, NoneWhole> {
    let found = list(folder).unwrap_or_default();
    let best = [folder.join(BEST)].into_iter().filter(|path| path.exists());
    let mut first = None;
    for path in found.into_iter().rev().map(|(_, path)| path).chain(best) {
        match fs::read(&path).map_err(Damage::from).and_then(|bytes| Checkpoint::decode(&bytes)) {
            Ok(checkpoint) => return Ok(Some((path, checkpoint))),
            Err(damage) => {
                damaged(&path, &damage);
                first.get_or_insert((path, damage));
            }
        }
    }
    match first {
        Some((name, damage)) => {
            let name = name.file_name().map(PathBuf::from).unwrap_or_default();
            Err(NoneWhole { folder: folder.to_owned(), name, damage })
        }
        None => Ok(None),
    }
}

fn file_name(position: &Position) -> String {
    format!("epoch-{:04}-step-{:06}.safetensors", position.epoch, position.step)
}

/// Epoch and step of the file name of a checkpoint.
fn place(name: &str) -> Option<(usize, usize)> {
    let (epoch, step) = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?.split_once("-step-")?;
    Some((epoch.parse().ok()?, step.parse().ok()?))
}

/// All checkpoints in `folder` but the best one, earliest first.
fn list(folder: &Path) -> io::Result<Vec<((usize, usize), PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(place) = entry.file_name().to_str().and_then(place) {
            found.push((place, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Values;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder is there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Writes one at `epoch` and `step`, with a weight of that many steps of a thousand an epoch.
    fn save(checkpoints: &mut Checkpoints, epoch: usize, step: usize, accuracy: Option<f64>) {
        let mut position = Position { epoch, step, ..Position::default() };
        let mut weights = [(1000 * epoch + step) as f32];
        let values = vec![Values::f32("weights", &mut weights)];
        let state = State::<()> { position: &mut position, epochs: &mut Vec::new(), values };
        checkpoints.save(&state, 0, accuracy).expect("writable");
    }

    fn new(folder: &Path, keep: usize) -> Checkpoints {
        Checkpoints::new(folder.to_owned(), Policy { keep, ..Policy::default() }, Value::Null, None)
    }

    /// What [`latest`] takes: epoch and step, and how many it left out.
    fn taken(folder: &Path) -> (Option<(usize, usize)>, usize) {
        let mut damaged = 0;
        let found = latest(folder, |_, _| damaged += 1).expect("one is whole or there is none");
        (found.map(|(_, found)| (found.header.position.epoch, found.header.position.step)), damaged)
    }

    #[test]
    fn the_last_few_and_the_best_are_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("checkpoints");
        assert_eq!(taken(&path), (None, 0));
        let mut checkpoints = new(&path, 2);
        save(&mut checkpoints, 0, 9, None);
        save(&mut checkpoints, 1, 0, Some(0.7));
        save(&mut checkpoints, 1, 30, None);
        save(&mut checkpoints, 2, 0, Some(0.7));
        assert_eq!(
            names(&path),
            ["best.safetensors", "epoch-0001-step-000030.safetensors", "epoch-0002-step-000000.safetensors"]
        );
        assert_eq!(taken(&path), (Some((2, 0)), 0));
        assert_eq!(checkpoints.last(), Some(&*path.join("epoch-0002-step-000000.safetensors")));
        let best = Checkpoint::decode(&fs::read(path.join(BEST)).expect("readable")).expect("whole");
        assert_eq!((best.header.position.epoch, best.header.best_accuracy), (1, Some(0.7)));
        // Another process knows which was the best.
        let (file, last) = latest(&path, |_, _| ()).expect("whole").expect("there");
        let mut checkpoints =
            Checkpoints::new(path.clone(), Policy::default(), Value::Null, Some((&file, &last.header)));
        assert_eq!(checkpoints.last(), Some(&*file));
        save(&mut checkpoints, 3, 0, Some(0.6));
        save(&mut checkpoints, 12345, 0, Some(0.5));
        assert_eq!(taken(&path), (Some((12345, 0)), 0));
        let best = Checkpoint::decode(&fs::read(path.join(BEST)).expect("readable")).expect("whole");
        assert_eq!(best.header.position.epoch, 1);
    }

    #[test]
    fn a_damaged_one_gives_way_to_the_one_before_and_goes_when_the_run_goes_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        let mut checkpoints = new(path, 2);
        save(&mut checkpoints, 0, 5, None);
        save(&mut checkpoints, 1, 0, Some(0.5));
        let last = path.join("epoch-0001-step-000000.safetensors");
        let bytes = fs::read(&last).expect("readable");
        fs::write(&last, &bytes[..bytes.len() - 1]).expect("writable");
        assert_eq!(taken(path), (Some((0, 5)), 1));
        save(&mut new(path, 1), 0, 8, None);
        assert_eq!(names(path), ["best.safetensors", "epoch-0000-step-000008.safetensors"]);

        // The best one is the last resort.
        fs::write(path.join("epoch-0000-step-000008.safetensors"), "").expect("writable");
        assert_eq!(taken(path), (Some((1, 0)), 1));
        fs::write(path.join(BEST), "").expect("writable");
        let error = latest(path, |_, _| ()).expect_err("none is whole").to_string();
        assert!(error.contains("epoch-0000-step-000008") && error.contains("new run"), "{error}");
    }

    #[test]
    fn they_are_due_by_the_clock() {
        let new = |every| Checkpoints::new(PathBuf::new(), Policy { every, keep: 1 }, Value::Null, None);
        assert!(new(Duration::ZERO).due());
        assert!(!new(Duration::MAX).due());
    }
}
