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
/// processor; where there are more threads than processors, they share. `work` is done on what `prepare` makes on the
/// same thread, once more before it is timed.
pub(super) fn best_rate<T>(
    workers: &Workers,
    samples: usize,
    amount: f64,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) + Sync,
) -> f64 {
    let together = Barrier::new(workers.threads());
    let shortest: Vec<f64> = workers.pool().broadcast(|_| {
        let mut state = prepare();
        work(&mut state);
        let sample = |_| {
            together.wait();
            seconds(|| work(&mut state))
        };
        (0..samples).map(sample).fold(f64::INFINITY, f64::min)
    });
    let processors = available_parallelism().map_or(1, usize::from);
    let share = (processors as f64 / workers.threads() as f64).min(1.0);
    share * shortest.iter().map(|seconds| amount / seconds).sum::<f64>()
}
