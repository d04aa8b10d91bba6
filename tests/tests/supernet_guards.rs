//! Guards against collapse that change the supernet.

use darts_host::engine::{Engine, Inputs, Mode, Workers};
use darts_host::graph::Graph;
use darts_host::graph::count::totals;
use darts_host::graph::space::Space;
use darts_host::graph::supernet::{SupernetConfig, supernet, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::search::alpha;
use darts_host::search::derivation::Derivation;
use darts_host::search::guard::GuardSettings;
use darts_host::search::mixing::Mixing;
use darts_host::search::run::initial_weights;
use darts_host::search::settings::SearchSettings;
use darts_host::search::smoothing::Smoothing;
use darts_host::search::supernet_guards::SupernetGuards;
use darts_kernels_simd::Kernels;
use darts_tests::Random;

const IMAGES: usize = 5;
const EDGES: usize = 9;
const COLUMNS: usize = 8;
const SKIP: usize = 3;

/// Two of its three cells reduce; the first one does not.
const CONFIG: SupernetConfig =
    SupernetConfig { input: [3, 8, 8], classes: 10, channels: 8, layers: 3, nodes: 3, multiplier: 3 };

fn plain() -> Graph {
    supernet(&CONFIG).expect("a valid size")
}

fn with(variant: Variant) -> Graph {
    supernet_of(&CONFIG, variant).expect("a valid size")
}

/// The weights of `graph` that bear the names of those of `from`, from there; the others as they are drawn.
fn weights(graph: &Graph, from: &Graph) -> Vec<f32> {
    let (mut weights, others) = (initial_weights(graph, 5), initial_weights(from, 6));
    for parameter in &graph.parameters {
        if let Some(other) = from.parameters.iter().find(|other| other.name == parameter.name) {
            weights[parameter.range.clone()].copy_from_slice(&others[other.range.clone()]);
        }
    }
    weights
}

fn logits(graph: &Graph, weights: &[f32], mix_weights: &[f32], factor: Option<f32>) -> Vec<f32> {
    let images = Random::new(3).values(IMAGES * graph.input.len());
    let factors = factor.map(|factor| vec![factor; graph.drop_paths * IMAGES]);
    let inputs = Inputs { weights, mix_weights, images: &images, drop_path: factors.as_deref() };
    let mut engine = Engine::new(graph.clone(), IMAGES, Kernels::detect());
    engine.forward(&Workers::new(2).expect("threads can be started"), inputs, Mode::Batch);
    engine.logits().to_vec()
}

fn mix_weights() -> Vec<f32> {
    Random::new(4).values(2 * EDGES * COLUMNS).iter().map(|value| 0.2 + 0.1 * value).collect()
}

/// Numbers of the edges of both cells whose skip connection is an identity: those that do not reduce.
fn identities() -> impl Iterator<Item = usize> {
    // Node i of a reduction cell has its edges from the two inputs first.
    let inside = [4, 7, 8];
    (0..EDGES).chain(inside.map(|edge| EDGES + edge))
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    let error = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    let scale = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
    assert!(error < 1e-4 * scale, "{error} of {scale}");
}

#[test]
fn dropped_skips_add_nothing_and_reductions_are_never_dropped() {
    let (plain, dropout) = (plain(), with(Variant { skip_dropout: true, ..Variant::default() }));
    // The two reduction cells have their own masks.
    assert_eq!((plain.drop_paths, dropout.drop_paths), (0, EDGES + 2 * 3));
    let weights = weights(&dropout, &plain);
    let mut mix_weights = mix_weights();
    let all = logits(&plain, &weights, &mix_weights, None);
    assert_eq!(logits(&dropout, &weights, &mix_weights, None), all);
    let dropped = logits(&dropout, &weights, &mix_weights, Some(0.0));
    let doubled = logits(&dropout, &weights, &mix_weights, Some(2.0));
    let scaled = |mix_weights: &[f32], factor: f32| {
        let mut scaled = mix_weights.to_vec();
        identities().for_each(|edge| scaled[edge * COLUMNS + SKIP] *= factor);
        scaled
    };
    assert_near(&dropped, &logits(&plain, &weights, &scaled(&mix_weights, 0.0), None));
    assert_near(&doubled, &logits(&plain, &weights, &scaled(&mix_weights, 2.0), None));
    assert_ne!(dropped, all);
    mix_weights[SKIP] = 0.0;
    assert_ne!(logits(&plain, &weights, &mix_weights, None), all);
}

#[test]
fn an_auxiliary_skip_is_a_skip_connection_with_a_weight_of_its_own() {
    let (plain, auxiliary) = (plain(), with(Variant { auxiliary_skip: true, ..Variant::default() }));
    assert_eq!(auxiliary.mix_weights, plain.mix_weights + 2 * EDGES);
    let (plain_weights, auxiliary_weights) = (weights(&plain, &plain), weights(&auxiliary, &plain));
    let reductions = auxiliary.parameters.iter().filter(|parameter| parameter.name.contains("auxiliary_op")).count();
    assert_eq!(reductions, 2 * 6 * 2, "two cells, six edges at stride 2, two halves");

    let mut expected = mix_weights();
    let mut found = expected.clone();
    found.resize(auxiliary.mix_weights, 0.0);
    let without = logits(&plain, &plain_weights, &expected, None);
    assert_near(&logits(&auxiliary, &auxiliary_weights, &found, None), &without);
    for edge in identities() {
        found[2 * EDGES * COLUMNS + edge] = 0.6;
        expected[edge * COLUMNS + SKIP] += 0.6;
    }
    let identities_only = logits(&auxiliary, &auxiliary_weights, &found, None);
    assert_near(&identities_only, &logits(&plain, &plain_weights, &expected, None));
    found[2 * EDGES * COLUMNS..].fill(0.6);
    assert_ne!(logits(&auxiliary, &auxiliary_weights, &found, None), identities_only);
}

/// PC-DARTS as its paper defines it: the identity alone on the first channels, the others as they are, side by side,
/// then the shuffle, each edge with its weight.
#[test]
fn partial_channels_are_mixed_bypassed_and_shuffled() {
    const PARTIAL: usize = 4;
    let graph = with(Variant { partial: PARTIAL, ..Variant::default() });
    let weights = initial_weights(&graph, 5);
    let edge_weights: Vec<f32> = Random::new(8).values(2 * EDGES);
    let mut mix_weights = vec![0.0; 2 * EDGES * COLUMNS];
    for edge in 0..EDGES {
        mix_weights[edge * COLUMNS + SKIP] = 2.0 * edge_weights[edge];
    }
    mix_weights.extend_from_slice(&edge_weights);
    let images = Random::new(3).values(IMAGES * graph.input.len());
    let inputs = Inputs { weights: &weights, mix_weights: &mix_weights, images: &images, drop_path: None };
    let mut engine = Engine::new(graph.clone(), IMAGES, Kernels::detect());
    engine.forward(&Workers::new(2).expect("threads can be started"), inputs, Mode::Batch);

    let channels = CONFIG.channels;
    let state = |name: &str| {
        let mix = graph.mixes.iter().find(|mix| mix.name == name).expect("a state of that name");
        engine.activation(mix.output)
    };
    let mut states = ["preprocess0", "preprocess1"].map(|name| state(&format!("cells.0.{name}"))).to_vec();
    let (mut edge, pixels) = (0, states[0].len() / channels);
    for node in 0..CONFIG.nodes {
        let mut expected = vec![0.0; states[0].len()];
        for state in &states {
            for (expected, x) in expected.chunks_exact_mut(channels).zip(state.chunks_exact(channels)) {
                for (channel, expected) in expected.iter_mut().enumerate() {
                    let from = channel % PARTIAL * (channels / PARTIAL) + channel / PARTIAL;
                    let factor = if from < channels / PARTIAL { 2.0 } else { 1.0 };
                    *expected += edge_weights[edge] * factor * x[from];
                }
            }
            edge += 1;
        }
        let name = format!("cells.0.node{node}.shuffled");
        let (first, rest) = (state(&name), state(&format!("{name}.bypass")));
        let mut found = Vec::with_capacity(expected.len());
        for pixel in 0..pixels {
            let part = channels / PARTIAL;
            found.extend_from_slice(&first[pixel * part..(pixel + 1) * part]);
            found.extend_from_slice(&rest[pixel * (channels - part)..(pixel + 1) * (channels - part)]);
        }
        assert_near(&found, &expected);
        states.push(found);
    }
}

#[test]
fn a_fourth_of_the_channels_is_a_fifth_of_the_work() {
    let of = |partial| {
        let config = SupernetConfig { input: [3, 32, 32], channels: 16, layers: 8, nodes: 4, multiplier: 4, ..CONFIG };
        let graph = supernet_of(&config, Variant { partial, ..Variant::default() }).expect("a valid size");
        (totals(&graph).multiply_adds, Engine::bytes_needed(&graph, 64, Default::default()))
    };
    let ((all, bytes_of_all), (partial, bytes)) = (of(1), of(4));
    assert!(5 * partial < all, "multiply-adds: {partial} of {all}");
    assert!(2 * bytes < bytes_of_all, "memory: {bytes} of {bytes_of_all}");
    let error = supernet_of(&SupernetConfig { channels: 6, ..CONFIG }, Variant { partial: 4, ..Variant::default() });
    let error = error.expect_err("6 channels have no fourth").to_string();
    assert!(error.contains("the number of channels is 6: it must be a multiple of 4"), "{error}");
}

#[test]
fn edges_are_derived_by_their_own_weight_too() {
    let derivation = Derivation { nodes: 3, multiplier: 3, space: Space::DARTS, max_skips: None };
    let mut alpha = vec![0.0; 2 * EDGES * COLUMNS];
    alpha[SKIP] = 1.0;
    let sources = |alpha: &[f32]| {
        let genotype = derivation.genotype(alpha);
        genotype.normal.edges.iter().map(|edge| edge.source).collect::<Vec<_>>()
    };
    assert_eq!(sources(&alpha), [0, 1, 0, 1, 0, 1]);
    alpha.resize(alpha.len() + 2 * EDGES, 0.0);
    assert_eq!(sources(&alpha), [0, 1, 0, 1, 0, 1]);
    // β prefers the later one of the first node's edges, the last one of the second's, and the middle ones of the
    // third's.
    let beta = [0.0, 2.0, 0.0, 0.5, 1.0, 0.0, 0.3, 0.2, 0.0];
    alpha[2 * EDGES * COLUMNS..][..EDGES].copy_from_slice(&beta);
    assert_eq!(sources(&alpha), [1, 0, 2, 1, 1, 2]);
}

#[test]
fn mixing_weights_are_products_that_add_up_to_one_for_each_node() {
    let variant = Variant { partial: 4, auxiliary_skip: true, ..Variant::default() };
    let mixing = Mixing { variant, auxiliary_weight: 0.5 };
    let alpha = Random::new(9).values(2 * EDGES * (COLUMNS + 1));
    let mut weights = Vec::new();
    mixing.weights(&alpha, &mut weights);
    assert_eq!(weights.len(), with(variant).mix_weights);
    assert_eq!(mixing.alpha_len(weights.len()), alpha.len());
    let (matrices, edges) = weights.split_at(2 * EDGES * COLUMNS);
    let (edges, auxiliary) = edges.split_at(2 * EDGES);
    for (edge, row) in matrices.chunks_exact(COLUMNS).enumerate() {
        assert!((row.iter().sum::<f32>() - edges[edge]).abs() < 1e-6);
        assert_eq!(auxiliary[edge], 0.5 * edges[edge]);
    }
    for cell in edges.chunks_exact(EDGES) {
        let nodes = [&cell[..2], &cell[2..5], &cell[5..]];
        assert!(nodes.iter().all(|node| (node.iter().sum::<f32>() - 1.0).abs() < 1e-6), "{cell:?}");
    }
    // Without β the weights are those of the paper, to the bit.
    let mut plain = Vec::new();
    Mixing::default().weights(&alpha[..2 * EDGES * COLUMNS], &mut plain);
    assert_eq!(plain, alpha::softmax_rows(&alpha[..2 * EDGES * COLUMNS]));
}

#[test]
fn guards_that_know_no_weights_of_edges_are_refused_with_partial_channels() {
    let supernet_guards = SupernetGuards { partial: 4, ..SupernetGuards::NONE };
    let settings = SearchSettings { supernet_guards, ..SearchSettings::PAPER };
    assert_eq!(settings.check_guards(), Ok(()));
    let guards = GuardSettings { smooth: Some(Smoothing::Random), ..GuardSettings::OFF };
    let error = SearchSettings { guards, ..settings }.check_guards().expect_err("smoothing is of operations");
    assert!(error.to_string().contains("smoothing does not go with partial channels"), "{error}");
}
