//! Where in the workspace each buffer lies: two that live at the same time never overlap.
//!
//! To find the smallest workspace is as hard as bin packing. What is done here puts one buffer after the other into the
//! tightest gap among those of its time, in several orders, and then moves those forward that stick out. Where the
//! result is above what lives at a time, an exact search ([`fit`]) has a limited number of tries.

use std::ops::Range;

use super::fit::fit;

/// A buffer and the steps during which its content is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub bytes: u64,
    /// From the step that writes it first to behind the one that uses it last.
    pub steps: Range<usize>,
}

impl Lifetime {
    /// Whether both are in use during some step.
    pub fn meets(&self, other: &Self) -> bool {
        self.steps.start < other.steps.end && other.steps.start < self.steps.end
    }
}

/// The offsets of all buffers, and the end of the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub offsets: Vec<u64>,
    pub bytes: u64,
}

impl Layout {
    fn new(lifetimes: &[Lifetime], offsets: Vec<u64>) -> Self {
        let bytes = offsets.iter().zip(lifetimes).map(|(at, lifetime)| at + lifetime.bytes).max().unwrap_or(0);
        Self { offsets, bytes }
    }
}

/// What buffers are sorted by, largest first.
type Key = fn(&Lifetime) -> (u64, u64);

/// Rounds of moving forward the buffer that sticks out.
const ROUNDS: usize = 100;

/// Buffers that the exact search places, for each size of the workspace that it tries.
const PLACEMENTS: usize = 1 << 14;
/// Sizes of the workspace that it tries.
const SIZES: usize = 4;

/// Bytes that live during each of `steps` steps.
pub(super) fn live_bytes(lifetimes: &[Lifetime], steps: usize) -> Vec<u64> {
    let mut live = vec![0; steps];
    for lifetime in lifetimes {
        live[lifetime.steps.clone()].iter_mut().for_each(|bytes| *bytes += lifetime.bytes);
    }
    live
}

/// Places all buffers; `bound`, the most bytes that live during any step, is what no layout can be below.
pub(super) fn place(lifetimes: &[Lifetime], bound: u64) -> Layout {
    let neighbours = neighbours(lifetimes);
    let keys: [Key; 3] = [
        |lifetime| (lifetime.bytes, lifetime.steps.len() as u64),
        |lifetime| (lifetime.steps.len() as u64 * lifetime.bytes, lifetime.bytes),
        |lifetime| (lifetime.steps.len() as u64, lifetime.bytes),
    ];
    let layouts = keys.iter().map(|key| {
        let mut order: Vec<usize> = (0..lifetimes.len()).collect();
        order.sort_by_key(|&id| std::cmp::Reverse(key(&lifetimes[id])));
        improved(lifetimes, &neighbours, order, bound)
    });
    let layout = layouts.min_by_key(|layout| layout.bytes).expect("there are orders");
    exact(lifetimes, layout, bound)
}

/// The buffers that live at the same time as each.
pub(super) fn neighbours(lifetimes: &[Lifetime]) -> Vec<Vec<usize>> {
    (0..lifetimes.len())
        .map(|id| (0..lifetimes.len()).filter(|&other| other != id && lifetimes[id].meets(&lifetimes[other])).collect())
        .collect()
}

/// A layout between `layout` and the bound, the smallest for which the search is not too long.
fn exact(lifetimes: &[Lifetime], mut layout: Layout, mut bound: u64) -> Layout {
    let mut capacity = bound;
    for _ in 0..SIZES {
        if layout.bytes <= bound {
            break;
        }
        match fit(lifetimes, capacity, PLACEMENTS) {
            Some(offsets) => layout = Layout::new(lifetimes, offsets),
            // Not proved to be impossible, but not found either.
            None => bound = capacity + 1,
        }
        capacity = bound.midpoint(layout.bytes);
    }
    layout
}

