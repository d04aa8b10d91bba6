//! The configuration of a run as it was resolved: what decides its result, and what it was made with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::{self, WriteError};

/// What a run directory records before the first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig<S> {
    /// The subcommand that made it.
    pub command: String,
    /// The cells of a training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genotype: Option<String>,
    /// What it ran on.
    pub machine: MachineConfig,
    /// The images.
    pub data: DataConfig,
    /// Everything else that decides the result.
    pub settings: S,
}

/// What a run was made with. It decides nothing but, with another instruction set or version, the last bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Version of the program.
    pub version: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Threads.
    pub threads: usize,
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataConfig {
    /// What was loaded: `embedded`, or a folder.
    pub path: String,
    /// Training images that were taken, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// [`DataSource::fingerprint`](crate::data::DataSource::fingerprint), hexadecimal.
    pub fingerprint: String,
}

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The operating system refused.
    #[error("cannot read {}: {source}; give the folder of a run of `darts search` or `darts train`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is no configuration of such a run.
    #[error("{} line {line}: {problem}; put back what was there, or start a new run", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl<S: Serialize + DeserializeOwned> RunConfig<S> {
    /// Writes the file `path` (TOML).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let text = toml::to_string(self)
            .map_err(|error| WriteError { path: path.to_owned(), source: io::Error::other(error) })?;
        atomic::write(path, text.as_bytes())
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not what [`write`](Self::write) writes.
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigFileError::Io { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.lines().count().max(1);
            ConfigFileError::Content { path: path.to_owned(), line, problem: error.message().replace('\n', " ") }
        })
    }

    /// The configuration as a tree, the form in which a checkpoint has it.
    ///
    /// # Errors
    /// If a number has no JSON form.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

/// What is set in a configuration (in the form of [`RunConfig::value`]), as text by names such as `augment.flip` and
/// `data.path`.
pub fn settings(config: &Value) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    flatten(config, String::new(), &mut settings);
    let short = |name: String| name.strip_prefix("settings.").map_or(name.clone(), str::to_owned);
    settings.into_iter().map(|(name, value)| (short(name), value)).collect()
}

/// The command of a run, from its configuration in the file `path`.
///
/// # Errors
/// As [`RunConfig::read`].
pub fn command(path: &Path) -> Result<String, ConfigFileError> {
    RunConfig::<toml::Table>::read(path).map(|config| config.command)
}

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the setting.
    pub name: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {} and is {}", self.name, self.old, self.new)
    }
}

/// Where two configurations lead to different results: everything but the machine and the place of the data, whose
/// fingerprint counts.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let [old, new] = [old, new].map(|config| {
        let mut settings = BTreeMap::new();
        flatten(config, String::new(), &mut settings);
        settings.retain(|name, _| !name.starts_with("machine.") && name != "data.path");
        settings
    });
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let of =
        |settings: &BTreeMap<String, String>, name: &str| settings.get(name).map_or("none", |value| value).to_owned();
    let differing = names.filter(|name| old.get(*name) != new.get(*name));
    let difference = |name: &String| Difference {
        name: name.strip_prefix("settings.").unwrap_or(name).to_owned(),
        old: of(&old, name),
        new: of(&new, name),
    };
    differing.map(difference).collect()
}

