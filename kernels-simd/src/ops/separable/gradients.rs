//! Both gradients of the depthwise convolution in one pass.
//!
//! An element of the gradient of the output goes to a pixel of the input with the weight of a tap, and with the pixel
//! to the gradient of that tap. Loaded once for both it is worth two multiply-adds, and what the end of the pixel's
//! gradient needs is in registers: at 16 channels, 32×32, both gradients of a stage take 11.1 µs in place of 11.5 for
//! 3×3 and 17.1 in place of 18.0 for 5×5, at 64 channels, 8×8, 6.2 in place of 6.75 with AVX-512; with AVX2 19.5 in
//! place of 23.5, 30.9 in place of 37.3, and 11.4 in place of 12.5 (AMD EPYC, Zen 5, 2026-11-30).
//!
//! At stride 2 the pixels of every second row and column are reached by the same taps, as at stride 1 all are: four
//! such passes, or one where dilation 2 leaves the others without any. With 32 channels, 32×32, both gradients of a
//! stage take 9.9 in place of 11.7 µs for 3×3, 7.4 in place of 11.2 with dilation 2, and 12.3 and 10.3 in place of 14.5
//! and 14.1 for 5×5 with AVX-512 (the same processor and day).

use core::mem::MaybeUninit;
use core::ptr;

use super::finish::{CHAINS, Finish};
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::depthwise::pixels_per_register;
use crate::ops::depthwise::places::{each_place, is_clipped, pixel_of_place, places};
use crate::ops::lanes::{MAX_LANES, add_channels, for_registers, load, load_channels, opaque, store};
use crate::ops::prefetch::Ahead;
use crate::ops::ring::PaddedRows;
use crate::ops::stored::{Element, Stored};
use crate::shape::{SeparableShape, divide};

/// Rows of the gradient of the input and what they add to that of the taps, of pixels that the same taps reach: at
/// stride 1 all of them, otherwise those in every `step`-th row and column.
pub(super) struct Gradients<'a> {
    pub channels: usize,
    /// Such rows.
    pub rows: usize,
    /// Pixels of such a row.
    pub width: usize,
    /// The stride, 1 or 2.
    pub step: usize,
    /// The input behind the prelude, without padding, from the first of these pixels on; rows between them count.
    pub x: PaddedRows,
    /// The gradient of the output from the first pixel on that reaches these; rows outside are null.
    pub dy: PaddedRows,
    /// Rows and columns of the output between those that neighbouring taps come from.
    pub spread: usize,
    pub taps: TapGrid,
    /// The gradient of the input from the first of these pixels on, in rows of `step·width` pixels.
    pub dx: *mut f32,
    pub end: End,
    /// What a gradient needs that does not end as it is.
    pub finish: &'a Finish<'a>,
}

/// Rows and columns of taps.
#[derive(Clone, Copy)]
pub(super) struct TapGrid {
    pub rows: usize,
    pub columns: usize,
    /// Elements between rows.
    pub row: usize,
    /// Elements between columns.
    pub column: usize,
    /// The first tap.
    pub w: *const f32,
    /// Its gradient: added to.
    pub dw: *mut f32,
}

/// How the gradient of the input ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As it is.
    Bare,
    /// Where the ReLU lets the input through, stored or added.
    Masked { accumulate: bool },
    /// Where the ReLU lets the input through, with sums; with `stream` past the caches.
    Summed { stream: bool },
}

impl End {
    /// All that `finish` says, or nothing of it, with registers of `lanes`.
    pub fn of(finish: &Finish<'_>, lanes: usize) -> Self {
        let whole_registers = finish.channels.is_multiple_of(lanes) || are_pairs(lanes, finish.channels);
        let boundary = finish.dx.addr().is_multiple_of(lanes * size_of::<f32>());
        match (finish.mean.is_null(), finish.accumulate) {
            _ if !whole_registers || !finish.prelude.has_relu() => Self::Bare,
            (true, accumulate) => Self::Masked { accumulate },
            (false, true) => Self::Bare,
            (false, false) => Self::Summed { stream: finish.stream && boundary },
        }
    }
}

/// Rows and columns of taps at most.
const MAX_KERNEL: usize = 5;

const AVX2_LANES: usize = Isa::Avx2.lanes();

