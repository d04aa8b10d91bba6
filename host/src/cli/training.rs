//! Arguments and reports that searching and training share.

use std::path::{PathBuf, absolute};

use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use clap::{Args, ValueEnum};
use darts_host::checkpoint::Policy;
use darts_host::config::DataConfig;
use darts_host::data::{self, Augment, DataError, DataSource, LoadOptions, Normalization};
use darts_host::engine;
use darts_host::search::optimizer::SgdSettings;

use super::Failure;
use super::common::Session;
use super::table::Table;

/// Where options that are not given come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// The paper's hyper-parameters.
    Paper,
    /// A small network and few epochs, for a first look.
    Quick,
}

/// What a search and a training have in common.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Where options that are not given come from [default: paper].
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,

    /// Passes over the images that the weights learn on.
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    pub epochs: Option<usize>,

    /// Images in a batch.
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    pub batch: Option<usize>,

    /// Seed of everything that is drawn.
    #[arg(long, value_name = "N", value_parser = seed())]
    pub seed: Option<u64>,

    /// How values are kept from the forward to the backward pass [default: f32].
    #[arg(long, value_name = "FORM")]
    pub saved: Option<Saved>,

    /// Run directory, new or empty [default: runs/COMMAND-N].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Go on with the run in this folder from its last checkpoint. Settings and data are that run's; options that say
    /// otherwise are refused.
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    pub resume: Option<PathBuf>,

    /// Write a checkpoint every so many minutes; there is one behind every epoch and at Ctrl-C in any case.
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = non_negative)]
    pub checkpoint_minutes: f64,

    /// Keep so many checkpoints, beside that of the epoch with the best validation accuracy.
    #[arg(long, value_name = "N", default_value_t = Policy::default().keep, value_parser = one_or_more())]
    pub keep_checkpoints: usize,

    /// Print one JSON object at the end and no progress.
    #[arg(long)]
    pub json: bool,
}

/// The optimizer of the weights.
#[derive(Debug, Args)]
pub struct SgdArguments {
    /// Learning rate of the first epoch.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    learning_rate: Option<f64>,
    /// Learning rate that the cosine goes down to.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    learning_rate_min: Option<f64>,
    /// Momentum.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    momentum: Option<f64>,
    /// Weight decay.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    grad_clip: Option<f64>,
}

impl SgdArguments {
    /// Changes `sgd` as the command line says.
    pub fn apply(&self, sgd: &mut SgdSettings) {
        set(&mut sgd.learning_rate, self.learning_rate);
        set(&mut sgd.learning_rate_min, self.learning_rate_min);
        set(&mut sgd.momentum, self.momentum);
        set(&mut sgd.weight_decay, self.weight_decay);
        set(&mut sgd.grad_clip, self.grad_clip);
    }
}

/// Where images come from and how they are prepared.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct DataArguments {
    /// `embedded` (a subset of Fashion-MNIST), the name of a set that `darts data get` fetched, or a folder: IDX files,
    /// CIFAR binary files, or images in a folder per class [default: embedded].
    #[arg(long, value_name = "PATH|NAME|embedded", value_parser = NonEmptyStringValueParser::new())]
    pub data: Option<String>,

    /// Use so many training images only, as many of each class.
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    pub limit: Option<usize>,

    /// Mean of each channel, of pixels scaled to 0 to 1 [default: that of the training images].
    #[arg(long, value_name = "M,…", value_delimiter = ',', requires = "std")]
    pub mean: Option<Vec<f32>>,

    /// Standard deviation of each channel [default: that of the training images].
    #[arg(long, value_name = "S,…", value_delimiter = ',', requires = "mean")]
    pub std: Option<Vec<f32>>,
}

impl DataArguments {
    /// The images, the training set cut to `--limit`. What is not given is taken from the run that is gone on with, if
    /// any.
    pub fn load(&self, session: &Session, previous: Option<&DataConfig>) -> Result<Images, Failure> {
        let given = self.data.as_deref().or(previous.map(|previous| previous.path.as_str())).unwrap_or(EMBEDDED);
        let limit = self.limit.or(previous.and_then(|previous| previous.limit));
        let options = LoadOptions { progress: session.progress.clone(), ..LoadOptions::default() };
        let mut source = session.workers.pool().install(|| data::load(given, &options))?;
        let folder = data::catalogue::locate(given, None)?;
        if let Some(limit) = limit {
            source.train = source.train.limited(limit);
        }
        session.progress.line(&source.to_string());
        // The run may be gone on with from another folder.
        let path = if given == EMBEDDED { given.into() } else { absolute(folder)?.to_string_lossy().into_owned() };
        let fingerprint = format!("{:016x}", source.fingerprint());
        Ok(Images { source, config: DataConfig { path, limit, fingerprint } })
    }

