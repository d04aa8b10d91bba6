//! The operations: the checked method of [`Kernels`](crate::Kernels) and the body over [`Simd`](crate::arch::Simd) in
//! one place, forward beside backward.

pub(crate) mod dense;
mod depthwise;
mod elementwise;
mod half;
mod halves;
pub(crate) mod int8;
mod kept;
mod lanes;
mod linear;
mod loss;
pub(crate) mod mix;
pub(crate) mod norm;
mod peak;
mod periodic;
pub(crate) mod pool;
mod prefetch;
pub(crate) mod prelude;
mod product;
mod ring;
pub(crate) mod separable;
pub(crate) mod stored;
mod stream;
mod strip;
mod terms;
mod tiles;
