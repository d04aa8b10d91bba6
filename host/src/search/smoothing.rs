//! Weights that learn under perturbed mixing weights, so that the loss is flat around them (SmoothDARTS, arXiv
//! 2002.05283).
//!
//! As in its code it is softmax(α) that is moved, by up to ±ε in every element, and not α; what leaves `[0, 1]` is cut
//! off, and rows are scaled back to a sum of 1. ε grows linearly from 0.03 in the first epoch towards its last value.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::alpha::COLUMNS;
use crate::graph::space::Space;

/// How mixing weights are perturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Smoothing {
    /// At random: each by a number from −ε to ε (SDARTS-RS).
    Random,
    /// To the largest loss on the training batch, sought from a random start by seven steps of projected gradient
    /// ascent along the signs of the gradient, 2ε/7 each (SDARTS-ADV). Seven passes more a step.
    Adversarial,
}

/// ε after the last epoch.
pub const EPSILON: f64 = 0.3;

/// ε in the first epoch.
const FIRST_EPSILON: f64 = 0.03;

/// Steps of the ascent.
const STEPS: usize = 7;

/// ε in `epoch` of `epochs`, both from 0: linear from 0.03 to where it would be `last` after the last epoch.
pub fn epsilon(last: f64, epoch: usize, epochs: usize) -> f64 {
    FIRST_EPSILON + (last - FIRST_EPSILON) * epoch as f64 / epochs as f64
}

/// Perturbs mixing weights `[edges][operations]` in place; `gradient` overwrites its second argument with the gradient
/// of the training loss at the first, and is asked only where the loss is to be made large.
pub(super) fn perturb(
    weights: &mut [f32],
    smoothing: Smoothing,
    epsilon: f64,
    space: Space,
    rng: &mut impl Rng,
    mut gradient: impl FnMut(&[f32], &mut [f32]),
) {
    let centre = weights.to_vec();
    for weight in weights.iter_mut() {
        let uniform = f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
        *weight += (epsilon * uniform) as f32;
    }
    to_shares(weights, space);
    if smoothing == Smoothing::Random {
        return;
    }
    let mut slope = vec![0.0; weights.len()];
    let (epsilon, step) = (epsilon as f32, (2.0 * epsilon / STEPS as f64) as f32);
    for _ in 0..STEPS {
        gradient(weights, &mut slope);
        for ((weight, &slope), &centre) in weights.iter_mut().zip(&slope).zip(&centre) {
            let sign = if slope == 0.0 { 0.0 } else { slope.signum() };
            *weight = (*weight + step * sign).clamp(centre - epsilon, centre + epsilon);
        }
        to_shares(weights, space);
    }
}

/// Cuts off what lies outside of `[0, 1]` and scales every row to a sum of 1; operations that are not in the space have
/// nothing. A row of which nothing is left gives all to what was largest, the first of equals.
fn to_shares(weights: &mut [f32], space: Space) {
    for row in weights.chunks_exact_mut(COLUMNS) {
        let mut largest = None;
        for (column, &allowed) in space.allowed().iter().enumerate() {
            if !allowed {
                row[column] = 0.0;
            } else if largest.is_none_or(|(_, weight)| row[column] > weight) {
                largest = Some((column, row[column]));
            }
        }
        row.iter_mut().for_each(|weight| *weight = weight.clamp(0.0, 1.0));
        if let Some((column, weight)) = largest
            && weight <= 0.0
        {
            row[column] = 1.0;
        }
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::draw::{Purpose, generator};

    fn perturbed(smoothing: Smoothing, space: Space, epsilon: f64, slope: impl Fn(&[f32], &mut [f32])) -> Vec<f32> {
        let mut weights = super::super::alpha::softmax_rows_of(&[0.5; 3 * COLUMNS], space);
        perturb(&mut weights, smoothing, epsilon, space, &mut generator(1, Purpose::Smooth, 0, 0), slope);
        for row in weights.chunks_exact(COLUMNS) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6 && row.iter().all(|&weight| weight >= 0.0), "{row:?}");
        }
        weights
    }

    #[test]
    fn epsilon_grows_linearly_from_its_first_value() {
        assert_eq!(epsilon(0.3, 0, 50), 0.03);
        assert!((epsilon(0.3, 25, 50) - 0.165).abs() < 1e-12);
        assert!(epsilon(0.3, 49, 50) < 0.3);
    }

    #[test]
    fn random_weights_are_shares_near_the_mixing_weights() {
        let unasked = |_: &[f32], _: &mut [f32]| panic!("no gradient is asked for");
        let weights = perturbed(Smoothing::Random, Space::DARTS, 0.01, unasked);
        assert!(weights.iter().all(|weight| (weight - 0.125).abs() < 0.025), "{weights:?}");
        assert!(weights.iter().any(|weight| (weight - 0.125).abs() > 0.004));
        let weights = perturbed(Smoothing::Random, Space::S2, 0.2, unasked);
        for row in weights.chunks_exact(COLUMNS) {
            assert!(
                row.iter().zip(Space::S2.allowed()).all(|(&weight, &allowed)| (weight > 0.0) == allowed),
                "{row:?}"
            );
        }
    }

    #[test]
    fn the_ascent_moves_weight_to_where_the_loss_grows() {
        let slope = |_: &[f32], slope: &mut [f32]| {
            slope.fill(-1.0);
            slope.iter_mut().step_by(COLUMNS).for_each(|slope| *slope = 1.0);
        };
        let weights = perturbed(Smoothing::Adversarial, Space::DARTS, 0.1, slope);
        for row in weights.chunks_exact(COLUMNS) {
            // At its bound of 0.125 + 0.1 before the row is scaled, and the others gave more than it took.
            assert!(row[0] > 0.22, "{row:?}");
        }
    }

    #[test]
    fn a_row_of_which_nothing_is_left_gives_all_to_its_largest() {
        let mut row = [-0.5, -0.2, -0.1, -0.3, -0.9, -0.1, -0.4, -0.6];
        to_shares(&mut row, Space::DARTS);
        assert_eq!(row, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
