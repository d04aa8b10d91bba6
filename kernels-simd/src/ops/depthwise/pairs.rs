//! The gradient of the input at stride 2: pixels in pairs.
//!
//! Pixels at even and at odd columns are reached by different taps, but from the same pixels of the output. Computed
//! together they read each of those once.

use super::batch::in_batches;
use super::clipped::{clipped_block, fits_blocks};
use super::input::Reach;
use super::places::is_clipped;
use super::row::Window;
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, opaque, store};
use crate::ops::prefetch::Ahead;

/// `pairs` pairs of pixels of a row of the result, from places one column of the source apart. Of the window, `columns`
/// is not used.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    pub window: Window,
    pub source: *const f32,
    /// The first of the columns of taps that reach the first pixels, in the first row.
    pub weights: *const f32,
    /// The columns of taps that reach the pixels of a pair.
    pub columns: &'a [Reach; 2],
    pub target: *mut f32,
    pub pairs: usize,
}

impl Pairs<'_> {
    /// Neighbouring columns of the source that are read for each pair.
    pub fn columns([first, second]: &[Reach; 2]) -> usize {
        columns(first.taps, second.taps, second.first_output.wrapping_sub(first.first_output))
    }

    /// Whether there is code for such columns, those of 3×3, 5×5 and 7×7 filters with "same" padding, and so many pairs
    /// in a row.
    pub fn fit(kernels: Kernels, columns: &[Reach; 2], pairs: usize) -> bool {
        let [first, second] = columns;
        let shift = second.first_output.wrapping_sub(first.first_output);
        kernels.isa() != Isa::Scalar
            && matches!((first.taps, second.taps, shift), (1, 2, 0) | (3, 2, 1) | (3, 4, 0) | (3 | 5, 0, _))
            && [clipped_block(pairs), SHORT].iter().all(|&block| fits_blocks(pairs, block, Self::columns(columns) / 2))
    }

    /// Computes all pairs of `channels` channels of `count` rows, which differ in the places and the rows of their
    /// windows at most. As for [`Row::compute_all_clipped`](super::row::Row::compute_all_clipped), of the columns of
    /// the source that are read for pair `p` the middle one is the `p`-th of as many places as there are pairs, and
    /// those before and behind them are not touched. `ahead` is asked before each row.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows but these places, all weights and pixels, and the columns [`fit`](Self::fit).
    #[inline(always)]
    pub unsafe fn compute_all(
        count: usize,
        nth: impl Fn(usize) -> Self,
        kernels: Kernels,
        channels: usize,
        mut ahead: Option<&mut Ahead>,
    ) {
        in_batches(count, nth, |rows| {
            // SAFETY: promised by the caller.
            unsafe { compute(rows, kernels, channels, ahead.as_deref_mut()) }
        });
    }
}

/// Neighbouring columns of the source that are read for a pair, of `a` and `b` columns of taps which start `shift`
/// later.
const fn columns(a: usize, b: usize, shift: usize) -> usize {
    let end = b.wrapping_add(shift);
    if b == 0 || end < a { a } else { end }
}

