//! The largest eigenvalue of the Hessian of L_val in α, which grows before a search collapses, and the early stop by it
//! (RobustDARTS, arXiv 1909.09656, sections 4 and 5.1).

use super::bilevel::{Objective, Split, Wanted};
use crate::interrupt::Interrupted;

/// Length of the step along a direction of length 1 in the difference of gradients: long enough that rounding in `f32`
/// is small against the difference, and spread over all of α so short in each element that the third derivative does
/// not matter.
const RADIUS: f64 = 0.1;

/// Most products of the Hessian with a vector, two passes each, in one power iteration.
const PRODUCTS: usize = 25;

/// Relative change of the eigenvalue from one product to the next at which it is taken.
const TOLERANCE: f64 = 2e-3;

/// The largest eigenvalue of ∇²α L_val(w, α) on the validation batch of `objective`, at weights that do not move;
/// `start` is any direction that is not orthogonal to its eigenvector, and is used up.
///
/// A power iteration on products `[∇α L(α + r v) − ∇α L(α − r v)] / 2r` finds the eigenvalue of the largest magnitude.
/// If that is negative, a second one on the Hessian without it (`H − λ`) finds the largest. `go_on` is asked before
/// every product.
///
/// # Errors
/// The error of `go_on`.
pub fn largest_eigenvalue(
    objective: &mut impl Objective,
    weights: &[f32],
    alpha: &[f32],
    start: &mut [f64],
    mut go_on: impl FnMut() -> Result<(), Interrupted>,
) -> Result<f64, Interrupted> {
    let mut direction = start.to_vec();
    let mut hessian = Hessian { objective, weights, alpha, moved: alpha.to_vec(), gradient: vec![0.0; alpha.len()] };
    let dominant = hessian.power_iteration(&mut direction, 0.0, &mut go_on)?;
    if dominant >= 0.0 {
        return Ok(dominant);
    }
    Ok(dominant + hessian.power_iteration(start, dominant, &mut go_on)?)
}

/// ∇²α L_val as an operator.
struct Hessian<'a, O> {
    objective: &'a mut O,
    weights: &'a [f32],
    alpha: &'a [f32],
    /// α ± r v.
    moved: Vec<f32>,
    gradient: Vec<f32>,
}

impl<O: Objective> Hessian<'_, O> {
    /// The eigenvalue of the largest magnitude of `H − shift`, and its eigenvector in the place of `direction`.
    fn power_iteration(
        &mut self,
        direction: &mut [f64],
        shift: f64,
        go_on: &mut impl FnMut() -> Result<(), Interrupted>,
    ) -> Result<f64, Interrupted> {
        let mut eigenvalue = 0.0;
        for _ in 0..PRODUCTS {
            let length = norm(direction);
            if length == 0.0 {
                return Ok(0.0);
            }
            direction.iter_mut().for_each(|element| *element /= length);
            go_on()?;
            let product = self.product(direction, shift);
            let before = eigenvalue;
            eigenvalue = direction.iter().zip(&product).map(|(v, hv)| v * hv).sum();
            direction.copy_from_slice(&product);
            if (eigenvalue - before).abs() <= TOLERANCE * eigenvalue.abs() {
                break;
            }
        }
        Ok(eigenvalue)
    }

    /// `(H − shift) v` for a `v` of length 1.
    fn product(&mut self, direction: &[f64], shift: f64) -> Vec<f64> {
        let mut product: Vec<f64> = direction.iter().map(|element| -shift * element).collect();
        for sign in [1.0, -1.0] {
            for (moved, (&alpha, &element)) in self.moved.iter_mut().zip(self.alpha.iter().zip(direction)) {
                *moved = (f64::from(alpha) + sign * RADIUS * element) as f32;
            }
            let wanted = Wanted { alpha: Some(&mut self.gradient), weights: None };
            self.objective.loss_grad(Split::Valid, false, self.weights, &self.moved, wanted);
            for (product, &gradient) in product.iter_mut().zip(&self.gradient) {
                *product += sign * f64::from(gradient) / (2.0 * RADIUS);
            }
        }
        product
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|element| element * element).sum::<f64>().sqrt()
}
