//! AVX2 with FMA and F16C, eight lanes.

use core::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// All bits of the first `count` lanes.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    static BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    debug_assert!(count <= 8);
    // SAFETY: `count` is at most 8, so that eight elements follow.
    unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - count).cast()) }
}

impl Simd for Avx2 {
    type Vector = __m256;
    type Mask = __m256;
    type Rest = Self;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_loadu_ps(source) }
    }
    #[inline(always)]
    unsafe fn rest(value: __m256) -> __m256 {
        value
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: __m256) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_storeu_ps(target, value) }
    }
    const STREAMS: bool = true;
    #[inline(always)]
    unsafe fn stream(target: *mut f32, value: __m256) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_stream_ps(target, value) }
    }
    #[inline(always)]
    unsafe fn load_partial(source: *const f32, count: usize) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_maskload_ps(source, first(count)) }
    }
    #[inline(always)]
    unsafe fn store_partial(target: *mut f32, value: __m256, count: usize) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            // A masked store takes tens of cycles on some processors.
            let (mut target, mut rest) = (target, _mm256_castps256_ps128(value));
            if count & 4 != 0 {
                _mm_storeu_ps(target, rest);
                (target, rest) = (target.add(4), _mm256_extractf128_ps::<1>(value));
            }
            if count & 2 != 0 {
                _mm_storel_pd(target.cast(), _mm_castps_pd(rest));
                (target, rest) = (target.add(2), _mm_movehl_ps(rest, rest));
            }
            if count & 1 != 0 {
                _mm_store_ss(target, rest);
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn equal(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn select(mask: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_blendv_ps(b, a, mask) }
    }
    #[inline(always)]
    unsafe fn mask_all() -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_castsi256_ps(_mm256_set1_epi32(-1)) }
    }
    #[inline(always)]
    unsafe fn mask_and(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_and_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mask_and_not(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_andnot_ps(b, a) }
    }
    #[inline(always)]
    unsafe fn reduce_add(value: __m256) -> f32 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(source.cast())) }
    }
    #[inline(always)]
    unsafe fn stream_f16(target: *mut u16, value: __m256) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm_stream_si128(target.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)) }
    }
    #[inline(always)]
    unsafe fn store_f16(target: *mut u16, value: __m256) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm_storeu_si128(target.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)) }
    }
}