/// What a register of channels adds to the gradients of the taps.
#[repr(align(64))]
struct TapSums(MaybeUninit<[f32; MAX_KERNEL * MAX_KERNEL * MAX_LANES]>);

/// Whether two pixels fill a register of `lanes`, of an instruction set with code for that ([`Simd::TWICE`]).
const fn are_pairs(lanes: usize, channels: usize) -> bool {
    lanes == MAX_LANES && 2 * channels == MAX_LANES
}

/// Pixels that are computed together with 16 registers, of which 3×3 takes 15; eight pixels take up to 27.
const SHORT_BLOCK: usize = 4;

/// Registers of the pixels of a row that are computed together, if there is code for it.
pub(super) fn block_of(lanes: usize, width: usize, channels: usize) -> Option<usize> {
    let pixels = pixels_per_register(are_pairs(lanes, channels));
    let blocks: &[usize] = match lanes {
        MAX_LANES => &[8, 7],
        AVX2_LANES => &[SHORT_BLOCK],
        _ => &[],
    };
    blocks.iter().copied().find(|block| width > 0 && width.is_multiple_of(block * pixels))
}

impl Gradients<'_> {
    /// Whether there is code for the shape.
    pub fn fit(kernels: Kernels, shape: SeparableShape) -> bool {
        let SeparableShape { input, kernel, stride, dilation, .. } = shape;
        let lanes = kernels.isa().lanes();
        matches!((kernel, stride, dilation), (3 | MAX_KERNEL, 1 | 2, 1 | 2))
            && (stride == 1 || input.width.is_multiple_of(2) && !are_pairs(lanes, input.channels))
            && block_of(lanes, divide(input.width, stride), input.channels).is_some()
    }
}

/// `patterns!(pattern => name: stride, rows, columns, step, spread, chains, twice; …)`: a function for each stride,
/// number of columns of taps and of rows at most, distance between them, and whether pixels are pairs, see
/// [`row_of_taps`], and one that finds it. In a single function the compiler runs out of registers.
macro_rules! patterns {
    ($($pattern:pat => $name:ident: $stride:literal, $rows:literal, $columns:literal, $step:literal, $spread:literal, $chains:literal,
       $twice:literal;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(gradients: &Gradients<'_>, ahead: &mut Ahead) {
                // SAFETY: promised by the caller.
                unsafe {
                    let channels = 0..gradients.channels;
                    if const { S::TWICE && $twice } {
                        blocks::<S, $stride, $rows, $columns, $step, $spread, $chains, true, false>(0, S::LANES, gradients, ahead);
                    } else if const { S::LANES == MAX_LANES } {
                        for_registers!(S, channels, blocks::<$stride, $rows, $columns, $step, $spread, $chains, false>(gradients, ahead));
                    } else if const { S::LANES == AVX2_LANES && !$twice } {
                        // Few pixels, and for most taps no room for a second sum of each.
                        for_registers!(
                            S,
                            channels,
                            ends::<SHORT_BLOCK, $stride, $rows, $columns, $step, $spread, 1, false>(gradients, ahead)
                        );
                    } else {
                        unreachable!("there is code for AVX-512 and AVX2, and for pairs with AVX-512 alone");
                    }
                }
            }
        )*

        impl Gradients<'_> {
            /// Computes all rows. [`Ahead::ask_at`] is called before each, for each register of channels.
            ///
            /// # Safety
            ///
            /// They [`fit`](Self::fit), and the taps are those that reach such pixels. The pointers cover all rows and
            /// windows, of which are stored at most as many rows as the rings have slots, and the taps, and what is
            /// written is not read as anything else. The end is [`Bare`](End::Bare), or that [`of`](End::of) `finish`,
            /// which covers the rows, too, and the registers of `kernels`; at stride 2 it is [`Masked`](End::Masked).
            pub unsafe fn compute(&self, kernels: Kernels, ahead: &mut Ahead) {
                let these = self;
                // SAFETY: promised by the caller.
                unsafe {
                    let pairs = are_pairs(kernels.isa().lanes(), self.channels);
                    match (self.step, self.taps.columns, self.spread, pairs) {
                        $($pattern => dispatch!(kernels, $name(these: &Gradients<'_>, ahead: &mut Ahead)),)*
                    }
                }
            }
        }
    };
}

patterns! {
    (1, 3, 1, false) => three: 1, 3, 3, 1, 1, 2, false;
    (1, 3, _, false) => three_dilated: 1, 3, 3, 1, 2, 2, false;
    (1, _, 1, false) => five: 1, 5, 5, 1, 1, 1, false;
    (1, _, _, false) => five_dilated: 1, 5, 5, 1, 2, 1, false;
    (1, 3, 1, true) => three_in_pairs: 1, 3, 3, 2, 1, 2, true;
    (1, 3, _, true) => three_dilated_in_pairs: 1, 3, 3, 1, 1, 2, true;
    (1, _, 1, true) => five_in_pairs: 1, 5, 5, 2, 1, 1, true;
    (1, _, _, true) => five_dilated_in_pairs: 1, 5, 5, 1, 1, 1, true;
    (_, 1, ..) => one_strided: 2, 2, 1, 1, 1, 4, false;
    (_, 2, ..) => two_strided: 2, 3, 2, 1, 1, 2, false;
    (_, 3, ..) => three_strided: 2, 3, 3, 1, 1, 2, false;
    _ => five_strided: 2, 5, 5, 1, 1, 1, false;
}

/// The width of a row up to which taps beyond its ends, where there are zeros, are left out, by the columns of these.
/// Microseconds of both gradients of a stage with them and without, AVX-512 and AVX2: 5×5 with dilation 2 at 64
/// channels, 8×8, 6.5 and 6.0, 11.8 and 10.9, at 16 channels, 32×32, 15.7 and 14.9, 28.0 and 27.2; 5×5 at 32 channels,
/// 16×16, 9.6 and 9.3, 17.9 and 17.5; but 3×3 6.9 and 7.0, 12.7 and 12.7, at 16 channels, 32×32, 9.3 and 9.2, 16.4 and
/// 17.0 (AMD EPYC, Zen 5, 2026-12-01).
const fn clipped_width(columns: usize) -> usize {
    if columns == 1 { 8 } else { 32 }
}

/// One register of channels, or of two pixels with `TWICE`.
#[inline(always)]
unsafe fn blocks<
    S: Simd,
    const STRIDE: usize,
    const R: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    gradients: &Gradients<'_>,
    ahead: &mut Ahead,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if block_of(MAX_LANES, gradients.width, gradients.channels) == Some(8) {
            ends::<S, 8, STRIDE, R, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        } else {
            ends::<S, 7, STRIDE, R, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        }
    }
}

