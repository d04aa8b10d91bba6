//! Both gradients of the depthwise convolution in one pass.
//!
//! An element of the gradient of the output goes to a pixel of the input with the weight of a tap, and with the pixel to the gradient of that tap.
//! Loaded once for both it is worth two multiply-adds, and what the end of the pixel's gradient needs is in registers: at 16 channels, 32×32, both
//! gradients of a stage take 11.1 µs in place of 11.5 for 3×3 and 17.1 in place of 18.0 for 5×5, at 64 channels, 8×8, 6.2 in place of 6.75 with AVX-512; with
//! AVX2 19.5 in place of 23.5, 30.9 in place of 37.3, and 11.4 in place of 12.5 (AMD EPYC, Zen 5, 2026-11-30).

use core::mem::MaybeUninit;
use core::ptr;

use super::finish::{CHAINS, Finish};
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::depthwise::pixels_per_register;
use crate::ops::depthwise::places::{each_place, pixel_of_place, places};
use crate::ops::lanes::{MAX_LANES, add_channels, for_registers, load, load_channels, opaque, store};
use crate::ops::prefetch::Ahead;
use crate::ops::ring::PaddedRows;
use crate::ops::stored::{Element, Stored};
use crate::shape::SeparableShape;

/// Rows of the gradient of the input and what they add to that of the taps, at stride 1.
pub(super) struct Gradients<'a> {
    pub shape: SeparableShape,
    /// The input behind the prelude, without padding, from the first of these rows on.
    pub x: PaddedRows,
    /// The gradient of the output, with the columns of the padding, from the first row on that reaches these; those outside are null.
    pub dy: PaddedRows,
    pub rows: usize,
    /// `[k, k, C]`.
    pub w: *const f32,
    /// `[k, k, C]`: added to.
    pub dw: *mut f32,
    /// `[rows, W, C]`: the gradient of the input.
    pub dx: *mut f32,
    pub end: End,
    /// What a gradient needs that does not end as it is.
    pub finish: &'a Finish<'a>,
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
        matches!((shape.kernel, shape.stride, shape.dilation), (3 | MAX_KERNEL, 1, 1 | 2))
            && block_of(kernels.isa().lanes(), shape.input.width, shape.input.channels).is_some()
    }
}

