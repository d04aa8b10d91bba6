//! Measuring: the roof of this machine, and each kernel, stage, cell and step under it.
//!
//! A [`Case`] is one kernel, stage or network at one shape in one direction; [`kernel_cases`] and [`network_cases`] are
//! all that there are, for `darts bench` and for the benches with criterion alike.

mod buffer;
mod caches;
mod case;
mod convolutions;
mod machine;
mod networks;
mod passes;
mod pools;
mod roof;
mod row;
mod separable;
mod step;
mod timing;

pub use case::{Case, Direction, Timer, Work};
pub use machine::multiply_add_peak;
pub use roof::{Bandwidth, Pattern, Peak, Place, Roof};
pub use row::Row;
pub use step::{Step, StepKind};
pub use timing::median_seconds;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Every kernel, and the fused stages, at the shapes of DARTS networks.
pub fn kernel_cases() -> Vec<Case> {
    [convolutions::cases(), pools::cases(), passes::cases(), separable::cases()].into_iter().flatten().collect()
}

/// Cells, steps of searches and trainings, and inference by the core.
pub fn network_cases() -> Vec<Case> {
    networks::cases()
}

/// `len` numbers in ±1, the same in every run.
fn random(len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(len as u64);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}
