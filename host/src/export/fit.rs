//! Whether buffers fit into so many bytes: a branch and bound over all layouts in which no buffer can be moved down.
//!
//! Buffers are placed in the order of their offsets, each on top of those below it that live at the same time. Every
//! layout can be made one of these by letting its buffers fall, so that the search, if it is not cut short, is exact.

use std::cmp::Reverse;

use super::slots::{Lifetime, live_bytes, neighbours};

/// Offsets with which all buffers end by `capacity`; `None` if there are none, or if none are found by placing so many
/// buffers.
pub(super) fn fit(lifetimes: &[Lifetime], capacity: u64, placements: usize) -> Option<Vec<u64>> {
    // Those that are hard to place are tried first.
    let mut ids: Vec<usize> = (0..lifetimes.len()).collect();
    ids.sort_by_key(|&id| Reverse(lifetimes[id].bytes * lifetimes[id].steps.len() as u64));
    let lifetimes: Vec<Lifetime> = ids.iter().map(|&id| lifetimes[id].clone()).collect();
    let steps = lifetimes.iter().map(|lifetime| lifetime.steps.end).max().unwrap_or(0);
    let mut search = Search {
        neighbours: neighbours(&lifetimes),
        capacity,
        placements,
        offsets: vec![None; lifetimes.len()],
        floors: vec![0; lifetimes.len()],
        rest: live_bytes(&lifetimes, steps),
        lifetimes: &lifetimes,
    };
    if !search.place(lifetimes.len(), (0, 0)) {
        return None;
    }
    let mut offsets = vec![0; ids.len()];
    for (id, offset) in ids.into_iter().zip(search.offsets) {
        offsets[id] = offset?;
    }
    Some(offsets)
}

struct Search<'a> {
    lifetimes: &'a [Lifetime],
    neighbours: Vec<Vec<usize>>,
    capacity: u64,
    /// Buffers that may still be placed.
    placements: usize,
    offsets: Vec<Option<u64>>,
    /// Of each buffer, the end of the placed ones that live at the same time.
    floors: Vec<u64>,
    /// Of each step, the bytes that are not placed.
    rest: Vec<u64>,
}

impl Search<'_> {
    /// Places the `left` buffers that have no place, none before `last` (offset and index).
    fn place(&mut self, left: usize, last: (u64, usize)) -> bool {
        if left == 0 {
            return true;
        }
        let mut free: Vec<(u64, usize)> = self.unplaced().map(|id| (self.floors[id], id)).collect();
        // Above this one of them would have room to fall into.
        let end = free.iter().map(|&(floor, id)| floor.max(last.0) + self.lifetimes[id].bytes).min();
        free.retain(|&(floor, id)| (floor, id) >= last && Some(floor) < end);
        free.sort_unstable();
        for (floor, id) in free {
            let Some(placements) = self.placements.checked_sub(1) else { return false };
            self.placements = placements;
            let lifetime = &self.lifetimes[id];
            let floors: Vec<u64> = self.neighbours[id].iter().map(|&other| self.floors[other]).collect();
            self.offsets[id] = Some(floor);
            self.rest[lifetime.steps.clone()].iter_mut().for_each(|rest| *rest -= lifetime.bytes);
            for &other in &self.neighbours[id] {
                self.floors[other] = self.floors[other].max(floor + lifetime.bytes);
            }
            if floor + lifetime.bytes <= self.capacity && self.has_room(floor) && self.place(left - 1, (floor, id)) {
                return true;
            }
            self.offsets[id] = None;
            self.rest[lifetime.steps.clone()].iter_mut().for_each(|rest| *rest += lifetime.bytes);
            for (&other, floor) in self.neighbours[id].iter().zip(floors) {
                self.floors[other] = floor;
            }
        }
        false
    }

    fn unplaced(&self) -> impl Iterator<Item = usize> {
        (0..self.offsets.len()).filter(|&id| self.offsets[id].is_none())
    }

    /// Whether at every step the buffers without a place, stacked on the lowest of them, end by the capacity.
    fn has_room(&self, last: u64) -> bool {
        let mut lowest = vec![None; self.rest.len()];
        for id in self.unplaced() {
            let floor = self.floors[id].max(last);
            for lowest in &mut lowest[self.lifetimes[id].steps.clone()] {
                *lowest = Some(lowest.map_or(floor, |lowest: u64| lowest.min(floor)));
            }
        }
        lowest.iter().zip(&self.rest).all(|(lowest, rest)| lowest.unwrap_or(0) + rest <= self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The smallest end of all layouts that come about by dropping the buffers, in any order, on what lies there.
    fn smallest(lifetimes: &[Lifetime], heights: &[u64], dropped: u32) -> u64 {
        let rest = (0..lifetimes.len()).filter(|id| dropped & 1 << id == 0);
        let ends = rest.map(|id| {
            let Lifetime { bytes, steps } = &lifetimes[id];
            let end = heights[steps.clone()].iter().max().unwrap() + bytes;
            let mut heights = heights.to_vec();
            heights[steps.clone()].fill(end);
            smallest(lifetimes, &heights, dropped | 1 << id)
        });
        ends.min().unwrap_or_else(|| heights.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn what_fits_is_found_and_what_does_not_is_refused() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..200 {
            let lifetimes: Vec<_> = (0..rng.random_range(1..7))
                .map(|_| {
                    let start = rng.random_range(0..5);
                    Lifetime { bytes: rng.random_range(1..6), steps: start..start + rng.random_range(1..4) }
                })
                .collect();
            let smallest = smallest(&lifetimes, &[0; 8], 0);
            let offsets = fit(&lifetimes, smallest, usize::MAX).unwrap();
            assert!(offsets.iter().zip(&lifetimes).all(|(at, lifetime)| at + lifetime.bytes <= smallest));
            assert_eq!(fit(&lifetimes, smallest - 1, usize::MAX), None, "{lifetimes:?}");
        }
    }

    #[test]
    fn the_search_ends_where_it_is_told_to() {
        let lifetimes = vec![Lifetime { bytes: 1, steps: 0..1 }; 5];
        assert_eq!(fit(&lifetimes, 5, 4), None);
        assert!(fit(&lifetimes, 5, 5).is_some());
    }
}
