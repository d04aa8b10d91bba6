//! The bilevel optimizer on a quadratic whose gradients are known in closed form.
//!
//! L_train(w, α) = ½ wᵀAw + wᵀBα and L_val(w, α) = ½‖w − c‖² + ½‖α − d‖² + αᵀCw, so that
//! w′ = w − η(μm + Aw + Bα + λw) and dL_val(w′, α)/dα = (α − d) + Cw′ − ηBᵀ(w′ − c + Cᵀα).

use darts_host::interrupt::Interrupted;
use darts_host::search::bilevel::{Bilevel, Objective, Order, Split, Wanted};
use darts_host::search::eigenvalue::largest_eigenvalue;
use darts_host::search::optimizer::{Adam, Sgd};
use darts_kernels_simd::Kernels;

const W: usize = 5;
const A: usize = 3;

struct Quadratic {
    a: [[f64; W]; W],
    b: [[f64; A]; W],
    c: [f64; W],
    d: [f64; A],
    e: [[f64; W]; A],
}

fn quadratic() -> Quadratic {
    let value = |i: usize, j: usize, k: usize| ((7 * i + 3 * j + 5 * k) % 11) as f64 / 11.0 - 0.4;
    let symmetric = |i, j| (value(i, j, 1) + value(j, i, 1)) / 2.0;
    let a = std::array::from_fn(|i| std::array::from_fn(|j| symmetric(i, j) + if i == j { 1.0 } else { 0.0 }));
    let b = std::array::from_fn(|i| std::array::from_fn(|j| value(i, j, 2)));
    let e = std::array::from_fn(|i| std::array::from_fn(|j| value(i, j, 3)));
    Quadratic { a, b, c: std::array::from_fn(|i| value(i, 0, 4)), d: std::array::from_fn(|i| value(i, 1, 6)), e }
}

impl Quadratic {
    fn train_by_w(&self, w: &[f64], alpha: &[f64]) -> Vec<f64> {
        (0..W)
            .map(|i| {
                let linear: f64 = (0..A).map(|j| self.b[i][j] * alpha[j]).sum();
                (0..W).map(|j| self.a[i][j] * w[j]).sum::<f64>() + linear
            })
            .collect()
    }

    fn valid_by_w(&self, w: &[f64], alpha: &[f64]) -> Vec<f64> {
        (0..W).map(|i| w[i] - self.c[i] + (0..A).map(|j| self.e[j][i] * alpha[j]).sum::<f64>()).collect()
    }

    fn valid_by_alpha(&self, w: &[f64], alpha: &[f64]) -> Vec<f64> {
        (0..A).map(|j| alpha[j] - self.d[j] + (0..W).map(|i| self.e[j][i] * w[i]).sum::<f64>()).collect()
    }

    fn train_by_alpha(&self, w: &[f64]) -> Vec<f64> {
        (0..A).map(|j| (0..W).map(|i| self.b[i][j] * w[i]).sum()).collect()
    }

