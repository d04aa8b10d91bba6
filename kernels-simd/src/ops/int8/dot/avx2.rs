//! AVX2, which has sums of two products of 16-bit integers: elements are widened, even and odd ones apart.

use core::arch::x86_64::*;

use super::{Dot, GROUP, Group, LANES, Tile};

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Bytes of a register.
const BYTES: usize = size_of::<__m256i>();

impl Dot for Avx2 {
    type Vector = [__m256i; 2];
    type Sums = [__m256i; 2];
    const OFFSET: i32 = 0;
    const PIXELS: usize = super::PIXELS / 2;

    #[inline(always)]
    unsafe fn load(group: *const Group) -> [__m256i; 2] {
        let group: *const __m256i = group.cast();
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { [_mm256_load_si256(group), _mm256_load_si256(group.add(1))] }
    }
    #[inline(always)]
    unsafe fn store(group: *mut Group, vector: [__m256i; 2]) {
        let group: *mut __m256i = group.cast();
        // SAFETY: as above.
        unsafe {
            _mm256_store_si256(group, vector[0]);
            _mm256_store_si256(group.add(1), vector[1]);
        }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const i8; GROUP], count: usize) -> [__m256i; 2] {
        let [a, b, c, d] = rows;
        // SAFETY: as above; of each row no more than `count` elements are read.
        unsafe {
            let (a, b) = (load_first(a, count), load_first(b, count));
            let (c, d) = (load_first(c, count), load_first(d, count));
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let (ab_high, cd_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            [
                _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd)),
                _mm256_set_m128i(_mm_unpackhi_epi16(ab_high, cd_high), _mm_unpacklo_epi16(ab_high, cd_high)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn read(vector: [__m256i; 2], low: i8) -> [__m256i; 2] {
        // SAFETY: as above.
        unsafe {
            let low = _mm256_set1_epi8(low);
            [_mm256_max_epi8(vector[0], low), _mm256_max_epi8(vector[1], low)]
        }
    }
    #[inline(always)]
    unsafe fn copy(from: &[i8], low: i8, to: *mut u8) {
        let (whole, rest) = from.as_chunks::<BYTES>();
        for (index, elements) in whole.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let elements = _mm256_max_epi8(_mm256_loadu_si256(elements.as_ptr().cast()), _mm256_set1_epi8(low));
                _mm256_storeu_si256(to.add(BYTES * index).cast(), elements);
            }
        }
        for (index, &element) in (from.len() - rest.len()..).zip(rest) {
            // SAFETY: as above.
            unsafe { to.cast::<i8>().add(index).write(element.max(low)) };
        }
    }
    #[inline(always)]
    unsafe fn sums(values: &[i32; LANES]) -> [__m256i; 2] {
        let values: *const __m256i = values.as_ptr().cast();
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(values), _mm256_loadu_si256(values.add(1))] }
    }
    #[inline(always)]
    unsafe fn values(sums: [__m256i; 2]) -> [i32; LANES] {
        let mut values = [0; LANES];
        let to: *mut __m256i = values.as_mut_ptr().cast();
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(to, sums[0]);
            _mm256_storeu_si256(to.add(1), sums[1]);
        }
        values
    }
    #[inline(always)]
    unsafe fn add(sums: [__m256i; 2], x: [__m256i; 2], w: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: as above.
        unsafe { [add_products(sums[0], x[0], w[0]), add_products(sums[1], x[1], w[1])] }
    }
    #[inline(always)]
    unsafe fn add_splat(sums: [__m256i; 2], x: *const u8, w: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: as above.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            [add_products(sums[0], x, w[0]), add_products(sums[1], x, w[1])]
        }
    }
    #[inline(always)]
    unsafe fn write(sums: [__m256i; 2], tile: &Tile, y: *mut i8, count: usize, zero: i8, accumulate: bool) {
        // SAFETY: as above; no more than `count` elements are read and written.
        unsafe {
            let before = if accumulate { load_first(y, count) } else { _mm_set1_epi8(zero) };
            let low = eight::<0>(sums[0], tile, before);
            let high = eight::<8>(sums[1], tile, _mm_unpackhi_epi64(before, before));
            // Both halves have four of each.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let elements = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            match count {
                LANES => _mm_storeu_si128(y.cast(), elements),
                8 => _mm_storel_epi64(y.cast(), elements),
                _ => {
                    let mut all = [0; LANES];
                    _mm_storeu_si128(all.as_mut_ptr().cast(), elements);
                    y.copy_from_nonoverlapping(all.as_ptr(), count);
                }
            }
        }
    }
}

