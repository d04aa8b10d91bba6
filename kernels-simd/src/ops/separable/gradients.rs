//! Both gradients of the depthwise convolution in one pass.
//!
//! An element of the gradient of the output goes to a pixel of the input with the weight of a tap, and with the pixel to the gradient of that tap.
//! Loaded once for both it is worth two multiply-adds, and what the end of the pixel's gradient needs is in registers: at 16 channels, 32×32, both
//! gradients of a stage take 10.8 µs in place of 11.4 for 3×3 and 17.2 in place of 18.0 for 5×5, at 8 channels, 28×28, 4.4 in place of 4.7 (AMD EPYC,
//! Zen 5, 2026-11-30). It takes 28 registers: AVX2 has 16.

use core::mem::MaybeUninit;
use core::ptr;

use super::finish::Finish;
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
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
    /// The gradient of the output, with the columns of the padding, from the first row on that reaches these.
    pub dy: PaddedRows,
    pub rows: usize,
    /// `[k, k, C]`.
    pub w: *const f32,
    /// `[k, k, C]`: added to.
    pub dw: *mut f32,
    /// `[rows, W, C]`: the gradient of the input.
    pub dx: *mut f32,
    pub end: End<'a>,
}

/// How the gradient of the input ends.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    /// As it is.
    Bare,
    /// Where the ReLU lets the input through, stored or added.
    Masked { accumulate: bool },
    /// Where the ReLU lets the input `x` through, with the sums of [`Finish::sums`]; with `stream` past the caches.
    Summed { x: Stored<'a>, mean: *const f32, sums: *mut f32, stream: bool },
}

impl<'a> End<'a> {
    /// All that `finish` says, or nothing of it.
    pub fn of(finish: &Finish<'a>) -> Self {
        let registers = finish.channels.is_multiple_of(MAX_LANES) || are_pairs(finish.channels);
        let boundary = finish.dx.addr().is_multiple_of(MAX_LANES * size_of::<f32>());
        match () {
            () if !registers || !finish.prelude.has_relu() => Self::Bare,
            () if finish.mean.is_null() => Self::Masked { accumulate: finish.accumulate },
            () if finish.accumulate => Self::Bare,
            () => Self::Summed { x: finish.x, mean: finish.mean, sums: finish.sums, stream: finish.stream && boundary },
        }
    }
}

/// Rows and columns of taps at most.
const MAX_KERNEL: usize = 5;

/// What a register of channels adds to the gradients of the taps.
#[repr(align(64))]
struct Sums(MaybeUninit<[f32; MAX_KERNEL * MAX_KERNEL * MAX_LANES]>);

/// Whether two pixels fill a register.
const fn are_pairs(channels: usize) -> bool {
    2 * channels == MAX_LANES
}

/// Registers of the pixels of a row that are computed together, if there is code for it.
pub(super) fn block_of(width: usize, channels: usize) -> Option<usize> {
    let pixels = if are_pairs(channels) { 2 } else { 1 };
    [8, 7].into_iter().find(|block| width.is_multiple_of(block * pixels))
}

impl Gradients<'_> {
    /// Whether there is code for the shape.
    pub fn fit(kernels: Kernels, shape: SeparableShape) -> bool {
        kernels.isa() == Isa::Avx512
            && matches!((shape.kernel, shape.stride, shape.dilation), (3 | MAX_KERNEL, 1, 1 | 2))
            && block_of(shape.input.width, shape.input.channels).is_some()
    }

    /// Computes all rows. [`Ahead::ask_at`] is called before each, for each register of channels.
    ///
    /// # Safety
    ///
    /// They [`fit`](Self::fit), and the pointers cover all rows, windows and taps.
    pub unsafe fn compute(&self, kernels: Kernels, ahead: &mut Ahead) {
        let these = self;
        macro_rules! patterns {
            ($($pattern:pat => $name:ident,)*) => {
                match (self.shape.kernel, self.shape.dilation, are_pairs(self.shape.input.channels)) {
                    $($pattern => dispatch!(kernels, $name(these: &Gradients<'_>, ahead: &mut Ahead)),)*
                }
            };
        }
        // SAFETY: promised by the caller.
        unsafe {
            patterns! {
                (3, 1, false) => three,
                (3, _, false) => three_dilated,
                (_, 1, false) => five,
                (_, _, false) => five_dilated,
                (3, 1, true) => three_in_pairs,
                (3, _, true) => three_dilated_in_pairs,
                (_, 1, true) => five_in_pairs,
                (_, _, true) => five_dilated_in_pairs,
            }
        }
    }
}

/// `patterns!(name: kernel, step, spread, chains, twice; …)`: a function for each, see [`row_of_taps`]. In one for all the compiler runs out of
/// registers.
macro_rules! patterns {
    ($($name:ident: $kernel:literal, $step:literal, $spread:literal, $chains:literal, $twice:literal;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(gradients: &Gradients<'_>, ahead: &mut Ahead) {
                // SAFETY: promised by the caller.
                unsafe {
                    if const { S::LANES < MAX_LANES } {
                        // Nothing fits.
                    } else if $twice {
                        widths::<S, $kernel, $step, $spread, $chains, true, false>(0, S::LANES, gradients, ahead);
                    } else {
                        for_registers!(
                            S,
                            0..gradients.shape.input.channels,
                            widths::<$kernel, $step, $spread, $chains, false>(gradients, ahead)
                        );
                    }
                }
            }
        )*
    };
}

patterns! {
    three: 3, 1, 1, 2, false;
    three_dilated: 3, 1, 2, 2, false;
    five: 5, 1, 1, 1, false;
    five_dilated: 5, 1, 2, 1, false;
    three_in_pairs: 3, 2, 1, 2, true;
    three_dilated_in_pairs: 3, 1, 1, 2, true;
    five_in_pairs: 5, 2, 1, 1, true;
    five_dilated_in_pairs: 5, 1, 1, 1, true;
}

/// One register of channels, or of two pixels with `TWICE`.
#[inline(always)]
unsafe fn widths<
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
        if block_of(gradients.shape.input.width, gradients.shape.input.channels) == Some(8) {
            ends::<S, 8, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        } else {
            ends::<S, 7, K, STEP, SPREAD, N, TWICE, PARTIAL>(channel, lanes, gradients, ahead);
        }
    }
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
    let whole = const { S::LANES == MAX_LANES && !PARTIAL };
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
            End::Summed { x, stream, .. } if whole => match (x, stream) {
                (Stored::F32(x), true) => rows!(true, false, true, true, x.as_ptr()),
                (Stored::F16(x), true) => rows!(true, false, true, true, x.as_ptr()),
                (Stored::F32(x), false) => rows!(true, false, true, false, x.as_ptr()),
                (Stored::F16(x), false) => rows!(true, false, true, false, x.as_ptr()),
            },
            _ => rows!(false, false, false, false, none),
        }
    }
}

