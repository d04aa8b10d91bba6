//! Options of `darts search` for what derived networks may cost.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use darts_host::search::budget::{BudgetSettings, ModelForm};

use super::budget::Bytes;
use super::training::{non_negative, one_or_more, set};

/// What networks may cost at most, and what of it α pays for; docs/budgets.md explains it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Budgets")]
pub struct LimitArguments {
    /// Most parameters of a derived network, such as 40K: cells that keep within the limits are derived, and the search is refused where
    /// none do. K and M are 1,000 and 1,000,000.
    #[arg(long, value_name = "N")]
    max_params: Option<Count>,

    /// Most multiply-adds of an inference, such as 8M.
    #[arg(long, value_name = "N")]
    max_macs: Option<Count>,

    /// Most bytes of the workspace of an inference, such as 64K; K and M are 1024 and 1024² bytes.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_ram: Option<Bytes>,

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
    #[arg(long, value_name = "N", requires = "params_penalty")]
    params_target: Option<Count>,

    /// Expected multiply-adds above which there is a penalty [default: --max-macs].
    #[arg(long, value_name = "N", requires = "macs_penalty")]
    macs_target: Option<Count>,

    /// Expected bytes of the workspace above which there is a penalty [default: --max-ram].
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "ram_penalty")]
    ram_target: Option<Bytes>,

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

/// A number of parameters or multiply-adds as it is written, `40K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count(u64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit {
            "" => Some(1),
            "K" | "k" => Some(1_000),
            "M" => Some(1_000_000),
            _ => None,
        };
        let count = number.parse().ok().zip(factor).and_then(|(number, factor): (u64, u64)| number.checked_mul(factor));
        count
            .filter(|&count| fits(count))
            .map(Self)
            .ok_or_else(|| "expected a number from 1 up, such as 40000, 40K or 8M".into())
    }
}

/// Whether it is a number from 1 up, and no more than the file of a configuration holds.
fn fits(number: u64) -> bool {
    number > 0 && i64::try_from(number).is_ok()
}

/// Bytes from 1 up.
fn bytes(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse()?;
    if fits(bytes.0) { Ok(bytes) } else { Err("expected a number of bytes from 1 up".into()) }
}

impl LimitArguments {
    /// Changes `budgets` as the command line says.
    pub fn apply(&self, budgets: &mut BudgetSettings) {
        let counts = [
            (&mut budgets.max_params, self.max_params),
            (&mut budgets.max_macs, self.max_macs),
            (&mut budgets.params_target, self.params_target),
            (&mut budgets.macs_target, self.macs_target),
        ];
        counts.into_iter().for_each(|(target, count)| set(target, count.map(|count| Some(count.0))));
        set(&mut budgets.max_ram, self.max_ram.map(|bytes| Some(bytes.0)));
        set(&mut budgets.ram_target, self.ram_target.map(|bytes| Some(bytes.0)));
        set(&mut budgets.params_penalty, self.params_penalty);
        set(&mut budgets.macs_penalty, self.macs_penalty);
        set(&mut budgets.ram_penalty, self.ram_penalty);
        set(&mut budgets.budget_channels, self.budget_channels.map(Some));
        set(&mut budgets.budget_layers, self.budget_layers.map(Some));
        set(&mut budgets.ram_precision, self.ram_precision.map(Into::into));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_parameters_and_multiply_adds() {
        for (text, count) in [("40000", 40_000), ("40K", 40_000), ("40k", 40_000), ("8M", 8_000_000), ("1", 1)] {
            assert_eq!(text.parse(), Ok(Count(count)), "{text}");
        }
        for text in ["", "K", "0", "0K", "1.5M", "-1", "40 K", "8G", "40KiB", "9999999999999999999"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        assert_eq!(bytes("64K"), Ok(Bytes(65_536)));
        assert!(bytes("0").is_err() && bytes("9223372036854775808").is_err() && bytes("64KB").is_err());
    }
}
