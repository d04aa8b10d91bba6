//! Options of models on 8-bit integers.

use std::str::FromStr;

use clap::ValueEnum;
use darts_host::data::Dataset;
use darts_host::export::{Calibration, ExportError, FloatLayers, Precision, Quantization};
use darts_host::model_file::size;
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::Kernels;

use super::Failure;

/// See [`Calibration`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum CalibrationArgument {
    /// From the least to the greatest value
    Minmax,
    /// Without the outermost 0.005 % of the values on either side
    Percentile,
    /// The part of the range with the least mean squared error
    #[default]
    Mse,
}

impl From<CalibrationArgument> for Calibration {
    fn from(argument: CalibrationArgument) -> Self {
        match argument {
            CalibrationArgument::Minmax => Self::MinMax,
            CalibrationArgument::Percentile => Self::Percentile,
            CalibrationArgument::Mse => Self::Mse,
        }
    }
}

/// Layers and what they are kept in, `cells.3=f16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed(FloatLayers);

impl FromStr for Mixed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, precision) = text.split_once('=').unwrap_or((text, ""));
        let precision = match precision {
            "f32" => Precision::F32,
            "f16" => Precision::F16,
            _ => return Err("expected NAME=f32 or NAME=f16, such as classifier=f32".into()),
        };
        Ok(Self(FloatLayers { name: name.to_owned(), precision }))
    }
}

impl Mixed {
    /// What the library takes.
    pub fn all(arguments: &[Self]) -> Vec<FloatLayers> {
        arguments.iter().map(|Self(layers)| layers.clone()).collect()
    }
}

/// So many images, or all, spread evenly over `data`.
pub fn spread(data: &Dataset, count: usize) -> Dataset {
    let count = count.min(data.len());
    data.subset(&(0..count).map(|index| index * data.len() / count).collect::<Vec<_>>())
}

/// Calibrates with `count` of the training images of the data set `name`.
pub fn calibrated<'a>(
    network: &'a TrainedNetwork,
    (name, train): (&str, &Dataset),
    (calibration, count): (CalibrationArgument, usize),
    kernels: Kernels,
) -> Result<Quantization<'a>, Failure> {
    let input = network.graph()?.input;
    if train.shape() != input {
        return Err(format!(
            "the network takes images of {}, those of {name} are {}: calibrate with the data set that it was trained on",
            size(input),
            size(train.shape())
        )
        .into());
    }
    Quantization::new(network, &spread(train, count), calibration.into(), kernels).map_err(stopped)
}

/// An error of an export, or that Ctrl-C ended it.
pub fn stopped(error: ExportError) -> Failure {
    match error {
        ExportError::Interrupted(interrupted) => interrupted.into(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_a_precision() {
        let layers = FloatLayers { name: "cells.3".to_owned(), precision: Precision::F16 };
        assert_eq!("cells.3=f16".parse(), Ok(Mixed(layers)));
        for text in ["", "cells.3", "cells.3=", "cells.3=int8", "f32"] {
            assert!(text.parse::<Mixed>().is_err(), "{text}");
        }
    }
}
