//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! `format` is one file, `store` the folder of a run's: when they are written, which are kept, and which is taken.

mod format;
mod store;

pub use format::{Checkpoint, Damage, Header, RestoreError};
pub use store::{Checkpoints, NoneWhole, Policy, latest};
