//! AVX-512 F, VL, BW and DQ, sixteen lanes.

use core::arch::x86_64::*;

use super::{Simd, Terms, groups, kept};

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// The first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    ((1u32 << count) - 1) as __mmask16
}

/// The register, of which the compiler no longer knows what it holds: what was loaded to it cannot become an operand of
/// several multiplications, each of which would load it again. A load under a mask cannot either, but takes the time of
/// one more operation on vectors: 8 % in a tile of 12 rows by two registers (AMD EPYC, Zen 5, 2026-11-28).
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn opaque(value: __m512) -> __m512 {
    let same;
    // SAFETY: nothing is executed.
    unsafe {
        core::arch::asm!("/* {0} */", inlateout(zmm_reg) value => same, options(pure, nomem, nostack, preserves_flags));
    }
    same
}

impl Simd for Avx512 {
    type Vector = __m512;
    type Mask = __mmask16;
    type Rest = super::Avx2;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(source: *const f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_loadu_ps(source) }
    }
    #[inline(always)]
    unsafe fn load_splat(source: *const f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { opaque(_mm512_set1_ps(*source)) }
    }
    #[inline(always)]
    unsafe fn rest(value: __m512) -> __m256 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_castps512_ps256(value) }
    }
    const GROUPS: bool = true;
    #[inline(always)]
    unsafe fn add_groups<const W: usize, const RELU: bool>(
        whole: &mut [[__m512; 2]; 8],
        rest: &mut [__m256; 8],
        lanes: usize,
        terms: Terms,
    ) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { groups::add::<W, RELU>(whole, rest, first(lanes), terms) }
    }
    #[inline(always)]
    unsafe fn add_groups_transposed<const W: usize>(
        whole: &mut [[__m512; 2]; 8],
        rest: &mut [__m256; 8],
        lanes: usize,
        terms: Terms,
    ) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { groups::add_transposed::<W>(whole, rest, first(lanes), terms) }
    }
    const TWICE: bool = true;
    #[inline(always)]
    unsafe fn load_twice(source: *const f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_broadcast_f32x8(_mm256_loadu_ps(source)) }
    }
    #[inline(always)]
    unsafe fn join_halves(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_shuffle_f32x4::<0x4e>(a, b) }
    }
    const IN_TURN: bool = true;
    #[inline(always)]
    unsafe fn load_in_turn(source: *const f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_castpd_ps(_mm512_set1_pd(source.cast::<f64>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn interleave(even: *const f32, odd: *const f32) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let [even, odd] = [even, odd].map(|half| _mm512_castps256_ps512(_mm256_loadu_ps(half)));
            let places = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            _mm512_permutex2var_ps(even, places, odd)
        }
    }
    #[inline(always)]
    unsafe fn separate(value: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            let places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            _mm512_permutexvar_ps(places, value)
        }
    }
    #[inline(always)]
    unsafe fn add_neighbours(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe {
            // Pairs of sums, of `a` and `b` in turn.
            let sums = _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b));
            let places = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            _mm512_castpd_ps(_mm512_permutexvar_pd(places, _mm512_castps_pd(sums)))
        }
    }
    const KEPT: bool = true;
    #[inline(always)]
    unsafe fn add_kept(sums: &mut [__m512; 8], weights: &[__m512; 16], a: *const f32) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { kept::add(sums, weights, a) }
    }
    #[inline(always)]
    unsafe fn add_kept_twice(sums: &mut [__m512; 16], weights: &[__m512; 16], a: *const f32) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { kept::add_twice(sums, weights, a) }
    }
    #[inline(always)]
    unsafe fn store(target: *mut f32, value: __m512) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_storeu_ps(target, value) }
    }
    const STREAMS: bool = true;
    #[inline(always)]
    unsafe fn stream(target: *mut f32, value: __m512) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_stream_ps(target, value) }
    }
    #[inline(always)]
    unsafe fn load_partial(source: *const f32, count: usize) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_maskz_loadu_ps(first(count), source) }
    }
    #[inline(always)]
    unsafe fn store_partial(target: *mut f32, value: __m512, count: usize) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_mask_storeu_ps(target, first(count), value) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn equal(a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn select(mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    unsafe fn mask_all() -> __mmask16 {
        0xffff
    }
    #[inline(always)]
    unsafe fn mask_and(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    unsafe fn mask_and_not(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & !b
    }
    #[inline(always)]
    unsafe fn reduce_add(value: __m512) -> f32 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_reduce_add_ps(value) }
    }
    #[inline(always)]
    unsafe fn load_f16(source: *const u16) -> __m512 {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(source.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16_partial(source: *const u16, count: usize) -> __m512 {
        // SAFETY: masked lanes are not accessed, and a mask of `count < 16` bits is no overflow.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((1 << count) - 1, source.cast())) }
    }
    #[inline(always)]
    unsafe fn stream_f16(target: *mut u16, value: __m512) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_stream_si256(target.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)) }
    }
    #[inline(always)]
    unsafe fn store_f16(target: *mut u16, value: __m512) {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm256_storeu_si256(target.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)) }
    }
}
