//! Guards against collapse that change the supernet while it is searched: all of them off by default.

use serde::{Deserialize, Serialize};

use super::optimizer::cosine;
use crate::graph::variant::Variant;

/// Which guards are on. What is off is left out of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupernetGuards {
    /// Probability in the first epoch to drop an identity for an image (skip dropout, P-DARTS); 0 is off.
    #[serde(skip_serializing_if = "is_zero")]
    pub skip_dropout: f64,
    /// How the weight of an auxiliary skip connection on every edge goes from 1 to 0 (DARTS−), if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary_skip: Option<Decay>,
    /// One channel of so many goes through the mixed operations, the others pass them by, and edges are weighted
    /// (PC-DARTS); 1 is off.
    #[serde(skip_serializing_if = "is_one")]
    pub partial: usize,
}

/// How a weight goes from 1 in the first epoch to 0 behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// By the same step every epoch.
    Linear,
    /// As half a period of the cosine.
    Cosine,
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl SupernetGuards {
    /// None of them.
    pub const NONE: Self = Self { skip_dropout: 0.0, auxiliary_skip: None, partial: 1 };

    /// What they make of the supernet of the paper.
    pub fn variant(&self) -> Variant {
        Variant {
            skip_dropout: self.skip_dropout > 0.0,
            auxiliary_skip: self.auxiliary_skip.is_some(),
            partial: self.partial,
            ..Variant::default()
        }
    }

    /// Probability to drop an identity in epoch `epoch` (from 0) of `epochs`: it goes down by the same step every
    /// epoch, to 0 in the last. That is the schedule of the code of P-DARTS for the epochs before α learns.
    pub fn skip_dropout(&self, epoch: usize, epochs: usize) -> f64 {
        self.skip_dropout * (epochs - epoch - 1) as f64 / epochs as f64
    }

    /// Weight of the auxiliary skip connections in epoch `epoch` (from 0) of `epochs`.
    pub fn auxiliary_weight(&self, epoch: usize, epochs: usize) -> f64 {
        match self.auxiliary_skip {
            None => 0.0,
            Some(Decay::Linear) => (epochs - epoch) as f64 / epochs as f64,
            Some(Decay::Cosine) => cosine(1.0, 0.0, epoch, epochs),
        }
    }
}

impl Default for SupernetGuards {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: usize = 4;

    fn over_epochs(value: impl Fn(usize) -> f64) -> [f64; EPOCHS] {
        std::array::from_fn(value)
    }

    #[test]
    fn skip_dropout_ends_at_zero() {
        let guards = SupernetGuards { skip_dropout: 0.4, ..SupernetGuards::NONE };
        let found = over_epochs(|epoch| guards.skip_dropout(epoch, EPOCHS));
        assert!(found.iter().zip([0.3, 0.2, 0.1, 0.0]).all(|(found, expected)| (found - expected).abs() < 1e-12));
        assert_eq!(over_epochs(|epoch| SupernetGuards::NONE.skip_dropout(epoch, EPOCHS)), [0.0; EPOCHS]);
    }

    #[test]
    fn the_auxiliary_weight_starts_at_one() {
        let of = |auxiliary_skip| {
            let guards = SupernetGuards { auxiliary_skip, ..SupernetGuards::NONE };
            over_epochs(|epoch| guards.auxiliary_weight(epoch, EPOCHS))
        };
        assert_eq!(of(Some(Decay::Linear)), [1.0, 0.75, 0.5, 0.25]);
        let cosine = of(Some(Decay::Cosine));
        let expected = [1.0, 0.5 + 0.125f64.sqrt(), 0.5, 0.5 - 0.125f64.sqrt()];
        assert!(cosine.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{cosine:?}");
        assert_eq!(of(None), [0.0; EPOCHS]);
    }

    #[test]
    fn what_is_off_is_not_in_the_file() {
        assert_eq!(toml::to_string(&SupernetGuards::NONE).expect("TOML"), "");
        assert_eq!(toml::from_str::<SupernetGuards>("").expect("all of it has defaults"), SupernetGuards::NONE);
        let guards = SupernetGuards { skip_dropout: 0.5, auxiliary_skip: Some(Decay::Cosine), partial: 4 };
        assert_eq!(toml::from_str::<SupernetGuards>(&toml::to_string(&guards).expect("TOML")), Ok(guards));
    }
}