/// `P` registers of pixels at a time.
#[inline(always)]
unsafe fn ends<
    S: Simd,
    const P: usize,
    const STRIDE: usize,
    const R: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    gradients: &Gradients<'_>,
    ahead: &mut Ahead,
) {
    // Shorter registers with AVX-512 are what is left of the channels.
    let whole = const { (S::LANES == MAX_LANES || P == SHORT_BLOCK) && !PARTIAL };
    debug_assert!(whole || gradients.end == End::Bare, "whole registers have an end");
    macro_rules! rows {
        ($mask:literal, $add:literal, $sum:literal, $stream:literal, $x:expr) => {
            rows::<S, _, P, STRIDE, R, K, STEP, SPREAD, N, TWICE, PARTIAL, $mask, $add, $sum, $stream>(
                channel, lanes, gradients, $x, ahead,
            )
        };
    }
    let none = ptr::null::<f32>();
    // SAFETY: promised by the caller.
    unsafe {
        match gradients.end {
            End::Masked { accumulate: false } if whole => rows!(true, false, false, false, none),
            End::Masked { accumulate: true } if whole => rows!(true, true, false, false, none),
            _ if const { STRIDE > 1 } => unreachable!("an end of {} channels at stride {STRIDE}", gradients.channels),
            End::Summed { stream } if whole => match (gradients.finish.x, stream) {
                (Stored::F32(x), true) => rows!(true, false, true, true, x.as_ptr()),
                (Stored::F16(x), true) => rows!(true, false, true, true, x.as_ptr()),
                (Stored::F32(x), false) => rows!(true, false, true, false, x.as_ptr()),
                (Stored::F16(x), false) => rows!(true, false, true, false, x.as_ptr()),
            },
            _ => rows!(false, false, false, false, none),
        }
    }
}

