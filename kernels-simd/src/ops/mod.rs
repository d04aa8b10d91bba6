//! The operations: the checked method of [`Kernels`](crate::Kernels) and the body over [`Simd`](crate::arch::Simd) in one
//! place, forward beside backward.

mod dense;
mod depthwise;
mod elementwise;
mod half;
mod loss;
mod norm;
mod pool;
mod prelude;
