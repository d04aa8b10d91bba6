//! Guards against the collapse of a search, in which skip connections outgrow all else: what is switched on. All are
//! off by default, and a search without them takes the same steps to the same bits.

use darts_core::Primitive;
use serde::{Deserialize, Serialize};

use super::selection::Select;
use super::smoothing::{self, Smoothing};
use crate::graph::space::Space;

/// Which guards there are, and the space that is searched. Settings that are off are not written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardSettings {
    /// The operations that an edge chooses from. The reduced ones of RobustDARTS (arXiv 1909.09656) are where a search
    /// collapses soonest.
    #[serde(skip_serializing_if = "Space::is_darts")]
    pub space: Space,
    /// Epochs at the beginning in which only the weights learn, and α stays as it is (PC-DARTS, arXiv 1907.05737: 15 of
    /// 50).
    #[serde(skip_serializing_if = "is_default")]
    pub warm_up: usize,
    /// Most skip connections of a derived cell, normal and reduction alike (P-DARTS, arXiv 1904.12760: 2, in normal
    /// cells).
    #[serde(skip_serializing_if = "is_default")]
    pub max_skips: Option<usize>,
    /// Whether the largest eigenvalue of ∇²α L_val is measured behind every epoch (RobustDARTS, arXiv 1909.09656), see
    /// [`eigenvalue`](super::eigenvalue).
    #[serde(skip_serializing_if = "is_default")]
    pub eigenvalue: bool,
    /// How much it may grow before the search stops and goes back, see [`early_stop`](super::early_stop); it is
    /// measured then.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_eigenvalue: Option<f64>,
    /// How mixing weights are perturbed while the weights learn (SmoothDARTS, arXiv 2002.05283), see
    /// [`smoothing`](super::smoothing).
    #[serde(skip_serializing_if = "is_default")]
    pub smooth: Option<Smoothing>,
    /// How far at the end of the search.
    #[serde(skip_serializing_if = "is_default_epsilon")]
    pub smooth_epsilon: f64,
    /// What decides which operations and edges the derived cells have (DARTS-PT, arXiv 2108.04392), see
    /// [`selection`](super::selection).
    #[serde(skip_serializing_if = "is_default")]
    pub select: Select,
    /// Epochs in which the weights are tuned after each decision of a selection by perturbation.
    #[serde(skip_serializing_if = "is_default")]
    pub select_tune_epochs: usize,
}

/// Guards that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// α would never learn.
    #[error("a warm-up of {warm_up} epochs leaves none of {epochs} in which α learns: it must be shorter")]
    WarmUp {
        /// Epochs with α frozen.
        warm_up: usize,
        /// All epochs.
        epochs: usize,
    },
    /// Nothing could take the place of a skip connection.
    #[error("a limit of skip connections needs operations other than none and skip_connect in the search space")]
    OnlySkips,
    /// Perturbations do not look at α, nor at the supernet of an earlier epoch.
    #[error("{0} has no meaning where perturbations select the cells: leave out one of the two")]
    Selection(&'static str),
    /// They know mixing weights of operations only, and not those of edges.
    #[error("{0} does not go with partial channels, whose edges are weighted: leave out one of the two")]
    Partial(&'static str),
}

impl GuardSettings {
    /// Everything off, in the space of DARTS.
    pub const OFF: Self = Self {
        space: Space::DARTS,
        warm_up: 0,
        max_skips: None,
        eigenvalue: false,
        stop_eigenvalue: None,
        smooth: None,
        smooth_epsilon: smoothing::EPSILON,
        select: Select::Alpha,
        select_tune_epochs: 0,
    };

    /// Checks that the guards make sense together, in a search of `epochs` epochs.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self, epochs: usize) -> Result<(), GuardError> {
        let Self { space, warm_up, max_skips, stop_eigenvalue, select, .. } = *self;
        if warm_up >= epochs.max(1) {
            return Err(GuardError::WarmUp { warm_up, epochs });
        }
        let skip_or_none = |primitive| matches!(primitive, Primitive::None | Primitive::SkipConnect);
        if max_skips.is_some() && space.primitives().all(skip_or_none) {
            return Err(GuardError::OnlySkips);
        }
        if select == Select::Perturbation {
            let derives =
                [("a limit of skip connections", max_skips.is_some()), ("the early stop", stop_eigenvalue.is_some())];
            if let Some((what, _)) = derives.into_iter().find(|&(_, on)| on) {
                return Err(GuardError::Selection(what));
            }
        }
        Ok(())
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self::OFF
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_default_epsilon(epsilon: &f64) -> bool {
    *epsilon == smoothing::EPSILON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_off_are_not_written_down() {
        assert_eq!(serde_json::to_string(&GuardSettings::OFF).expect("JSON"), "{}");
        assert_eq!(serde_json::from_str::<GuardSettings>("{}").expect("all have defaults"), GuardSettings::OFF);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let guards = GuardSettings { warm_up: 3, ..GuardSettings::OFF };
        assert_eq!(guards.validate(4), Ok(()));
        assert_eq!(guards.validate(3), Err(GuardError::WarmUp { warm_up: 3, epochs: 3 }));
        let space = Space::new(&[Primitive::SkipConnect, Primitive::None]).expect("a space");
        assert_eq!(GuardSettings { space, ..GuardSettings::OFF }.validate(1), Ok(()));
        let limited = |space| GuardSettings { space, max_skips: Some(2), ..GuardSettings::OFF }.validate(1);
        assert_eq!(limited(space), Err(GuardError::OnlySkips));
        assert_eq!(limited(Space::S2), Ok(()));
        let selecting = GuardSettings { select: Select::Perturbation, ..GuardSettings::OFF };
        assert_eq!(selecting.validate(1), Ok(()));
        for guards in [
            GuardSettings { max_skips: Some(2), ..selecting.clone() },
            GuardSettings { stop_eigenvalue: Some(1.3), ..selecting },
        ] {
            assert!(matches!(guards.validate(1), Err(GuardError::Selection(_))));
        }
    }
}
