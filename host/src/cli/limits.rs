//! Options of `darts search` for what derived networks may cost.

use clap::{Args, ValueEnum};
use darts_host::search::budget::{BudgetSettings, ModelForm};

use super::amount::{bytes, count};
use super::training::{non_negative, one_or_more, set};

/// What networks may cost at most, and what of it α pays for; docs/budgets.md explains it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Budgets")]
pub struct LimitArguments {
    /// Most parameters of a derived network, such as 40K: cells that keep within the limits are derived, and the search
    /// is refused where none do. K and M are 1,000 and 1,000,000.
    #[arg(long, value_name = "N", value_parser = count)]
    max_params: Option<u64>,

    /// Most multiply-adds of an inference, such as 8M.
    #[arg(long, value_name = "N", value_parser = count)]
    max_macs: Option<u64>,

    /// Most bytes of the workspace of an inference, such as 64K; K and M are 1024 and 1024² bytes.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_ram: Option<u64>,

    /// Add to the loss of α so much for each time that the expected parameters are above the target [default: 0].
    #[arg(long, value_name = "X", value_parser = non_negative)]
    params_penalty: Option<f64>,

    /// The same for multiply-adds.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    macs_penalty: Option<f64>,

    /// The same for the workspace.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    ram_penalty: Option<f64>,

    /// Expected parameters above which there is a penalty [default: --max-params].
    #[arg(long, value_name = "N", value_parser = count, requires = "params_penalty")]
    params_target: Option<u64>,

    /// Expected multiply-adds above which there is a penalty [default: --max-macs].
    #[arg(long, value_name = "N", value_parser = count, requires = "macs_penalty")]
    macs_target: Option<u64>,

    /// Expected bytes of the workspace above which there is a penalty [default: --max-ram].
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "ram_penalty")]
    ram_target: Option<u64>,

    /// Channels of the network that is counted: those that it will be trained with [default: those of the supernet].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    budget_channels: Option<usize>,

    /// Cells of the network that is counted [default: those of the supernet].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    budget_layers: Option<usize>,

    /// Form of the model whose workspace is counted [default: f32].
    #[arg(long, value_name = "FORM")]
    ram_precision: Option<RamPrecision>,
}

/// Form of a model.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RamPrecision {
    /// In single precision.
    F32,
    /// With weights in half precision.
    F16,
    /// On 8-bit integers, which a microcontroller is for.
    Int8,
}

impl From<RamPrecision> for ModelForm {
    fn from(precision: RamPrecision) -> Self {
        match precision {
            RamPrecision::F32 => Self::F32,
            RamPrecision::F16 => Self::F16,
            RamPrecision::Int8 => Self::Int8,
        }
    }
}

impl LimitArguments {
    /// Changes `budgets` as the command line says.
    pub fn apply(&self, budgets: &mut BudgetSettings) {
        let amounts = [
            (&mut budgets.max_params, self.max_params),
            (&mut budgets.max_macs, self.max_macs),
            (&mut budgets.max_ram, self.max_ram),
            (&mut budgets.params_target, self.params_target),
            (&mut budgets.macs_target, self.macs_target),
            (&mut budgets.ram_target, self.ram_target),
        ];
        amounts.into_iter().for_each(|(target, amount)| set(target, amount.map(Some)));
        set(&mut budgets.params_penalty, self.params_penalty);
        set(&mut budgets.macs_penalty, self.macs_penalty);
        set(&mut budgets.ram_penalty, self.ram_penalty);
        set(&mut budgets.budget_channels, self.budget_channels.map(Some));
        set(&mut budgets.budget_layers, self.budget_layers.map(Some));
        set(&mut budgets.ram_precision, self.ram_precision.map(Into::into));
    }
}