/// The best layout of `order` and of those that come about by putting the buffers that end last first.
fn improved(lifetimes: &[Lifetime], neighbours: &[Vec<usize>], mut order: Vec<usize>, bound: u64) -> Layout {
    let mut best = pack(lifetimes, neighbours, &order);
    let mut layout = best.clone();
    for _ in 0..ROUNDS {
        if best.bytes == bound {
            break;
        }
        let end = |id: usize| layout.offsets[id] + lifetimes[id].bytes;
        let last = order.iter().position(|&id| end(id) == layout.bytes).expect("a buffer ends last");
        if last == 0 {
            break;
        }
        order[..=last].rotate_right(1);
        layout = pack(lifetimes, neighbours, &order);
        if layout.bytes < best.bytes {
            best = layout.clone();
        }
    }
    best
}

/// Puts the buffers, in this order, each into the smallest gap that holds it.
fn pack(lifetimes: &[Lifetime], neighbours: &[Vec<usize>], order: &[usize]) -> Layout {
    let mut offsets: Vec<Option<u64>> = vec![None; lifetimes.len()];
    let mut taken = Vec::new();
    for &id in order {
        taken.clear();
        let placed =
            neighbours[id].iter().filter_map(|&other| offsets[other].map(|at| (at, at + lifetimes[other].bytes)));
        taken.extend(placed);
        taken.sort_unstable();
        offsets[id] = Some(best_gap(&taken, lifetimes[id].bytes));
    }
    Layout::new(lifetimes, offsets.into_iter().flatten().collect())
}

/// Start of the smallest gap of at least `bytes` between regions sorted by their start, or the end of them all.
fn best_gap(taken: &[(u64, u64)], bytes: u64) -> u64 {
    let (mut end, mut best) = (0, None);
    for &(start, stop) in taken {
        let gap = start.saturating_sub(end);
        if gap >= bytes && best.is_none_or(|(smallest, _)| gap < smallest) {
            best = Some((gap, end));
        }
        end = end.max(stop);
    }
    best.map_or(end, |(_, at)| at)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn bound(lifetimes: &[Lifetime], steps: usize) -> u64 {
        live_bytes(lifetimes, steps).into_iter().max().unwrap_or(0)
    }

    #[test]
    fn buffers_of_one_time_never_overlap_and_the_end_is_that_of_the_last() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for count in 0..60 {
            let lifetimes: Vec<_> = (0..count)
                .map(|_| {
                    let start = rng.random_range(0..50);
                    let steps = start..start + rng.random_range(1..10);
                    Lifetime { bytes: 4 * rng.random_range(1..100), steps }
                })
                .collect();
            let bound = bound(&lifetimes, 60);
            let Layout { offsets, bytes } = place(&lifetimes, bound);
            assert_eq!(offsets.len(), count);
            assert!(bytes >= bound);
            let region = |id: usize| offsets[id]..offsets[id] + lifetimes[id].bytes;
            assert_eq!((0..count).map(|id| region(id).end).max().unwrap_or(0), bytes);
            for a in 0..count {
                for b in 0..a {
                    let apart = region(a).end <= region(b).start || region(b).end <= region(a).start;
                    assert!(apart || !lifetimes[a].meets(&lifetimes[b]), "{a} and {b} of {lifetimes:?}");
                }
            }
        }
    }

    #[test]
    fn a_chain_takes_what_its_largest_pair_takes() {
        let sizes = [40, 80, 120, 60, 100, 80, 20];
        let lifetimes: Vec<_> =
            sizes.iter().enumerate().map(|(step, &bytes)| Lifetime { bytes, steps: step..step + 2 }).collect();
        assert_eq!(place(&lifetimes, bound(&lifetimes, 8)).bytes, 200);
    }

    #[test]
    fn the_smallest_gap_that_is_large_enough_is_taken() {
        assert_eq!(best_gap(&[(0, 8), (20, 24), (28, 40)], 4), 24);
        assert_eq!(best_gap(&[(0, 8), (20, 24), (28, 40)], 8), 8);
        assert_eq!(best_gap(&[(0, 8), (20, 24), (28, 40)], 16), 40);
        assert_eq!(best_gap(&[(0, 30), (4, 8), (34, 40)], 4), 30);
    }
}