    fn loss(&self, split: Split, w: &[f64], alpha: &[f64]) -> f64 {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        match split {
            Split::Train => {
                let linear = self.train_by_alpha(w);
                let square: Vec<f64> = (0..W).map(|i| dot(&self.a[i], w)).collect();
                0.5 * dot(w, &square) + dot(&linear, alpha)
            }
            Split::Valid => {
                let from_c: f64 = (0..W).map(|i| (w[i] - self.c[i]).powi(2)).sum();
                let from_d: f64 = (0..A).map(|j| (alpha[j] - self.d[j]).powi(2)).sum();
                let cross: f64 = (0..A).map(|j| alpha[j] * dot(&self.e[j], w)).sum();
                0.5 * (from_c + from_d) + cross
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn narrow(values: &[f64], target: &mut [f32]) {
    target.iter_mut().zip(values).for_each(|(target, &value)| *target = value as f32);
}

impl Objective for Quadratic {
    fn loss_grad(&mut self, split: Split, _: bool, weights: &[f32], alpha: &[f32], wanted: Wanted) -> f64 {
        let (w, alpha) = (wide(weights), wide(alpha));
        if let Some(target) = wanted.weights {
            let gradient =
                if split == Split::Train { self.train_by_w(&w, &alpha) } else { self.valid_by_w(&w, &alpha) };
            narrow(&gradient, target);
        }
        if let Some(target) = wanted.alpha {
            let gradient =
                if split == Split::Train { self.train_by_alpha(&w) } else { self.valid_by_alpha(&w, &alpha) };
            narrow(&gradient, target);
        }
        self.loss(split, &w, &alpha)
    }
}

fn bilevel(order: Order) -> Bilevel {
    let weights: Vec<f32> = (0..W).map(|i| 0.3 * i as f32 - 0.5).collect();
    let alpha: Vec<f32> = (0..A).map(|i| 0.2 - 0.3 * i as f32).collect();
    let momentum: Vec<f32> = (0..W).map(|i| 0.1 * i as f32 - 0.2).collect();
    let sgd = Sgd { momentum, momentum_decay: 0.9, weight_decay: 3e-2, grad_clip: 5.0 };
    let adam = Adam::new(A, 3e-4, [0.5, 0.999], 1e-3);
    Bilevel::new(weights, alpha, sgd, adam, order, Kernels::detect())
}

fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= tolerance, "element {index}: {actual} for {expected}");
    }
}

/// w′ in closed form.
fn unrolled(problem: &Quadratic, state: &Bilevel, eta: f64) -> Vec<f64> {
    let (w, alpha, momentum) = (wide(&state.weights), wide(&state.alpha), wide(&state.sgd.momentum));
    let gradient = problem.train_by_w(&w, &alpha);
    (0..W).map(|i| w[i] - eta * (0.9 * momentum[i] + gradient[i] + 3e-2 * w[i])).collect()
}

#[test]
fn second_order_gradient_is_the_hypergradient() {
    let mut problem = quadratic();
    let mut state = bilevel(Order::Second);
    let eta = 0.4_f32;
    let alpha = wide(&state.alpha);
    let w = unrolled(&problem, &state, f64::from(eta));
    let vector = problem.valid_by_w(&w, &alpha);
    let implicit = problem.train_by_alpha(&vector);
    let direct = problem.valid_by_alpha(&w, &alpha);
    let expected: Vec<f64> = direct.iter().zip(&implicit).map(|(d, i)| d - f64::from(eta) * i).collect();
    state.alpha_step(&mut problem, eta);
    assert_close(&state.unrolled.weights, &w, 1e-6);
    assert_close(&state.unrolled.vector, &vector, 1e-6);
    assert_close(&state.unrolled.implicit, &implicit, 1e-4);
    assert_close(&state.alpha_gradient, &expected, 1e-4);
    let plain: f64 = expected.iter().zip(&direct).map(|(e, d)| (e - d).abs()).sum();
    assert!(plain > 0.1, "the implicit term must matter for this test to mean anything: {plain}");
}

#[test]
fn hypergradient_agrees_with_differences_of_the_unrolled_loss() {
    let mut problem = quadratic();
    let mut state = bilevel(Order::Second);
    let eta = 0.4_f32;
    let start = state.clone();
    state.alpha_step(&mut problem, eta);
    let loss_at = |alpha: &[f64]| {
        let mut moved = start.clone();
        narrow(alpha, &mut moved.alpha);
        let w = unrolled(&problem, &moved, f64::from(eta));
        problem.loss(Split::Valid, &w, &wide(&moved.alpha))
    };
    for index in 0..A {
        let step = 2.0_f64.powi(-10);
        let mut alpha = wide(&start.alpha);
        alpha[index] += step;
        let above = loss_at(&alpha);
        alpha[index] -= 2.0 * step;
        let difference = (above - loss_at(&alpha)) / (2.0 * step);
        let error = (difference - f64::from(state.alpha_gradient[index])).abs();
        assert!(error < 1e-3, "element {index}: {} for {difference}", state.alpha_gradient[index]);
    }
}

#[test]
fn first_order_gradient_ignores_the_weights_step() {
    let mut problem = quadratic();
    let mut state = bilevel(Order::First);
    let expected = problem.valid_by_alpha(&wide(&state.weights), &wide(&state.alpha));
    state.alpha_step(&mut problem, 0.4);
    assert_close(&state.alpha_gradient, &expected, 1e-6);
}

#[test]
fn weight_step_clips_then_decays() {
    let mut problem = quadratic();
    let mut state = bilevel(Order::First);
    state.sgd.grad_clip = 0.05;
    let (w, momentum) = (wide(&state.weights), wide(&state.sgd.momentum));
    let gradient = problem.train_by_w(&w, &wide(&state.alpha));
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let expected: Vec<f64> =
        (0..W).map(|i| w[i] - 0.4 * (0.9 * momentum[i] + gradient[i] * 0.05 / (norm + 1e-6) + 3e-2 * w[i])).collect();
    let (_, reported) = state.weight_step(&mut problem, 0.4);
    assert!((reported - norm).abs() < 1e-5);
    assert_close(&state.weights, &expected, 1e-6);
}

#[test]
fn without_a_gradient_of_the_weights_there_is_no_correction() {
    struct Flat;
    impl Objective for Flat {
        fn loss_grad(&mut self, _: Split, _: bool, _: &[f32], alpha: &[f32], wanted: Wanted) -> f64 {
            if let Some(target) = wanted.weights {
                target.fill(0.0);
            }
            if let Some(target) = wanted.alpha {
                target.copy_from_slice(alpha);
            }
            1.0
        }
    }
    let mut state = bilevel(Order::Second);
    let alpha = state.alpha.clone();
    state.alpha_step(&mut Flat, 0.4);
    assert_eq!(state.alpha_gradient, alpha);
}

/// L_val = ½ αᵀHα with H = QDQ and the reflection Q = 1 − 2uuᵀ, so that D has the eigenvalues.
struct Curved {
    hessian: [[f64; A]; A],
}

impl Curved {
    fn new(eigenvalues: [f64; A]) -> Self {
        let u = [2.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0];
        let q = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * u[i] * u[j];
        let element = |i, j| (0..A).map(|k| q(i, k) * eigenvalues[k] * q(k, j)).sum();
        Self { hessian: std::array::from_fn(|i| std::array::from_fn(|j| element(i, j))) }
    }
}

impl Objective for Curved {
    fn loss_grad(&mut self, split: Split, live: bool, _: &[f32], alpha: &[f32], wanted: Wanted) -> f64 {
        assert!(
            split == Split::Valid && !live && wanted.weights.is_none(),
            "only the validation loss in α is asked for"
        );
        let alpha = wide(alpha);
        let gradient: Vec<f64> =
            self.hessian.iter().map(|row| row.iter().zip(&alpha).map(|(h, a)| h * a).sum()).collect();
        narrow(&gradient, wanted.alpha.unwrap());
        0.0
    }
}

#[test]
fn the_largest_eigenvalue_is_found_also_where_a_negative_one_is_larger() {
    let start = || [0.3, -1.0, 0.7];
    for eigenvalues in [[3.0, 1.0, -2.0], [0.25, 0.02, 0.1], [-5.0, 2.0, 0.5], [-1.0, -3.0, -2.0]] {
        let mut objective = Curved::new(eigenvalues);
        let found = largest_eigenvalue(&mut objective, &[], &[0.2, -0.1, 0.4], &mut start(), || Ok(())).unwrap();
        let expected = eigenvalues.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let size = eigenvalues.into_iter().fold(0.0, |size: f64, value| size.max(value.abs()));
        assert!((found - expected).abs() < 0.01 * size, "{found} for {expected}");
    }
    // The Hessian of the quadratic in α is the identity.
    let state = bilevel(Order::First);
    let mut problem = quadratic();
    let found = largest_eigenvalue(&mut problem, &state.weights, &state.alpha, &mut start(), || Ok(())).unwrap();
    assert!((found - 1.0).abs() < 1e-5, "{found}");
    assert!(
        largest_eigenvalue(&mut problem, &state.weights, &state.alpha, &mut [1.0; A], || Err(Interrupted)).is_err()
    );
}
