//! Random draws as a function of where they are made.
//!
//! The generator is counter-based: key from the seed and the purpose, stream from the epoch, position from the sample.
//! No state is carried from one draw to the next, so any batch of any epoch can be drawn first, last or alone, on any
//! thread.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is drawn; each has its own key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Shuffle = 1,
    Sample = 2,
    AugmentSequential = 3,
    AugmentShuffled = 4,
    AugmentRandom = 5,
    Split = 6,
    FolderOrder = 7,
    Weights = 8,
    Alpha = 9,
    DropPath = 10,
    Genotype = 11,
    Smooth = 12,
    Eigenvalue = 13,
    Select = 14,
    SkipDropout = 15,
}

/// 32-bit words in a ChaCha block: draws for one sample must fit in, to be independent of the next sample's.
const BLOCK_WORDS: u128 = 16;

/// The generator at `position` of `epoch`; positions are one block apart.
pub(crate) fn generator(seed: u64, purpose: Purpose, epoch: usize, position: usize) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(epoch as u64);
    generator.set_word_pos(position as u128 * BLOCK_WORDS);
    generator
}

/// A number below `bound`, by multiplication; takes two words. Fixed here, so that the draws never change with a
/// library.
pub(crate) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// Shuffles by Fisher and Yates.
pub(crate) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

/// Draws different numbers: the first steps of a shuffle, of which only the places that were touched are stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampler {
    moved: HashMap<usize, usize>,
}

impl Sampler {
    /// `count` different numbers below `bound`, in random order.
    pub fn draw(&mut self, rng: &mut impl Rng, bound: usize, count: usize) -> impl Iterator<Item = usize> {
        self.moved.clear();
        (0..count).map(move |place| {
            let chosen = place + below(rng, bound - place);
            let displaced = self.moved.get(&place).copied().unwrap_or(place);
            self.moved.insert(chosen, displaced).unwrap_or(chosen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_different_numbers_below_the_bound_and_reaches_all() {
        let mut seen = [0; 7];
        for position in 0..400 {
            let mut rng = generator(1, Purpose::Sample, 0, position);
            let mut drawn: Vec<_> = Sampler::default().draw(&mut rng, 7, 3).collect();
            drawn.iter().for_each(|&number| seen[number] += 1);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        // Expected 171 each, standard deviation 10.
        assert!(seen.iter().all(|count| (120..230).contains(count)), "{seen:?}");
        let mut all: Vec<_> = Sampler::default().draw(&mut generator(2, Purpose::Sample, 0, 0), 50, 50).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..50));
    }

    #[test]
    fn seed_purpose_epoch_and_position_each_change_the_draw() {
        let draw = |seed, purpose, epoch, position| generator(seed, purpose, epoch, position).next_u64();
        let base = draw(1, Purpose::Shuffle, 0, 0);
        assert_eq!(base, draw(1, Purpose::Shuffle, 0, 0));
        let others = [
            draw(2, Purpose::Shuffle, 0, 0),
            draw(1, Purpose::Sample, 0, 0),
            draw(1, Purpose::Shuffle, 1, 0),
            draw(1, Purpose::Shuffle, 0, 1),
        ];
        assert!(!others.contains(&base));
    }
}
