//! NEON, with SDOT or with products of 16 bits that are added up in pairs.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Dot, GROUP, Group, LANES, Tile};

/// Whether the processor has SDOT.
#[derive(Clone, Copy)]
pub(super) struct Neon<const SDOT: bool>;

/// Elements of a register of sums.
const QUAD: usize = 4;

impl<const SDOT: bool> Dot for Neon<SDOT> {
    type Vector = [int8x16_t; 4];
    type Sums = [int32x4_t; 4];
    const OFFSET: i32 = 0;
    const PIXELS: usize = super::PIXELS / 2;

    #[inline(always)]
    unsafe fn load(group: *const Group) -> [int8x16_t; 4] {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        core::array::from_fn(|quarter| unsafe { vld1q_s8(group.cast::<i8>().add(LANES * quarter)) })
    }
    #[inline(always)]
    unsafe fn store(group: *mut Group, vector: [int8x16_t; 4]) {
        for (quarter, part) in vector.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { vst1q_s8(group.cast::<i8>().add(LANES * quarter), part) };
        }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const i8; GROUP], count: usize) -> [int8x16_t; 4] {
        // SAFETY: as above; of each row no more than `count` elements are read.
        unsafe {
            let [a, b, c, d] = rows.map(|row| load_first(row, count));
            let pairs = |a, b| [vzip1q_s8(a, b), vzip2q_s8(a, b)].map(|pair| vreinterpretq_s16_s8(pair));
            let ([ab, ab_high], [cd, cd_high]) = (pairs(a, b), pairs(c, d));
            [vzip1q_s16(ab, cd), vzip2q_s16(ab, cd), vzip1q_s16(ab_high, cd_high), vzip2q_s16(ab_high, cd_high)]
                .map(|part| vreinterpretq_s8_s16(part))
        }
    }
    #[inline(always)]
    unsafe fn read(vector: [int8x16_t; 4], low: i8) -> [int8x16_t; 4] {
        // SAFETY: as above.
        vector.map(|part| unsafe { vmaxq_s8(part, vdupq_n_s8(low)) })
    }
    #[inline(always)]
    unsafe fn copy(from: &[i8], low: i8, to: *mut u8) {
        let (whole, rest) = from.as_chunks::<LANES>();
        for (index, elements) in whole.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let elements = vmaxq_s8(vld1q_s8(elements.as_ptr()), vdupq_n_s8(low));
                vst1q_s8(to.cast::<i8>().add(LANES * index), elements);
            }
        }
        for (index, &element) in (from.len() - rest.len()..).zip(rest) {
            // SAFETY: as above.
            unsafe { to.cast::<i8>().add(index).write(element.max(low)) };
        }
    }
    #[inline(always)]
    unsafe fn sums(values: &[i32; LANES]) -> [int32x4_t; 4] {
        // SAFETY: as above.
        core::array::from_fn(|quarter| unsafe { vld1q_s32(values.as_ptr().add(QUAD * quarter)) })
    }
    #[inline(always)]
    unsafe fn values(sums: [int32x4_t; 4]) -> [i32; LANES] {
        let mut values = [0; LANES];
        for (values, sums) in values.chunks_exact_mut(QUAD).zip(sums) {
            // SAFETY: as above.
            unsafe { vst1q_s32(values.as_mut_ptr(), sums) };
        }
        values
    }
    #[inline(always)]
    unsafe fn add(sums: [int32x4_t; 4], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        // SAFETY: as above.
        core::array::from_fn(|quarter| unsafe { dot::<SDOT>(sums[quarter], x[quarter], w[quarter]) })
    }
    #[inline(always)]
    unsafe fn add_splat(sums: [int32x4_t; 4], x: *const u8, w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        // SAFETY: as above.
        let x = unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())) };
        // SAFETY: as above.
        core::array::from_fn(|quarter| unsafe { dot::<SDOT>(sums[quarter], x, w[quarter]) })
    }
    #[inline(always)]
    unsafe fn write(sums: [int32x4_t; 4], tile: &Tile, y: *mut i8, count: usize, zero: i8, accumulate: bool) {
        // SAFETY: as above; no more than `count` elements are read and written.
        unsafe {
            let before = if accumulate { load_first(y, count) } else { vdupq_n_s8(zero) };
            let [a, b, c, d]: [int16x4_t; 4] =
                core::array::from_fn(|quarter| rescale(sums[quarter], tile, QUAD * quarter));
            // What saturates in 16 bits does so in 8, whatever is added.
            let low = vqaddq_s16(vcombine_s16(a, b), vmovl_s8(vget_low_s8(before)));
            let high = vqaddq_s16(vcombine_s16(c, d), vmovl_s8(vget_high_s8(before)));
            let elements = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
            if count == LANES {
                vst1q_s8(y, elements);
            } else {
                let mut all = [0; LANES];
                vst1q_s8(all.as_mut_ptr(), elements);
                y.copy_from_nonoverlapping(all.as_ptr(), count);
            }
        }
    }
}

/// The first `count` elements, and any values behind them.
///
/// # Safety
///
/// They can be read.
#[inline(always)]
unsafe fn load_first(from: *const i8, count: usize) -> int8x16_t {
    // SAFETY: promised by the caller.
    unsafe {
        match count {
            LANES => vld1q_s8(from),
            8 => vcombine_s8(vld1_s8(from), vdup_n_s8(0)),
            _ => {
                let mut elements = [0; LANES];
                from.copy_to_nonoverlapping(elements.as_mut_ptr(), count);
                vld1q_s8(elements.as_ptr())
            }
        }
    }
}

/// Adds four products in each lane.
///
/// # Safety
///
/// The processor has SDOT if that is so.
#[inline(always)]
unsafe fn dot<const SDOT: bool>(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    // SAFETY: the processor is the caller's promise, and the instruction, which has no function that is stable, reads and writes
    // these registers alone.
    unsafe {
        if SDOT {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {x:v}.16b, {w:v}.16b",
                sums = inlateout(vreg) sums,
                x = in(vreg) x,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags)
            );
            return sums;
        }
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(w)));
        let high = vpaddlq_s16(vmull_high_s8(x, w));
        vaddq_s32(sums, vpaddq_s32(low, high))
    }
}

/// Four sums of the channels from `first` on, rescaled.
///
/// # Safety
///
/// The instruction set is present.
#[inline(always)]
unsafe fn rescale(sums: int32x4_t, tile: &Tile, first: usize) -> int16x4_t {
    // SAFETY: four numbers are there; the rest is promised by the caller.
    unsafe {
        let two = |sums: int32x2_t, first: usize| {
            let load = |numbers: &[i64; LANES]| vld1q_s64(numbers.as_ptr().add(first));
            let product = vmull_s32(sums, vmovn_s64(load(&tile.multiplier)));
            // Of a negative number exactly half way the one below is taken, which is the one away from zero.
            let rounded = vsraq_n_s64::<63>(vaddq_s64(product, load(&tile.half)), product);
            vqmovn_s64(vshlq_s64(rounded, vnegq_s64(load(&tile.shift))))
        };
        vqmovn_s32(vcombine_s32(two(vget_low_s32(sums), first), two(vget_high_s32(sums), first + 2)))
    }
}
