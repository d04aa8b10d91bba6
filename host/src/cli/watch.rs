//! What the command line does while a search or a training goes on: it shows progress, records, and writes checkpoints.

use std::time::{Instant, SystemTime};
use std::{io, mem};

use darts_host::atomic::WriteError;
use darts_host::checkpoint::{Checkpoints, RestoreError};
use darts_host::interrupt;
use darts_host::memory::peak_rss_bytes;
use darts_host::observer::{Observer, StepProgress};
use darts_host::progress::{Progress, Task};
use darts_host::report::{self, Events, ProcessRecord, RunRecord, RunState};
use darts_host::run_directory::{self, Metrics, RunDirectory};
use darts_host::search::budget::BudgetRecord;
use darts_host::search::run::{RunError, SearchEpoch};
use darts_host::state::{Position, State};
use darts_host::train::{TrainEpoch, TrainObserver};
use darts_host::weights::TrainedNetwork;
use indicatif::HumanCount;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::resume::Run;

/// Shows and records a search or a training, writes its checkpoints, and stops it at Ctrl-C.
pub struct Watch<'a> {
    epochs: usize,
    progress: &'a Progress,
    run: &'a Run,
    checkpoints: Checkpoints,
    /// From when it is known where the run starts.
    metrics: Option<Metrics>,
    /// Validation accuracy of an epoch whose checkpoint is not yet written.
    accuracy: Option<f64>,
    task: Option<Task>,
    /// The selection behind a search.
    selection: Option<Task>,
    /// From the first epoch that this process has done.
    events: Option<Events>,
    /// Wall time that checkpoints, and all other files, took since the last record.
    checkpoint_seconds: f64,
    report_seconds: f64,
    /// Whether there is anything worth keeping.
    recorded: bool,
}

/// A record as the log has it.
#[derive(Serialize)]
struct Logged<'a, Record> {
    #[serde(flatten)]
    record: &'a Record,
    #[serde(flatten)]
    process: ProcessRecord,
}

/// A run that ended before its time, with what is left of it.
#[derive(Debug, thiserror::Error)]
#[error("{error}; {left}")]
struct Stopped {
    error: RunError,
    left: String,
}

impl<'a> Watch<'a> {
    /// Watches `epochs` epochs of `run`.
    pub fn new(epochs: usize, progress: &'a Progress, run: &'a Run) -> Self {
        let (checkpoints, recorded) = (run.checkpoints(), run.from.is_some());
        Self {
            epochs,
            progress,
            run,
            checkpoints,
            metrics: None,
            accuracy: None,
            task: None,
            selection: None,
            events: None,
            checkpoint_seconds: 0.0,
            report_seconds: 0.0,
            recorded,
        }
    }

    /// Passes on the outcome; a failure before there was anything worth keeping leaves nothing behind.
    pub fn finish<T>(self, outcome: Result<T, RunError>) -> Result<T, Failure> {
        outcome.map_err(|error| {
            if !self.recorded {
                self.run.directory.discard();
            }
            let Some(path) = self.checkpoints.last() else { return error.into() };
            let left = match &error {
                RunError::Diverged { .. } => format!("the last good state is {}", path.display()),
                RunError::Observer(_) => {
                    let (command, folder) = (self.run.command, self.run.directory.path().display());
                    format!("then go on with darts {command} --resume {folder}")
                }
                _ => return error.into(),
            };
            Stopped { error, left }.into()
        })
    }

    fn show_step(&mut self, at: StepProgress) {
        let (epochs, progress) = (self.epochs, self.progress);
        let task = self.task.get_or_insert_with(|| {
            let task = progress.task(self.run.command, (epochs * at.steps) as u64);
            task.skip((at.epoch * at.steps + at.step) as u64);
            task
        });
        task.note(format!("epoch {}/{epochs} loss {:.3}", at.epoch + 1, at.loss));
        task.advance(1);
    }

