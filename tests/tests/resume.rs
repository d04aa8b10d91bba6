//! A run that goes on from a checkpoint ends with the same bits as one that was never stopped, wherever the checkpoint
//! lies.

use std::sync::Arc;

use darts_core::Genotype;
use darts_host::atomic::WriteError;
use darts_host::checkpoint::{Checkpoint, Header, RestoreError};
use darts_host::data::{self, Augment, Dataset, LoadOptions};
use darts_host::engine::Workers;
use darts_host::graph::space::Space;
use darts_host::observer::Observer;
use darts_host::search::bilevel::Order;
use darts_host::search::budget::BudgetSettings;
use darts_host::search::guard::GuardSettings;
use darts_host::search::run::{RunError, SearchEpoch, search};
use darts_host::search::selection::Select;
use darts_host::search::settings::SearchSettings;
use darts_host::search::smoothing::Smoothing;
use darts_host::search::supernet_guards::{Decay, SupernetGuards};
use darts_host::state::{Position, State};
use darts_host::train::{TrainEpoch, TrainObserver, TrainSettings, train};
use darts_kernels_simd::Kernels;
use darts_tests::small_images;
use serde_json::Value;

/// A state that was handed out: the bytes of its checkpoint, and the epochs before.
type Saved<Epoch> = (Vec<u8>, Vec<Epoch>);

/// Goes on from a state, if there is one, and keeps all that it is given.
struct Keep<Epoch> {
    from: Option<Saved<Epoch>>,
    saved: Vec<Saved<Epoch>>,
}

impl<Epoch: Clone> Observer<Epoch> for Keep<Epoch> {
    fn restore(&mut self, mut state: State<Epoch>) -> Result<(), RestoreError> {
        if let Some((bytes, epochs)) = self.from.take() {
            let checkpoint = Checkpoint::decode(&bytes).unwrap();
            checkpoint.restore(&mut state.values)?;
            (*state.position, *state.epochs) = (checkpoint.header.position, epochs);
        }
        Ok(())
    }

    fn wants_state(&self) -> bool {
        true
    }

    fn save(&mut self, state: State<Epoch>) -> Result<(), WriteError> {
        let position = Position { seconds: 0.0, ..*state.position };
        let header = Header { position, log_bytes: 0, best_accuracy: None, config: Value::Null };
        self.saved.push((Checkpoint::encode(&header, &state.values).unwrap(), state.epochs.clone()));
        Ok(())
    }
}

impl TrainObserver for Keep<TrainEpoch> {}

/// Runs once unbroken, then from each of the states on the way, and compares all states that follow and the records.
fn check<Epoch: Clone>(
    run: impl Fn(&mut Keep<Epoch>) -> Result<Vec<Epoch>, RunError>,
    states: usize,
    record: impl Fn(&Epoch) -> Value,
) {
    let records = |epochs: Vec<Epoch>| -> Vec<Value> {
        let mut records: Vec<_> = epochs.iter().map(&record).collect();
        records.iter_mut().for_each(|record| record["seconds"] = Value::Null);
        records
    };
    let mut unbroken = Keep { from: None, saved: Vec::new() };
    let expected = records(run(&mut unbroken).unwrap());
    assert_eq!(unbroken.saved.len(), states);
    for (index, state) in unbroken.saved.iter().enumerate() {
        let mut resumed = Keep { from: Some(state.clone()), saved: Vec::new() };
        assert_eq!(records(run(&mut resumed).unwrap()), expected, "from state {index}");
        let [found, unbroken] = [&resumed.saved, &unbroken.saved[index + 1..]].map(|saved| {
            let checkpoints = saved.iter().map(|(bytes, _)| Checkpoint::decode(bytes).unwrap());
            checkpoints.collect::<Vec<_>>()
        });
        assert!(found == unbroken, "the states that follow state {index} differ");
    }
}

fn images() -> Dataset {
    small_images(60)
}

const GUARDS: SupernetGuards = SupernetGuards { skip_dropout: 0.4, auxiliary_skip: Some(Decay::Linear), partial: 2 };

#[test]
fn a_search_of_either_order_from_any_step() {
    let plain = SupernetGuards::NONE;
    for (order, supernet_guards) in [(Order::First, plain), (Order::Second, plain), (Order::Second, GUARDS)] {
        let settings = SearchSettings {
            channels: 2,
            layers: 3,
            epochs: 2,
            batch_size: 11,
            order,
            supernet_guards,
            ..SearchSettings::QUICK
        };
        let run = |observer: &mut Keep<SearchEpoch>| {
            let workers = Arc::new(Workers::new(2).unwrap());
            search(&settings, &images(), Kernels::detect(), workers, observer).map(|outcome| outcome.epochs)
        };
        // Three steps an epoch, and behind it.
        check(run, 8, |epoch| serde_json::to_value(epoch).unwrap());
    }
}

