//! Conversions between `f32` and IEEE half precision, rounding to nearest even: the same bits on every instruction set.

use crate::arch::{Scalar, Simd};
use crate::kernels::{Kernels, dispatch};
use crate::lengths::require;

impl Kernels {
    /// `target = source`, from the bits of half precision to `f32`; exact.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn f16_to_f32(self, source: &[u16], target: &mut [f32]) {
        require!(source.len() == target.len(), "f16_to_f32: from {} to {} elements", source.len(), target.len());
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, widen(source: &[u16], target: &mut [f32])) }
    }

    /// `target = source`, from `f32` to the bits of half precision, rounded to nearest even.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn f32_to_f16(self, source: &[f32], target: &mut [u16]) {
        assert_eq!(source.len(), target.len(), "f32_to_f16: lengths of source and target");
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, narrow(source: &[f32], target: &mut [u16])) }
    }
}

#[inline(always)]
unsafe fn widen<S: Simd>(source: &[u16], target: &mut [f32]) {
    let whole = source.len() - source.len() % S::LANES;
    // SAFETY: both slices have the same length, and every index is below it.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            S::store(target.as_mut_ptr().add(i), S::load_f16(source.as_ptr().add(i)));
        }
        for i in whole..source.len() {
            Scalar::store(target.as_mut_ptr().add(i), Scalar::load_f16(source.as_ptr().add(i)));
        }
    }
}

#[inline(always)]
unsafe fn narrow<S: Simd>(source: &[f32], target: &mut [u16]) {
    let whole = source.len() - source.len() % S::LANES;
    // SAFETY: both slices have the same length, and every index is below it.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            S::store_f16(target.as_mut_ptr().add(i), S::load(source.as_ptr().add(i)));
        }
        for i in whole..source.len() {
            Scalar::store_f16(target.as_mut_ptr().add(i), Scalar::load(source.as_ptr().add(i)));
        }
    }
}