    /// Shows and writes down an epoch, with its genotype where it has one of its own.
    fn record(
        &mut self,
        record: &impl Serialize,
        line: &str,
        accuracy: Option<f64>,
        genotype: Option<(usize, &str)>,
    ) -> Result<(), WriteError> {
        self.recorded = true;
        self.accuracy = accuracy;
        self.progress.line(line);
        let start = Instant::now();
        let process = ProcessRecord {
            unix_time: SystemTime::UNIX_EPOCH.elapsed().ok().map(|time| time.as_secs_f64()),
            peak_rss_bytes: peak_rss_bytes(),
            checkpoint_seconds: Some(mem::take(&mut self.checkpoint_seconds)),
            report_seconds: Some(mem::take(&mut self.report_seconds)),
        };
        if let Some(metrics) = &mut self.metrics {
            metrics.push(&Logged { record, process })?;
        }
        let directory = &self.run.directory;
        if let Some((epoch, genotype)) = genotype {
            directory.write_text(run_directory::GENOTYPE, genotype)?;
            directory.write_genotype(epoch, genotype)?;
        }
        self.report(directory)?;
        self.report_seconds = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Brings the report and the events up to the last epoch in the log.
    fn report(&mut self, directory: &RunDirectory) -> Result<(), WriteError> {
        let report = directory.file(run_directory::REPORT);
        let unreadable = |error| WriteError { path: report, source: io::Error::other(error) };
        let run = RunRecord::read(directory.path()).map_err(unreadable)?;
        match (&mut self.events, run.last()) {
            (Some(events), Some(epoch)) => events.push(epoch)?,
            _ => self.events = Some(Events::write(&directory.file(run_directory::EVENTS), &run)?),
        }
        report::write(&run)
    }

    /// Opens the log, and puts the state of the checkpoint, if there is one, in the place of `state`.
    fn begin<Epoch: DeserializeOwned>(&mut self, mut state: State<Epoch>) -> Result<(), RestoreError> {
        let directory = &self.run.directory;
        let log_bytes = self.run.from.as_ref().map_or(0, |(_, checkpoint)| checkpoint.header.log_bytes);
        if let Some((_, checkpoint)) = &self.run.from {
            *state.epochs = directory.records(log_bytes)?;
            checkpoint.restore(&mut state.values)?;
            *state.position = checkpoint.header.position;
        }
        self.metrics = Some(directory.metrics(log_bytes)?);
        if self.run.from.is_some() {
            let Position { epoch, step, .. } = *state.position;
            let (folder, epochs) = (directory.path().display(), self.epochs);
            let finished = RunRecord::read(directory.path()).is_ok_and(|run| run.state == RunState::Finished);
            self.progress.line(&match (finished, epoch < epochs) {
                (true, true) => format!("{folder} is finished: it stopped behind epoch {epoch} of {epochs}"),
                (true, false) => format!("{folder} is finished: all of its {epochs} epochs are done"),
                (false, true) => format!("going on with {folder} behind step {step} of epoch {}/{epochs}", epoch + 1),
                (false, false) => format!("going on with {folder} behind its last epoch"),
            });
        }
        Ok(())
    }

    fn keep<Epoch>(&mut self, state: &State<Epoch>) -> Result<(), WriteError> {
        let start = Instant::now();
        let log_bytes = self.metrics.as_mut().map_or(Ok(0), Metrics::sync)?;
        self.checkpoints.save(state, log_bytes, self.accuracy.take())?;
        self.checkpoint_seconds += start.elapsed().as_secs_f64();
        self.recorded = true;
        Ok(())
    }
}

/// What the network of an epoch costs, and what is expected under α.
fn budget_text(budget: &BudgetRecord) -> String {
    let of = |name: &str, found: u64, expected: Option<f64>| {
        let expected = expected
            .map_or_else(String::new, |expected| format!(" (expected {})", HumanCount(expected.round() as u64)));
        format!("{name} {}{expected}  ", HumanCount(found))
    };
    let ram = budget.ram.map_or_else(String::new, |ram| of("workspace", ram, budget.expected_ram));
    let params = of("parameters", budget.params, Some(budget.expected_params));
    params + &of("multiply-adds", budget.macs, Some(budget.expected_macs)) + &ram
}

impl Observer<SearchEpoch> for Watch<'_> {
    fn restore(&mut self, state: State<SearchEpoch>) -> Result<(), RestoreError> {
        self.begin(state)
    }

    fn step(&mut self, at: StepProgress) {
        self.show_step(at);
    }

    fn wants_state(&self) -> bool {
        self.checkpoints.due()
    }

    fn save(&mut self, state: State<SearchEpoch>) -> Result<(), WriteError> {
        self.keep(&state)
    }

    fn selection(&mut self, _done: usize, parts: usize) {
        self.task = None;
        self.selection.get_or_insert_with(|| self.progress.task("select", parts as u64)).advance(1);
    }

    fn epoch(&mut self, record: &SearchEpoch) -> Result<(), WriteError> {
        let eigenvalue = record.eigenvalue.map_or_else(String::new, |value| format!("eigenvalue {value:.4}  "));
        let budget = record.budget.as_ref().map_or_else(String::new, budget_text);
        let line = format!(
            "{} epoch {}/{}  train loss {:.3} accuracy {:.1} %  valid loss {:.3} accuracy {:.1} %  \
             entropy {:.3} {:.3}  skips {} {}  {eigenvalue}{budget}{:.1} s\n  {}",
            self.run.command,
            record.epoch + 1,
            self.epochs,
            record.train_loss,
            100.0 * record.train_accuracy,
            record.valid_loss,
            100.0 * record.valid_accuracy,
            record.normal.entropy,
            record.reduce.entropy,
            record.normal.skips,
            record.reduce.skips,
            record.seconds,
            record.genotype,
        );
        self.record(record, &line, Some(record.valid_accuracy), Some((record.epoch, &record.genotype)))
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

impl Observer<TrainEpoch> for Watch<'_> {
    fn restore(&mut self, state: State<TrainEpoch>) -> Result<(), RestoreError> {
        self.begin(state)
    }

    fn step(&mut self, at: StepProgress) {
        self.show_step(at);
    }

    fn wants_state(&self) -> bool {
        self.checkpoints.due()
    }

    fn save(&mut self, state: State<TrainEpoch>) -> Result<(), WriteError> {
        self.keep(&state)
    }

    fn epoch(&mut self, record: &TrainEpoch) -> Result<(), WriteError> {
        let mut line = format!(
            "{} epoch {}/{}  train loss {:.3} accuracy {:.1} %",
            self.run.command,
            record.epoch + 1,
            self.epochs,
            record.train_loss,
            100.0 * record.train_accuracy,
        );
        if let (Some(loss), Some(accuracy)) = (record.valid_loss, record.valid_accuracy) {
            line += &format!("  valid loss {loss:.3} accuracy {:.1} %", 100.0 * accuracy);
        }
        self.record(record, &format!("{line}  {:.1} s", record.seconds), record.valid_accuracy, None)
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

impl TrainObserver for Watch<'_> {
    fn network(&mut self, network: &TrainedNetwork) -> Result<(), WriteError> {
        network.save(&self.run.directory.file(run_directory::WEIGHTS))
    }
}
