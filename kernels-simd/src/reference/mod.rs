//! Every operation as plain index loops with `f64` accumulation: the definition of what the kernels compute, and the
//! oracle of the tests. Nothing here is fast.
//!
//! The functions have the names, argument orders and meanings of the methods of `Kernels`, without the scratch buffers.
//! Those that a test differentiates numerically are generic over [`Real`], so that the differences can be taken in
//! `f64`.

mod convolution;
mod elementwise;
mod half;
mod int8;
mod linear;
mod loss;
mod norm;
mod pool;
mod prelude;

pub use convolution::{
    dense, dense_backward_input, dense_backward_weight, depthwise, depthwise_backward_input, depthwise_backward_weight,
    transpose,
};
pub use elementwise::{axpy, dot, mix, relu, relu_backward, scale, scale_add, sum_of_squares};
pub use half::{f16_to_f32, f32_to_f16};
pub use int8::{
    int8_avg_pool, int8_dense, int8_global_avg_pool, int8_max_pool, int8_prelude, int8_rescale, int8_separable,
};
pub use linear::{linear, linear_backward};
pub use loss::{softmax, softmax_cross_entropy};
pub use norm::{channel_moments, norm_backward_apply, norm_backward_reduce, norm_backward_reduce_terms};
pub use pool::{avg_pool, avg_pool_backward, global_avg_pool, global_avg_pool_backward, max_pool, max_pool_backward};
pub use prelude::{prelude, prelude_backward};

/// An element type that the reference can read and write: `f32` or `f64`.
pub trait Real: Copy {
    /// The value in `f64`, exact.
    fn get(self) -> f64;
    /// The nearest value of the type.
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    fn get(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn get(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// Writes `value` to `target`, or adds it.
fn put<T: Real>(target: &mut T, value: f64, accumulate: bool) {
    let before = if accumulate { target.get() } else { 0.0 };
    *target = T::from_f64(before + value);
}

/// The output position whose window has tap `tap` on input position `input`, if there is one: the `o` for which
/// `o * stride + tap * dilation == input`.
fn output_of(input: usize, tap: usize, stride: usize, dilation: usize, extent: usize) -> Option<usize> {
    let start = input.checked_sub(tap * dilation)?;
    (start.is_multiple_of(stride) && start / stride < extent).then_some(start / stride)
}
