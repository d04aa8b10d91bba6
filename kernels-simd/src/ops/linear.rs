//! The fully connected layer.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, with_lanes};
use crate::shape::{DenseShape, ImageShape};

/// The layer as a 1×1 convolution over an image of one row whose pixels are the samples.
fn as_pointwise(x: &[f32], w: &[f32], outputs: usize) -> DenseShape {
    let inputs = w.len() / outputs;
    assert_eq!(w.len(), inputs * outputs, "linear: the weights are no matrix of {outputs} columns");
    let samples = x.len() / inputs;
    assert_eq!(x.len(), samples * inputs, "linear: x are no rows of {inputs} values");
    DenseShape::pointwise(ImageShape::new(1, samples, inputs), outputs)
}

impl Kernels {
    /// `y = x·w + bias`: `x` `[N, C_in]`, `w` `[C_in, C_out]`, `bias` `[C_out]`, `y` `[N, C_out]`, overwritten. The
    /// sizes follow from the lengths of `bias`, `w` and `x`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit each other.
    pub fn linear(self, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
        self.dense(x, w, Some(bias), y, as_pointwise(x, w, bias.len()), false);
    }

    /// Gradients of [`linear`](Self::linear): `dx = dy·wᵀ` is overwritten, `xᵀ·dy` and `Σ_n dy` are added to `dw` and
    /// `dbias`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit each other.
    pub fn linear_backward(self, x: &[f32], w: &[f32], dy: &[f32], dx: &mut [f32], dw: &mut [f32], dbias: &mut [f32]) {
        let outputs = dbias.len();
        let shape = as_pointwise(x, w, outputs);
        assert_eq!((dx.len(), dy.len()), (x.len(), shape.output().len()), "linear_backward: dx, dy of {shape:?}");
        self.dense_backward_weight(x, dy, dw, shape);
        for row in dy.chunks_exact(outputs) {
            self.axpy(1.0, row, dbias);
        }
        // SAFETY: w is [inputs, outputs], dy [samples, outputs] and dx [samples, inputs].
        unsafe { dispatch!(self, backward_input(dy: &[f32], w: &[f32], dx: &mut [f32], outputs: usize)) }
    }
}

#[inline(always)]
unsafe fn backward_input<S: Simd>(dy: &[f32], w: &[f32], dx: &mut [f32], outputs: usize) {
    let inputs = w.len() / outputs;
    for (dy, dx) in dy.chunks_exact(outputs).zip(dx.chunks_exact_mut(inputs)) {
        for (w, dx) in w.chunks_exact(outputs).zip(dx) {
            // SAFETY: dy and w have `outputs` elements, and o + count is not above it.
            unsafe {
                let mut sum = S::splat(0.0);
                for o in (0..outputs).step_by(S::LANES) {
                    with_lanes!(S, outputs - o, PARTIAL, count, {
                        let dy = load::<S, PARTIAL>(dy.as_ptr().add(o), count);
                        sum = S::mul_add(dy, load::<S, PARTIAL>(w.as_ptr().add(o), count), sum);
                    });
                }
                *dx = S::reduce_add(sum);
            }
        }
    }
}
