//! Options of a search against its collapse, in which skip connections outgrow all other operations.

use clap::{Args, ValueEnum};
use darts_host::graph::space::Space;
use darts_host::search::guard::GuardSettings;
use darts_host::search::selection;
use darts_host::search::smoothing;

use super::training::{non_negative, set};

/// What can be done against a collapse, and the spaces in which it shows. All is off unless asked for; docs/collapse.md
/// is about when to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Against collapse")]
pub struct CollapseArguments {
    /// Operations that edges choose from [default: darts].
    #[arg(long, value_name = "NAME")]
    space: Option<SpaceName>,

    /// The same as a list, such as skip_connect,sep_conv_3x3.
    #[arg(long, value_name = "OPERATION,…", conflicts_with = "space")]
    primitives: Option<Space>,

    /// Epochs at the beginning in which α stays as it is and only the weights learn (PC-DARTS, arXiv 1907.05737: 15 of
    /// 50).
    #[arg(long, value_name = "EPOCHS")]
    warm_up: Option<usize>,

    /// Most skip connections of a derived cell: the weakest are given up, and the cell is derived anew (P-DARTS, arXiv
    /// 1904.12760: 2).
    #[arg(long, value_name = "N")]
    max_skips: Option<usize>,

    /// Measure the largest eigenvalue of the Hessian of the validation loss in α behind every epoch, which grows before
    /// a collapse (RobustDARTS, arXiv 1909.09656).
    #[arg(long)]
    eigenvalue: bool,

    /// The same, and stop when it has grown by this factor, with the α of before [default: 1.3, as RobustDARTS].
    #[arg(long, value_name = "FACTOR", value_parser = non_negative, num_args = 0..=1, default_missing_value = FACTOR)]
    stop_eigenvalue: Option<f64>,

    /// Perturb softmax(α) while the weights learn (SmoothDARTS, arXiv 2002.05283).
    #[arg(long, value_name = "HOW")]
    smooth: Option<Smoothing>,

    /// How far at the end of the search, from 0.03 at its beginning [default: 0.3].
    #[arg(long, value_name = "X", value_parser = non_negative, requires = "smooth")]
    smooth_epsilon: Option<f64>,

    /// What decides which operations and edges derived cells have [default: alpha].
    #[arg(long, value_name = "WHAT")]
    select: Option<Select>,

    /// Epochs in which the weights are tuned after each decision of a selection by perturbation [default: 0].
    #[arg(long, value_name = "EPOCHS", requires = "select")]
    select_tune_epochs: Option<usize>,
}

/// That of RobustDARTS.
const FACTOR: &str = "1.3";

/// How mixing weights are perturbed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Smoothing {
    /// At random, uniformly.
    Random,
    /// To the largest loss, by seven steps of gradient ascent: seven passes more a step.
    Adversarial,
}

impl From<Smoothing> for smoothing::Smoothing {
    fn from(smoothing: Smoothing) -> Self {
        match smoothing {
            Smoothing::Random => Self::Random,
            Smoothing::Adversarial => Self::Adversarial,
        }
    }
}

/// What decides which operations and edges derived cells have.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Select {
    /// The size of softmax(α).
    Alpha,
    /// The validation accuracy that the supernet loses without them, measured behind the search (DARTS-PT, arXiv
    /// 2108.04392).
    Perturbation,
}

impl From<Select> for selection::Select {
    fn from(select: Select) -> Self {
        match select {
            Select::Alpha => Self::Alpha,
            Select::Perturbation => Self::Perturbation,
        }
    }
}

/// A search space with a name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SpaceName {
    /// All eight operations.
    Darts,
    /// skip_connect and sep_conv_3x3 (RobustDARTS, arXiv 1909.09656).
    S2,
    /// none, skip_connect and sep_conv_3x3 (RobustDARTS).
    S3,
}

impl From<SpaceName> for Space {
    fn from(name: SpaceName) -> Self {
        match name {
            SpaceName::Darts => Self::DARTS,
            SpaceName::S2 => Self::S2,
            SpaceName::S3 => Self::S3,
        }
    }
}

impl CollapseArguments {
    /// Changes `guards` as the command line says.
    pub fn apply(&self, guards: &mut GuardSettings) {
        set(&mut guards.space, self.primitives.or(self.space.map(Into::into)));
        set(&mut guards.warm_up, self.warm_up);
        set(&mut guards.max_skips, self.max_skips.map(Some));
        guards.eigenvalue |= self.eigenvalue;
        set(&mut guards.stop_eigenvalue, self.stop_eigenvalue.map(Some));
        set(&mut guards.smooth, self.smooth.map(|smoothing| Some(smoothing.into())));
        set(&mut guards.smooth_epsilon, self.smooth_epsilon);
        set(&mut guards.select, self.select.map(Into::into));
        set(&mut guards.select_tune_epochs, self.select_tune_epochs);
    }
}
