//! SIMD kernels for differentiable architecture search: convolutions, pooling and normalisation, forward and backward.
//!
//! Every kernel works on one image `[H, W, C]` (channels last) of `f32`; batches, threads and buffers are the caller's.
//! The crate is `no_std`, allocates nothing and has no mutable state. [`Kernels`] is the way in: a `Copy` token for one
//! instruction set, which can only be had where the processor supports that set.
//!
//! ```
//! use darts_kernels_simd::{DenseShape, ImageShape, Kernels};
//!
//! // A 1×1 convolution from two channels to one over a 1×2 image, plus one.
//! let shape = DenseShape::pointwise(ImageShape::new(1, 2, 2), 1);
//! let mut y = [0.0; 2];
//! Kernels::detect().dense(&[1.0, 2.0, 3.0, 4.0], &[10.0, 1.0], Some(&[1.0]), &mut y, shape, false);
//! assert_eq!(y, [13.0, 35.0]);
//! ```
#![no_std]

mod arch;
mod denormals;
mod isa;
mod kernels;
mod ops;
pub mod reference;
mod shape;

pub use denormals::flush_denormals;
pub use isa::{Isa, IsaError};
pub use kernels::Kernels;
pub use ops::elementwise::MixTerm;
pub use ops::norm::{
    NORM_EPSILON, NORM_MOMENTUM, NormBackward, NormFold, norm_backward_coefficients, norm_fold_batch,
    norm_fold_running, norm_update_running,
};
pub use ops::prelude::Prelude;
pub use shape::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, valid_extent};
