//! The bodies for every instruction set that has none of its own: loops that the compiler makes of what there is.

mod convolution;
mod pool;

pub(super) use convolution::{dense, depthwise_row};
pub(super) use pool::{avg_pool, max_pool};

use super::Rescale;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::dot;
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};

/// What a kernel needs room for on its way: only those by the instruction for sums of products do.
pub(super) struct Space {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    dot: dot::Space,
}

impl Space {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            dot: dot::Space::new(),
        }
    }
}

/// Channels whose sums are kept at a time: the lanes of a wide register, or what a few registers of one number each
/// hold.
const LANES: usize = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { 16 } else { 4 };

/// The body of [`Kernels::int8_rescale`].
pub(super) fn rescale(kernels: Kernels, x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool) {
    // SAFETY: the body asks for nothing.
    unsafe { dispatch!(kernels, rescale_body(x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool)) }
}

#[inline(always)]
unsafe fn rescale_body<S: Simd>(x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = rescale.element(x, *y, accumulate);
    }
}
