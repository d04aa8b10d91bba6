//! VNNI of AVX-512.

use core::arch::x86_64::*;

use super::{Dot, GROUP, Group, LANES, Tile};

#[derive(Clone, Copy)]
pub(super) struct Vnni;

/// The first `count` bytes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    debug_assert!(count <= LANES);
    ((1u32 << count) - 1) as __mmask16
}

/// The first `count` elements, and zeros.
///
/// # Safety
///
/// The instruction set is present, and they can be read.
#[inline(always)]
unsafe fn load_first(from: *const i8, count: usize) -> __m128i {
    // SAFETY: promised by the caller.
    unsafe { if count == LANES { _mm_loadu_si128(from.cast()) } else { _mm_maskz_loadu_epi8(first(count), from) } }
}

impl Dot for Vnni {
    type Vector = __m512i;
    type Sums = __m512i;
    const OFFSET: i32 = 128;
    const PIXELS: usize = super::PIXELS;

    #[inline(always)]
    unsafe fn load(group: *const Group) -> __m512i {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { _mm512_load_si512(group.cast()) }
    }
    #[inline(always)]
    unsafe fn store(group: *mut Group, vector: __m512i) {
        // SAFETY: as above.
        unsafe { _mm512_store_si512(group.cast(), vector) }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const i8; GROUP], count: usize) -> __m512i {
        // SAFETY: as above; of each row no more than `count` elements are read.
        unsafe {
            let [a, b, c, d] = rows;
            let rows = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(load_first(a, count)), load_first(b, count));
            let rows = _mm512_inserti32x4::<2>(rows, load_first(c, count));
            let rows = _mm512_inserti32x4::<3>(rows, load_first(d, count));
            // Four elements of each row to a quarter of the register, and in it channel by channel.
            let quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let channels = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, rows), _mm512_broadcast_i32x4(channels))
        }
    }
    #[inline(always)]
    unsafe fn read(vector: __m512i, low: i8) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_xor_si512(_mm512_max_epi8(vector, _mm512_set1_epi8(low)), _mm512_set1_epi8(i8::MIN)) }
    }
    #[inline(always)]
    unsafe fn copy(from: &[i8], low: i8, to: *mut u8) {
        for (at, from) in (0..).step_by(size_of::<__m512i>()).zip(from.chunks(size_of::<__m512i>())) {
            // SAFETY: as above; behind the end less than a register is written.
            unsafe {
                let mask = u64::MAX >> (size_of::<__m512i>() - from.len());
                let vector = _mm512_maskz_loadu_epi8(mask, from.as_ptr());
                _mm512_storeu_si512(to.add(at).cast(), Self::read(vector, low));
            }
        }
    }
    #[inline(always)]
    unsafe fn sums(values: &[i32; LANES]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }
    #[inline(always)]
    unsafe fn values(sums: __m512i) -> [i32; LANES] {
        let mut values = [0; LANES];
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sums) };
        values
    }
    #[inline(always)]
    unsafe fn add(sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }
    #[inline(always)]
    unsafe fn add_splat(sums: __m512i, x: *const u8, w: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()), w) }
    }
    #[inline(always)]
    unsafe fn write(sums: __m512i, tile: &Tile, y: *mut i8, count: usize, zero: i8, accumulate: bool) {
        // SAFETY: as above; no more than `count` elements are read and written.
        unsafe {
            let whole = count == LANES;
            let before = if accumulate { load_first(y, count) } else { _mm_set1_epi8(zero) };
            let low = rescale::<0>(_mm512_castsi512_si256(sums), tile, before);
            let elements = if count <= LANES / 2 {
                low
            } else {
                let before = _mm_unpackhi_epi64(before, before);
                _mm_unpacklo_epi64(low, rescale::<8>(_mm512_extracti64x4_epi64::<1>(sums), tile, before))
            };
            if whole {
                _mm_storeu_si128(y.cast(), elements);
            } else {
                _mm_mask_storeu_epi8(y, first(count), elements);
            }
        }
    }
}

/// The eight sums of the channels from `FIRST` on, rescaled and added to the elements `before`.
///
/// # Safety
///
/// The instruction set is present.
#[inline(always)]
unsafe fn rescale<const FIRST: usize>(sums: __m256i, tile: &Tile, before: __m128i) -> __m128i {
    // SAFETY: eight numbers are there; the rest is promised by the caller.
    unsafe {
        let product = _mm512_mul_epi32(
            _mm512_cvtepi32_epi64(sums),
            _mm512_loadu_si512(tile.multiplier.as_ptr().add(FIRST).cast()),
        );
        let rounded = _mm512_add_epi64(product, _mm512_loadu_si512(tile.half.as_ptr().add(FIRST).cast()));
        // Of a negative number exactly half way the one below is taken, which is the one away from zero.
        let rounded = _mm512_add_epi64(rounded, _mm512_srai_epi64::<63>(product));
        let value = _mm512_srav_epi64(rounded, _mm512_loadu_si512(tile.shift.as_ptr().add(FIRST).cast()));
        _mm512_cvtsepi64_epi8(_mm512_add_epi64(value, _mm512_cvtepi8_epi64(before)))
    }
}
