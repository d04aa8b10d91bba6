//! NEON of AArch64, four lanes.

use core::arch::aarch64::*;
use core::arch::asm;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    type Vector = float32x4_t;
    type Mask = uint32x4_t;
    type Rest = super::Scalar;
    const LANES: usize = 4;
    const BY_LANE: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vld1q_f32(source) }
    }
    #[inline(always)]
    unsafe fn load_splats<const RELU: bool>(source: *const f32) -> [float32x4_t; 4] {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let mut x = Self::load(source);
            if RELU {
                x = Self::relu(x);
            }
            [vdupq_laneq_f32::<0>(x), vdupq_laneq_f32::<1>(x), vdupq_laneq_f32::<2>(x), vdupq_laneq_f32::<3>(x)]
        }
    }
    #[inline(always)]
    unsafe fn rest(value: float32x4_t) -> f32 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vgetq_lane_f32::<0>(value) }
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: float32x4_t) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vst1q_f32(target, value) }
    }
    #[inline(always)]
    unsafe fn load_partial(source: *const f32, count: usize) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            match count {
                1 => vld1q_lane_f32::<0>(source, vdupq_n_f32(0.0)),
                2 => vcombine_f32(vld1_f32(source), vdup_n_f32(0.0)),
                _ => vld1q_lane_f32::<2>(source.add(2), vcombine_f32(vld1_f32(source), vdup_n_f32(0.0))),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_partial(target: *mut f32, value: float32x4_t, count: usize) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            if count == 1 {
                vst1q_lane_f32::<0>(target, value);
            } else {
                vst1_f32(target, vget_low_f32(value));
                if count == 3 {
                    vst1q_lane_f32::<2>(target.add(2), value);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vcgtq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn equal(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vceqq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn select(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vbslq_f32(mask, a, b) }
    }
    #[inline(always)]
    unsafe fn mask_all() -> uint32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vdupq_n_u32(u32::MAX) }
    }
    #[inline(always)]
    unsafe fn mask_and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vandq_u32(a, b) }
    }
    #[inline(always)]
    unsafe fn mask_and_not(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vbicq_u32(a, b) }
    }
    #[inline(always)]
    unsafe fn reduce_add(value: float32x4_t) -> f32 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { vaddvq_f32(value) }
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> float32x4_t {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let half = vld1_u16(source);
            let wide: float32x4_t;
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) half, options(pure, nomem, nostack));
            wide
        }
    }
    #[inline(always)]
    unsafe fn store_f16(target: *mut u16, value: float32x4_t) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let half: uint16x4_t;
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) half, in(vreg) value, options(pure, nomem, nostack));
            vst1_u16(target, half);
        }
    }
}