    /// The given normalisation, if one is given.
    pub fn normalization(&self, source: &DataSource) -> Result<Option<Normalization>, DataError> {
        match (&self.mean, &self.std) {
            (Some(mean), Some(std)) => Normalization::new(mean.clone(), std.clone(), source.shape().channels).map(Some),
            _ => Ok(None),
        }
    }
}

/// The name of the images that come with the program.
const EMBEDDED: &str = "embedded";

/// A data set and what a run records of it.
pub struct Images {
    /// The images.
    pub source: DataSource,
    /// The record.
    pub config: DataConfig,
}

/// Random changes of training images.
#[derive(Debug, Args)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentArguments {
    /// Pad every side with so many black pixels and crop at random.
    #[arg(long, value_name = "PIXELS")]
    crop_padding: Option<usize>,

    /// Do not mirror left and right at random.
    #[arg(long)]
    no_flip: bool,

    /// Blank a random square of this side; 0 for none.
    #[arg(long, value_name = "PIXELS")]
    cutout: Option<usize>,

    /// Take the images as they are.
    #[arg(long, conflicts_with_all = ["crop_padding", "no_flip", "cutout"])]
    no_augment: bool,
}

impl AugmentArguments {
    /// Changes `augment` as the command line says.
    pub fn apply(&self, augment: &mut Augment) {
        if self.no_augment {
            *augment = Augment::NONE;
        }
        set(&mut augment.crop_padding, self.crop_padding);
        augment.flip &= !self.no_flip;
        set(&mut augment.cutout, self.cutout.map(|side| (side > 0).then_some(side)));
    }
}

/// The options of a preset and their values, in the order in which they are shown.
pub type PresetOptions = Vec<(&'static str, String)>;

/// The options of [`SgdArguments`].
pub fn sgd_options(sgd: &SgdSettings) -> PresetOptions {
    vec![
        ("learning-rate", sgd.learning_rate.to_string()),
        ("learning-rate-min", sgd.learning_rate_min.to_string()),
        ("momentum", sgd.momentum.to_string()),
        ("weight-decay", sgd.weight_decay.to_string()),
        ("grad-clip", sgd.grad_clip.to_string()),
    ]
}

/// Those of the options of [`AugmentArguments`] in which presets differ.
pub fn augment_options(augment: &Augment) -> PresetOptions {
    vec![("crop-padding", augment.crop_padding.to_string()), ("cutout", augment.cutout.unwrap_or(0).to_string())]
}

/// A table of presets: `titles` of the columns, and what is in each, with the same options.
pub fn preset_table(titles: &[&str], presets: &[PresetOptions]) -> Table {
    let mut table = Table::new(&[&["preset"], titles].concat());
    for (row, (name, _)) in presets[0].iter().enumerate() {
        table.row([format!("  {name}")].into_iter().chain(presets.iter().map(|options| options[row].1.clone())));
    }
    table
}

/// Form of what is kept between the forward and the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Saved {
    /// As computed.
    F32,
    /// Rounded to half precision, in half the memory.
    F16,
}

impl From<Saved> for engine::Saved {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::F32 => Self::F32,
            Saved::F16 => Self::F16,
        }
    }
}

/// A value of the command line beats that of the preset.
pub fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// A whole number from 1 up, and no larger than any that makes sense.
pub fn one_or_more() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=u64::from(u32::MAX))
}

/// A seed that the configuration's file can hold.
pub fn seed() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(..=i64::MAX as u64)
}

/// A number from 0 up.
pub fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number, 0 or more".into()),
    }
}

/// A number from 0 up to, but not, 1.
pub fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to less than 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(non_negative("0.025"), Ok(0.025));
        for text in ["-1", "NaN", "inf", "", "1e999", "x"] {
            assert!(non_negative(text).is_err(), "{text}");
        }
        assert_eq!(probability("0.2"), Ok(0.2));
        for text in ["1", "-0.1", "NaN"] {
            assert!(probability(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_beats_the_preset() {
        let preset = Augment { cutout: Some(16), ..Augment::STANDARD };
        let given = |crop_padding, no_flip, cutout, no_augment| {
            let mut augment = preset;
            AugmentArguments { crop_padding, no_flip, cutout, no_augment }.apply(&mut augment);
            augment
        };
        assert_eq!(given(None, false, None, false), preset);
        assert_eq!(given(None, false, Some(0), false), Augment::STANDARD);
        assert_eq!(given(Some(2), true, None, false), Augment { crop_padding: 2, flip: false, ..preset });
        assert_eq!(given(None, false, None, true), Augment::NONE);
    }
}
