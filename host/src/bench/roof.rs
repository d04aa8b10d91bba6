//! The roof of this machine (Williams, Waterman and Patterson, "Roofline", 2009): the peak of multiply-adds of each
//! instruction set, and the bandwidth of each level of the memory.

use std::hint::black_box;

use darts_kernels_simd::Kernels;
use serde::Serialize;

use super::buffer::buffer;
use super::caches::Caches;
use super::case::Work;
use super::machine::{at_work, best_rate, multiply_add_peak};
use crate::engine::Workers;

/// The peak of one instruction set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peak {
    /// The instruction set.
    pub isa: &'static str,
    /// Threads.
    pub threads: usize,
    /// Of all threads together, a multiply-add being two.
    pub gflops: f64,
}

/// How a bandwidth is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// A triad `y += a·x`: two reads for each write.
    Triad,
    /// A dot product, which reads alone. Caches write beside reading, so that a triad moves more.
    Read,
}

/// What a pass over two arrays reads and writes a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bandwidth {
    /// `L1`, `L2`, `L3` or `memory`.
    pub level: &'static str,
    /// What the pass does.
    pub pattern: Pattern,
    /// Bytes of both arrays of a thread.
    pub bytes: usize,
    /// Threads, each with arrays of its own; those beyond the processors idle.
    pub threads: usize,
    /// Of all threads together.
    pub gbytes_per_second: f64,
}

/// The roof.
#[derive(Clone, Debug, Serialize)]
pub struct Roof {
    /// For one thread, and for all.
    pub multiply_adds: Vec<Peak>,
    /// For one thread, and for all; a level that the threads' arrays do not fit or that is no larger than the one
    /// before is left out.
    pub bandwidth: Vec<Bandwidth>,
    #[serde(skip)]
    levels: [(&'static str, usize); 4],
}

/// What of the roof bounds a piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// `compute`, or the level of the memory.
    pub bound: &'static str,
    /// The least time.
    pub seconds: f64,
}

/// Samples of a bandwidth.
const SAMPLES: usize = 60;

/// Bytes that a sample of a bandwidth moves: a millisecond or so from memory.
const SAMPLE_BYTES: usize = 24 << 20;

impl Pattern {
    /// Bytes that are moved for each element of the two arrays.
    const fn bytes(self) -> usize {
        size_of::<f32>() * if matches!(self, Self::Triad) { 3 } else { 2 }
    }
}

impl Roof {
    /// Measures the peak of each of `kernels`, the fastest last, on the thread of `one` and on those of `all`, and the
    /// bandwidths.
    pub fn measure(kernels: &[Kernels], one: &Workers, all: &Workers) -> Self {
        let teams = if all.threads() > 1 { vec![one, all] } else { vec![one] };
        let caches = Caches::detect();
        let levels = [("L1", caches.first), ("L2", caches.second), ("L3", caches.third), ("memory", usize::MAX)];
        let (mut multiply_adds, mut bandwidth) = (Vec::new(), Vec::new());
        for workers in teams {
            let threads = workers.threads();
            for &kernels in kernels {
                let gflops = multiply_add_peak(kernels, workers) / 1e9;
                multiply_adds.push(Peak { isa: kernels.isa().name(), threads, gflops });
            }
            for (level, bytes) in working_sets(caches, at_work(workers)) {
                for pattern in [Pattern::Triad, Pattern::Read] {
                    let gbytes_per_second = pass(pattern, kernels[kernels.len() - 1], workers, bytes) / 1e9;
                    bandwidth.push(Bandwidth { level, pattern, bytes, threads, gbytes_per_second });
                }
            }
        }
        Self { multiply_adds, bandwidth, levels }
    }

