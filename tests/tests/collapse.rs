//! Guards against the collapse of a search, and the spaces in which it shows.

use std::sync::Arc;

use darts_core::{Genotype, Primitive};
use darts_host::data::Dataset;
use darts_host::engine::{Engine, Inputs, Mode, Workers};
use darts_host::graph::space::Space;
use darts_host::graph::supernet::{SupernetConfig, supernet, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::observer::Observer;
use darts_host::search::alpha::softmax_rows_of;
use darts_host::search::guard::GuardSettings;
use darts_host::search::run::{RunError, SearchEpoch, SearchOutcome, initial_weights, search};
use darts_host::search::selection::Select;
use darts_host::search::settings::SearchSettings;
use darts_host::search::smoothing::Smoothing;
use darts_kernels_simd::Kernels;
use darts_tests::{Random, small_images};

struct Silent;
impl Observer<SearchEpoch> for Silent {}

/// Two epochs of two steps.
fn settings(guards: GuardSettings) -> SearchSettings {
    SearchSettings { channels: 2, layers: 3, epochs: 2, batch_size: 20, guards, ..SearchSettings::QUICK }
}

fn images() -> Dataset {
    small_images(80)
}

fn search_of(settings: SearchSettings) -> Result<SearchOutcome, RunError> {
    search(&settings, &images(), Kernels::detect(), Arc::new(Workers::new(2).unwrap()), &mut Silent)
}

fn run(guards: GuardSettings) -> SearchOutcome {
    search_of(settings(guards)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn guards_that_do_not_act_change_no_bit() {
    let plain = run(GuardSettings::OFF);
    let space = Space::new(&Primitive::SEARCH).unwrap();
    let idle = run(GuardSettings { space, max_skips: Some(8), eigenvalue: true, ..GuardSettings::OFF });
    assert_eq!(bits(&plain.alpha), bits(&idle.alpha));
    assert_eq!(bits(&plain.weights), bits(&idle.weights));
    assert_eq!(plain.genotype, idle.genotype);
    assert!(plain.epochs.iter().all(|epoch| epoch.eigenvalue.is_none()));
    assert!(idle.epochs.iter().all(|epoch| epoch.eigenvalue.is_some_and(|value| value.is_finite() && value != 0.0)));
}

#[test]
fn a_reduced_space_is_the_whole_one_without_the_other_terms() {
    let config = SupernetConfig { input: [2, 9, 8], classes: 4, channels: 4, layers: 3, nodes: 2, multiplier: 2 };
    let (whole, reduced) =
        (supernet(&config).unwrap(), supernet_of(&config, Variant { space: Space::S3, ..Variant::default() }).unwrap());
    let weights = initial_weights(&whole, 5);
    let mut kept = vec![f32::NAN; reduced.weights()];
    for parameter in &reduced.parameters {
        let same = whole.parameters.iter().find(|other| other.name == parameter.name).unwrap();
        kept[parameter.range.clone()].copy_from_slice(&weights[same.range.clone()]);
    }
    assert!(kept.len() < weights.len());
    let mut random = Random::new(3);
    let mix_weights = softmax_rows_of(&random.values(2 * config.alpha_len()), Space::S3);
    let images = random.values(6 * whole.input.len());
    let workers = Workers::new(2).unwrap();
    let [expected, actual] = [(whole, &weights), (reduced, &kept)].map(|(graph, weights)| {
        let mut engine = Engine::new(graph, 6, Kernels::detect());
        let inputs = Inputs { weights, mix_weights: &mix_weights, images: &images, drop_path: None };
        engine.forward(&workers, inputs, Mode::Batch);
        engine.logits().to_vec()
    });
    let difference = expected.iter().zip(&actual).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
    assert!(difference < 1e-5 * largest, "{difference} of {largest}");
}

#[test]
fn a_search_in_a_reduced_space_finds_cells_of_it() {
    let outcome = run(GuardSettings { space: Space::S2, ..GuardSettings::OFF });
    let cells = [&outcome.genotype.normal, &outcome.genotype.reduce];
    assert!(cells.iter().flat_map(|cell| &cell.edges).all(|edge| Space::S2.contains(edge.primitive)));
    for row in outcome.alpha.chunks_exact(8) {
        for (alpha, primitive) in row.iter().zip(Primitive::SEARCH) {
            assert_eq!(*alpha != 0.0, Space::S2.contains(primitive), "{primitive}: {alpha}");
        }
    }
    let undecided = 2.0_f64.ln();
    let entropy = outcome.epochs[0].normal.entropy;
    assert!(entropy <= undecided + 1e-6 && entropy > 0.9 * undecided, "{entropy}");
}

#[test]
fn in_the_warm_up_alpha_stays_where_it_is_and_the_weights_learn() {
    let outcome = run(GuardSettings { warm_up: 1, ..GuardSettings::OFF });
    let start = search_of(SearchSettings { arch_learning_rate: 0.0, ..settings(GuardSettings::OFF) }).unwrap().alpha;
    assert_eq!(outcome.epochs[0].alpha_normal.concat(), start[..start.len() / 2]);
    assert_eq!(outcome.epochs[0].alpha_reduce.concat(), start[start.len() / 2..]);
    assert!(outcome.alpha.iter().zip(&start).all(|(now, start)| now != start));
    // Weights that do not see α move learn otherwise.
    assert_ne!(outcome.epochs[0].train_loss, run(GuardSettings::OFF).epochs[0].train_loss);

    let error = search_of(settings(GuardSettings { warm_up: 2, ..GuardSettings::OFF })).unwrap_err().to_string();
    assert!(error.contains("warm-up of 2 epochs"), "{error}");
}

#[test]
fn a_limit_of_skips_holds_for_both_cells_and_changes_only_what_is_derived() {
    let skips = |genotype: &Genotype| {
        let count = |cell: &darts_core::CellGenotype| {
            cell.edges.iter().filter(|edge| edge.primitive == Primitive::SkipConnect).count()
        };
        [count(&genotype.normal), count(&genotype.reduce)]
    };
    let space = Space::S2;
    let free = run(GuardSettings { space, ..GuardSettings::OFF });
    let limited = run(GuardSettings { space, max_skips: Some(0), ..GuardSettings::OFF });
    assert!(skips(&free.genotype).iter().sum::<usize>() > 0, "{}", free.genotype);
    assert_eq!(skips(&limited.genotype), [0, 0]);
    assert_eq!(bits(&free.alpha), bits(&limited.alpha));
    assert_eq!(limited.epochs[1].normal.skips, 0);
    assert_eq!(limited.epochs[1].genotype, limited.genotype.to_string());
}

#[test]
fn an_early_stop_goes_back_to_the_alpha_of_its_epoch() {
    // At a factor of 0 the first two averages that can be compared stop it: behind epoch 16, back to 10, both from 0.
    let guards = GuardSettings { stop_eigenvalue: Some(0.0), space: Space::S2, ..GuardSettings::OFF };
    let sizes = SearchSettings { channels: 1, layers: 2, nodes: 2, multiplier: 1, ..settings(guards) };
    let outcome = search_of(SearchSettings { epochs: 19, batch_size: 40, ..sizes }).unwrap();
    assert!(!outcome.interrupted);
    assert_eq!((outcome.epochs.len(), outcome.went_back_to), (17, Some(10)));
    let SearchEpoch { alpha_normal, alpha_reduce, genotype, .. } = &outcome.epochs[10];
    assert_eq!(outcome.alpha, [alpha_normal.concat(), alpha_reduce.concat()].concat());
    assert_eq!(outcome.genotype.to_string(), *genotype);
}

#[test]
fn smoothing_changes_what_the_weights_learn_under_and_more_if_it_is_adversarial() {
    let plain = run(GuardSettings::OFF);
    let [random, adversarial] = [Smoothing::Random, Smoothing::Adversarial].map(|smoothing| {
        let guards = GuardSettings { smooth: Some(smoothing), smooth_epsilon: 0.5, ..GuardSettings::OFF };
        let first = run(guards.clone());
        assert_eq!(bits(&first.weights), bits(&run(guards).weights));
        assert_ne!(bits(&first.weights), bits(&plain.weights));
        first
    });
    // Against its own weights, so that only a rough comparison is possible.
    let loss = |outcome: &SearchOutcome| outcome.epochs[0].train_loss;
    assert!(
        loss(&adversarial) > loss(&random) && loss(&adversarial) > loss(&plain),
        "{} {} {}",
        loss(&plain),
        loss(&random),
        loss(&adversarial)
    );
}

#[test]
fn a_selection_by_perturbation_changes_what_is_derived_and_nothing_before() {
    let small = |guards| SearchSettings { nodes: 3, multiplier: 2, ..settings(guards) };
    let plain = search_of(small(GuardSettings::OFF)).unwrap();
    let selecting = GuardSettings { select: Select::Perturbation, ..GuardSettings::OFF };
    let selected = search_of(small(selecting.clone())).unwrap();
    assert_eq!(bits(&plain.alpha), bits(&selected.alpha));
    assert_eq!(bits(&plain.weights), bits(&selected.weights));
    assert_eq!(plain.epochs[1].genotype, selected.epochs[1].genotype);
    assert_ne!(plain.genotype, selected.genotype);
    selected.genotype.validate().unwrap();

    /// Stops at the third part of the selection.
    struct Impatient(usize);
    impl Observer<SearchEpoch> for Impatient {
        fn selection(&mut self, done: usize, parts: usize) {
            assert_eq!(parts, 2 * (9 * 7 + 3 + 4 + 3));
            self.0 = done;
        }
        fn stop(&self) -> bool {
            self.0 == 3
        }
    }
    let (images, workers) = (images(), Arc::new(Workers::new(2).unwrap()));
    let stopped = search(&small(selecting), &images, Kernels::detect(), workers, &mut Impatient(0)).unwrap();
    assert!(stopped.interrupted && stopped.genotype == plain.genotype);
}