/// All rows of one register, `P` pixels or pairs of them at a time. `x_before` is the input ahead of the prelude, for
/// `SUM`.
#[inline(always)]
unsafe fn rows<
    S: Simd,
    E: Element,
    const P: usize,
    const STRIDE: usize,
    const R: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
    const MASK: bool,
    const ADD: bool,
    const SUM: bool,
    const STREAM: bool,
>(
    channel: usize,
    lanes: usize,
    gradients: &Gradients<'_>,
    x_before: *const E,
    ahead: &mut Ahead,
) {
    let &Gradients { channels, width, spread, finish, .. } = gradients;
    // At stride 1 the compiler knows more.
    let grid = match STRIDE {
        1 => TapGrid { rows: R, columns: K, row: K * channels, column: channels, ..gradients.taps },
        _ => gradients.taps,
    };
    let pixel = channels * const { pixels_per_register(TWICE) };
    let blocks = width * channels / (pixel * P);
    let clips = const { STRIDE == 1 && !TWICE } && width <= const { clipped_width((K - 1) / 2 * SPREAD) };
    // From the last row of taps to the first their sources ascend.
    let last_row = (grid.rows - 1) * grid.row + channel;
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut tap_sums = TapSums(MaybeUninit::uninit());
        // In memory: the compiler would not keep other things in registers for them.
        let tap_sums = opaque(tap_sums.0.as_mut_ptr().cast()).cast_mut();
        for tap in 0..R * K {
            S::store(tap_sums.add(tap * S::LANES), zero);
        }
        let mut totals = Totals { sums: [zero; CHAINS], dots: [zero; CHAINS] };
        let pixel_of_input = STRIDE * pixel;
        let mut places =
            Places { dx: gradients.dx.add(channel), x: x_before.wrapping_add(channel), pixel: pixel_of_input, lanes };
        for row in 0..gradients.rows {
            ahead.ask_at(channel);
            let mut x = gradients.x.row(row * STRIDE).add(channel);
            let mut sources = [ptr::null(); R];
            for (index, dy) in sources.iter_mut().enumerate().take(grid.rows) {
                *dy = gradients.dy.row(row + index * spread);
            }
            for block in 0..blocks {
                let (mut pixels, mut dx) = ([zero; P], [zero; P]);
                for element in &mut pixels {
                    *element = load::<S, PARTIAL>(x, lanes);
                    x = opaque(x.wrapping_add(pixel_of_input));
                }
                for (index, &dy) in sources.iter().enumerate() {
                    if !dy.is_null() {
                        let taps = Taps {
                            w: grid.w.add(last_row).sub(index * grid.row),
                            sums: tap_sums.add(index * K * S::LANES),
                            column: grid.column,
                            unit: pixel / STEP,
                            lanes,
                        };
                        let dy = opaque(dy.add(block * P * pixel + channel));
                        macro_rules! row {
                            ($first:literal, $last:literal) => {
                                row_of_taps::<S, P, K, STEP, SPREAD, N, $first, $last, TWICE, PARTIAL>(
                                    dy, &taps, &pixels, &mut dx,
                                )
                            };
                        }
                        match (clips && block == 0, clips && block + 1 == blocks) {
                            (false, false) => row!(false, false),
                            (true, false) => row!(true, false),
                            (false, true) => row!(false, true),
                            (true, true) => row!(true, true),
                        }
                    }
                }
                let mean = if SUM { load_channels::<S, TWICE, PARTIAL>(finish.mean.add(channel), lanes) } else { zero };
                end::<S, E, P, PARTIAL, MASK, ADD, SUM, STREAM>(&pixels, dx, mean, &mut places, &mut totals);
            }
            // Over the rows between.
            places.dx = places.dx.wrapping_add((STRIDE - 1) * STRIDE * width * channels);
        }
        for index in 0..grid.rows {
            let mut dw = grid.dw.add(last_row).sub(index * grid.row);
            for tap in index * K..(index + 1) * K {
                add_channels::<S, TWICE, PARTIAL>(S::load(tap_sums.add(tap * S::LANES)), dw, lanes);
                dw = dw.wrapping_add(grid.column);
            }
        }
        if SUM {
            for (index, [a, b]) in [totals.sums, totals.dots].into_iter().enumerate() {
                let target = finish.sums.add(index * channels + channel);
                add_channels::<S, TWICE, PARTIAL>(S::add(a, b), target, lanes);
            }
        }
    }
}

