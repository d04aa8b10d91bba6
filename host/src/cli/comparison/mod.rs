//! Comparisons of cells: what `darts seeds` and `darts random` have in common.
//!
//! Every search and training is a process and a run directory of its own. What decides is laid out in `config.toml` of
//! each; the process goes on with it. Nothing is kept of a comparison but its configuration and, at its end, its
//! summary: how far it is follows from its runs.

mod jobs;
mod options;
mod settings;
mod sub_run;
mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darts_core::Genotype;
use darts_host::config::{DataConfig, MachineConfig, RunConfig};
use darts_host::data::DataSource;
use darts_host::interrupt::{self, Interrupted};
use darts_host::run_directory::{self, RunDirectory, SUMMARY};
use darts_host::search::settings::SearchSettings;
use darts_host::train::TrainSettings;
use darts_host::weights::TrainedNetwork;
use indicatif::HumanBytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use options::{ComparisonArguments, TrainingArguments, WrongOptions, number_of_cells, percentage, search_settings};
pub use settings::{Against, ComparisonSettings, searched_space, training, training_config};

use super::common::{Machine, Session, print_json};
use super::resume::Previous;
use super::training::{DataArguments, Images};
use super::{Failure, Outcome};
use jobs::{Job, Jobs};
use settings::{Cell, Source};
use sub_run::{finished_search, finished_training};
use summary::{CellResult, FinalResult, Origin, Summary, best};

/// The folders of the runs of a cell, in its own.
const SEARCH: &str = "search";
const TRAIN: &str = "train";
const FINAL: &str = "final";

/// A comparison under way.
struct Comparison<'a> {
    session: &'a Session,
    source: &'a DataSource,
    directory: &'a RunDirectory,
    config: &'a RunConfig<ComparisonSettings>,
    jobs: Jobs,
}

/// Cells are chosen by their accuracy on images that are held out.
#[derive(Debug, thiserror::Error)]
#[error("cells are compared and chosen on images that are held out, and --validation 0 holds out none: leave it out")]
struct NothingHeldOut;

/// Some of the runs failed.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} cells failed; {first}; then go on with darts {command} --resume {}", folder.display())]
struct SomeFailed {
    failed: usize,
    all: usize,
    first: Failure,
    command: String,
    folder: PathBuf,
}

/// A training that is to be compared with and has not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the training in {} is not finished: go on with it, darts train --resume {}", .0.display(), .0.display())]
struct Unfinished(PathBuf);

/// What `--prepare` prints.
#[derive(Serialize)]
struct Prepared<'a> {
    runs: Vec<PathBuf>,
    out: &'a Path,
}

/// Runs the comparison `command`, with `settings` unless it is gone on with, on the images of `data` or, where these
/// are not given, of `known`.
pub fn run(
    command: &'static str,
    arguments: &ComparisonArguments,
    data: &DataArguments,
    known: Option<&DataConfig>,
    settings: impl FnOnce(&DataSource) -> Result<ComparisonSettings, Failure>,
) -> Outcome {
    let processes = &arguments.processes;
    let threads = processes.jobs.map_or(0, |jobs| u16::try_from(jobs).unwrap_or(u16::MAX));
    let session =
        Session::start(&Machine { threads: threads.saturating_mul(processes.threads).min(1024) }, arguments.json)?;
    let previous =
        arguments.resume.as_ref().map(|path| Previous::<ComparisonSettings>::open(path, command)).transpose()?;
    let known = previous.as_ref().map(|previous| &previous.config.data).or(known);
    let Images { source, config: data_config } = data.load(&session, known)?;
    let settings = match &previous {
        Some(previous) => previous.config.settings.clone(),
        None => settings(&source)?,
    };
    if settings.train.held_out(&source.train) == 0 {
        return Err(NothingHeldOut.into());
    }
    let needed = settings.bytes_needed(&source)?;
    let jobs =
        Jobs::new(processes, settings.seeds + settings.random + usize::from(settings.against.is_some()), needed)?;
    let Jobs { at_once, threads, .. } = jobs;
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    session
        .progress
        .line(&format!("jobs         {at_once} at a time, {threads} and about {} each", HumanBytes(needed)));
    let config = session.config(command, None, data_config, settings);
    let directory = match previous {
        Some(previous) => {
            previous.check(&config)?;
            previous.into_directory()
        }
        None => {
            let directory = RunDirectory::create(arguments.out.as_deref(), command)?;
            config.write(&directory.file(run_directory::CONFIG))?;
            directory
        }
    };
    interrupt::install()?;
    let comparison = Comparison { session: &session, source: &source, directory: &directory, config: &config, jobs };
    if arguments.prepare { comparison.prepare(arguments.json) } else { comparison.report(arguments.json) }
}