/// `patterns!(taps => name: first, second, shift; …)`: a function for each pair of numbers of columns of taps, and how
/// much later the second ones start.
macro_rules! patterns {
    ($($taps:pat => $name:ident: $first:literal, $second:literal, $shift:literal;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(rows: &[Pairs<'_>], channels: usize, mut ahead: Option<&mut Ahead>) {
                for pairs in rows {
                    if let Some(ahead) = &mut ahead {
                        ahead.ask();
                    }
                    // SAFETY: promised by the caller.
                    unsafe {
                        if S::LANES == 16 && channels == 16 {
                            // With distances that it knows the compiler needs no registers for them.
                            blocks::<S, $first, $second, $shift, false>(0, 16, pairs, 16);
                        } else {
                            for_registers!(S, 0..channels, blocks::<$first, $second, $shift>(pairs, channels));
                        }
                    }
                }
            }
        )*

        /// Computes rows.
        unsafe fn compute(rows: &[Pairs<'_>], kernels: Kernels, channels: usize, ahead: Option<&mut Ahead>) {
            let [Pairs { columns: [first, second], .. }, ..] = rows else { return };
            // SAFETY: promised by the caller.
            unsafe {
                match (first.taps, second.taps) {
                    $($taps => dispatch!(kernels, $name(rows: &[Pairs<'_>], channels: usize, ahead: Option<&mut Ahead>)),)*
                }
            }
        }
    };
}

patterns! {
    (1, _) => one_and_two: 1, 2, 0;
    (3, 2) => three_and_two: 3, 2, 1;
    (3, 4) => three_and_four: 3, 4, 0;
    (3, _) => three: 3, 0, 0;
    _ => five: 5, 0, 0;
}

/// Pairs of a block where registers are fewer or shorter.
const SHORT: usize = 4;

/// Splits a row into blocks of pairs that fit the registers. The last one may compute pairs of the one before again.
#[inline(always)]
unsafe fn blocks<S: Simd, const A: usize, const B: usize, const SHIFT: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pairs: &Pairs<'_>,
    channels: usize,
) {
    macro_rules! blocks_of {
        ($pairs:tt) => {
            clipped::<S, $pairs, A, B, SHIFT, PARTIAL>(channel, lanes, pairs, channels)
        };
    }
    // SAFETY: promised by the caller.
    unsafe {
        match clipped_block(pairs.pairs) {
            7 if const { S::LANES == 16 } => blocks_of!(7),
            8 if const { S::LANES == 16 } => blocks_of!(8),
            _ => blocks_of!(SHORT),
        }
    }
}

/// The same, `P` at a time and at least as many.
#[inline(always)]
unsafe fn clipped<S: Simd, const P: usize, const A: usize, const B: usize, const SHIFT: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pairs: &Pairs<'_>,
    channels: usize,
) {
    macro_rules! block_at {
        ($pair:expr, $first:literal, $last:literal) => {
            block::<S, P, A, B, SHIFT, $first, $last, PARTIAL>(channel, lanes, $pair, pairs, channels)
        };
    }
    let last = pairs.pairs - P;
    // SAFETY: every block ends at or before the last pair; the rest is promised by the caller.
    unsafe {
        if last == 0 {
            return block_at!(0, true, true);
        }
        block_at!(0, true, false);
        for pair in (P..last).step_by(P) {
            block_at!(pair, false, false);
        }
        block_at!(last, false, true);
    }
}

/// Computes `P` pairs: the first pixel of each from `A` columns of taps, the second from `B`, which start `SHIFT`
/// columns of the source later.
#[inline(always)]
unsafe fn block<
    S: Simd,
    const P: usize,
    const A: usize,
    const B: usize,
    const SHIFT: usize,
    const FIRST: bool,
    const LAST: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    pair: usize,
    pairs: &Pairs<'_>,
    channels: usize,
) {
    let Pairs { window, weights, columns: &[first, second], .. } = *pairs;
    // SAFETY: the pointers cover all windows and pixels.
    unsafe {
        let mut source = pairs.source.wrapping_add(pair * channels + channel);
        let (mut first_weights, mut second_weights) = (
            weights.wrapping_add(channel),
            weights.wrapping_add(channel + second.last_tap * channels).wrapping_sub(first.last_tap * channels),
        );
        let mut sums = [[S::splat(0.0); 2]; P];
        for i in 0..window.rows {
            if i == window.rows_to_end {
                source = source.wrapping_offset(-window.ring);
            }
            let (mut first_taps, mut second_taps) = ([S::splat(0.0); A], [S::splat(0.0); B]);
            for (j, tap) in first_taps.iter_mut().enumerate() {
                *tap = load::<S, PARTIAL>(first_weights.offset(j as isize * window.weight_column), lanes);
            }
            for (j, tap) in second_taps.iter_mut().enumerate() {
                *tap = load::<S, PARTIAL>(second_weights.offset(j as isize * window.weight_column), lanes);
            }
            let row = opaque(source);
            for (p, [a, b]) in sums.iter_mut().enumerate() {
                for (j, tap) in first_taps.iter().enumerate() {
                    // The same place for several `p` and `j`: the compiler loads it once.
                    if !is_clipped(p + j, P, 1, const { columns(A, B, SHIFT) }, 1, FIRST, LAST) {
                        let x = load::<S, PARTIAL>(row.wrapping_add((p + j) * channels), lanes);
                        *a = S::mul_add(x, *tap, *a);
                    }
                }
                for (j, tap) in second_taps.iter().enumerate() {
                    let place = p + j + SHIFT;
                    if !is_clipped(place, P, 1, const { columns(A, B, SHIFT) }, 1, FIRST, LAST) {
                        let x = load::<S, PARTIAL>(row.wrapping_add(place * channels), lanes);
                        *b = S::mul_add(x, *tap, *b);
                    }
                }
            }
            // Behind the last row these may point outside.
            source = source.wrapping_add(window.source_row);
            first_weights = first_weights.wrapping_offset(window.weight_row);
            second_weights = second_weights.wrapping_offset(window.weight_row);
        }
        let target = pairs.target.add(2 * pair * channels + channel);
        for (p, sums) in sums.iter().enumerate() {
            for (q, sum) in sums.iter().enumerate() {
                store::<S, PARTIAL>(target.add((2 * p + q) * channels), *sum, lanes);
            }
        }
    }
}
