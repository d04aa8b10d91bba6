//! The same seed gives the same bits at any number of threads.

use std::sync::Arc;

use darts_core::Genotype;
use darts_host::data::{Augment, Dataset};
use darts_host::engine::{Saved, Workers};
use darts_host::observer::Observer;
use darts_host::search::bilevel::Order;
use darts_host::search::run::{SearchEpoch, search};
use darts_host::search::settings::SearchSettings;
use darts_host::search::supernet_guards::{Decay, SupernetGuards};
use darts_host::train::{TrainEpoch, TrainObserver, TrainSettings, train};
use darts_kernels_simd::{ImageShape, Kernels};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const THREADS: [usize; 3] = [1, 2, 5];

struct Silent;
impl Observer<SearchEpoch> for Silent {}
impl Observer<TrainEpoch> for Silent {}
impl TrainObserver for Silent {}

fn data() -> Dataset {
    images(90)
}

fn images(count: usize) -> Dataset {
    let shape = ImageShape::new(9, 10, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let images = (0..count * shape.len()).map(|_| rng.random()).collect();
    let labels = (0..count).map(|image| (image % 3) as u16).collect();
    Dataset::new(shape, images, labels, ["a", "b", "c"].map(String::from).to_vec())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn assert_all_equal<T: PartialEq>(results: &[T]) {
    assert!(results.iter().all(|result| *result == results[0]), "results differ between {THREADS:?} threads");
}

const GUARDS: SupernetGuards = SupernetGuards { skip_dropout: 0.4, auxiliary_skip: Some(Decay::Linear), partial: 2 };

#[test]
fn search_of_both_orders() {
    let plain = SupernetGuards::NONE;
    for (order, supernet_guards) in [(Order::First, plain), (Order::Second, plain), (Order::Second, GUARDS)] {
        let settings = SearchSettings {
            channels: if supernet_guards.partial > 1 { 4 } else { 3 },
            layers: 3,
            epochs: 2,
            batch_size: 19,
            order,
            supernet_guards,
            ..SearchSettings::QUICK
        };
        let results = THREADS.map(|threads| {
            let workers = Arc::new(Workers::new(threads).unwrap());
            let outcome = search(&settings, &data(), Kernels::detect(), workers, &mut Silent).unwrap();
            assert_eq!(outcome.epochs.len(), 2);
            (bits(&outcome.alpha), bits(&outcome.beta), bits(&outcome.weights), outcome.genotype)
        });
        assert_all_equal(&results);
    }
}

#[test]
fn training_with_everything_on() {
    let genotype = Genotype::builtin("DARTS_V1").unwrap();
    let settings = TrainSettings {
        channels: 4,
        layers: 3,
        epochs: 2,
        batch_size: 17,
        drop_path: 0.4,
        label_smoothing: 0.1,
        augment: Augment { cutout: Some(4), ..Augment::STANDARD },
        held_out: Some(9),
        ..TrainSettings::QUICK
    };
    let results = THREADS.map(|threads| {
        let workers = Arc::new(Workers::new(threads).unwrap());
        let outcome = train(&genotype, &settings, &data(), Kernels::detect(), workers, &mut Silent).unwrap();
        assert!(outcome.epochs.iter().all(|epoch| epoch.valid_accuracy.is_some()));
        (bits(&outcome.network.weights), bits(&outcome.network.statistics.mean))
    });
    assert_all_equal(&results);
}

/// Of more than 128 images, the last of fewer, whose parts that are added up apart are fuller.
#[test]
fn training_with_large_batches_in_half_precision() {
    let genotype = Genotype::builtin("DARTS_V1").unwrap();
    let settings = TrainSettings {
        channels: 3,
        layers: 2,
        epochs: 1,
        batch_size: 140,
        held_out: Some(9),
        saved: Saved::F16,
        ..TrainSettings::QUICK
    };
    let data = images(140 + 136 + 9);
    let results = THREADS.map(|threads| {
        let workers = Arc::new(Workers::new(threads).unwrap());
        let outcome = train(&genotype, &settings, &data, Kernels::detect(), workers, &mut Silent).unwrap();
        (bits(&outcome.network.weights), bits(&outcome.network.statistics.mean))
    });
    assert_all_equal(&results);
}