/// `patterns!(pattern => name: kernel, step, spread, chains, twice; …)`: a function for each kernel, dilation, and whether pixels are pairs, see
/// [`row_of_taps`], and one that finds it. In a single function the compiler runs out of registers.
macro_rules! patterns {
    ($($pattern:pat => $name:ident: $kernel:literal, $step:literal, $spread:literal, $chains:expr, $twice:literal;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(gradients: &Gradients<'_>, ahead: &mut Ahead) {
                // SAFETY: promised by the caller.
                unsafe {
                    let channels = 0..gradients.shape.input.channels;
                    if const { S::TWICE && $twice } {
                        blocks::<S, $kernel, $step, $spread, $chains, true, false>(0, S::LANES, gradients, ahead);
                    } else if const { S::LANES == MAX_LANES } {
                        for_registers!(S, channels, blocks::<$kernel, $step, $spread, $chains, false>(gradients, ahead));
                    } else if const { S::LANES == AVX2_LANES && !$twice } {
                        for_registers!(S, channels, short_blocks::<$kernel, $step, $spread>(gradients, ahead));
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
            /// They [`fit`](Self::fit). The pointers cover all rows and windows, of which are stored at most as many rows as the rings have slots, and the taps,
            /// and what is written is not read as anything else. The end is [`Bare`](End::Bare), or that [`of`](End::of) `finish`, which covers the rows, too, and the registers of `kernels`.
            pub unsafe fn compute(&self, kernels: Kernels, ahead: &mut Ahead) {
                let these = self;
                // SAFETY: promised by the caller.
                unsafe {
                    let pairs = are_pairs(kernels.isa().lanes(), self.shape.input.channels);
                    match (self.shape.kernel, self.shape.dilation, pairs) {
                        $($pattern => dispatch!(kernels, $name(these: &Gradients<'_>, ahead: &mut Ahead)),)*
                    }
                }
            }
        }
    };
}

patterns! {
    (3, 1, false) => three: 3, 1, 1, 2, false;
    (3, _, false) => three_dilated: 3, 1, 2, 2, false;
    (_, 1, false) => five: 5, 1, 1, 1, false;
    (_, _, false) => five_dilated: 5, 1, 2, 1, false;
    (3, 1, true) => three_in_pairs: 3, 2, 1, 2, true;
    (3, _, true) => three_dilated_in_pairs: 3, 1, 1, 2, true;
    (_, 1, true) => five_in_pairs: 5, 2, 1, 1, true;
    (_, _, true) => five_dilated_in_pairs: 5, 1, 1, 1, true;
}

/// One register of channels, or of two pixels with `TWICE`.
#[inline(always)]
unsafe fn blocks<
    S: Simd,
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
        if block_of(MAX_LANES, gradients.shape.input.width, gradients.shape.input.channels) == Some(8) {
            ends::<S, 8, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        } else {
            ends::<S, 7, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        }
    }
}

/// The same where there are 16 registers: few pixels, and no room for a second sum of each tap.
#[inline(always)]
unsafe fn short_blocks<S: Simd, const K: usize, const STEP: usize, const SPREAD: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    gradients: &Gradients<'_>,
    ahead: &mut Ahead,
) {
    // SAFETY: promised by the caller.
    unsafe { ends::<S, SHORT_BLOCK, K, STEP, SPREAD, 1, false, PARTIAL>(channel, lanes, gradients, ahead) }
}

#[inline(always)]
unsafe fn ends<
    S: Simd,
    const P: usize,
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
            rows::<S, _, P, K, STEP, SPREAD, N, TWICE, PARTIAL, $mask, $add, $sum, $stream>(
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

/// All rows of one register, `P` pixels or pairs of them at a time. `x_before` is the input ahead of the prelude, for `SUM`.
#[inline(always)]
unsafe fn rows<
    S: Simd,
    E: Element,
    const P: usize,
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
    let &Gradients { shape: SeparableShape { input, dilation, .. }, w, finish, .. } = gradients;
    let pixel = input.channels * const { pixels_per_register(TWICE) };
    let blocks = input.width * input.channels / (pixel * P);
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut tap_sums = TapSums(MaybeUninit::uninit());
        // In memory: the compiler would not keep other things in registers for them.
        let tap_sums = opaque(tap_sums.0.as_mut_ptr().cast()).cast_mut();
        for tap in 0..K * K {
            S::store(tap_sums.add(tap * S::LANES), zero);
        }
        let mut totals = Totals { sums: [zero; CHAINS], dots: [zero; CHAINS] };
        let mut places = Places { dx: gradients.dx.add(channel), x: x_before.wrapping_add(channel), pixel, lanes };
        for row in 0..gradients.rows {
            ahead.ask_at(channel);
            let mut x = gradients.x.row(row).add(channel);
            let mut sources = [ptr::null(); K];
            for (tap, dy) in sources.iter_mut().enumerate() {
                *dy = gradients.dy.row(row + tap * dilation);
            }
            for block in 0..blocks {
                let (mut pixels, mut dx) = ([zero; P], [zero; P]);
                for element in &mut pixels {
                    *element = load::<S, PARTIAL>(x, lanes);
                    x = opaque(x.wrapping_add(pixel));
                }
                // From the last row of taps to the first their sources ascend.
                for (tap, &dy) in (0..K).rev().zip(&sources) {
                    if !dy.is_null() {
                        let taps = Taps {
                            w: w.add(tap * K * input.channels + channel),
                            sums: tap_sums.add(tap * K * S::LANES),
                            channels: input.channels,
                            unit: pixel / STEP,
                            lanes,
                        };
                        let dy = opaque(dy.add(block * P * pixel + channel));
                        row_of_taps::<S, P, K, STEP, SPREAD, N, TWICE, PARTIAL>(dy, &taps, &pixels, &mut dx);
                    }
                }
                let mean = if SUM { load_channels::<S, TWICE, PARTIAL>(finish.mean.add(channel), lanes) } else { zero };
                end::<S, E, P, PARTIAL, MASK, ADD, SUM, STREAM>(&pixels, dx, mean, &mut places, &mut totals);
            }
        }
        for tap in 0..K * K {
            let sum = S::load(tap_sums.add(tap * S::LANES));
            add_channels::<S, TWICE, PARTIAL>(sum, gradients.dw.add(tap * input.channels + channel), lanes);
        }
        if SUM {
            for (index, [a, b]) in [totals.sums, totals.dots].into_iter().enumerate() {
                let target = finish.sums.add(index * input.channels + channel);
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
    channels: usize,
    /// Elements between places of the gradient of the output.
    unit: usize,
    lanes: usize,
}

/// Adds what one row of taps contributes to `P` pixels, and these to the gradients of the taps. Pixels are `STEP` and taps `SPREAD` places apart. With `N = 2`
/// pixels go to two sums of each tap by turns: three taps at a place are fewer than what an addition waits for the one before.
#[inline(always)]
unsafe fn row_of_taps<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    dy: *const f32,
    &Taps { w, sums, channels, unit, lanes }: &Taps,
    pixels: &[S::Vector; P],
    dx: &mut [S::Vector; P],
) {
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let (mut taps, mut chains) = ([zero; K], [[zero; N]; K]);
        // From the last tap to the first the places that reach a pixel ascend.
        for (index, (tap, chains)) in taps.iter_mut().zip(&mut chains).rev().enumerate() {
            *tap = load_channels::<S, TWICE, PARTIAL>(w.add(index * channels), lanes);
            chains[0] = S::load(sums.add(index * S::LANES));
        }
        let mut at = dy;
        each_place!(places(P, STEP, K, SPREAD), at, unit, PLACE, {
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
        });
        for (index, chains) in chains.iter().rev().enumerate() {
            let sum = if const { N == 2 } { S::add(chains[0], chains[1]) } else { chains[0] };
            S::store(sums.add(index * S::LANES), sum);
        }
    }
}
