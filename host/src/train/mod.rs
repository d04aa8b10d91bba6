//! Training of a derived network from scratch.

mod run;
mod settings;

pub use run::{TrainEpoch, TrainObserver, TrainOutcome, train};
pub use settings::{Schedule, TrainSettings};
