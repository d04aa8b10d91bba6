//! Drop-path (arXiv 1605.07648 as the original code has it): an operation's output is dropped for a sample as a whole.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Writes `count` factors: 0 with `probability`, else the inverse of the probability to keep.
pub(crate) fn draw(factors: &mut Vec<f32>, count: usize, probability: f64, rng: &mut ChaCha8Rng) {
    let keep = 1.0 - probability;
    factors.clear();
    factors.extend((0..count).map(|_| if rng.random_bool(keep) { (1.0 / keep) as f32 } else { 0.0 }));
}
