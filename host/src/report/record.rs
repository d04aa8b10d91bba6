//! What a run directory says about its run. Everything that may be missing is optional: runs of older versions,
//! trainings, and runs that have not come to their end are read alike.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use darts_core::Genotype;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigFileError, RunConfig};
use crate::run_directory::{ALPHA, CONFIG, DRAWINGS, GENOTYPE, LOCK, METRICS, SUMMARY};
use crate::search::budget::BudgetRecord;
use crate::search::early_stop::stop_epoch;

/// One line of the log of measurements, of a search or of a training.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate of the weights.
    pub learning_rate: Option<f64>,
    /// Drop-path probability.
    pub drop_path: Option<f64>,
    /// Mean loss of the steps.
    pub train_loss: Option<f64>,
    /// Share of correct predictions in the steps.
    pub train_accuracy: Option<f64>,
    /// Mean loss on the images held out, or on the half that α learns on.
    pub valid_loss: Option<f64>,
    /// Accuracy there.
    pub valid_accuracy: Option<f64>,
    /// Genotype of the epoch's α.
    pub genotype: Option<String>,
    /// Normal cells.
    pub normal: CellRecord,
    /// Reduction cells.
    pub reduce: CellRecord,
    /// α of normal cells, `[edges][operations]`; empty for a training.
    pub alpha_normal: Vec<Vec<f64>>,
    /// α of reduction cells.
    pub alpha_reduce: Vec<Vec<f64>>,
    /// Largest eigenvalue of the Hessian of the validation loss by α.
    #[serde(rename = "eigenvalue")]
    pub lambda_max: Option<f64>,
    /// What networks cost, of a search that limits or penalizes it.
    pub budget: Option<BudgetRecord>,
    /// Images of the steps.
    pub images: Option<usize>,
    /// Wall time.
    pub seconds: Option<f64>,
    /// What the process said of itself.
    #[serde(flatten)]
    pub process: ProcessRecord,
}

/// What an epoch came to in one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CellRecord {
    /// Mean entropy of the softmaxed rows of α, in nats.
    pub entropy: Option<f64>,
    /// Edges that prefer `skip_connect`.
    pub skip_edges: Option<usize>,
    /// Edges that prefer `none`.
    pub none_edges: Option<usize>,
    /// Skip connections in the derived cell.
    pub skips: Option<usize>,
}

/// What the process that an epoch ran in had to say about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessRecord {
    /// End of the epoch, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_time: Option<f64>,
    /// Most memory that the process has had so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Wall time that checkpoints took since the record before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_seconds: Option<f64>,
    /// Wall time that measurements, genotypes, events and the report took since the record before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_seconds: Option<f64>,
}

impl EpochRecord {
    /// Images of the steps a second; the evaluation counts for the time.
    pub fn images_per_second(&self) -> Option<f64> {
        Some(self.images.filter(|&images| images > 0)? as f64 / self.seconds.filter(|&seconds| seconds > 0.0)?)
    }
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// A process is at it.
    Running,
    /// All its epochs are done, or it came to an end of its own before.
    Finished,
    /// It ended before its time.
    Interrupted,
}

impl RunState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run as its directory has it.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The run directory.
    pub path: PathBuf,
    /// The configuration.
    pub config: RunConfig<toml::Table>,
    /// The cells: those that a search came to so far, or those that a training was given.
    pub genotype: Option<Genotype>,
    /// What was measured.
    pub epochs: Vec<EpochRecord>,
    /// Epochs that there shall be.
    pub planned: Option<usize>,
    /// Whether it goes on.
    pub state: RunState,
    /// When its results, measurements, or else its configuration, were last written.
    pub modified: Option<SystemTime>,
}