/// All rows of one register, `P` pixels or pairs of them at a time.
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
    let SeparableShape { input, dilation, .. } = gradients.shape;
    let pixel = input.channels * const { if TWICE { 2 } else { 1 } };
    let blocks = input.width * input.channels / (pixel * P);
    let (mean, targets) = match gradients.end {
        End::Summed { mean, sums, .. } => (mean, sums),
        End::Bare | End::Masked { .. } => (ptr::null(), ptr::null_mut()),
    };
    let mut x_before = x_before.wrapping_add(channel);
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut sums = Sums(MaybeUninit::uninit());
        // In memory: the compiler would not keep other things in registers for them.
        let sums = opaque(sums.0.as_mut_ptr().cast()).cast_mut();
        for tap in 0..K * K {
            S::store(sums.add(tap * S::LANES), zero);
        }
        let last_row = gradients.w.add((K - 1) * K * input.channels);
        let last_sums = sums.add((K - 1) * K * S::LANES);
        let mut totals = [[zero; 2]; 2];
        let mut target = gradients.dx.add(channel);
        for row in 0..gradients.rows {
            ahead.ask_at(channel);
            let mut x = gradients.x.row(row).add(channel);
            let mut sources = [ptr::null(); K];
            for (tap, dy) in sources.iter_mut().enumerate() {
                *dy = gradients.dy.row(row + tap * dilation).add(channel);
            }
            for _ in 0..blocks {
                let (mut pixels, mut dx) = ([zero; P], [zero; P]);
                for element in &mut pixels {
                    *element = load::<S, PARTIAL>(x, lanes);
                    x = opaque(x.wrapping_add(pixel));
                }
                // From the last row of taps to the first their sources ascend.
                let (mut w, mut sums) = (last_row.add(channel), last_sums);
                for dy in &mut sources {
                    let taps = Taps { w, sums, channels: input.channels, unit: pixel / STEP, lanes };
                    row_of_taps::<S, P, K, STEP, SPREAD, N, TWICE, PARTIAL>(opaque(*dy), &taps, &pixels, &mut dx);
                    *dy = dy.wrapping_add(P * pixel);
                    w = w.wrapping_sub(K * input.channels);
                    sums = sums.wrapping_sub(K * S::LANES);
                }
                let mean = if SUM { load_channels::<S, TWICE, PARTIAL>(mean.add(channel), lanes) } else { zero };
                let [sums, dots] = &mut totals;
                for (index, (u, mut value)) in pixels.into_iter().zip(dx).enumerate() {
                    if MASK {
                        value = S::select(S::greater(u, zero), value, zero);
                    }
                    if ADD {
                        value = S::add(load::<S, PARTIAL>(target, lanes), value);
                    }
                    if STREAM {
                        S::stream(target, value);
                    } else {
                        store::<S, PARTIAL>(target, value, lanes);
                    }
                    if SUM {
                        sums[index % 2] = S::add(sums[index % 2], value);
                        let x = E::load::<S, false>(x_before, lanes);
                        dots[index % 2] = S::mul_add(value, S::sub(x, mean), dots[index % 2]);
                        x_before = opaque(x_before.cast::<f32>()).cast::<E>().wrapping_add(pixel);
                    }
                    target = opaque(target.wrapping_add(pixel)).cast_mut();
                }
            }
        }
        for tap in 0..K * K {
            let sum = S::load(sums.add(tap * S::LANES));
            add_channels::<S, TWICE, PARTIAL>(sum, gradients.dw.add(tap * input.channels + channel), lanes);
        }
        if SUM {
            for (index, [a, b]) in totals.into_iter().enumerate() {
                let target = targets.add(index * input.channels + channel);
                add_channels::<S, TWICE, PARTIAL>(S::add(a, b), target, lanes);
            }
        }
    }
}

/// One row of them.
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
