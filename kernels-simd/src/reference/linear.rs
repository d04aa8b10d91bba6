//! The fully connected layer.

use super::{Real, put};

/// `y[n, o] = bias[o] + Σ_i x[n, i]·w[i, o]`; `y` is overwritten.
pub fn linear<T: Real>(x: &[T], w: &[T], bias: &[T], y: &mut [T]) {
    let outputs = bias.len();
    let inputs = w.len() / outputs;
    for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
        for o in 0..outputs {
            let mut sum = bias[o].get();
            for i in 0..inputs {
                sum += x[i].get() * w[i * outputs + o].get();
            }
            y[o] = T::from_f64(sum);
        }
    }
}

/// Gradients of [`linear`]: `dx` is overwritten, those of the parameters are added to `dw` and `dbias`.
pub fn linear_backward<T: Real>(x: &[T], w: &[T], dy: &[T], dx: &mut [T], dw: &mut [T], dbias: &mut [T]) {
    let outputs = dbias.len();
    let inputs = w.len() / outputs;
    let samples = dy.len() / outputs;
    for n in 0..samples {
        for i in 0..inputs {
            let sum = (0..outputs).map(|o| dy[n * outputs + o].get() * w[i * outputs + o].get()).sum();
            dx[n * inputs + i] = T::from_f64(sum);
        }
    }
    for i in 0..inputs {
        for o in 0..outputs {
            let sum = (0..samples).map(|n| x[n * inputs + i].get() * dy[n * outputs + o].get()).sum();
            put(&mut dw[i * outputs + o], sum, true);
        }
    }
    for o in 0..outputs {
        put(&mut dbias[o], (0..samples).map(|n| dy[n * outputs + o].get()).sum(), true);
    }
}
