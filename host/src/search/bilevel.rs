//! Bilevel optimization of weights and α (section 2.3 of the paper), over any objective.

use darts_kernels_simd::Kernels;

use super::optimizer::{Adam, Sgd};

/// Which half of the training data a loss is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The half that the weights learn on.
    Train,
    /// The half that α learns on.
    Valid,
}

/// Gradients to be written by an objective; each is overwritten.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// With respect to the weights.
    pub weights: Option<&'a mut [f32]>,
    /// With respect to α.
    pub alpha: Option<&'a mut [f32]>,
}

/// A loss of weights and α on the two batches of the step at hand: a pure function, apart from the running statistics
/// of batch norms, which only passes on the live model move.
pub trait Objective {
    /// Loss and gradients on `split`'s batch.
    ///
    /// `live` says whether the pass counts as one on the model itself (also with its weights displaced) and not on the
    /// unrolled copy.
    fn loss_grad(&mut self, split: Split, live: bool, weights: &[f32], alpha: &[f32], wanted: Wanted) -> f64;

    /// Adds to the gradient of α that of what its loss has besides, whatever the weights are: nothing where there is no
    /// such thing.
    fn add_penalty_gradient(&self, _alpha: &[f32], _gradient: &mut [f32]) {}
}

/// How the gradient of α treats the dependence of the weights on α.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Not at all: ∇α L_val(w, α).
    First,
    /// Through one unrolled step of the weights.
    Second,
}

/// Displacement of the weights in the finite difference is this over ‖v‖ (the paper's ε, section 2.3).
const FINITE_DIFFERENCE: f64 = 0.01;

/// The second-order gradient of α and all that went into it, kept for reuse of the memory and for inspection.
#[derive(Clone, Debug, Default)]
pub struct Unrolled {
    /// ∇w L_train(w, α).
    pub train_gradient: Vec<f32>,
    /// w′ = w − η (μ m + ∇w L_train + λ w).
    pub weights: Vec<f32>,
    /// v = ∇w′ L_val(w′, α).
    pub vector: Vec<f32>,
    /// R = 0.01 / ‖v‖.
    pub radius: f64,
    /// ∇α L_val(w′, α).
    pub direct: Vec<f32>,
    /// ∇α L_train(w + R v, α).
    pub positive: Vec<f32>,
    /// ∇α L_train(w − R v, α).
    pub negative: Vec<f32>,
    /// (positive − negative) / (2 R), the product of ∇²α,w L_train with v.
    pub implicit: Vec<f32>,
}

/// Losses and norms of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// L_val at which α's gradient was taken, if one was.
    pub valid_loss: Option<f64>,
    /// L_train of the weight step.
    pub train_loss: f64,
    /// Norm of the weights' gradient before clipping.
    pub grad_norm: f64,
}

/// Weights, α and the state of their optimizers.
#[derive(Clone, Debug)]
pub struct Bilevel {
    /// The flat weights, w.
    pub weights: Vec<f32>,
    /// The architecture parameters, α.
    pub alpha: Vec<f32>,
    /// The weights' optimizer.
    pub sgd: Sgd,
    /// α's optimizer.
    pub adam: Adam,
    /// First or second order.
    pub order: Order,
    /// Intermediates of the last second-order gradient.
    pub unrolled: Unrolled,
    /// Gradient of α given to Adam in the last α step.
    pub alpha_gradient: Vec<f32>,
    /// Gradient of the weights; used up by the optimizer.
    gradient: Vec<f32>,
    kernels: Kernels,
}

impl Bilevel {
    /// Starts from `weights` and `alpha`.
    pub fn new(weights: Vec<f32>, alpha: Vec<f32>, sgd: Sgd, adam: Adam, order: Order, kernels: Kernels) -> Self {
        let alpha_gradient = vec![0.0; alpha.len()];
        let gradient = vec![0.0; weights.len()];
        let mut unrolled = Unrolled::default();
        if order == Order::Second {
            for buffer in [&mut unrolled.train_gradient, &mut unrolled.weights, &mut unrolled.vector] {
                buffer.resize(weights.len(), 0.0);
            }
            let by_alpha =
                [&mut unrolled.direct, &mut unrolled.positive, &mut unrolled.negative, &mut unrolled.implicit];
            by_alpha.into_iter().for_each(|buffer| buffer.resize(alpha.len(), 0.0));
        }
        Self { weights, alpha, sgd, adam, order, unrolled, alpha_gradient, gradient, kernels }
    }

