//! Clocks.

use std::time::Instant;

/// Seconds of one call of `run`.
pub(super) fn seconds(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    started.elapsed().as_secs_f64()
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