/// The sums of [`Finish`], in its order.
struct Totals<S: Simd> {
    sums: [S::Vector; CHAINS],
    dots: [S::Vector; CHAINS],
}

/// Where the next pixel is.
struct Places<E> {
    dx: *mut f32,
    /// The input ahead of the prelude.
    x: *const E,
    /// Elements between pixels.
    pixel: usize,
    lanes: usize,
}

/// The end of the gradient of `P` pixels, which are `pixels` behind the prelude.
#[inline(always)]
unsafe fn end<
    S: Simd,
    E: Element,
    const P: usize,
    const PARTIAL: bool,
    const MASK: bool,
    const ADD: bool,
    const SUM: bool,
    const STREAM: bool,
>(
    pixels: &[S::Vector; P],
    dx: [S::Vector; P],
    mean: S::Vector,
    places: &mut Places<E>,
    totals: &mut Totals<S>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let (zero, lanes) = (S::splat(0.0), places.lanes);
        for (index, (pixel, mut value)) in pixels.iter().zip(dx).enumerate() {
            if MASK {
                value = S::select(S::greater(*pixel, zero), value, zero);
            }
            if ADD {
                value = S::add(load::<S, PARTIAL>(places.dx, lanes), value);
            }
            if STREAM {
                S::stream(places.dx, value);
            } else {
                store::<S, PARTIAL>(places.dx, value, lanes);
            }
            if SUM {
                let (sum, dot) = (&mut totals.sums[index % CHAINS], &mut totals.dots[index % CHAINS]);
                *sum = S::add(*sum, value);
                *dot = S::mul_add(value, S::sub(E::load::<S, false>(places.x, lanes), mean), *dot);
                places.x = opaque(places.x.cast()).cast::<E>().wrapping_add(places.pixel);
            }
            places.dx = opaque(places.dx.wrapping_add(places.pixel)).cast_mut();
        }
    }
}

/// One row of taps.
struct Taps {
    w: *const f32,
    /// What is added to the gradient of each, one register behind the other.
    sums: *mut f32,
    /// Elements between taps.
    column: usize,
    /// Elements between places of the gradient of the output.
    unit: usize,
    lanes: usize,
}

/// Adds what one row of taps contributes to `P` pixels, and these to the gradients of the taps, without what is before
/// the `FIRST` or behind the `LAST` pixels of a row. Pixels are `STEP` and taps `SPREAD` places apart. Pixels go to `N`
/// sums of each tap by turns: three taps at a place are fewer than what an addition waits for the one before.
#[inline(always)]
unsafe fn row_of_taps<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const FIRST: bool,
    const LAST: bool,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    dy: *const f32,
    &Taps { w, sums, column, unit, lanes }: &Taps,
    pixels: &[S::Vector; P],
    dx: &mut [S::Vector; P],
) {
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let (mut taps, mut chains) = ([zero; K], [[zero; N]; K]);
        // From the last tap to the first the places that reach a pixel ascend.
        for (index, (tap, chains)) in taps.iter_mut().zip(&mut chains).rev().enumerate() {
            *tap = load_channels::<S, TWICE, PARTIAL>(w.add(index * column), lanes);
            chains[0] = S::load(sums.add(index * S::LANES));
        }
        let mut at = dy;
        each_place!(places(P, STEP, K, SPREAD), at, unit, PLACE, {
            if const { !is_clipped(PLACE, P, STEP, K, SPREAD, FIRST, LAST) } {
                let dy = load::<S, PARTIAL>(at, lanes);
                for (index, (tap, chains)) in taps.iter().zip(&mut chains).enumerate() {
                    if let Some(pixel) = pixel_of_place(PLACE, index, STEP, SPREAD)
                        && let (Some(x), Some(dx)) = (pixels.get(pixel), dx.get_mut(pixel))
                    {
                        *dx = S::mul_add(dy, *tap, *dx);
                        let chain = &mut chains[pixel % N];
                        *chain = S::mul_add(dy, *x, *chain);
                    }
                }
            }
        });
        for (index, chains) in chains.iter().rev().enumerate() {
            let mut sum = chains[0];
            for &chain in &chains[1..] {
                sum = S::add(sum, chain);
            }
            S::store(sums.add(index * S::LANES), sum);
        }
    }
}
