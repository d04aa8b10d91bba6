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

/// The best time of a call of `run` in samples that take `budget` together, or one call if that is longer; one more call, which
/// takes memory from the system and fills the caches, comes before.
pub(super) fn best_seconds(budget: Duration, run: &mut dyn FnMut()) -> f64 {
    run();
    let mut spent = seconds(&mut *run);
    let mut best = spent;
    let calls = (SAMPLE / spent).ceil().clamp(1.0, 1e5);
    while spent < budget.as_secs_f64() {
        let sample = seconds(|| (0..calls as usize).for_each(|_| run()));
        best = best.min(sample / calls);
        spent += sample;
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
