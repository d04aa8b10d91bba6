//! Measuring: what this machine can do, and what a step of a search or a training makes of it.

mod machine;
mod memory;
mod step;
mod timing;

pub use machine::multiply_add_peak;
pub use memory::peak_rss_bytes;
pub use step::{Step, StepKind};
pub use timing::median_seconds;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `len` numbers in ±1, the same in every run.
fn random(len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(len as u64);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}