impl Comparison<'_> {
    fn settings(&self) -> &ComparisonSettings {
        &self.config.settings
    }

    /// Lays out all runs that are known before any of them has come to something.
    fn prepare(&self, json: bool) -> Outcome {
        let settings = self.settings();
        let mut cells = settings.searched()?;
        if settings.params_within.is_none() {
            cells.extend(settings.random(self.source, None)?);
        }
        let mut runs = Vec::new();
        for Cell { name, source } in cells {
            let folder = self.directory.file(&name);
            let genotype = match source {
                Source::Search(search) => {
                    self.lay_out(&folder.join(SEARCH), &self.run_config("search", None, *search))?;
                    runs.push(folder.join(SEARCH));
                    None
                }
                Source::Genotype(genotype) => Some(genotype),
                Source::Training(_) => continue,
            };
            self.lay_out(&folder.join(TRAIN), &self.run_config("train", genotype.as_ref(), settings.train.clone()))?;
            runs.push(folder.join(TRAIN));
        }
        let out = self.directory.path();
        if json {
            print_json(&Prepared { runs, out })?;
        } else {
            let mut output = io::stdout().lock();
            runs.iter().try_for_each(|run| writeln!(output, "{}", run.display()))?;
            writeln!(output, "when these are done: darts {} --resume {}", self.config.command, out.display())?;
        }
        Ok(())
    }

    /// Does all that is left, and prints the summary.
    fn report(&self, json: bool) -> Outcome {
        let out = self.directory.path();
        let summary = if self.directory.file(SUMMARY).exists() {
            self.session.progress.line(&format!("{} is finished", out.display()));
            summary::read(out)?
        } else {
            match self.perform() {
                Err(_) if interrupt::requested() => {
                    let next = format!("; go on with darts {} --resume {}", self.config.command, out.display());
                    return self.session.interrupted(self.directory, &next);
                }
                summary => summary?,
            }
        };
        if json {
            print_json(&summary)?;
        } else {
            let mut output = io::stdout().lock();
            summary.print(&mut output)?;
            writeln!(output, "\nwrote {}", out.display())?;
        }
        Ok(())
    }

    fn perform(&self) -> Result<Summary, Failure> {
        let settings = self.settings();
        let mut cells: Vec<(Origin, Cell)> =
            settings.searched()?.into_iter().map(|cell| (Origin::Searched, cell)).collect();
        let random = |cells: Vec<Cell>| cells.into_iter().map(|cell| (Origin::Random, cell));
        // With a tolerance, random cells depend on the one that is chosen.
        let known = settings.params_within.is_none();
        if known {
            cells.extend(random(settings.random(self.source, None)?));
        }
        let mut results = self.all(cells, |(origin, cell)| self.cell(origin, cell))?;
        if !known && let Some(chosen) = best(&results, Origin::Searched) {
            let drawn = settings.random(self.source, Some(chosen.parameters))?;
            results.extend(self.all(random(drawn).collect(), |(origin, cell)| self.cell(origin, cell))?);
        }
        let finals = self.finals(&results)?;

        // The one place where the test images are used.
        if settings.random > 0 {
            for cell in &mut results {
                cell.test_accuracy = Some(self.test(&cell.name, &cell.out)?);
            }
        } else if finals.is_empty()
            && let Some(name) = best(&results, Origin::Searched).map(|cell| cell.name.clone())
            && let Some(cell) = results.iter_mut().find(|cell| cell.name == name)
        {
            cell.test_accuracy = Some(self.test(&cell.name, &cell.out)?);
        }
        let tested = |mut last: FinalResult| {
            last.test_accuracy = Some(self.test(&last.name, &last.out)?);
            Ok::<_, Failure>(last)
        };
        let finals = finals.into_iter().map(tested).collect::<Result<_, _>>()?;
        let out = self.directory.path().to_owned();
        let summary = Summary::new(settings.train.epochs, results, finals, out).expect("there is a cell");
        self.directory.write_json(SUMMARY, &summary)?;
        Ok(summary)
    }

    /// The results of `work` on all `cells`, as many at a time as there are jobs.
    fn all<I: Send, R: Send>(
        &self,
        cells: Vec<I>,
        work: impl Fn(I) -> Result<R, Failure> + Sync,
    ) -> Result<Vec<R>, Failure> {
        let all = cells.len();
        let results = self.jobs.each(cells, |cell| {
            work(cell).inspect_err(|error| {
                if !error.is::<Interrupted>() {
                    self.session.progress.line(&format!("{error}"));
                }
            })
        });
        interrupt::check()?;
        let failed = results.iter().filter(|result| result.is_err()).count();
        let (command, folder) = (self.config.command.clone(), self.directory.path().to_owned());
        let done: Result<Vec<R>, Failure> = results.into_iter().collect();
        done.map_err(|first| SomeFailed { failed, all, first, command, folder }.into())
    }

    /// Searches, if it has to be, and trains.
    fn cell(&self, origin: Origin, cell: Cell) -> Result<CellResult, Failure> {
        let folder = self.directory.file(&cell.name);
        let settings = &self.settings().train;
        let (genotype, search_seconds) = match cell.source {
            Source::Search(search) => {
                let (genotype, seconds) = self.search(&cell.name, &folder.join(SEARCH), *search)?;
                (genotype, Some(seconds))
            }
            Source::Genotype(genotype) => (genotype, None),
            Source::Training(folder) => return self.trained(origin, cell.name, folder),
        };
        let out = folder.join(TRAIN);
        let trained = self.train(&format!("{}/{TRAIN}", cell.name), &out, &genotype, settings)?;
        Ok(CellResult {
            name: cell.name,
            origin,
            parameters: self.settings().parameters(&genotype, self.source)?,
            genotype: genotype.to_string(),
            valid_accuracy: trained.valid_accuracy,
            test_accuracy: None,
            search_seconds,
            train_seconds: trained.seconds,
            out,
        })
    }

    /// A cell that was trained before the comparison, which has its settings from there.
    fn trained(&self, origin: Origin, name: String, out: PathBuf) -> Result<CellResult, Failure> {
        let settings = &self.settings().train;
        let found = training_config(&out)?;
        let genotype = found.genotype.as_deref().unwrap_or_default();
        let genotype = Genotype::parse(genotype)?;
        self.lay_out(&out, &self.run_config("train", Some(&genotype), settings.clone()))?;
        let done = finished_training(&out, settings.epochs)?.ok_or_else(|| Unfinished(out.clone()))?;
        Ok(CellResult {
            name,
            origin,
            parameters: self.settings().parameters(&genotype, self.source)?,
            genotype: genotype.to_string(),
            valid_accuracy: done.result.valid_accuracy.ok_or(NothingHeldOut)?,
            test_accuracy: None,
            search_seconds: None,
            train_seconds: done.seconds,
            out,
        })
    }

    /// The cell that the search in `folder` comes to, and its seconds.
    fn search(&self, name: &str, folder: &Path, settings: SearchSettings) -> Result<(Genotype, f64), Failure> {
        self.lay_out(folder, &self.run_config("search", None, settings))?;
        if finished_search(folder)?.is_none() {
            let label = format!("{name}/{SEARCH}");
            self.run_job("search", folder, &label, Vec::new())?;
        }
        let done = finished_search(folder)?.ok_or_else(|| NothingCame(folder.to_owned()))?;
        Ok((done.result, done.seconds))
    }

    /// Trains `genotype` in `folder`.
    fn train(
        &self,
        label: &str,
        folder: &Path,
        genotype: &Genotype,
        settings: &TrainSettings,
    ) -> Result<Trained, Failure> {
        let epochs = settings.epochs;
        self.lay_out(folder, &self.run_config("train", Some(genotype), settings.clone()))?;
        if finished_training(folder, epochs)?.is_none() {
            let arguments = ["--no-test", "--genotype"].map(str::to_owned).into_iter().chain([genotype.to_string()]);
            self.run_job("train", folder, label, arguments.collect())?;
        }
        let done = finished_training(folder, epochs)?.ok_or_else(|| NothingCame(folder.to_owned()))?;
        let valid_accuracy = done.result.valid_accuracy.ok_or(NothingHeldOut)?;
        Ok(Trained { valid_accuracy, seconds: done.seconds })
    }

    /// The long trainings of the chosen cell and of the best random one.
    fn finals(&self, results: &[CellResult]) -> Result<Vec<FinalResult>, Failure> {
        let Some(epochs) = self.settings().final_epochs else { return Ok(Vec::new()) };
        let settings = TrainSettings { epochs, ..self.settings().train.clone() };
        let chosen =
            [Origin::Searched, Origin::Random].into_iter().filter_map(|origin| best(results, origin)).collect();
        self.all(chosen, |cell: &CellResult| {
            let name = format!("{}/{FINAL}", cell.name);
            let out = self.directory.file(&name);
            let Trained { valid_accuracy, seconds } =
                self.train(&name, &out, &Genotype::parse(&cell.genotype)?, &settings)?;
            Ok(FinalResult { name, epochs, valid_accuracy, test_accuracy: None, train_seconds: seconds, out })
        })
    }

    /// The accuracy on the test images of the network in `folder`.
    fn test(&self, name: &str, folder: &Path) -> Result<f64, Failure> {
        let network = TrainedNetwork::load(folder)?;
        Ok(self.session.evaluate(&format!("{name}, test"), &network, &self.source.test)?.accuracy())
    }

    /// Makes the folder of a run, or checks that it is the same one.
    fn lay_out<S: Serialize + DeserializeOwned>(&self, folder: &Path, config: &RunConfig<S>) -> Outcome {
        let _alone = self.jobs.none_starts();
        sub_run::lay_out(folder, config)
    }

    fn run_config<S>(&self, command: &str, genotype: Option<&Genotype>, settings: S) -> RunConfig<S> {
        let config = self.session.config(command, genotype, self.config.data.clone(), settings);
        RunConfig { machine: MachineConfig { threads: self.jobs.threads, ..config.machine }, ..config }
    }

    fn run_job(
        &self,
        command: &'static str,
        folder: &Path,
        label: &str,
        mut arguments: Vec<String>,
    ) -> Result<(), Failure> {
        arguments.extend(["--data".to_owned(), self.config.data.path.clone()]);
        self.jobs.run(&Job { command, folder, label, arguments }, &self.session.progress)
    }
}

/// What a training came to.
struct Trained {
    valid_accuracy: f64,
    /// Of all epochs.
    seconds: f64,
}

/// A process ended well, and what it should have written is not there.
#[derive(Debug, thiserror::Error)]
#[error("the run in {} has ended without its results: remove the folder", .0.display())]
struct NothingCame(PathBuf);
