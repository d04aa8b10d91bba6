//! Drop-path (arXiv 1605.07648 as the original code has it): an operation's output is dropped for a sample as a whole.

use rand::RngExt;

use crate::data::draw::{Purpose, generator};

/// Writes the factors `[masks, images]` of one step: 0 with `probability`, else the inverse of the probability to keep.
pub(super) fn draw(
    factors: &mut Vec<f32>,
    masks: usize,
    images: usize,
    probability: f64,
    seed: u64,
    epoch: usize,
    step: usize,
) {
    let mut rng = generator(seed, Purpose::DropPath, epoch, step << 20);
    let keep = 1.0 - probability;
    factors.clear();
    factors.extend((0..masks * images).map(|_| if rng.random_bool(keep) { (1.0 / keep) as f32 } else { 0.0 }));
}
