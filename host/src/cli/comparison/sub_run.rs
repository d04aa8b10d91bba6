//! The runs of a comparison, each in a run directory of its own.

use std::fs;
use std::path::{Path, PathBuf};

use darts_core::Genotype;
use darts_host::config::{RunConfig, differences};
use darts_host::run_directory::{self, RunDirectory};
use darts_host::train::TrainEpoch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::Failure;
use super::super::common::FileError;
use super::super::resume::CannotResume;
use super::super::search::AlphaRecord;

/// Makes the folder of a run with its configuration, for `darts search --resume` or `darts train --resume` to go on
/// with; where it is there already, checks that it is the same run. Cells that either side does not know yet are no
/// difference.
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
pub struct Finished<Result> {
    /// The cells of a search, the last epoch of a training.
    pub result: Result,
    /// Seconds of all epochs.
    pub seconds: f64,
}

/// The search in `folder`, if it came to its end: that may be before its last epoch, and its cells may be others than
/// those of an epoch.
pub fn finished_search(folder: &Path) -> Result<Option<Finished<Genotype>>, Failure> {
    let path = folder.join(run_directory::ALPHA);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(FileError::new("read α", &path))?;
    let alpha: AlphaRecord = serde_json::from_str(&text).map_err(|error| damaged(&path, &error))?;
    if !alpha.finished {
        return Ok(None);
    }
    // Written before α.
    let path = folder.join(run_directory::GENOTYPE);
    let text = fs::read_to_string(&path).map_err(FileError::new("read the genotype", &path))?;
    Ok(Some(Finished { result: Genotype::parse(text.trim())?, seconds: log(folder)?.1 }))
}

/// The training of `epochs` epochs in `folder`, if its last epoch is recorded, before which its weights are saved.
pub fn finished_training(folder: &Path, epochs: usize) -> Result<Option<Finished<TrainEpoch>>, Failure> {
    let (last, seconds) = log(folder)?;
    let Some(last) = last else { return Ok(None) };
    let result: TrainEpoch =
        serde_json::from_str(&last).map_err(|error| damaged(&folder.join(run_directory::METRICS), &error))?;
    Ok((result.epoch + 1 >= epochs).then_some(Finished { result, seconds }))
}

/// The last record of the run in `folder`, if there is one, and the seconds of all.
fn log(folder: &Path) -> Result<(Option<String>, f64), Failure> {
    let path = folder.join(run_directory::METRICS);
    if !path.exists() {
        return Ok((None, 0.0));
    }
    let text = fs::read_to_string(&path).map_err(FileError::new("read the measurements", &path))?;
    // A process that was killed may have left half a line behind.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let (mut last, mut seconds) = (None, 0.0);
    for line in lines {
        let time: Seconds = serde_json::from_str(line).map_err(|error| damaged(&path, &error))?;
        (last, seconds) = (Some(line), seconds + time.seconds);
    }
    Ok((last.map(str::to_owned), seconds))
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
