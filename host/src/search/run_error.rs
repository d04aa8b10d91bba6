//! Why a search or a training cannot be started or go on.

use super::budget::BudgetError;
use super::guard::GuardError;
use crate::atomic::WriteError;
use crate::checkpoint::RestoreError;
use crate::data::DataError;
use crate::graph::supernet::ConfigError;
use crate::state::Position;

/// A search that cannot be started or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A size is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Guards against a collapse do not go together.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// What networks may cost cannot be kept, or counted.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The data does not fit.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Something is no number any more, or far from what a network that learns can have.
    #[error(
        "{what} is {value} after step {} of epoch {}: try a smaller learning rate or a smaller gradient clip",
        step + 1,
        epoch + 1
    )]
    Diverged {
        /// What: a loss, or the norm of the gradient or of the weights.
        what: &'static str,
        /// What it is.
        value: f64,
        /// Epoch, from 0.
        epoch: usize,
        /// Step, from 0.
        step: usize,
    },
    /// The state that the run was to continue from is not one of it.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The observer failed.
    #[error(transparent)]
    Observer(#[from] WriteError),
}

/// A step's loss beyond this is an explosion: that of guessing is ln(classes), and one that is sure of the wrong class
/// for every image is tens. A validation loss by running statistics may be larger in a first epoch, and only has to be
/// a number.
const LARGEST_LOSS: f64 = 1e4;

impl RunError {
    /// `Ok` for numbers after the last step before `position`.
    pub(crate) fn check_finite(values: &[(&'static str, f64)], position: &Position) -> Result<(), Self> {
        Self::check(values, f64::MAX, position)
    }

    /// `Ok` for losses that a step of a network that learns can have; as [`check_finite`](Self::check_finite).
    pub(crate) fn check_losses(losses: &[(&'static str, f64)], position: &Position) -> Result<(), Self> {
        Self::check(losses, LARGEST_LOSS, position)
    }

    fn check(values: &[(&'static str, f64)], largest: f64, position: &Position) -> Result<(), Self> {
        let Position { epoch, step, .. } = *position;
        match values.iter().find(|(_, value)| value.is_nan() || value.abs() > largest) {
            Some(&(what, value)) => Err(Self::Diverged { what, value, epoch, step: step.saturating_sub(1) }),
            None => Ok(()),
        }
    }
}
