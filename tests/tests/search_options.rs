//! Where the paper and the original code differ: the code's way is the default, the paper's an option.

use std::sync::Arc;

use darts_host::engine::Workers;
use darts_host::observer::Observer;
use darts_host::search::run::{SearchEpoch, SearchOutcome, search};
use darts_host::search::settings::SearchSettings;
use darts_kernels_simd::Kernels;
use darts_tests::small_images;

struct Silent;
impl Observer<SearchEpoch> for Silent {}

fn run(change: impl FnOnce(&mut SearchSettings)) -> SearchOutcome {
    let mut settings = SearchSettings { channels: 2, layers: 3, epochs: 1, batch_size: 20, ..SearchSettings::QUICK };
    change(&mut settings);
    search(&settings, &small_images(80), Kernels::detect(), Arc::new(Workers::new(2).unwrap()), &mut Silent).unwrap()
}

#[test]
fn alpha_starts_near_zero_or_at_zero() {
    let noise = run(|settings| settings.arch_learning_rate = 0.0).alpha;
    let spread = (noise.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>() / noise.len() as f64).sqrt();
    assert!((0.8e-3..1.2e-3).contains(&spread), "{spread}");
    let zeros = run(|settings| (settings.arch_learning_rate, settings.zero_alpha) = (0.0, true)).alpha;
    assert!(zeros.iter().all(|&a| a == 0.0));
}

#[test]
fn evaluation_uses_running_or_batch_statistics() {
    let running = run(|_| {});
    let batch = run(|settings| settings.batch_statistics = true);
    // The search itself is the same; only what is measured differs.
    assert_eq!(running.alpha, batch.alpha);
    let (running, batch) = (running.epochs[0].valid_loss, batch.epochs[0].valid_loss);
    assert!(running.is_finite() && batch.is_finite() && running != batch, "{running} {batch}");
}
