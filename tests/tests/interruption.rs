//! A run that is stopped in the middle of an epoch ends with what it has, and a training hands out its network every
//! epoch.

use std::sync::Arc;

use darts_core::Genotype;
use darts_host::atomic::WriteError;
use darts_host::data::Dataset;
use darts_host::engine::Workers;
use darts_host::observer::{Observer, StepProgress};
use darts_host::search::alpha;
use darts_host::search::run::{SearchOutcome, search};
use darts_host::search::settings::SearchSettings;
use darts_host::train::{TrainObserver, TrainOutcome, TrainSettings, train};
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::Kernels;
use darts_tests::small_images;

/// Stops after so many steps, or in the evaluation behind them.
struct StopAfter {
    steps: usize,
    networks: Vec<TrainedNetwork>,
}

impl<Epoch> Observer<Epoch> for StopAfter {
    fn step(&mut self, _progress: StepProgress) {
        self.steps -= 1;
    }

    fn stop(&self) -> bool {
        self.steps == 0
    }
}

impl TrainObserver for StopAfter {
    fn network(&mut self, network: &TrainedNetwork) -> Result<(), WriteError> {
        self.networks.push(network.clone());
        Ok(())
    }
}

fn images() -> Dataset {
    small_images(80)
}

/// A search of two epochs of two steps, stopped after `steps`.
fn searched(steps: usize) -> SearchOutcome {
    let settings = SearchSettings { channels: 2, layers: 3, epochs: 2, batch_size: 20, ..SearchSettings::QUICK };
    let mut observer = StopAfter { steps, networks: Vec::new() };
    search(&settings, &images(), Kernels::detect(), Arc::new(Workers::new(2).unwrap()), &mut observer).unwrap()
}

/// A training of two epochs of two steps, stopped after `steps`, and the networks that it handed out.
fn trained(steps: usize) -> (TrainOutcome, Vec<TrainedNetwork>) {
    let genotype = Genotype::builtin("DARTS_V2").unwrap();
    let settings =
        TrainSettings { channels: 2, layers: 3, epochs: 2, batch_size: 40, held_out: Some(20), ..TrainSettings::QUICK };
    let mut observer = StopAfter { steps, networks: Vec::new() };
    let workers = Arc::new(Workers::new(2).unwrap());
    let outcome = train(&genotype, &settings, &images(), Kernels::detect(), workers, &mut observer).unwrap();
    (outcome, observer.networks)
}

#[test]
fn a_stopped_search_ends_with_the_alpha_of_its_last_step() {
    let complete = searched(usize::MAX);
    assert!(!complete.interrupted && complete.epochs.len() == 2);
    let first_epoch = [complete.epochs[0].alpha_normal.clone(), complete.epochs[0].alpha_reduce.clone()];

    let stopped = searched(3);
    assert!(stopped.interrupted && stopped.epochs.len() == 1);
    let rows = alpha::rows(&stopped.alpha);
    assert!(rows != first_epoch && rows != alpha::rows(&complete.alpha));
    assert_eq!(stopped.genotype, alpha::genotype(&stopped.alpha, 4, 4));

    // The last step of the first epoch is done, the evaluation is not.
    let stopped = searched(2);
    assert!(stopped.interrupted && stopped.epochs.is_empty());
    assert_eq!(alpha::rows(&stopped.alpha), first_epoch);
}

#[test]
fn a_training_hands_out_its_network_every_epoch_and_ends_with_that_of_its_last_step() {
    let (complete, networks) = trained(usize::MAX);
    assert!(!complete.interrupted && complete.epochs.len() == 2);
    assert_eq!(networks.len(), 2);
    assert!(networks[0] != networks[1] && networks[1] == complete.network);

    let (stopped, handed_out) = trained(3);
    assert!(stopped.interrupted && stopped.epochs.len() == 1);
    assert_eq!(handed_out, networks[..1]);
    assert!(!networks.contains(&stopped.network));

    let (stopped, handed_out) = trained(2);
    assert!(stopped.interrupted && stopped.epochs.is_empty() && handed_out.is_empty());
    assert_eq!(stopped.network, networks[0]);
}

#[test]
fn a_tenth_of_the_training_images_is_held_out_unless_asked_otherwise() {
    let held_out = |held_out, images| TrainSettings { held_out, ..TrainSettings::CIFAR }.held_out(images);
    let images = images();
    assert_eq!([None, Some(0), Some(7)].map(|asked| held_out(asked, &images)), [8, 0, 7]);
    assert_eq!(held_out(None, &images.limited(9)), 0);
}
