//! Splits and selections of a data set, as lists of indices.

use super::draw::{Purpose, generator, shuffle};
use super::{DataError, Dataset};

/// Two disjoint lists of indices that together are all of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// For the weights.
    pub first: Vec<usize>,
    /// For α, or held out for validation.
    pub second: Vec<usize>,
}

impl Split {
    /// The two halves of a search: the weights learn on the first, α on the second, which is the larger of an odd
    /// number. In the order of the data set, or shuffled by a seed.
    ///
    /// # Errors
    /// If there are fewer than two images.
    pub fn halves(images: usize, shuffle_seed: Option<u64>) -> Result<Self, DataError> {
        if images < 2 {
            return Err(DataError::Split { held_out: images - images / 2, images });
        }
        let mut first: Vec<_> = (0..images).collect();
        if let Some(seed) = shuffle_seed {
            shuffle(&mut generator(seed, Purpose::Split, 0, 0), &mut first);
        }
        let second = first.split_off(images / 2);
        Ok(Self { first, second })
    }

    /// The halves for a search on `data`: by index, as in the original. If some class has images in one half only, as
    /// in a set sorted by class, α would be judged on classes that the weights never saw: then shuffled by `seed`,
    /// which leaves only rare classes to chance.
    ///
    /// # Errors
    /// If there are fewer than two images.
    pub fn for_search(data: &Dataset, seed: u64) -> Result<Self, DataError> {
        let halves = Self::halves(data.len(), None)?;
        let mut present = vec![[false; 2]; data.classes()];
        for (half, indices) in [&halves.first, &halves.second].into_iter().enumerate() {
            indices.iter().for_each(|&index| present[usize::from(data.labels()[index])][half] = true);
        }
        if present.iter().all(|[first, second]| first == second) {
            Ok(halves)
        } else {
            Self::halves(data.len(), Some(seed))
        }
    }

    /// Holds out `held_out` images for validation, drawn by `seed`, as many of each class as the sizes of the classes
    /// allow. Both lists are ascending.
    ///
    /// # Errors
    /// If either side would have no image.
    pub fn hold_out(data: &Dataset, held_out: usize, seed: u64) -> Result<Self, DataError> {
        let images = data.len();
        if held_out == 0 || held_out >= images {
            return Err(DataError::Split { held_out, images });
        }
        let mut order: Vec<_> = (0..images).collect();
        shuffle(&mut generator(seed, Purpose::Split, 0, 0), &mut order);
        let second = balanced(data, order, held_out);
        let mut is_held_out = vec![false; images];
        second.iter().for_each(|&index| is_held_out[index] = true);
        let first = (0..images).filter(|&index| !is_held_out[index]).collect();
        Ok(Self { first, second })
    }
}

impl Dataset {
    /// At most `limit` images: the first of each class, as many of each as the sizes of the classes allow, in their
    /// order.
    pub fn limited(&self, limit: usize) -> Self {
        self.subset(&balanced(self, (0..self.len()).collect(), limit))
    }
}

/// The first `limit` of `order`, counted through the classes in turn; ascending.
fn balanced(data: &Dataset, order: Vec<usize>, limit: usize) -> Vec<usize> {
    let mut seen = vec![0usize; data.classes()];
    let mut ranked: Vec<_> = order
        .into_iter()
        .map(|index| {
            let label = data.labels()[index];
            seen[usize::from(label)] += 1;
            (seen[usize::from(label)], label, index)
        })
        .collect();
    ranked.sort_unstable();
    let mut chosen: Vec<_> = ranked.into_iter().take(limit).map(|(_, _, index)| index).collect();
    chosen.sort_unstable();
    chosen
}
