//! Options of `darts search` that change the supernet, against searches that end in skip connections.

use clap::{Args, ValueEnum};
use darts_host::search::supernet_guards::{Decay, SupernetGuards};

use super::training::{one_or_more, probability, set};

#[derive(Debug, Args)]
#[command(next_help_heading = "Against collapse, in the supernet")]
pub struct SupernetArguments {
    /// Drop each identity for an image with this probability, which goes down to 0 over the epochs (P-DARTS) [default:
    /// 0].
    #[arg(long, value_name = "P", value_parser = probability)]
    skip_dropout: Option<f64>,
    /// Put a skip connection beside every mixed operation, whose weight goes from 1 to 0 over the epochs (DARTS−)
    /// [default: off].
    #[arg(long, value_name = "DECAY")]
    auxiliary_skip: Option<AuxiliarySkip>,
    /// Send one channel of so many through the mixed operations and all others past them, and weight the edges of a
    /// node by β, which is learnt with α (PC-DARTS; its K is 4) [default: 1, all channels].
    #[arg(long, value_name = "K", value_parser = one_or_more())]
    partial: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuxiliarySkip {
    /// There is none.
    Off,
    /// By the same step every epoch, as the paper has it.
    Linear,
    /// As half a period of the cosine.
    Cosine,
}

impl From<AuxiliarySkip> for Option<Decay> {
    fn from(decay: AuxiliarySkip) -> Self {
        match decay {
            AuxiliarySkip::Off => None,
            AuxiliarySkip::Linear => Some(Decay::Linear),
            AuxiliarySkip::Cosine => Some(Decay::Cosine),
        }
    }
}

impl SupernetArguments {
    /// Changes `guards` as the command line says.
    pub fn apply(&self, guards: &mut SupernetGuards) {
        set(&mut guards.skip_dropout, self.skip_dropout);
        set(&mut guards.auxiliary_skip, self.auxiliary_skip.map(Into::into));
        set(&mut guards.partial, self.partial);
    }
}
