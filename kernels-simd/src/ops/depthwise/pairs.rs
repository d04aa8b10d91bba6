//! The gradient of the input at stride 2: pixels in pairs.
//!
//! Pixels at even and at odd columns are reached by different taps, but from the same pixels of the output. Computed together
//! they read each of those once.

use super::batch::in_batches;
use super::row::Window;
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, opaque, store};
use crate::ops::prefetch::Ahead;

/// The columns of taps that reach one pixel of each pair.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// How many they are.
    pub taps: usize,
    /// Column of the source under the first of them, for the first pair.
    pub source: usize,
    /// Element at which the first of them is in its row.
    pub weight: usize,
}

/// `pairs` pairs of pixels of a row of the result, from places one column of the source apart. Of the window, `columns` is not
/// used.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    pub window: Window,
    pub source: *const f32,
    /// The first row of taps.
    pub weights: *const f32,
    pub columns: &'a [Column; 2],
    pub target: *mut f32,
    pub pairs: usize,
}

impl Pairs<'_> {
    /// Whether there is code for such columns: those of 3×3, 5×5 and 7×7 filters with "same" padding, which read `neighbours`.
    pub fn fit(kernels: Kernels, [first, second]: &[Column; 2], neighbours: bool) -> bool {
        let shift = second.source.wrapping_sub(first.source);
        kernels.isa() != Isa::Scalar
            && neighbours
            && matches!((first.taps, second.taps, shift), (1, 2, 0) | (3, 2, 1) | (3, 4, 0) | (3 | 5, 0, _))
    }

    /// Computes all pairs of `channels` channels of `rows`, which differ in the places and the rows of their windows at most. `ahead`
    /// is asked before each.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows, weights and pixels, and the columns [`fit`](Self::fit).
    #[inline(always)]
    pub unsafe fn compute_all(
        rows: impl Iterator<Item = Self>,
        kernels: Kernels,
        channels: usize,
        mut ahead: Option<&mut Ahead>,
    ) {
        if kernels.isa() == Isa::Avx512 && channels == Isa::Avx512.lanes() {
            in_batches(rows, |rows| {
                let ahead = ahead.as_deref_mut();
                // SAFETY: promised by the caller.
                unsafe { dispatch!(kernels, register(rows: &[Pairs<'_>], ahead: Option<&mut Ahead>)) }
            });
            return;
        }
        for pairs in rows {
            if let Some(ahead) = &mut ahead {
                ahead.ask();
            }
            let pairs = &pairs;
            // SAFETY: promised by the caller.
            unsafe { dispatch!(kernels, row(pairs: &Pairs<'_>, channels: usize)) }
        }
    }
}

/// Calls `body::<S, A, B, SHIFT>(…)` for the columns of `pairs`.
macro_rules! for_columns {
    ($simd:ident, $pairs:expr, $body:ident($($argument:expr),*)) => {
        match [$pairs.columns[0].taps, $pairs.columns[1].taps] {
            [1, _] => $body::<$simd, 1, 2, 0>($($argument),*),
            [3, 2] => $body::<$simd, 3, 2, 1>($($argument),*),
            [3, 4] => $body::<$simd, 3, 4, 0>($($argument),*),
            [3, _] => $body::<$simd, 3, 0, 0>($($argument),*),
            _ => $body::<$simd, 5, 0, 0>($($argument),*),
        }
    };
}

/// Rows of as many channels as fill a register: with distances that it knows the compiler needs no registers for them.
#[inline(always)]
unsafe fn register<S: Simd>(rows: &[Pairs<'_>], ahead: Option<&mut Ahead>) {
    let [first, ..] = rows else { return };
    // SAFETY: promised by the caller.
    unsafe { for_columns!(S, first, each(rows, ahead)) }
}

#[inline(always)]
unsafe fn each<S: Simd, const A: usize, const B: usize, const SHIFT: usize>(
    rows: &[Pairs<'_>],
    mut ahead: Option<&mut Ahead>,
) {
    for pairs in rows {
        if let Some(ahead) = &mut ahead {
            ahead.ask();
        }
        // SAFETY: promised by the caller.
        unsafe { blocks::<S, A, B, SHIFT, false>(0, S::LANES, pairs, S::LANES) }
    }
}

/// A row of any channels.
#[inline(always)]
unsafe fn row<S: Simd>(pairs: &Pairs<'_>, channels: usize) {
    // SAFETY: promised by the caller.
    unsafe { for_columns!(S, pairs, all(pairs, channels)) }
}

#[inline(always)]
unsafe fn all<S: Simd, const A: usize, const B: usize, const SHIFT: usize>(pairs: &Pairs<'_>, channels: usize) {
    // SAFETY: promised by the caller.
    unsafe { for_registers!(S, 0..channels, blocks::<A, B, SHIFT>(pairs, channels)) }
}

/// Splits a row into blocks of pairs that fit the registers.
#[inline(always)]
unsafe fn blocks<S: Simd, const A: usize, const B: usize, const SHIFT: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pairs: &Pairs<'_>,
    channels: usize,
) {
    let mut pair = 0;
    macro_rules! blocks_of {
        ($($pairs:literal),*) => {$(
            while pairs.pairs - pair >= $pairs {
                block::<S, $pairs, A, B, SHIFT, PARTIAL>(channel, lanes, pair, pairs, channels);
                pair += $pairs;
            }
        )*};
    }
    // SAFETY: every block ends at or before `pairs`; the rest is promised by the caller.
    unsafe {
        if const { S::LANES == 16 } {
            blocks_of!(8);
        }
        blocks_of!(4, 1);
    }
}

/// Computes `P` pairs: the first pixel of each from `A` columns of taps, the second from `B`, which start `SHIFT` columns of the
/// source later.
#[inline(always)]
unsafe fn block<S: Simd, const P: usize, const A: usize, const B: usize, const SHIFT: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pair: usize,
    pairs: &Pairs<'_>,
    channels: usize,
) {
    let Pairs { window, weights, columns: &[first, second], .. } = *pairs;
    // SAFETY: the pointers cover all windows and pixels.
    unsafe {
        let mut source = pairs.source.wrapping_add((first.source + pair) * channels + channel);
        let (mut first_weights, mut second_weights) =
            (weights.wrapping_add(first.weight + channel), weights.wrapping_add(second.weight + channel));
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
                    let x = load::<S, PARTIAL>(row.add((p + j) * channels), lanes);
                    *a = S::mul_add(x, *tap, *a);
                }
                for (j, tap) in second_taps.iter().enumerate() {
                    let x = load::<S, PARTIAL>(row.add((p + j + SHIFT) * channels), lanes);
                    *b = S::mul_add(x, *tap, *b);
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
