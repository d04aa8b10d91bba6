//! The supernet's gradients against differences of its loss, along random directions.

use std::sync::Arc;

use darts_host::data::Batch;
use darts_host::engine::{Engine, Workers};
use darts_host::graph::supernet::{SupernetConfig, supernet_of};
use darts_host::graph::variant::Variant;
use darts_host::search::bilevel::{Bilevel, Objective, Order, Split, Wanted};
use darts_host::search::mixing::Mixing;
use darts_host::search::objective::SupernetObjective;
use darts_host::search::optimizer::{Adam, Sgd};
use darts_host::search::run::initial_weights;
use darts_kernels_simd::Kernels;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

struct Case {
    objective: SupernetObjective,
    weights: Vec<f32>,
    alpha: Vec<f32>,
    rng: ChaCha8Rng,
}

fn case(input: [usize; 3], nodes: usize, multiplier: usize) -> Case {
    case_of(input, nodes, multiplier, Variant::default(), 11)
}

fn case_of(input: [usize; 3], nodes: usize, multiplier: usize, variant: Variant, seed: u64) -> Case {
    let config = SupernetConfig { input, classes: 5, channels: 4, layers: 3, nodes, multiplier };
    let graph = supernet_of(&config, variant).unwrap();
    let mixing = Mixing { variant, auxiliary_weight: 0.7 };
    let weights = initial_weights(&graph, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let alpha = (0..mixing.alpha_len(graph.mix_weights)).map(|_| rng.random_range(-1.0..1.0)).collect();
    let images = 6;
    let pixels = images * input.iter().product::<usize>();
    let batch = Batch {
        images: (0..pixels).map(|_| rng.random_range(-1.5..1.5)).collect(),
        labels: (0..images).map(|_| rng.random_range(0..5)).collect(),
    };
    let engine = Engine::new(graph, images, Kernels::detect());
    let mut objective = SupernetObjective::new(engine, Arc::new(Workers::new(2).unwrap()));
    (objective.train, objective.valid) = (batch.clone(), batch);
    objective.mixing = mixing;
    if variant.skip_dropout {
        objective.draw_factors(0.4, seed, 0, 0);
    }
    Case { objective, weights, alpha, rng }
}

impl Case {
    fn loss(&mut self, weights: &[f32], alpha: &[f32]) -> f64 {
        self.objective.loss_grad(Split::Train, true, weights, alpha, Wanted::default())
    }
}

fn moved(start: &[f32], direction: &[f32], step: f32) -> Vec<f32> {
    start.iter().zip(direction).map(|(value, direction)| value + step * direction).collect()
}

fn product(gradient: &[f32], direction: &[f32]) -> f64 {
    gradient.iter().zip(direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum()
}

/// A kink between the two points spoils a difference: the slope has to be right for one of three distances.
#[track_caller]
fn assert_slope(expected: f64, step: f32, mut loss: impl FnMut(f32) -> f64, what: &str) {
    let steps = [step, step / 2.0, step / 4.0];
    let differences = steps.map(|step| (loss(step) - loss(-step)) / (2.0 * f64::from(step)));
    let near = |difference: &f64| (difference - expected).abs() < 0.03 * expected.abs();
    assert!(differences.iter().any(near), "{what}: differences {differences:?}, gradient {expected}");
}

/// The loss along a direction has kinks (ReLU, max) and rounding noise, so a few directions must agree, not one
/// exactly.
fn check(case: &mut Case, step: f32, of_alpha: bool) {
    let (weights, alpha) = (case.weights.clone(), case.alpha.clone());
    let (mut by_weights, mut by_alpha) = (vec![0.0; weights.len()], vec![0.0; alpha.len()]);
    let wanted = Wanted { weights: Some(&mut by_weights), alpha: Some(&mut by_alpha) };
    case.objective.loss_grad(Split::Train, true, &weights, &alpha, wanted);
    let (gradient, start) = if of_alpha { (by_alpha, &alpha) } else { (by_weights, &weights) };
    // Along the gradient itself, and along random signs weighted by it: directions in which the loss does move.
    for trial in 0..4 {
        let scale = gradient.iter().map(|g| g.abs()).fold(0.0, f32::max);
        let sign = |rng: &mut ChaCha8Rng| if trial > 0 && rng.random_bool(0.3) { 0.0 } else { 1.0 };
        let direction: Vec<f32> = gradient.iter().map(|g| sign(&mut case.rng) * g / scale).collect();
        let expected = product(&gradient, &direction);
        let loss = |step| {
            let there = moved(start, &direction, step);
            if of_alpha { case.loss(&weights, &there) } else { case.loss(&there, &alpha) }
        };
        assert_slope(expected, step, loss, &format!("trial {trial}"));
    }
}

#[test]
fn alpha_gradient() {
    check(&mut case([3, 8, 8], 4, 4), 1e-2, true);
}

#[test]
fn weight_gradient() {
    check(&mut case([3, 8, 8], 4, 4), 5e-4, false);
}

/// Their batch norms come to the same, and so does the mean of their losses; a large batch is more partial sums.
#[test]
fn a_batch_of_copies_has_the_gradients_of_one() {
    let mut case = case([3, 8, 8], 3, 3);
    let (weights, alpha) = (case.weights.clone(), case.alpha.clone());
    let gradients = |objective: &mut SupernetObjective| {
        let (mut by_weights, mut by_alpha) = (vec![0.0; weights.len()], vec![0.0; alpha.len()]);
        let wanted = Wanted { weights: Some(&mut by_weights), alpha: Some(&mut by_alpha) };
        let loss = objective.loss_grad(Split::Train, true, &weights, &alpha, wanted);
        (loss, by_weights, by_alpha)
    };
    let (loss, by_weights, by_alpha) = gradients(&mut case.objective);
    let Batch { images, labels } = &case.objective.train;
    let batch = Batch { images: images.repeat(50), labels: labels.repeat(50) };
    let engine = Engine::new(case.objective.engine.graph().clone(), batch.count(), Kernels::detect());
    let mut copies = SupernetObjective::new(engine, Arc::new(Workers::new(3).unwrap()));
    copies.train = batch;
    let (loss_of_copies, weights_of_copies, alpha_of_copies) = gradients(&mut copies);
    assert!((loss_of_copies - loss).abs() < 1e-5, "losses {loss_of_copies} and {loss}");
    for (found, expected) in [(weights_of_copies, by_weights), (alpha_of_copies, by_alpha)] {
        let largest = expected.iter().map(|g| g.abs()).fold(0.0, f32::max);
        let error = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
        assert!(error < 1e-3 * largest, "gradients differ by {error}, the largest is {largest}");
    }
}

#[test]
fn odd_sizes_and_other_cells() {
    for (nodes, multiplier) in [(2, 1), (3, 3), (5, 3)] {
        check(&mut case([1, 9, 7], nodes, multiplier), 1e-2, true);
        check(&mut case([1, 9, 7], nodes, multiplier), 5e-4, false);
    }
}

/// The slope of L_val(w − rate · ∇w L_train(w, α), α) along the second-order gradient of α, the gradient's own, and the
/// part of it by which the weights depend on α.
fn second_order(case: &mut Case, rate: f32, range: f32) -> [f64; 3] {
    const DISTANCES: usize = 30;
    let (weights, alpha) = (case.weights.clone(), case.alpha.clone());
    let sgd = Sgd { momentum: vec![0.0; weights.len()], momentum_decay: 0.0, weight_decay: 0.0, grad_clip: 5.0 };
    let adam = Adam::new(alpha.len(), 0.0, [0.5, 0.999], 0.0);
    let kernels = case.objective.engine.kernels();
    let mut bilevel = Bilevel::new(weights.clone(), alpha.clone(), sgd, adam, Order::Second, kernels);
    bilevel.alpha_step(&mut case.objective, rate);
    let gradient = &bilevel.alpha_gradient;
    let scale = gradient.iter().map(|g| g.abs()).fold(0.0, f32::max);
    let direction: Vec<f32> = gradient.iter().map(|g| g / scale).collect();
    let mut loss = |step| {
        let alpha = moved(&alpha, &direction, step);
        let mut by_weights = vec![0.0; weights.len()];
        let wanted = Wanted { weights: Some(&mut by_weights), alpha: None };
        case.objective.loss_grad(Split::Train, false, &weights, &alpha, wanted);
        let unrolled = moved(&weights, &by_weights, -rate);
        case.objective.loss_grad(Split::Valid, false, &unrolled, &alpha, Wanted::default())
    };
    let steps = (1..=DISTANCES).map(|index| range * index as f32 / DISTANCES as f32);
    let slopes = steps.map(|step| (loss(step) - loss(-step)) / (2.0 * f64::from(step)));
    let slope = slopes.sum::<f64>() / DISTANCES as f64;
    let expected = product(gradient, &direction);
    [slope, expected, expected - product(&bilevel.unrolled.direct, &direction)]
}

/// The gradients of a network with kinks jump, so that slopes are means over many distances up to `range`, and over
/// several batches: they have to tell the gradient from one that leaves out how the weights depend on α.
fn check_second_order(variant: Variant, rate: f32, range: f32) {
    let mut sums = [0.0; 3];
    for seed in 0..6 {
        let found = second_order(&mut case_of([3, 8, 8], 3, 2, variant, seed), rate, range);
        sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
    let [slope, expected, implicit] = sums;
    let error = (slope - expected).abs();
    assert!(error < 0.4 * implicit.abs(), "slope {slope}, gradient {expected}, of which {implicit} by the weights");
}

#[test]
fn second_order_gradient() {
    check_second_order(Variant::default(), 0.01, 0.04);
}

/// First-order gradients of a supernet with additions, on even and on odd sizes.
fn check_variant(variant: Variant) {
    for (input, nodes, multiplier) in [([3, 8, 8], 3, 2), ([1, 9, 7], 2, 2)] {
        check(&mut case_of(input, nodes, multiplier, variant, 11), 1e-2, true);
        check(&mut case_of(input, nodes, multiplier, variant, 11), 5e-4, false);
    }
}

#[test]
fn with_skip_dropout() {
    let variant = Variant { skip_dropout: true, ..Variant::default() };
    check_variant(variant);
    check_second_order(variant, 0.01, 0.04);
}

#[test]
fn with_auxiliary_skips() {
    let variant = Variant { auxiliary_skip: true, ..Variant::default() };
    check_variant(variant);
    check_second_order(variant, 0.01, 0.04);
}

#[test]
fn with_partial_channels() {
    for partial in [2, 4] {
        let variant = Variant { partial, ..Variant::default() };
        check_variant(variant);
        check_second_order(variant, 0.2, 0.01);
    }
}

#[test]
fn with_all_additions() {
    check_variant(Variant { skip_dropout: true, auxiliary_skip: true, partial: 2, ..Variant::default() });
}