#[test]
fn a_search_with_guards_against_collapse_from_any_step() {
    let guards = GuardSettings {
        space: Space::S3,
        warm_up: 1,
        max_skips: Some(1),
        eigenvalue: true,
        smooth: Some(Smoothing::Adversarial),
        ..GuardSettings::OFF
    };
    let settings =
        SearchSettings { channels: 2, layers: 3, epochs: 3, batch_size: 11, guards, ..SearchSettings::QUICK };
    let run = |observer: &mut Keep<SearchEpoch>| {
        let workers = Arc::new(Workers::new(2).unwrap());
        search(&settings, &images(), Kernels::detect(), workers, observer).map(|outcome| outcome.epochs)
    };
    check(run, 12, |epoch| serde_json::to_value(epoch).unwrap());
}

#[test]
fn a_search_with_budgets_from_any_step() {
    let budgets = BudgetSettings {
        max_params: Some(900),
        params_penalty: 0.5,
        params_target: Some(400),
        ram_penalty: 0.5,
        ram_target: Some(1_000),
        ..BudgetSettings::NONE
    };
    let small = SearchSettings { channels: 2, layers: 3, nodes: 2, multiplier: 2, ..SearchSettings::QUICK };
    let settings = SearchSettings { epochs: 2, batch_size: 15, budgets, ..small };
    let run = |observer: &mut Keep<SearchEpoch>| {
        let workers = Arc::new(Workers::new(2).unwrap());
        search(&settings, &images(), Kernels::detect(), workers, observer).map(|outcome| outcome.epochs)
    };
    check(run, 6, |epoch| {
        assert!(epoch.budget.is_some_and(|budget| budget.params <= 900 && budget.expected_ram.is_some()));
        serde_json::to_value(epoch).unwrap()
    });
}

#[test]
fn a_selection_begins_anew_and_ends_with_the_same_cells() {
    let guards = GuardSettings { select: Select::Perturbation, select_tune_epochs: 1, ..GuardSettings::OFF };
    let sizes = SearchSettings { channels: 2, layers: 3, nodes: 2, multiplier: 2, ..SearchSettings::QUICK };
    let settings = SearchSettings { epochs: 1, batch_size: 15, guards, ..sizes };
    let run = |from| {
        let mut observer = Keep { from, saved: Vec::new() };
        let workers = Arc::new(Workers::new(2).unwrap());
        let outcome = search(&settings, &images(), Kernels::detect(), workers, &mut observer).unwrap();
        ((outcome.genotype, outcome.weights), observer.saved)
    };
    let (unbroken, saved) = run(None);
    assert_eq!(saved.len(), 3);
    for state in saved {
        assert!(run(Some(state)).0 == unbroken);
    }
}

#[test]
fn a_search_with_guards_of_both_kinds_from_any_step() {
    let guards = GuardSettings { smooth: Some(Smoothing::Adversarial), eigenvalue: true, ..GuardSettings::OFF };
    let supernet_guards = SupernetGuards { partial: 1, ..GUARDS };
    let small = SearchSettings { channels: 2, layers: 3, epochs: 2, batch_size: 15, ..SearchSettings::QUICK };
    let settings = SearchSettings { guards, supernet_guards, ..small };
    let run = |observer: &mut Keep<SearchEpoch>| {
        let workers = Arc::new(Workers::new(2).unwrap());
        search(&settings, &images(), Kernels::detect(), workers, observer).map(|outcome| outcome.epochs)
    };
    check(run, 6, |epoch| serde_json::to_value(epoch).unwrap());
}

#[test]
fn a_training_with_everything_on_from_any_step() {
    let settings = TrainSettings {
        channels: 2,
        layers: 3,
        epochs: 2,
        batch_size: 17,
        auxiliary_weight: 0.4,
        drop_path: 0.3,
        label_smoothing: 0.1,
        augment: Augment { cutout: Some(8), ..Augment::STANDARD },
        held_out: Some(20),
        ..TrainSettings::QUICK
    };
    let genotype = Genotype::builtin("DARTS_V1").unwrap();
    // Small ones have no room for an auxiliary head.
    let images = data::load("embedded", &LoadOptions::default()).unwrap().train.limited(60);
    let run = |observer: &mut Keep<TrainEpoch>| {
        let workers = Arc::new(Workers::new(2).unwrap());
        train(&genotype, &settings, &images, Kernels::detect(), workers, observer).map(|outcome| outcome.epochs)
    };
    check(run, 8, |epoch| serde_json::to_value(epoch).unwrap());
}

#[test]
fn a_state_of_another_network_is_refused() {
    let settings = |channels| SearchSettings {
        channels,
        layers: 1,
        nodes: 1,
        multiplier: 1,
        epochs: 1,
        batch_size: 30,
        ..SearchSettings::QUICK
    };
    let run = |channels, observer: &mut Keep<SearchEpoch>| {
        let workers = Arc::new(Workers::new(1).unwrap());
        search(&settings(channels), &images(), Kernels::detect(), workers, observer)
    };
    let mut observer = Keep { from: None, saved: Vec::new() };
    run(1, &mut observer).unwrap();
    let mut other = Keep { from: observer.saved.pop(), saved: Vec::new() };
    let error = run(2, &mut other).unwrap_err().to_string();
    assert!(error.contains("bytes of weights") && error.contains("another version"), "{error}");
}
