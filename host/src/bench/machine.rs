//! What this machine can do: its peak of multiply-adds.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread::available_parallelism;

use darts_kernels_simd::Kernels;

use super::timing::seconds;
use crate::engine::Workers;

/// Samples of a measurement, of which the best counts: other programs take time, none gives any. Short ones, so that
/// some are not interrupted.
const SAMPLES: usize = 300;

/// Multiply-adds of each lane in a sample: half a millisecond or so on a processor of 2 to 4 GHz.
const MULTIPLY_ADDS: usize = 3_600_000;

/// Floating-point operations a second that all threads of `workers` reach together where nothing but the multiply-add
/// units bounds them; a multiply-add is two operations.
pub fn multiply_add_peak(kernels: Kernels, workers: &Workers) -> f64 {
    let round = kernels.multiply_adds_a_round();
    let rounds = MULTIPLY_ADDS * kernels.isa().lanes() / round;
    let operations = 2 * rounds * round;
    best_rate(
        workers,
        SAMPLES,
        operations as f64,
        || (),
        |()| {
            black_box(kernels.multiply_adds(black_box(rounds)));
        },
    )
}

/// The rate at which all threads work together: for each, `amount` over the shortest of `samples` that all begin at the
/// same time; their sum. Shortest of each thread, since on a busy machine there may be no time at which all have a
/// processor. Threads beyond [`at_work`] idle: they would take turns. `work` is done on what `prepare` makes on the same
/// thread, once more before it is timed.
pub(super) fn best_rate<T>(
    workers: &Workers,
    samples: usize,
    amount: f64,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) + Sync,
) -> f64 {
    let at_work = at_work(workers);
    let together = Barrier::new(at_work);
    let rates: Vec<f64> = workers.pool().broadcast(|context| {
        if context.index() >= at_work {
            return 0.0;
        }
        let mut state = prepare();
        work(&mut state);
        let sample = |_| {
            together.wait();
            seconds(|| work(&mut state))
        };
        amount / (0..samples).map(sample).fold(f64::INFINITY, f64::min)
    });
    rates.iter().sum()
}

/// How many threads of `workers` can work at the same time: no more than there are processors.
pub(super) fn at_work(workers: &Workers) -> usize {
    workers.threads().min(available_parallelism().map_or(1, usize::from))
}