    /// The least time that `work` takes with `kernels` on `threads` threads, one or all, and what bounds it: the peak,
    /// or the level of memory that the bytes it touches fit in: all that moves at the rate of a triad, and what is
    /// brought in, as caches do even with what is overwritten, at that of reading.
    pub fn place(&self, kernels: Kernels, threads: usize, work: Work) -> Place {
        let isa = kernels.isa().name();
        let peak = self.multiply_adds.iter().find(|peak| peak.isa == isa && peak.threads == threads);
        let peak = peak.filter(|_| work.multiply_adds);
        let compute = peak.map_or(0.0, |peak| work.flops / (peak.gflops * 1e9));
        let memory = work.touched.and_then(|touched| {
            let fits = self.levels.iter().position(|&(_, size)| touched <= size)?;
            // Where a level was not measured, the next one bounds.
            self.levels[fits..].iter().find_map(|&(level, _)| {
                let rate = |pattern| {
                    let mut measured = self.bandwidth.iter();
                    let same = |of: &&Bandwidth| (of.level, of.threads, of.pattern) == (level, threads, pattern);
                    measured.find(same).map(|bandwidth| bandwidth.gbytes_per_second * 1e9)
                };
                let (triad, reading) = (rate(Pattern::Triad)?, rate(Pattern::Read)?);
                // A triad reads, too.
                let reading = reading.max(triad * 2.0 / 3.0);
                let seconds = (work.moved as f64 / triad).max(work.fetched as f64 / reading);
                Some(Place { bound: level, seconds })
            })
        });
        match memory {
            Some(memory) if memory.seconds > compute => memory,
            _ => Place { bound: "compute", seconds: compute },
        }
    }
}

/// Bytes of the arrays of each of `threads` threads, no more than there are processors, that lie in each level.
fn working_sets(caches: Caches, threads: usize) -> Vec<(&'static str, usize)> {
    let Caches { first, second, third, sharing } = caches;
    // Half a cache, for other things lie there too; of the third level, which has other users, a quarter.
    let mut sets = vec![("L1", first / 2), ("L2", second / 2)];
    let share = third / 4 / threads.min(sharing);
    if share > second {
        sets.push(("L3", share));
    }
    // Four times what all third-level caches in use hold.
    let in_use = third * threads.div_ceil(sharing);
    sets.push(("memory", (4 * in_use / threads).max(4 * second)));
    sets
}

/// Bytes a second of passes over two arrays of `bytes` together, on each thread. A sample is as much as it takes of the
/// arrays, or of several passes over them.
fn pass(pattern: Pattern, kernels: Kernels, workers: &Workers, bytes: usize) -> f64 {
    let (elements, most) = (bytes / 2 / size_of::<f32>(), SAMPLE_BYTES / pattern.bytes());
    let piece = elements.min(most);
    let pieces = (most / piece).max(1);
    let amount = (pieces * piece * pattern.bytes()) as f64;
    let arrays = || (buffer(elements), buffer(elements), 0);
    best_rate(workers, SAMPLES, amount, arrays, |(x, y, next)| {
        for _ in 0..pieces {
            let range = *next..*next + piece;
            match pattern {
                Pattern::Triad => kernels.axpy(1e-6, &x[range.clone()], &mut y[range.clone()]),
                Pattern::Read => {
                    black_box(kernels.dot(&x[range.clone()], &y[range.clone()]));
                }
            }
            // What is left at the end of the arrays is too short for a piece.
            *next = if range.end + piece <= elements { range.end } else { 0 };
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_what_takes_longest() {
        let kernels = Kernels::detect();
        let isa = kernels.isa().name();
        let bandwidth = [(Pattern::Triad, 300.0), (Pattern::Read, 100.0)].map(|(pattern, gbytes_per_second)| {
            Bandwidth { level: "L2", pattern, bytes: 1 << 18, threads: 1, gbytes_per_second }
        });
        let roof = Roof {
            multiply_adds: vec![Peak { isa, threads: 1, gflops: 50.0 }],
            bandwidth: bandwidth.to_vec(),
            levels: [("L1", 1 << 10), ("L2", 1 << 20), ("L3", 1 << 24), ("memory", usize::MAX)],
        };
        let place = |work| {
            let Place { bound, seconds } = roof.place(kernels, 1, work);
            (bound, (seconds * 1e9).round())
        };
        // 60,000 floats are 240,000 bytes, and a triad of 300 GB/s reads 200.
        assert_eq!(place(Work::streaming(1, 60_000)), ("L2", 1200.0));
        assert_eq!(place(Work::streaming(1, 90_000).in_place(30_000)), ("L2", 1200.0));
        assert_eq!(place(Work::new(1_000_000, 60_000)), ("compute", 20_000.0));
        // One image of several that are taken in turn.
        let in_turn = Work { touched: Some(1 << 20), ..Work::streaming(1, 200) };
        assert_eq!(place(in_turn), ("L2", 4.0));
        // The first cache was not measured, and neither was what lies behind the second.
        assert_eq!(place(Work::streaming(1, 200)), ("L2", 4.0));
        assert_eq!(place(Work::streaming(1, 1 << 20)), ("compute", 0.0));
    }
}
