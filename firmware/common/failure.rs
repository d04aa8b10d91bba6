//! Why an image cannot be classified.

use core::fmt;

use darts_core::{ModelError, RunError};

/// What went wrong.
pub enum Failure {
    /// The model is none.
    Model(ModelError),
    /// An image or a buffer does not fit it.
    Run(RunError),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
        }
    }
}
