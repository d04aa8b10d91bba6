//! The supernet's gradients against differences of its loss, along random directions.

use std::sync::Arc;

use darts_host::data::Batch;
use darts_host::engine::{Engine, Workers};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::search::bilevel::{Objective, Split, Wanted};
use darts_host::search::objective::SupernetObjective;
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
    let config = SupernetConfig { input, classes: 5, channels: 4, layers: 3, nodes, multiplier };
    let graph = supernet(&config).unwrap();
    let weights = initial_weights(&graph, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let alpha = (0..2 * config.alpha_len()).map(|_| rng.random_range(-1.0..1.0)).collect();
    let images = 6;
    let pixels = images * input.iter().product::<usize>();
    let batch = Batch {
        images: (0..pixels).map(|_| rng.random_range(-1.5..1.5)).collect(),
        labels: (0..images).map(|_| rng.random_range(0..5)).collect(),
    };
    let engine = Engine::new(graph, images, Kernels::detect());
    let mut objective = SupernetObjective::new(engine, Arc::new(Workers::new(2).unwrap()));
    (objective.train, objective.valid) = (batch.clone(), batch);
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

/// The loss along a direction has kinks (ReLU, max) and rounding noise, so a few directions must agree, not one exactly.
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
        let [above, below] = [step, -step].map(|step| {
            let there = moved(start, &direction, step);
            if of_alpha { case.loss(&weights, &there) } else { case.loss(&there, &alpha) }
        });
        let difference = (above - below) / (2.0 * f64::from(step));
        let expected = product(&gradient, &direction);
        let error = (difference - expected).abs() / expected.abs();
        assert!(error < 0.03, "trial {trial}: difference {difference}, gradient {expected}");
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

#[test]
fn odd_sizes_and_other_cells() {
    for (nodes, multiplier) in [(2, 1), (3, 3), (5, 3)] {
        check(&mut case([1, 9, 7], nodes, multiplier), 1e-2, true);
        check(&mut case([1, 9, 7], nodes, multiplier), 5e-4, false);
    }
}
