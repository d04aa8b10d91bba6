//! When the eigenvalues of a search say that it is about to collapse (RobustDARTS, arXiv 1909.09656, section 5.1, with
//! the constants of its code).

/// How many eigenvalues are averaged: those of an epoch and of two on either side.
const WINDOW: usize = 5;

/// Epochs between the two averages that are compared.
const DISTANCE: usize = 4;

/// The first epoch, from 0, that may be gone back to.
const FIRST: usize = 10;

/// The epoch, from 0, whose α a search ends with that has seen these eigenvalues, one for each epoch, if it has to stop
/// after one of them.
///
/// After every epoch but the last of `epochs`, the average around the epoch two before is compared with that around the
/// epoch four before that one: if it is more than `factor` times as large (1.3 in the code, 1/0.75 in the paper), the
/// search stops, and goes back to the earlier one. That can be epoch 10 (from 0) at the earliest, seen after epoch 16.
pub fn stop_epoch(eigenvalues: &[f64], epochs: usize, factor: f64) -> Option<usize> {
    let average = |centre: usize| {
        let window = &eigenvalues[centre - WINDOW / 2..=centre + WINDOW / 2];
        window.iter().sum::<f64>() / WINDOW as f64
    };
    let last = eigenvalues.len().min(epochs.saturating_sub(1));
    let mut centres = FIRST + DISTANCE..last.saturating_sub(WINDOW / 2);
    let collapses = |&centre: &usize| {
        let (before, now) = (average(centre - DISTANCE), average(centre));
        before > 0.0 && now > factor * before
    };
    centres.find(collapses).map(|centre| centre - DISTANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTOR: f64 = 1.3;

    /// 1 up to epoch `rise`, then `high`.
    fn step(rise: usize, high: f64, len: usize) -> Vec<f64> {
        (0..len).map(|epoch| if epoch < rise { 1.0 } else { high }).collect()
    }

    #[test]
    fn a_rise_goes_back_to_the_epoch_before_it() {
        // The averages around 20, 21, … have 1, 2, … eigenvalues of 2 from epoch 22 on: the second one is 1.4.
        let eigenvalues = step(22, 2.0, 50);
        let seen = |epochs| stop_epoch(&eigenvalues[..epochs], 50, FACTOR);
        assert_eq!(seen(23), None);
        assert_eq!(seen(24), Some(17));
        // The decision stands, whatever follows.
        assert_eq!(seen(49), Some(17));
        assert_eq!(stop_epoch(&step(22, 2.0, 50), 50, 2.5), None);
    }

    #[test]
    fn neither_early_nor_in_the_last_epoch() {
        let early = step(3, 9.0, 50);
        assert_eq!(stop_epoch(&early, 50, FACTOR), None);
        // High from epoch 12: seen first after epoch 16, against epoch 10.
        let eigenvalues = step(13, 9.0, 50);
        assert_eq!(stop_epoch(&eigenvalues[..16], 50, FACTOR), None);
        assert_eq!(stop_epoch(&eigenvalues[..17], 50, FACTOR), Some(10));
        assert_eq!(stop_epoch(&eigenvalues[..17], 17, FACTOR), None);
        assert_eq!(stop_epoch(&[], 50, FACTOR), None);
    }

    #[test]
    fn averages_smooth_one_wild_eigenvalue_and_a_fall_is_no_rise() {
        let mut eigenvalues = vec![1.0; 50];
        eigenvalues[30] = 2.4;
        assert_eq!(stop_epoch(&eigenvalues, 50, FACTOR), None);
        eigenvalues[30] = 2.6;
        assert_eq!(stop_epoch(&eigenvalues, 50, FACTOR), Some(24));
        let falling: Vec<f64> = (0..50).map(|epoch| 50.0 - epoch as f64).collect();
        assert_eq!(stop_epoch(&falling, 50, FACTOR), None);
        let negative: Vec<f64> = (0..50).map(|epoch| -50.0 + epoch as f64).collect();
        assert_eq!(stop_epoch(&negative[..50], 50, FACTOR), None);
    }
}
