//! NEON, with SDOT or with products of 16 bits that are added up in pairs.

use core::arch::aarch64::*;
use core::arch::asm;
use core::marker::PhantomData;

use super::{Dot, GROUP, Group, LANES, PIXELS, Tile};

/// How four sums of four channels are added up. All of it asks for the processor to have the instruction.
pub(super) trait Quad: Copy {
    /// What holds them.
    type Sums: Copy;
    /// Pixels whose sums, with a group of weights, fit the registers.
    const PIXELS: usize;

    unsafe fn new(sums: int32x4_t) -> Self::Sums;
    unsafe fn total(sums: Self::Sums) -> int32x4_t;
    /// Adds four products for each channel.
    unsafe fn add(sums: Self::Sums, x: int8x16_t, w: int8x16_t) -> Self::Sums;
}

/// By the instruction.
#[derive(Clone, Copy)]
pub(super) struct Sdot;

impl Quad for Sdot {
    type Sums = int32x4_t;
    const PIXELS: usize = PIXELS;

    #[inline(always)]
    unsafe fn new(sums: int32x4_t) -> int32x4_t {
        sums
    }
    #[inline(always)]
    unsafe fn total(sums: int32x4_t) -> int32x4_t {
        sums
    }
    #[inline(always)]
    unsafe fn add(mut sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        // SAFETY: the processor is the caller's promise, and the instruction, which has no function that is stable,
        // reads and writes these registers alone.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {x:v}.16b, {w:v}.16b",
                sums = inlateout(vreg) sums,
                x = in(vreg) x,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sums
    }
}

/// Each sum in two halves.
#[derive(Clone, Copy)]
pub(super) struct Pairs;

impl Quad for Pairs {
    type Sums = [int32x4_t; 2];
    const PIXELS: usize = PIXELS / 2;

    #[inline(always)]
    unsafe fn new(sums: int32x4_t) -> [int32x4_t; 2] {
        // SAFETY: the processor is the caller's promise.
        unsafe { [vzip1q_s32(sums, vdupq_n_s32(0)), vzip2q_s32(sums, vdupq_n_s32(0))] }
    }
    #[inline(always)]
    unsafe fn total([low, high]: [int32x4_t; 2]) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vpaddq_s32(low, high) }
    }
    #[inline(always)]
    unsafe fn add([low, high]: [int32x4_t; 2], x: int8x16_t, w: int8x16_t) -> [int32x4_t; 2] {
        // SAFETY: as above.
        unsafe { [vpadalq_s16(low, vmull_s8(vget_low_s8(x), vget_low_s8(w))), vpadalq_s16(high, vmull_high_s8(x, w))] }
    }
}

/// Eight channels.
#[derive(Clone, Copy)]
pub(super) struct Neon<Q>(PhantomData<Q>);

impl<Q: Quad> Dot for Neon<Q> {
    type Vector = [int8x16_t; 2];
    type Sums = [Q::Sums; 2];
    const OFFSET: i32 = 0;
    const PIXELS: usize = Q::PIXELS;

