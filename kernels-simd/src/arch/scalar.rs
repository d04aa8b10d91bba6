//! Portable Rust, one lane.

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type Vector = f32;
    type Mask = bool;
    type Rest = Self;
    const LANES: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> f32 {
        // SAFETY: the caller's pointer.
        unsafe { *source }
    }
    #[inline(always)]
    unsafe fn rest(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn relu(x: f32) -> f32 {
        // The sign spread over all bits: two instructions on a Cortex-M, where a comparison of floats takes five.
        f32::from_bits(x.to_bits() & !((x.to_bits() as i32 >> 31) as u32))
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: f32) {
        // SAFETY: the caller's pointer.
        unsafe { *target = value }
    }
    #[inline(always)]
    unsafe fn load_partial(_source: *const f32, _count: usize) -> f32 {
        unreachable!("one lane has no part")
    }
    #[inline(always)]
    unsafe fn store_partial(_target: *mut f32, _value: f32, _count: usize) {
        unreachable!("one lane has no part")
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    unsafe fn max(a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    unsafe fn greater(a: f32, b: f32) -> bool {
        a > b
    }
    #[inline(always)]
    unsafe fn equal(a: f32, b: f32) -> bool {
        a == b
    }
    #[inline(always)]
    unsafe fn select(mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    unsafe fn mask_all() -> bool {
        true
    }
    #[inline(always)]
    unsafe fn mask_and(a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    unsafe fn mask_and_not(a: bool, b: bool) -> bool {
        a & !b
    }
    #[inline(always)]
    unsafe fn reduce_add(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> f32 {
        // SAFETY: the caller's pointer.
        half::f16::from_bits(unsafe { *source }).to_f32_const()
    }
    #[inline(always)]
    unsafe fn store_f16(target: *mut u16, value: f32) {
        // SAFETY: the caller's pointer.
        unsafe { *target = half::f16::from_f32_const(value).to_bits() }
    }
}
