//! Options of a search against its collapse, in which skip connections outgrow all other operations.

use clap::{Args, ValueEnum};
use darts_host::graph::space::Space;
use darts_host::search::guard::GuardSettings;

use super::training::set;

/// What can be done against a collapse, and the spaces in which it shows. All is off unless asked for; docs/collapse.md is about when to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Against collapse")]
pub struct CollapseArguments {
    /// Operations that edges choose from [default: darts].
    #[arg(long, value_name = "NAME")]
    space: Option<SpaceName>,

    /// The same as a list, such as skip_connect,sep_conv_3x3.
    #[arg(long, value_name = "OPERATION,…", conflicts_with = "space")]
    primitives: Option<Space>,

    /// Epochs at the beginning in which α stays as it is and only the weights learn (PC-DARTS, arXiv 1907.05737: 15 of 50).
    #[arg(long, value_name = "EPOCHS")]
    warm_up: Option<usize>,

    /// Most skip connections of a derived cell: the weakest are given up, and the cell is derived anew (P-DARTS, arXiv
    /// 1904.12760: 2).
    #[arg(long, value_name = "N")]
    max_skips: Option<usize>,
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
    }
}