    #[inline(always)]
    unsafe fn load(group: *const Group) -> [int8x16_t; 2] {
        // SAFETY: the instruction set is present and pointers are valid, as the caller promises.
        unsafe { [vld1q_s8(group.cast()), vld1q_s8(group.cast::<i8>().add(GROUP * LANES / 2))] }
    }
    #[inline(always)]
    unsafe fn store(group: *mut Group, [low, high]: [int8x16_t; 2]) {
        // SAFETY: as above.
        unsafe {
            vst1q_s8(group.cast(), low);
            vst1q_s8(group.cast::<i8>().add(GROUP * LANES / 2), high);
        }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const i8; GROUP], count: usize) -> [int8x16_t; 2] {
        // SAFETY: as above; of each row no more than `count` elements are read.
        unsafe {
            let [a, b, c, d] = rows.map(|row| load_first(row, count));
            let pairs = |a, b| {
                let [a, b] = [a, b].map(|row| vcombine_s8(row, vdup_n_s8(0)));
                vreinterpretq_s16_s8(vzip1q_s8(a, b))
            };
            let (ab, cd) = (pairs(a, b), pairs(c, d));
            [vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd))]
        }
    }
    #[inline(always)]
    unsafe fn read(vector: [int8x16_t; 2], low: i8) -> [int8x16_t; 2] {
        // SAFETY: as above.
        vector.map(|part| unsafe { vmaxq_s8(part, vdupq_n_s8(low)) })
    }
    #[inline(always)]
    unsafe fn copy(from: &[i8], low: i8, to: *mut u8) {
        const WIDTH: usize = 16;
        let (whole, rest) = from.as_chunks::<WIDTH>();
        for (index, elements) in whole.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let elements = vmaxq_s8(vld1q_s8(elements.as_ptr()), vdupq_n_s8(low));
                vst1q_s8(to.cast::<i8>().add(WIDTH * index), elements);
            }
        }
        let mut at = from.len() - rest.len();
        let (whole, rest) = rest.as_chunks::<LANES>();
        for elements in whole {
            // SAFETY: as above.
            unsafe { vst1_s8(to.cast::<i8>().add(at), vmax_s8(vld1_s8(elements.as_ptr()), vdup_n_s8(low))) };
            at += LANES;
        }
        let (whole, rest) = rest.as_chunks::<4>();
        for elements in whole {
            // SAFETY: as above; four more than there are may be overwritten.
            unsafe { vst1_s8(to.cast::<i8>().add(at), vmax_s8(load_first(elements.as_ptr(), 4), vdup_n_s8(low))) };
            at += 4;
        }
        for &element in rest {
            // SAFETY: as above.
            unsafe { to.cast::<i8>().add(at).write(element.max(low)) };
            at += 1;
        }
    }
    #[inline(always)]
    unsafe fn sums(values: &[i32; LANES]) -> [Q::Sums; 2] {
        // SAFETY: as above.
        unsafe { [Q::new(vld1q_s32(values.as_ptr())), Q::new(vld1q_s32(values.as_ptr().add(LANES / 2)))] }
    }
    #[inline(always)]
    unsafe fn values([low, high]: [Q::Sums; 2]) -> [i32; LANES] {
        let mut values = [0; LANES];
        // SAFETY: as above.
        unsafe {
            vst1q_s32(values.as_mut_ptr(), Q::total(low));
            vst1q_s32(values.as_mut_ptr().add(LANES / 2), Q::total(high));
        }
        values
    }
    #[inline(always)]
    unsafe fn add([low, high]: [Q::Sums; 2], x: [int8x16_t; 2], w: [int8x16_t; 2]) -> [Q::Sums; 2] {
        // SAFETY: as above.
        unsafe { [Q::add(low, x[0], w[0]), Q::add(high, x[1], w[1])] }
    }
    #[inline(always)]
    unsafe fn add_splat([low, high]: [Q::Sums; 2], x: *const u8, w: [int8x16_t; 2]) -> [Q::Sums; 2] {
        // SAFETY: as above.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned()));
            [Q::add(low, x, w[0]), Q::add(high, x, w[1])]
        }
    }
    #[inline(always)]
    unsafe fn write([low, high]: [Q::Sums; 2], tile: &Tile, y: *mut i8, count: usize, zero: i8, accumulate: bool) {
        // SAFETY: as above; no more than `count` elements are read and written.
        unsafe {
            let before = if accumulate { load_first(y, count) } else { vdup_n_s8(zero) };
            let low = rescale(Q::total(low), tile, 0);
            // What saturates in 16 bits does so in 8, whatever is added.
            let high = if count <= LANES / 2 { low } else { rescale(Q::total(high), tile, LANES / 2) };
            let elements = vqmovn_s16(vqaddq_s16(vcombine_s16(low, high), vmovl_s8(before)));
            match count {
                LANES => vst1_s8(y, elements),
                4 => y.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(elements))),
                _ => {
                    let mut all = [0; LANES];
                    vst1_s8(all.as_mut_ptr(), elements);
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
/// They can be read.
#[inline(always)]
unsafe fn load_first(from: *const i8, count: usize) -> int8x8_t {
    // SAFETY: promised by the caller.
    unsafe {
        match count {
            LANES => vld1_s8(from),
            4 => vreinterpret_s8_s32(vdup_n_s32(from.cast::<i32>().read_unaligned())),
            _ => {
                let mut elements = [0; LANES];
                from.copy_to_nonoverlapping(elements.as_mut_ptr(), count);
                vld1_s8(elements.as_ptr())
            }
        }
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
        let load = |numbers: &[i64; LANES], first: usize| vld1q_s64(numbers.as_ptr().add(first));
        let round = |product: int64x2_t, first: usize| {
            // Of a negative number exactly half way the one below is taken, which is the one away from zero.
            let rounded = vsraq_n_s64::<63>(vaddq_s64(product, load(&tile.half, first)), product);
            vqmovn_s64(vshlq_s64(rounded, vnegq_s64(load(&tile.shift, first))))
        };
        // Their lower halves.
        let [low, high] = [first, first + 2].map(|first| vreinterpretq_s32_s64(load(&tile.multiplier, first)));
        let multipliers = vuzp1q_s32(low, high);
        let low = round(vmull_s32(vget_low_s32(sums), vget_low_s32(multipliers)), first);
        let high = round(vmull_high_s32(sums, multipliers), first + 2);
        vqmovn_s32(vcombine_s32(low, high))
    }
}
