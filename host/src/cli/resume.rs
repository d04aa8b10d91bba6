//! A run from its folder: begun there, or gone on with from its last checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use darts_host::checkpoint::{Checkpoint, Checkpoints, Policy, latest};
use darts_host::config::{self, Difference, MachineConfig, RunConfig, differences};
use darts_host::interrupt;
use darts_host::progress::stderr_line;
use darts_host::run_directory::{self, RunDirectory};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use super::training::RunArguments;

/// A run that is to be gone on with, before it is known whether it can be.
pub struct Previous<S> {
    directory: RunDirectory,
    /// Its configuration.
    pub config: RunConfig<S>,
    checkpoint: Option<(PathBuf, Checkpoint)>,
}

/// A run that cannot be gone on with as asked.
#[derive(Debug, thiserror::Error)]
pub enum CannotResume {
    /// It is of another command.
    #[error("{} is a run of darts {found}: go on with darts {found} --resume {}", folder.display(), folder.display())]
    Command {
        /// The run directory.
        folder: PathBuf,
        /// The command.
        found: String,
    },
    /// It is a training that was laid out before its cells were known.
    #[error("the cells of {} are not known yet: give them with --genotype", .0.display())]
    NoCells(PathBuf),
    /// It would not be the same run.
    #[error(
        "{} was begun otherwise: {}; leave out what differs, or start a new run with --out",
        folder.display(),
        changes.iter().map(Difference::to_string).collect::<Vec<_>>().join(", ")
    )]
    Changed {
        /// The run directory.
        folder: PathBuf,
        /// What differs.
        changes: Vec<Difference>,
    },
}

impl<S: Clone + Serialize + DeserializeOwned> Previous<S> {
    /// The run of `command` in the folder `path`.
    pub fn open(path: &Path, command: &str) -> Result<Self, Failure> {
        let directory = RunDirectory::open(path)?;
        let file = directory.file(run_directory::CONFIG);
        let found = config::command(&file)?;
        if found != command {
            return Err(CannotResume::Command { folder: path.to_owned(), found }.into());
        }
        let config = RunConfig::read(&file)?;
        let damaged = |path: &Path, damage: &_| {
            stderr_line(format_args!("warning: {} is left out: {damage}", path.display()));
        };
        let checkpoint = latest(&directory.file(run_directory::CHECKPOINTS), damaged)?;
        Ok(Self { directory, config, checkpoint })
    }

    /// Its folder, locked.
    pub fn into_directory(self) -> RunDirectory {
        self.directory
    }

    /// Goes on with it as `command`, if `config` is still the same.
    fn go_on(self, command: &'static str, config: &RunConfig<S>, policy: Policy) -> Result<Run, Failure> {
        self.check(config)?;
        let Self { directory, checkpoint, config: begun } = self;
        if begun.genotype != config.genotype {
            config.write(&directory.file(run_directory::CONFIG))?;
        }
        Ok(Run { command, directory, from: checkpoint, policy, config: config.value()? })
    }

    /// What decides the result has to be as it was when the run was begun.
    pub fn check(&self, now: &RunConfig<S>) -> Result<(), Failure> {
        let begun = match &self.checkpoint {
            Some((_, checkpoint)) => checkpoint.header.config.clone(),
            None if self.config.genotype.is_some() => self.config.value()?,
            // A training may be laid out before its cells are known.
            None => RunConfig { genotype: now.genotype.clone(), ..self.config.clone() }.value()?,
        };
        let changes = differences(&begun, &now.value()?);
        if !changes.is_empty() {
            return Err(CannotResume::Changed { folder: self.directory.path().to_owned(), changes }.into());
        }
        let MachineConfig { version, isa, .. } = &self.config.machine;
        if (version, isa) != (&now.machine.version, &now.machine.isa) {
            stderr_line(format_args!(
                "warning: the run was begun by version {version} with {isa}, and goes on by version {} with {}: not to the same bits",
                now.machine.version, now.machine.isa
            ));
        }
        Ok(())
    }
}

/// The folder of a run, and where it starts from.
pub struct Run {
    /// The command.
    pub command: &'static str,
    /// The folder.
    pub directory: RunDirectory,
    /// The file that it goes on from and what is in there; `None` at the beginning.
    pub from: Option<(PathBuf, Checkpoint)>,
    policy: Policy,
    config: Value,
}

impl Run {
    /// The run in `folder`, which is gone on with if it is there and its configuration still the same, and begun if
    /// not.
    pub fn at<S: Clone + Serialize + DeserializeOwned>(
        command: &'static str,
        folder: &Path,
        config: &RunConfig<S>,
        policy: Policy,
    ) -> Result<Self, Failure> {
        if folder.join(run_directory::CONFIG).exists() {
            Previous::open(folder, command)?.go_on(command, config, policy)
        } else {
            Self::begin(command, RunDirectory::create(Some(folder), command)?, config, policy)
        }
    }

    /// A new run in `directory`, where its configuration is written down.
    fn begin<S: Serialize + DeserializeOwned>(
        command: &'static str,
        directory: RunDirectory,
        config: &RunConfig<S>,
        policy: Policy,
    ) -> Result<Self, Failure> {
        config.write(&directory.file(run_directory::CONFIG))?;
        Ok(Self { command, directory, from: None, policy, config: config.value()? })
    }

    /// How to go on with it, for the line that says where it is.
    pub fn next(&self) -> String {
        format!("; go on with darts {} --resume {}", self.command, self.directory.path().display())
    }

    /// What writes its checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        let folder = self.directory.file(run_directory::CHECKPOINTS);
        let from = self.from.as_ref().map(|(path, checkpoint)| (path.as_path(), &checkpoint.header));
        Checkpoints::new(folder, self.policy, self.config.clone(), from)
    }
}

impl RunArguments {
    /// The run that is to be gone on with, if one is.
    pub fn previous<S: Clone + Serialize + DeserializeOwned>(
        &self,
        command: &str,
    ) -> Result<Option<Previous<S>>, Failure> {
        self.resume.as_ref().map(|path| Previous::open(path, command)).transpose()
    }

    /// A new run, or the one of `previous` if `config` is still the same. From here on Ctrl-C saves.
    pub fn open<S: Clone + Serialize + DeserializeOwned>(
        &self,
        command: &'static str,
        previous: Option<Previous<S>>,
        config: &RunConfig<S>,
    ) -> Result<Run, Failure> {
        // Longer than any run where the number is too large.
        let every = Duration::try_from_secs_f64(60.0 * self.checkpoint_minutes).unwrap_or(Duration::MAX);
        let policy = Policy { every, keep: self.keep_checkpoints };
        let run = match previous {
            Some(previous) => previous.go_on(command, config, policy)?,
            None => Run::begin(command, RunDirectory::create(self.out.as_deref(), command)?, config, policy)?,
        };
        interrupt::install()?;
        Ok(run)
    }
}
