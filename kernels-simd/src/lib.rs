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
//!
//! What lies between two convolutions is one pass for the statistics of a batch normalisation, some arithmetic per
//! channel, and one pass that applies it together with the ReLU and the padding of the next convolution:
//!
//! ```
//! use darts_kernels_simd::{ImageShape, Kernels, NORM_EPSILON, Padding, Prelude, norm_fold_batch};
//!
//! let (kernels, z) = (Kernels::detect(), [1.0, 2.0, 3.0, 6.0]);
//! let (mut sum, mut sum_of_squares) = ([0.0], [0.0]);
//! kernels.channel_moments(&z, 1, &mut sum, &mut sum_of_squares);
//! let fold = norm_fold_batch(sum[0], sum_of_squares[0], z.len(), NORM_EPSILON, 1.0, 0.0);
//! assert_eq!(fold.mean, 3.0);
//!
//! let prelude = Prelude::AffineRelu { scale: &[fold.scale], shift: &[fold.shift] };
//! let mut y = [f32::NAN; 5 * 4];
//! kernels.prelude(&z, ImageShape::new(2, 2, 1), Padding { top: 2, ..Padding::symmetric(1, 1) }, prelude, &mut y);
//! assert_eq!(y[..10], [0.0; 10]);
//! assert!((y[14] - (6.0 - 3.0) / 3.5f32.sqrt()).abs() < 1e-4);
//! ```
//!
//! Without the feature `panics` a call with lengths that do not fit does nothing instead, where this crate has a kernel
//! for inference on `f32`: none of these can then panic, and firmware carries no code for it.
#![no_std]

mod arch;
mod denormals;
mod isa;
mod kernels;
mod lengths;
mod ops;
pub mod reference;
mod shape;

pub use denormals::flush_denormals;
pub use isa::{Isa, IsaError};
pub use kernels::Kernels;
pub use ops::dense::DensePart;
pub use ops::int8::{ChannelFactors, Factor, Int8Depthwise, Int8Input, Int8Part, Int8Separable, Int8Target, Rescale};
pub use ops::mix::MixTerm;
pub use ops::norm::{
    NORM_EPSILON, NORM_MOMENTUM, NormBackward, NormFold, NormTerm, norm_backward_coefficients, norm_fold_batch,
    norm_fold_running, norm_update_running,
};
pub use ops::pool::{NormGradient, PAIR_TERMS, PairFactors, PairGradient, PairSums, PairTerm, PoolGradient, Pooling};
pub use ops::prelude::Prelude;
pub use ops::separable::{
    Moments, NormSums, OutputGradient, Preluded, SeparableInput, SeparableInputGradient, SeparableScratch,
    SeparableWeightGradient, SeparableWeights,
};
pub use ops::stored::{Stored, StoredMut};
pub use shape::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, SeparableShape, valid_extent};