/// A run directory that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RunRecordError {
    /// It has no configuration, or a damaged one.
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// It is a comparison or a pipeline.
    #[error("{} is of darts {command} and has runs in it: give one of those; darts runs {} lists them", path.display(), path.display())]
    Several {
        /// The folder.
        path: PathBuf,
        /// The command.
        command: String,
    },
    /// The measurements cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl RunRecord {
    /// Reads the run directory `path`. Lines of the log that are no records are left out: the last one of a run that
    /// was killed may be half written.
    ///
    /// # Errors
    /// If its configuration or the log of measurements cannot be read; that there is no log yet is none. If it has runs
    /// in it.
    pub fn read(path: &Path) -> Result<Self, RunRecordError> {
        let run = Self::read_any(path)?;
        match run.has_runs() {
            true => Err(RunRecordError::Several { path: run.path, command: run.config.command }),
            false => Ok(run),
        }
    }

    /// As [`read`](Self::read), of the folder of a comparison or a pipeline too, which has neither epochs nor cells of
    /// its own.
    ///
    /// # Errors
    /// If its configuration or the log of measurements cannot be read.
    pub fn read_any(path: &Path) -> Result<Self, RunRecordError> {
        let config_path = path.join(CONFIG);
        let config: RunConfig<toml::Table> = RunConfig::read(&config_path)?;
        let planned = config.settings.get("epochs").and_then(toml::Value::as_integer);
        let planned = planned.and_then(|epochs| usize::try_from(epochs).ok());
        let metrics_path = path.join(METRICS);
        let text = match fs::read_to_string(&metrics_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|source| RunRecordError::Io { path: metrics_path.clone(), source })?,
        };
        let epochs: Vec<EpochRecord> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = || epochs.last().and_then(|epoch| epoch.genotype.clone());
        // A device in its place may have no end.
        let file = Some(path.join(GENOTYPE)).filter(|file| file.is_file());
        let genotype = file.and_then(|file| fs::read_to_string(file).ok());
        let genotype = genotype.or_else(last).or_else(|| config.genotype.clone());
        let genotype = genotype.and_then(|text| Genotype::parse(text.trim()).ok());
        let last_file = last_file(&config.command).map(|name| path.join(name));
        let all_epochs =
            planned.is_some_and(|planned| epochs.len() >= planned || stopped_early(&config.settings, &epochs, planned));
        let finished = match &last_file {
            Some(file) => file.exists(),
            None => all_epochs && selected(&config.settings, path),
        };
        let state = if finished {
            RunState::Finished
        } else if in_use(path) {
            RunState::Running
        } else {
            RunState::Interrupted
        };
        let mut written = last_file.iter().chain([&metrics_path, &config_path]);
        let modified = written.find_map(|path| fs::metadata(path).ok()?.modified().ok());
        Ok(Self { path: path.to_owned(), config, genotype, epochs, planned, state, modified })
    }

    /// Whether it is a comparison or a pipeline, with runs below it.
    pub fn has_runs(&self) -> bool {
        last_file(&self.config.command).is_some()
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The last epoch.
    pub fn last(&self) -> Option<&EpochRecord> {
        self.epochs.last()
    }

    /// The best validation accuracy and its epoch, from 0; the first of equals.
    pub fn best_valid_accuracy(&self) -> Option<(f64, usize)> {
        let accuracies = self.epochs.iter().filter_map(|epoch| Some((epoch.valid_accuracy?, epoch.epoch)));
        accuracies.reduce(|best, next| if next.0 > best.0 { next } else { best })
    }

    /// Wall time of all epochs.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().filter_map(|epoch| epoch.seconds).sum()
    }

    /// Wall time that the epochs that are missing take, if they take as long as the last few.
    pub fn seconds_left(&self) -> Option<f64> {
        let recent: Vec<f64> = self.epochs.iter().rev().filter_map(|epoch| epoch.seconds).take(5).collect();
        let mean = recent.iter().sum::<f64>() / recent.len() as f64;
        let left = self.planned?.saturating_sub(self.epochs.len());
        (!recent.is_empty()).then_some(mean * left as f64)
    }
}

/// Whether a search ended before its last epoch because of the eigenvalue.
fn stopped_early(settings: &toml::Table, epochs: &[EpochRecord], planned: usize) -> bool {
    let factor = settings.get("stop_eigenvalue").and_then(toml::Value::as_float);
    let eigenvalues: Option<Vec<f64>> = epochs.iter().map(|epoch| epoch.lambda_max).collect();
    factor.zip(eigenvalues).is_some_and(|(factor, values)| stop_epoch(&values, planned, factor).is_some())
}

/// What a command that starts runs of its own writes last.
fn last_file(command: &str) -> Option<&'static str> {
    match command {
        "run" => Some(DRAWINGS[1]),
        "seeds" | "random" => Some(SUMMARY),
        _ => None,
    }
}

/// Whether the selection of cells that follows the epochs of some searches is done, if this is one of them.
fn selected(settings: &toml::Table, path: &Path) -> bool {
    /// Of the file that is written last. Those of older versions do not tell.
    #[derive(Deserialize)]
    struct End {
        #[serde(default = "yes")]
        finished: bool,
    }
    fn yes() -> bool {
        true
    }
    if !settings.contains_key("select") {
        return true;
    }
    let text = fs::read_to_string(path.join(ALPHA)).ok();
    text.and_then(|text| serde_json::from_str(&text).ok()).is_some_and(|End { finished }| finished)
}

/// Whether a process has the lock of the run directory `path`.
fn in_use(path: &Path) -> bool {
    let lock = File::open(path.join(LOCK)).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}
