//! The runs of a comparison, each in a run directory of its own.

use std::fs;
use std::path::{Path, PathBuf};

use darts_host::config::{RunConfig, differences};
use darts_host::run_directory::{self, RunDirectory};
use darts_host::search::run::SearchEpoch;
use darts_host::train::TrainEpoch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::Failure;
use super::super::common::FileError;
use super::super::resume::CannotResume;
use super::super::search::AlphaRecord;

/// Makes the folder of a run with its configuration, for `darts search --resume` or `darts train --resume` to go on with; where
/// it is there already, checks that it is the same run. Cells that either side does not know yet are no difference.
pub fn lay_out<S: Serialize + DeserializeOwned>(folder: &Path, config: &RunConfig<S>) -> Result<(), Failure> {
    let file = folder.join(run_directory::CONFIG);
    if !file.exists() {
        let directory = RunDirectory::create(Some(folder), &config.command)?;
        config.write(&directory.file(run_directory::CONFIG))?;
        return Ok(());
    }
    let mut found = RunConfig::<S>::read(&file)?;
    if found.genotype.is_none() || config.genotype.is_none() {
        found.genotype.clone_from(&config.genotype);
    }
    let changes = differences(&found.value()?, &config.value()?);
    if changes.is_empty() { Ok(()) } else { Err(CannotResume::Changed { folder: folder.to_owned(), changes }.into()) }
}

/// What a finished run came to.
#[derive(Debug)]
pub struct Finished<Epoch> {
    /// Its last epoch.
    pub last: Epoch,
    /// Seconds of all epochs.
    pub seconds: f64,
}

/// The search of `epochs` epochs in `folder`, if all that it writes is there.
pub fn finished_search(folder: &Path, epochs: usize) -> Result<Option<Finished<SearchEpoch>>, Failure> {
    let path = folder.join(run_directory::ALPHA);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(FileError::new("read α", &path))?;
    let alpha: AlphaRecord = serde_json::from_str(&text).map_err(|error| damaged(&path, &error))?;
    // Written last, but at Ctrl-C too.
    if alpha.complete_epochs < epochs { Ok(None) } else { finished(folder, epochs, |last: &SearchEpoch| last.epoch) }
}

/// The training of `epochs` epochs in `folder`, if its last epoch is recorded, before which its weights are saved.
pub fn finished_training(folder: &Path, epochs: usize) -> Result<Option<Finished<TrainEpoch>>, Failure> {
    finished(folder, epochs, |last: &TrainEpoch| last.epoch)
}

fn finished<Epoch: DeserializeOwned>(
    folder: &Path,
    epochs: usize,
    number: impl Fn(&Epoch) -> usize,
) -> Result<Option<Finished<Epoch>>, Failure> {
    let path = folder.join(run_directory::METRICS);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(FileError::new("read the measurements", &path))?;
    // A process that was killed may have left half a line behind.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let (mut last, mut seconds) = (None, 0.0);
    for line in lines {
        let time: Seconds = serde_json::from_str(line).map_err(|error| damaged(&path, &error))?;
        (last, seconds) = (Some(line), seconds + time.seconds);
    }
    let Some(last) = last else { return Ok(None) };
    let last: Epoch = serde_json::from_str(last).map_err(|error| damaged(&path, &error))?;
    Ok((number(&last) + 1 >= epochs).then_some(Finished { last, seconds }))
}

#[derive(serde::Deserialize)]
struct Seconds {
    seconds: f64,
}

/// A file of a run that is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; put back what was there, or remove the folder of the run and go on with the comparison", path.display())]
pub struct Damaged {
    path: PathBuf,
    problem: String,
}

/// For use in `map_err`.
pub fn damaged(path: &Path, error: &serde_json::Error) -> Damaged {
    Damaged { path: path.to_owned(), problem: error.to_string() }
}