    /// One search step: α first, then the weights at the new α.
    pub fn step(&mut self, objective: &mut impl Objective, learning_rate: f32) -> StepReport {
        let valid_loss = Some(self.alpha_step(objective, learning_rate));
        let (train_loss, grad_norm) = self.weight_step(objective, learning_rate);
        StepReport { valid_loss, train_loss, grad_norm }
    }

    /// The α step; `learning_rate` is that of the weights. Returns L_val.
    pub fn alpha_step(&mut self, objective: &mut impl Objective, learning_rate: f32) -> f64 {
        let loss = match self.order {
            Order::First => {
                let wanted = Wanted { alpha: Some(&mut self.alpha_gradient), weights: None };
                objective.loss_grad(Split::Valid, true, &self.weights, &self.alpha, wanted)
            }
            Order::Second => self.unrolled_gradient(objective, learning_rate),
        };
        objective.add_penalty_gradient(&self.alpha, &mut self.alpha_gradient);
        self.adam.step(&mut self.alpha, &self.alpha_gradient);
        loss
    }

    /// The weight step on the batch of the training half. Returns L_train and the gradient's norm.
    pub fn weight_step(&mut self, objective: &mut impl Objective, learning_rate: f32) -> (f64, f64) {
        let wanted = Wanted { weights: Some(&mut self.gradient), alpha: None };
        let loss = objective.loss_grad(Split::Train, true, &self.weights, &self.alpha, wanted);
        let norm = self.sgd.step(self.kernels, &mut self.weights, &mut self.gradient, learning_rate);
        (loss, norm)
    }

    /// ∇α L_val(w′, α) − η · (∇α L_train(w⁺, α) − ∇α L_train(w⁻, α)) / (2R), equations 7 and 8 of the paper.
    fn unrolled_gradient(&mut self, objective: &mut impl Objective, learning_rate: f32) -> f64 {
        let kernels = self.kernels;
        let Unrolled { train_gradient, weights, vector, radius, direct, positive, negative, implicit } =
            &mut self.unrolled;
        let wanted = Wanted { weights: Some(train_gradient), alpha: None };
        objective.loss_grad(Split::Train, true, &self.weights, &self.alpha, wanted);

        weights.copy_from_slice(&self.weights);
        kernels.axpy(-learning_rate * self.sgd.momentum_decay, &self.sgd.momentum, weights);
        kernels.axpy(-learning_rate, train_gradient, weights);
        kernels.axpy(-learning_rate * self.sgd.weight_decay, &self.weights, weights);
        let wanted = Wanted { weights: Some(vector), alpha: Some(direct) };
        let loss = objective.loss_grad(Split::Valid, false, weights, &self.alpha, wanted);

        let norm = kernels.sum_of_squares(vector).sqrt();
        self.alpha_gradient.copy_from_slice(direct);
        if norm == 0.0 {
            implicit.fill(0.0);
            return loss;
        }
        *radius = FINITE_DIFFERENCE / norm;
        // The weights' gradient comes later in the step: until then its memory holds the displaced weights.
        let displaced = &mut self.gradient;
        for (sign, gradient) in [(1.0, &mut *positive), (-1.0, &mut *negative)] {
            displaced.copy_from_slice(&self.weights);
            kernels.axpy((sign * *radius) as f32, vector, displaced);
            let wanted = Wanted { weights: None, alpha: Some(gradient) };
            objective.loss_grad(Split::Train, true, displaced, &self.alpha, wanted);
        }
        for (index, implicit) in implicit.iter_mut().enumerate() {
            let difference = f64::from(positive[index]) - f64::from(negative[index]);
            let product = difference / (2.0 * *radius);
            *implicit = product as f32;
            self.alpha_gradient[index] = (f64::from(direct[index]) - f64::from(learning_rate) * product) as f32;
        }
        loss
    }
}
