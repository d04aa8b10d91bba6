//! The search: α, its bilevel optimization, and the loop over epochs.

pub mod alpha;
pub mod bilevel;
pub mod budget;
pub mod derivation;
pub mod early_stop;
pub mod eigenvalue;
pub mod guard;
mod max_skips;
pub mod mixing;
pub mod objective;
pub mod optimizer;
pub mod random;
pub mod run;
mod run_error;
pub mod selection;
pub mod settings;
pub mod smoothing;
pub mod supernet_guards;
mod trial;
