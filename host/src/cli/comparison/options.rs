//! Options of the comparisons of cells.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Command, ValueEnum};
use darts_host::data::DataSource;
use darts_host::search::settings::SearchSettings;
use darts_host::train::TrainSettings;

use super::super::Failure;
use super::super::training::{DataArguments, Preset, one_or_more, seed};
use super::super::{search, train};

/// Epochs of the short training by which the paper chooses among its searches (section 3.1).
const SHORT_EPOCHS: usize = 100;

/// How every cell is trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training of the cells")]
pub struct TrainingArguments {
    /// Epochs of every cell's training from scratch [default: 100, as in the paper; 12 with the quick preset].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    short_epochs: Option<usize>,

    /// At the end train the chosen cell, and the random one with the best validation accuracy, from scratch for so
    /// long.
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    pub final_epochs: Option<usize>,

    /// Seed of every training, the same for all cells: of the weights, the images held out, and the order [default: 0].
    #[arg(long, value_name = "N", value_parser = seed())]
    train_seed: Option<u64>,

    /// Where settings that are not given come from [default: paper].
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,

    /// Other options of `darts train`, in one argument: "--channels 16 --layers 8".
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    train_options: Option<String>,
}

impl TrainingArguments {
    /// What all trainings have in common.
    pub fn settings(&self, source: &DataSource, data: &DataArguments) -> Result<TrainSettings, Failure> {
        let text = self.train_options.as_deref().unwrap_or_default();
        let cells = ["--genotype".to_owned(), "DARTS_V2".to_owned()].into_iter();
        let options = parse::<train::Arguments>("--train-options", text, cells.chain(preset(self.preset)))?;
        let mut settings = options.settings(source, None)?;
        let default = if options.preset() == Some(Preset::Quick) { settings.epochs } else { SHORT_EPOCHS };
        settings.epochs = self.short_epochs.unwrap_or(default);
        settings.seed = self.train_seed.unwrap_or(settings.seed);
        if let Some(normalization) = data.normalization(source)? {
            settings.normalization = Some(normalization);
        }
        Ok(settings)
    }

    /// An option that is given though the settings are those of another training.
    pub fn given(&self) -> Option<&'static str> {
        let options = [
            (self.short_epochs.is_some(), "--short-epochs"),
            (self.train_seed.is_some(), "--train-seed"),
            (self.preset.is_some(), "--preset"),
            (self.train_options.is_some(), "--train-options"),
        ];
        options.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

/// The settings that all searches have in common, of the options of `darts search` in `text`.
pub fn search_settings(
    text: &str,
    preset_of_all: Option<Preset>,
    epochs: Option<usize>,
    source: &DataSource,
    data: &DataArguments,
) -> Result<SearchSettings, Failure> {
    let options = parse::<search::Arguments>("--search-options", text, preset(preset_of_all))?;
    let mut settings = options.settings(source, None)?;
    settings.epochs = epochs.unwrap_or(settings.epochs);
    settings.check_guards()?;
    settings.budgets(&source.train)?;
    if let Some(normalization) = data.normalization(source)? {
        settings.normalization = Some(normalization);
    }
    Ok(settings)
}

fn preset(preset: Option<Preset>) -> impl Iterator<Item = String> {
    let name = preset.and_then(|preset| preset.to_possible_value()).map(|value| value.get_name().to_owned());
    name.into_iter().flat_map(|name| ["--preset".to_owned(), name])
}

/// Options that stand in the text of another one and do not belong there.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {problem}")]
pub struct WrongOptions {
    option: &'static str,
    problem: String,
}

/// What decides nothing or is decided by the comparison.
const NOT_THERE: [&str; 14] = [
    "--out",
    "--resume",
    "--json",
    "--data",
    "--limit",
    "--mean",
    "--std",
    "--threads",
    "--genotype",
    "--seed",
    "--epochs",
    "--no-test",
    "--checkpoint-minutes",
    "--keep-checkpoints",
];

/// The arguments in `text`, words between blanks, behind those in `before`.
fn parse<A: Args>(option: &'static str, text: &str, before: impl Iterator<Item = String>) -> Result<A, WrongOptions> {
    let names = text.split_whitespace().map(|word| word.split('=').next().unwrap_or(word));
    if let Some(name) = names.into_iter().find(|name| NOT_THERE.contains(name)) {
        let problem =
            format!("{name} cannot be given there: data, seeds, epochs, threads and folders are the comparison's");
        return Err(WrongOptions { option, problem });
    }
    let command = A::augment_args(Command::new(option).no_binary_name(true).disable_help_flag(true));
    let words = before.chain(text.split_whitespace().map(str::to_owned));
    let parsed = command.try_get_matches_from(words).and_then(|matches| A::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let text = error.to_string();
        let problem = text.lines().next().unwrap_or_default();
        WrongOptions { option, problem: problem.strip_prefix("error: ").unwrap_or(problem).to_owned() }
    })
}

/// Folder and processes of a comparison.
#[derive(Debug, Args)]
pub struct ComparisonArguments {
    /// Folder of the comparison, new or empty; every search and training has a run directory in it [default:
    /// runs/COMMAND-N].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Go on with the comparison in this folder: what is finished is not repeated. Settings and data are those of the
    /// folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "TrainingArguments", "protocol"])]
    pub resume: Option<PathBuf>,

    /// Only lay out the folders, whose runs other processes go on with: `darts search --resume`,
    /// `darts train --resume`.
    #[arg(long)]
    pub prepare: bool,

    /// Print one JSON object at the end and no progress.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub processes: Processes,
}

/// How many processes work at a time.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct Processes {
    /// Searches and trainings that run at a time, each a process of its own [default: as many as processors and memory
    /// allow].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    pub jobs: Option<usize>,

    /// Threads of each; 0 is an equal share of the processors. The result does not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

/// The most cells of either kind; far more than anybody trains, and few enough to be laid out.
const MOST_CELLS: u64 = 1000;

/// A number of cells, at least `least`.
pub fn number_of_cells(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=MOST_CELLS)
}

/// A percentage such as `20%`, as a share.
pub fn percentage(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(number)) if number.is_finite() && number > 0.0 => Ok(number / 100.0),
        _ => Err("expected a percentage, such as 20%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(percentage("20%"), Ok(0.2));
        for text in ["20", "0.2", "0%", "-5%", "%", "NaN%", "inf%"] {
            assert!(percentage(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_in_a_text_are_those_of_the_command() {
        let parse = |text| parse::<search::Arguments>("--search-options", text, preset(Some(Preset::Quick)));
        assert!(parse("").is_ok() && parse(" --order first   --channels 3 ").is_ok());
        for (text, part) in [
            ("--seed=3", "--seed cannot be given there"),
            ("--channels", "value is required"),
            ("--colour red", "--colour"),
            ("--preset paper", "--preset"),
            ("--help", "--help"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part) && error.starts_with("--search-options: "), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
