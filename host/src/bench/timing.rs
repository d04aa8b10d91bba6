//! Clocks.

use std::time::{Duration, Instant};

/// Seconds of a sample: long enough for the clock, short enough for some not to be interrupted.
const SAMPLE: f64 = 5e-4;

/// Seconds of one call of `run`.
pub(super) fn seconds(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    started.elapsed().as_secs_f64()
}

/// Samples at least, but for calls that are long.
const SAMPLES: usize = 10;

/// How many times the budget may be spent for the sake of [`SAMPLES`].
const PATIENCE: u32 = 10;

/// The best time of a call of `run` in samples that take `budget` together. On a busy machine, where a sample may be
/// interrupted for longer than that, there are more of them; of calls that are long, there is one. One more call, which
/// takes memory from the system and fills the caches, comes before.
pub(super) fn best_seconds(budget: Duration, run: &mut dyn FnMut()) -> f64 {
    let (enough, too_much) = (budget.as_secs_f64(), (PATIENCE * budget).as_secs_f64());
    run();
    let mut spent = seconds(&mut *run);
    let (mut best, mut samples) = (spent, 1);
    while spent < enough || samples < SAMPLES && spent < too_much {
        let calls = (SAMPLE / best).ceil().clamp(1.0, 1e5);
        let sample = seconds(|| (0..calls as usize).for_each(|_| run()));
        best = best.min(sample / calls);
        spent += sample;
        samples += 1;
    }
    best
}

/// The middle one of `seconds`, of an even number the mean of the two in the middle; NaN of none.
pub fn median_seconds(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    match (seconds.len(), seconds.len() / 2) {
        (0, _) => f64::NAN,
        (len, middle) if len % 2 == 1 => seconds[middle],
        (_, middle) => (seconds[middle - 1] + seconds[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median_seconds(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median_seconds(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median_seconds(vec![]).is_nan());
    }
}