/// Collects what is set below `value` as text, under names such as `settings.augment.flip`.
fn flatten(value: &Value, name: String, settings: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(value, name, settings);
            }
        }
        // What is not there in the file.
        Value::Null => {}
        Value::String(text) => {
            settings.insert(name, text.clone());
        }
        value => {
            settings.insert(name, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Normalization;
    use crate::graph::space::Space;
    use crate::search::budget::{BudgetSettings, ModelForm};
    use crate::search::guard::GuardSettings;
    use crate::search::selection::Select;
    use crate::search::settings::SearchSettings;
    use crate::search::smoothing::Smoothing;
    use crate::search::supernet_guards::{Decay, SupernetGuards};
    use crate::train::{Schedule, TrainSettings};

    fn config<S>(settings: S) -> RunConfig<S> {
        RunConfig {
            command: "search".into(),
            genotype: None,
            machine: MachineConfig { version: "1".into(), isa: "scalar".into(), threads: 2 },
            data: DataConfig { path: "a \"folder\"".into(), limit: Some(40), fingerprint: "0f".into() },
            settings,
        }
    }

    #[track_caller]
    fn survives<S: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(config: &RunConfig<S>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config.toml");
        config.write(&path).expect("writable");
        let read = RunConfig::read(&path).expect("readable");
        assert_eq!(read, *config);
        let [old, new] = [config, &read].map(|config| config.value().expect("it has a JSON form"));
        assert_eq!(differences(&old, &new), []);
    }

    #[test]
    fn a_configuration_survives_its_file() {
        survives(&config(SearchSettings::PAPER));
        let normalization = Some(Normalization { mean: vec![0.1, 1.0 / 3.0], std: vec![0.2, 1e-20] });
        survives(&config(SearchSettings { normalization: normalization.clone(), ..SearchSettings::QUICK }));
        let guards = GuardSettings {
            space: Space::S3,
            warm_up: 4,
            max_skips: Some(0),
            eigenvalue: true,
            stop_eigenvalue: Some(1.3),
            smooth: Some(Smoothing::Adversarial),
            smooth_epsilon: 0.1,
            select: Select::Perturbation,
            select_tune_epochs: 2,
        };
        survives(&config(SearchSettings { guards, ..SearchSettings::PAPER }));
        let supernet_guards = SupernetGuards { skip_dropout: 0.3, auxiliary_skip: Some(Decay::Linear), partial: 4 };
        survives(&config(SearchSettings { supernet_guards, ..SearchSettings::PAPER }));
        let budgets = BudgetSettings {
            max_params: Some(40_000),
            max_ram: Some(65_536),
            macs_penalty: 0.25,
            macs_target: Some(7),
            budget_layers: Some(5),
            ram_precision: ModelForm::Int8,
            ..BudgetSettings::NONE
        };
        survives(&config(SearchSettings { budgets, ..SearchSettings::PAPER }));
        let schedule = Schedule::Step { epochs: 3, factor: 0.97 };
        let genotype = Some("cells".to_owned());
        let settings = TrainSettings { normalization, schedule, held_out: Some(5), ..TrainSettings::IMAGENET };
        survives(&RunConfig { genotype, ..config(settings) });
        survives(&config(TrainSettings::CIFAR));
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let old = config(SearchSettings::PAPER);
        let mut new = old.clone();
        (new.machine.threads, new.data.path) = (7, "elsewhere".into());
        let differing = |new: &RunConfig<SearchSettings>| {
            differences(&old.value().expect("JSON"), &new.value().expect("JSON"))
                .iter()
                .map(Difference::to_string)
                .collect::<Vec<_>>()
        };
        assert!(differing(&new).is_empty());
        new.settings.sgd.momentum = 0.5;
        new.settings.augment.cutout = Some(16);
        new.data.fingerprint = "aa".into();
        new.data.limit = None;
        assert_eq!(
            differing(&new),
            [
                "data.fingerprint was 0f and is aa",
                "data.limit was 40 and is none",
                "momentum was 0.9 and is 0.5",
                "augment.cutout was none and is 16"
            ]
        );
    }

    #[test]
    fn a_damaged_file_is_told_where() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config.toml");
        let read = |text: &str| {
            fs::write(&path, text).expect("writable");
            RunConfig::<SearchSettings>::read(&path).expect_err("it is damaged").to_string()
        };
        let error = read("command = \"search\"\nepochs = = 2\n");
        assert!(error.contains("config.toml line 2") && !error.contains('\n'), "{error}");
        assert!(read("").contains("command"));
        fs::remove_file(&path).expect("it is there");
        let error = RunConfig::<SearchSettings>::read(&path).expect_err("it is not there").to_string();
        assert!(error.contains("config.toml") && error.contains("darts search"), "{error}");
    }
}
