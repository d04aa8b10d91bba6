//! Guards against the collapse of a search, and the spaces in which it shows.

use std::sync::Arc;

use darts_core::{Genotype, Primitive};
use darts_host::data::{self, LoadOptions};
use darts_host::engine::{Engine, Inputs, Mode, Workers};
use darts_host::graph::space::Space;
use darts_host::graph::supernet::{SupernetConfig, supernet, supernet_of};
use darts_host::search::alpha::softmax_rows_of;
use darts_host::search::guard::GuardSettings;
use darts_host::search::run::{
    Observer, RunError, SearchEpoch, SearchOutcome, SearchSettings, initial_weights, search,
};
use darts_kernels_simd::Kernels;
use darts_tests::Random;

struct Silent;
impl Observer<SearchEpoch> for Silent {}

/// Two epochs of two steps.
fn settings(guards: GuardSettings) -> SearchSettings {
    SearchSettings { channels: 2, layers: 3, epochs: 2, batch_size: 20, guards, ..SearchSettings::QUICK }
}

fn search_of(settings: SearchSettings) -> Result<SearchOutcome, RunError> {
    let images = data::load("embedded", &LoadOptions::default()).unwrap().train.limited(80);
    search(&settings, &images, Kernels::detect(), Arc::new(Workers::new(2).unwrap()), &mut Silent)
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
    let idle = run(GuardSettings { space, warm_up: 0, max_skips: Some(8) });
    assert_eq!(bits(&plain.alpha), bits(&idle.alpha));
    assert_eq!(bits(&plain.weights), bits(&idle.weights));
    assert_eq!(plain.genotype, idle.genotype);
}

#[test]
fn a_reduced_space_is_the_whole_one_without_the_other_terms() {
    let config = SupernetConfig { input: [2, 9, 8], classes: 4, channels: 4, layers: 3, nodes: 2, multiplier: 2 };
    let (whole, reduced) = (supernet(&config).unwrap(), supernet_of(&config, Space::S3).unwrap());
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
