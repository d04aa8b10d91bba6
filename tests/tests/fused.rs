//! The fused engine against the one that runs operation by operation, and half precision against single.

use darts_core::{Genotype, Primitive};
use darts_host::engine::{Engine, Gradients, Inputs, Mode, Options, Saved, Workers};
use darts_host::graph::Graph;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::graph::space::Space;
use darts_host::graph::supernet::{SupernetConfig, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::search::run::initial_weights;
use darts_kernels_simd::Kernels;
use darts_tests::Random;

/// A portion of the batch each.
const IMAGES: usize = 5;

/// Logits and gradients of one pass.
struct Results {
    logits: Vec<f32>,
    weights: Vec<f32>,
    mix_weights: Vec<f32>,
    /// The same from a backward pass that gives no gradient of the weights.
    mix_weights_alone: Vec<f32>,
}

fn run(graph: &Graph, count: usize, options: Options) -> Results {
    let mut random = Random::new(3);
    let weights = initial_weights(graph, 5);
    let mix_weights: Vec<f32> = random.values(graph.mix_weights).iter().map(|value| 0.2 + 0.1 * value).collect();
    let images = random.values(count * graph.input.len());
    let factors: Vec<f32> = (0..graph.drop_paths * count).map(|index| [0.0, 1.25][index % 3 / 2]).collect();
    let drop_path = (graph.drop_paths > 0).then_some(factors.as_slice());
    let inputs = Inputs { weights: &weights, mix_weights: &mix_weights, images: &images, drop_path };
    let workers = Workers::new(2).expect("threads can be started");
    let mut engine = Engine::with_options(graph.clone(), count, Kernels::detect(), options);
    engine.forward(&workers, inputs, Mode::Batch);
    let dlogits = random.values(count * graph.classes);
    let mut results = Results {
        logits: engine.logits().to_vec(),
        weights: vec![0.0; weights.len()],
        mix_weights: vec![0.0; mix_weights.len()],
        mix_weights_alone: vec![0.0; mix_weights.len()],
    };
    let gradients = Gradients { weights: Some(&mut results.weights), mix_weights: &mut results.mix_weights };
    let auxiliary = graph.auxiliary.as_ref().map(|_| dlogits.as_slice());
    engine.backward(&workers, inputs, &dlogits, auxiliary, gradients);
    let alone = Gradients { weights: None, mix_weights: &mut results.mix_weights_alone };
    engine.backward(&workers, inputs, &dlogits, auxiliary, alone);
    results
}

/// The largest difference, as a share of the largest value.
fn difference(values: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let differences = values.iter().zip(expected).map(|(value, expected)| (value - expected).abs());
    differences.fold(0.0, |worst, error| if error <= worst { worst } else { error }) / largest.max(1e-30)
}

fn assert_near(results: &Results, expected: &Results, bound: f32, what: &str) {
    let pairs = [
        (&results.logits, &expected.logits),
        (&results.weights, &expected.weights),
        (&results.mix_weights, &expected.mix_weights),
    ];
    let differences = pairs.map(|(values, expected)| difference(values, expected));
    assert!(differences.iter().all(|&difference| difference < bound), "{what}: {differences:?}, bound {bound}");
}

fn graphs() -> Vec<(&'static str, Graph)> {
    let search_of = |channels, size: [usize; 3], variant| {
        let config = SupernetConfig { input: size, classes: 10, channels, layers: 3, nodes: 3, multiplier: 2 };
        supernet_of(&config, variant).expect("a valid size")
    };
    let search = |channels, size| search_of(channels, size, Variant::default());
    let space = Space::new(&[Primitive::AvgPool3x3, Primitive::SkipConnect, Primitive::DilConv3x3]).expect("a space");
    let partial = Variant { auxiliary_skip: true, skip_dropout: true, partial: 4, ..Variant::default() };
    let trained = |name, auxiliary| {
        let genotype = Genotype::builtin(name).expect("a built-in name");
        let config = DerivedConfig {
            kind: NetworkKind::Cifar,
            input: [3, 32, 32],
            classes: 10,
            channels: 6,
            layers: 4,
            auxiliary,
        };
        derived(&genotype, &config).expect("a valid size")
    };
    vec![
        ("supernet of 4 channels", search(4, [1, 14, 14])),
        ("supernet of 5 channels on odd images", search(5, [3, 9, 11])),
        ("supernet of 16 channels", search(16, [3, 12, 12])),
        ("supernet with one of the pools", search_of(8, [3, 12, 12], Variant { space, ..Variant::default() })),
        ("partial channels", search_of(8, [3, 12, 12], partial)),
        ("partial channels on odd images", search_of(4, [3, 9, 11], partial)),
        ("DARTS_V2 with an auxiliary head", trained("DARTS_V2", true)),
        ("AmoebaNet", trained("AmoebaNet", false)),
    ]
}

#[test]
fn fused_stages_are_the_operations_one_by_one() {
    for (name, graph) in graphs() {
        let expected = run(&graph, IMAGES, Options { fused: false, ..Options::default() });
        assert_near(&run(&graph, IMAGES, Options::default()), &expected, 1e-4, name);
    }
}

#[test]
fn mixing_weights_have_the_same_gradient_without_that_of_the_weights() {
    for (name, graph) in graphs() {
        for fused in [false, true] {
            let results = run(&graph, IMAGES, Options { fused, ..Options::default() });
            assert_eq!(results.mix_weights, results.mix_weights_alone, "{name}, fused: {fused}");
        }
    }
}

#[test]
fn half_precision_between_the_passes_changes_little() {
    for (name, graph) in graphs() {
        let expected = run(&graph, IMAGES, Options::default());
        let rounded = run(&graph, IMAGES, Options { saved: Saved::F16, ..Options::default() });
        assert_near(&rounded, &expected, 0.1, name);
        assert!(difference(&rounded.weights, &expected.weights) > 0.0, "{name}: nothing was rounded");
    }
}

/// Two and three images a portion, of which two are taken through a region together.
#[test]
fn chunks_of_several_images_are_the_operations_one_by_one() {
    let config = SupernetConfig { input: [1, 64, 64], classes: 10, channels: 4, layers: 2, nodes: 2, multiplier: 2 };
    let graph = supernet_of(&config, Variant::default()).expect("a valid size");
    let run = |fused, saved| run(&graph, 37, Options { fused, saved });
    let (expected, fused) = (run(false, Saved::F32), run(true, Saved::F32));
    // Of so many values some are so near to zero that a ReLU lets them through on one side only.
    assert_near(&fused, &expected, 1e-3, "fused");
    assert_eq!(fused.mix_weights, fused.mix_weights_alone);
    assert_near(&run(true, Saved::F16), &expected, 0.1, "half precision");
}