/// The first `count` elements, and any values behind them.
///
/// # Safety
///
/// The instruction set is present, and they can be read.
#[inline(always)]
unsafe fn load_first(from: *const i8, count: usize) -> __m128i {
    // SAFETY: promised by the caller.
    unsafe {
        match count {
            LANES => _mm_loadu_si128(from.cast()),
            8 => _mm_loadl_epi64(from.cast()),
            4 => _mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()),
            _ => {
                let mut elements = [0i8; LANES];
                from.copy_to_nonoverlapping(elements.as_mut_ptr(), count);
                _mm_loadu_si128(elements.as_ptr().cast())
            }
        }
    }
}

/// Adds four products in each lane.
///
/// # Safety
///
/// The instruction set is present.
#[inline(always)]
unsafe fn add_products(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let (x_even, w_even) =
            (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)), _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w)));
        let even = _mm256_madd_epi16(x_even, w_even);
        let odd = _mm256_madd_epi16(_mm256_srai_epi16::<8>(x), _mm256_srai_epi16::<8>(w));
        _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
    }
}

/// The eight sums of the channels from `FIRST` on, rescaled, added to the elements `before` and limited to those of 8
/// bits.
///
/// # Safety
///
/// The instruction set is present.
#[inline(always)]
unsafe fn eight<const FIRST: usize>(sums: __m256i, tile: &Tile, before: __m128i) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe {
        let low = four(_mm256_castsi256_si128(sums), tile, FIRST, before);
        let high = four(_mm256_extracti128_si256::<1>(sums), tile, FIRST + 4, _mm_srli_si128::<4>(before));
        // The lower half of each number, two by two.
        let both = _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(both))
    }
}

/// Four of them, in 64 bits.
///
/// # Safety
///
/// As [`eight`].
#[inline(always)]
unsafe fn four(sums: __m128i, tile: &Tile, first: usize, before: __m128i) -> __m256i {
    // SAFETY: four numbers are there; the rest is promised by the caller.
    unsafe {
        let multiplier = _mm256_loadu_si256(tile.multiplier.as_ptr().add(first).cast());
        let half = _mm256_loadu_si256(tile.half.as_ptr().add(first).cast());
        let shift = _mm256_loadu_si256(tile.shift.as_ptr().add(first).cast());
        let product = _mm256_mul_epi32(_mm256_cvtepi32_epi64(sums), multiplier);
        // Of a negative number exactly half way the one below is taken, which is the one away from zero.
        let negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), product);
        let rounded = _mm256_add_epi64(_mm256_add_epi64(product, half), negative);
        // A shift with sign is one without it of a number that is larger by 2^63.
        let sign = _mm256_set1_epi64x(i64::MIN);
        let shifted = _mm256_srlv_epi64(_mm256_xor_si256(rounded, sign), shift);
        let value = _mm256_sub_epi64(shifted, _mm256_srlv_epi64(sign, shift));
        let value = _mm256_add_epi64(value, _mm256_cvtepi8_epi64(before));
        let (least, greatest) = (_mm256_set1_epi64x(i8::MIN.into()), _mm256_set1_epi64x(i8::MAX.into()));
        let value = _mm256_blendv_epi8(value, greatest, _mm256_cmpgt_epi64(value, greatest));
        _mm256_blendv_epi8(value, least, _mm256_cmpgt_epi64(least, value))
    }
}
