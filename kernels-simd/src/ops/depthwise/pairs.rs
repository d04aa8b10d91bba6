//! The gradient of the input at stride 2: pixels in pairs.
//!
//! Pixels at even and at odd columns are reached by different taps, but from the same pixels of the output. Computed together
//! they read each of those once, and a row is one call.

use super::row::Window;
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, opaque, store};

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
pub(super) struct Pairs<'a> {
    pub window: Window,
    pub source: *const f32,
    /// The first row of taps.
    pub weights: *const f32,
    pub columns: &'a [Column; 2],
    pub target: *mut f32,
    pub pairs: usize,
    pub channels: usize,
}

impl Pairs<'_> {
    /// Computes all pairs, or returns false if there is no code for such columns.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows, weights and pixels.
    pub unsafe fn compute(&self, kernels: Kernels) -> bool {
        let pairs = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, row(pairs: &Pairs<'_>) -> bool) }
    }
}

/// The columns are those of 3×3, 5×5 and 7×7 filters with "same" padding.
#[inline(always)]
unsafe fn row<S: Simd>(pairs: &Pairs<'_>) -> bool {
    let [first, second] = *pairs.columns;
    if S::LANES == 1 || pairs.window.source_column != pairs.channels {
        return false;
    }
    // SAFETY: promised by the caller.
    unsafe {
        match (first.taps, second.taps, second.source.wrapping_sub(first.source)) {
            (1, 2, 0) => for_registers!(S, 0..pairs.channels, blocks::<1, 2, 0>(pairs)),
            (3, 2, 1) => for_registers!(S, 0..pairs.channels, blocks::<3, 2, 1>(pairs)),
            (3, 4, 0) => for_registers!(S, 0..pairs.channels, blocks::<3, 4, 0>(pairs)),
            (3, 0, _) => for_registers!(S, 0..pairs.channels, blocks::<3, 0, 0>(pairs)),
            (5, 0, _) => for_registers!(S, 0..pairs.channels, blocks::<5, 0, 0>(pairs)),
            _ => return false,
        }
    }
    true
}

/// Splits a row into blocks of pairs that fit the registers.
#[inline(always)]
unsafe fn blocks<S: Simd, const A: usize, const B: usize, const SHIFT: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pairs: &Pairs<'_>,
) {
    let mut pair = 0;
    macro_rules! blocks_of {
        ($($pairs:literal),*) => {$(
            while pairs.pairs - pair >= $pairs {
                block::<S, $pairs, A, B, SHIFT, PARTIAL>(channel, lanes, pair, pairs);
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
) {
    let Pairs { window, weights, columns: &[first, second], channels, .. } = *pairs;
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
