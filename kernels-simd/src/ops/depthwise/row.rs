//! Pixels of rows, each from a window of taps.

use super::batch::in_batches;
use super::block::{block, three_rows};
use super::clipped::{clipped, clipped_block, fits_blocks};
use super::pixels_per_register;
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::for_registers;
use crate::ops::prefetch::Ahead;

/// The taps of one pixel of the result. Tap `(i, j)` multiplies the element `i * source_row + j * source_column` behind
/// the place of the pixel in the source with the weight `i * weight_row + j * weight_column` behind the first one.
/// Where the source is a ring of rows, those from `rows_to_end` on lie `ring` elements further back, at its beginning.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Window {
    pub rows: usize,
    pub columns: usize,
    pub source_row: usize,
    pub source_column: usize,
    pub weight_row: isize,
    pub weight_column: isize,
    pub rows_to_end: usize,
    pub ring: isize,
}

/// `pixels` pixels of the result, `target_step` elements apart, from places `source_step` elements apart.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Row {
    pub window: Window,
    pub source: *const f32,
    pub source_step: usize,
    pub weights: *const f32,
    pub target: *mut f32,
    pub target_step: usize,
    pub pixels: usize,
}

impl Row {
    /// Computes all pixels of `channels` channels of `count` rows, which differ in the places and the rows of their
    /// windows at most. [`Ahead::ask_at`] is called before each, for each register of channels.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows, weights and pixels.
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

    /// The same for rows beyond whose ends nothing is read: pixel `p` reads with the middle one of its columns the
    /// `p`-th of as many places as there are pixels; an even number has two middle ones, of which it is the first.
    /// Those before and behind them, which taps to the left and right would read, are not touched.
    ///
    /// # Safety
    ///
    /// The rows [`fit`](Self::fits_clipped), and the pointers cover all windows but these places, all weights and
    /// pixels.
    #[inline(always)]
    pub unsafe fn compute_all_clipped(
        count: usize,
        nth: impl Fn(usize) -> Self,
        kernels: Kernels,
        channels: usize,
        mut ahead: Option<&mut Ahead>,
    ) {
        in_batches(count, nth, |rows| {
            // SAFETY: promised by the caller.
            unsafe { compute_clipped(rows, kernels, channels, ahead.as_deref_mut()) }
        });
    }

    /// Whether there is code for rows of so many pixels beyond whose ends nothing is read, and columns of taps `spread`
    /// pixels apart.
    pub fn fits_clipped(kernels: Kernels, pixels: usize, columns: usize, spread: usize) -> bool {
        kernels.isa() != Isa::Scalar
            && matches!((columns, spread), (3 | 5, 1 | 2) | (2 | 4 | 7, 1))
            && fits_blocks(pixels, clipped_block(pixels), columns / 2 * spread)
    }

    /// Whether there is code for pairs of pixels.
    fn has_pairs(&self, kernels: Kernels, channels: usize, pattern: (usize, usize, usize), clipped: bool) -> bool {
        let (pairs, behind) = (self.pixels / 2, (pattern.0 / 2 * pattern.2).div_ceil(2));
        kernels.isa() == Isa::Avx512
            && 2 * channels == Isa::Avx512.lanes()
            && [self.source_step, self.target_step] == [channels; 2]
            && self.pixels.is_multiple_of(2)
            && matches!(pattern, (3 | 5, 1, 1 | 2))
            && (!clipped || fits_blocks(pairs, clipped_block(pairs), behind))
    }

    /// Columns of taps, and the distances between pixels and between columns in units of the smaller one, if that is 1
    /// or 2. Without vectors nothing is common, and code is what is short.
    fn pattern(&self, kernels: Kernels) -> (usize, usize, usize) {
        let (step, spread) = (self.source_step, self.window.source_column);
        let ratio = match () {
            () if kernels.isa() == Isa::Scalar => (0, 0),
            () if step == spread => (1, 1),
            () if 2 * step == spread => (1, 2),
            () if step == 2 * spread => (2, 1),
            () => (0, 0),
        };
        (self.window.columns, ratio.0, ratio.1)
    }
}

/// Several registers of channels that do not fill the last are computed row by row if they are fewer channels than so
/// many, and otherwise one register through all rows: then a line that two registers read comes from the second cache
/// twice. At 36 channels, 32×32, the forward pass takes 4.4 µs in place of 5.3 for 3×3, 11.2 in place of 11.7 for 5×5,
/// and with dilation 2 5.2 and 13.4 in place of 6.3 and 14.6; on AVX2 1 to 7 % less. But at 72 channels, 16×16, 5×5
/// takes 3 to 20 % longer, and at 40, with dilation 2, 3 % (AMD EPYC, Zen 5, 2026-11-30). On NEON, whose registers
/// channels mostly fill, it is not done.
const FEW_CHANNELS: usize = 48;

/// Rows of which one register of channels is computed at a time.
#[inline(always)]
const fn rows_of_register<S: Simd>(channels: usize) -> usize {
    let several = S::LANES >= 8 && channels > S::LANES && channels < FEW_CHANNELS;
    if several && !channels.is_multiple_of(S::LANES) { 1 } else { usize::MAX }
}

/// `patterns!(compute, pairs, clipped: name: columns, step, spread; …)`: a function for each common pattern, in which
/// neighbouring pixels share what they read, and one that chooses among them and `pairs`. In one function for all the
/// compiler runs out of registers.
macro_rules! patterns {
    ($compute:ident, $pairs:ident, $clipped:literal: $($name:ident: $columns:literal, $step:literal, $spread:literal;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(rows: &[Row], channels: usize, mut ahead: Option<&mut Ahead>) {
                // SAFETY: promised by the caller.
                unsafe {
                    match rows {
                        // With distances that it knows the compiler needs no registers for them.
                        [Row { source_step: 16, target_step: 16, .. }, ..] if S::LANES == 16 && channels == 16 => {
                            each::<S, $columns, $step, $spread, $clipped, false, false>(0, 16, rows, 16, 16, ahead);
                        }
                        [Row { source_step: 32, target_step: 32, .. }, ..] if S::LANES == 16 && channels == 32 => {
                            for channel in [0, 16] {
                                let ahead = ahead.as_deref_mut();
                                each::<S, $columns, $step, $spread, $clipped, false, false>(channel, 16, rows, 32, 32, ahead);
                            }
                        }
                        [Row { source_step, target_step, .. }, ..] => {
                            for rows in rows.chunks(rows_of_register::<S>(channels)) {
                                for_registers!(
                                    S,
                                    0..channels,
                                    each::<$columns, $step, $spread, $clipped, false>(rows, *source_step, *target_step, ahead.as_deref_mut())
                                );
                            }
                        }
                        [] => {}
                    }
                }
            }
        )*

        /// Computes rows.
        unsafe fn $compute(rows: &[Row], kernels: Kernels, channels: usize, ahead: Option<&mut Ahead>) {
            let [first, ..] = rows else { return };
            // SAFETY: promised by the caller.
            unsafe {
                match first.pattern(kernels) {
                    pattern if first.has_pairs(kernels, channels, pattern, $clipped) => {
                        dispatch!(kernels, $pairs(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>));
                    }
                    $(($columns, $step, $spread) => dispatch!(kernels, $name(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>)),)*
                    pattern if $clipped => debug_assert!(false, "there is code for clipped rows of {pattern:?}"),
                    _ => dispatch!(kernels, others(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>)),
                }
            }
        }
    };
}

patterns! { compute, pairs, false:
    two: 2, 1, 1;
    three: 3, 1, 1;
    five: 5, 1, 1;
    seven: 7, 1, 1;
    three_dilated: 3, 1, 2;
    five_dilated: 5, 1, 2;
    three_strided: 3, 2, 1;
    five_strided: 5, 2, 1;
}

patterns! { compute_clipped, clipped_pairs, true:
    two_clipped: 2, 1, 1;
    three_clipped: 3, 1, 1;
    four_clipped: 4, 1, 1;
    five_clipped: 5, 1, 1;
    seven_clipped: 7, 1, 1;
    three_dilated_clipped: 3, 1, 2;
    five_dilated_clipped: 5, 1, 2;
}

#[inline(always)]
#[allow(clippy::needless_option_as_deref)] // It is passed on more than once.
unsafe fn others<S: Simd>(rows: &[Row], channels: usize, mut ahead: Option<&mut Ahead>) {
    // SAFETY: promised by the caller.
    unsafe {
        if let [Row { source_step, target_step, .. }, ..] = rows {
            for_registers!(
                S,
                0..channels,
                each::<1, 0, 0, false, false>(rows, *source_step, *target_step, ahead.as_deref_mut())
            );
        }
    }
}

/// Computes pixels in pairs, whose channels together fill a register: the taps then are in both halves of theirs.
///
/// At 8 channels, 28×28, the forward pass of a separable stage takes 2.7 µs and not 3.1 with a filter of 3×3, and 3.5
/// and not 5.0 with one of 5×5 (AMD EPYC, Zen 5, AVX-512, 2026-11-28).
#[inline(always)]
unsafe fn pairs<S: Simd>(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>) {
    // SAFETY: promised by the caller.
    unsafe { each_pair::<S, false>(rows, channels, ahead) }
}

/// The same in rows beyond whose ends nothing is read.
#[inline(always)]
unsafe fn clipped_pairs<S: Simd>(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>) {
    // SAFETY: promised by the caller.
    unsafe { each_pair::<S, true>(rows, channels, ahead) }
}

#[inline(always)]
unsafe fn each_pair<S: Simd, const CLIPPED: bool>(rows: &[Row], channels: usize, ahead: Option<&mut Ahead>) {
    if const { S::TWICE }
        && let [Row { window, .. }, ..] = rows
    {
        // SAFETY: promised by the caller; a pair is two pixels next to each other.
        unsafe {
            match (window.columns, window.source_column == channels) {
                (3, true) => each::<S, 3, 2, 1, CLIPPED, true, false>(0, S::LANES, rows, S::LANES, S::LANES, ahead),
                (3, false) => each::<S, 3, 1, 1, CLIPPED, true, false>(0, S::LANES, rows, S::LANES, S::LANES, ahead),
                (5, true) => each::<S, 5, 2, 1, CLIPPED, true, false>(0, S::LANES, rows, S::LANES, S::LANES, ahead),
                _ => each::<S, 5, 1, 1, CLIPPED, true, false>(0, S::LANES, rows, S::LANES, S::LANES, ahead),
            }
        }
    }
}

/// Computes rows of pixels in blocks.
#[inline(always)]
unsafe fn each<
    S: Simd,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const CLIPPED: bool,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    rows: &[Row],
    source_step: usize,
    target_step: usize,
    mut ahead: Option<&mut Ahead>,
) {
    for row in rows {
        if let Some(ahead) = &mut ahead {
            ahead.ask_at(channel);
        }
        // SAFETY: promised by the caller.
        unsafe {
            if CLIPPED {
                clipped::<S, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row, source_step, target_step);
            } else {
                blocks::<S, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row, source_step, target_step);
            }
        }
    }
}

/// Splits a row into blocks of pixels that fit the registers. The last one may compute pixels of the one before again.
#[inline(always)]
unsafe fn blocks<
    S: Simd,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    let pixels = row.pixels / const { pixels_per_register(TWICE) };
    let mut pixel = 0;
    // SAFETY: every block ends at or before `pixels`; the rest is promised by the caller.
    unsafe {
        if const { STEP > 0 } && pixels.is_multiple_of(7) && !pixels.is_multiple_of(8) {
            return sevens::<S, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row, source_step, target_step);
        }
        if const { S::LANES == 16 && K == 3 } && row.window.rows == 3 && pixels >= 8 {
            return three_rows::<S, 8, STEP, SPREAD, false, TWICE, PARTIAL>(
                channel,
                lanes,
                row,
                source_step,
                target_step,
            );
        }
        while const { S::LANES > 1 } && pixels - pixel >= 8 {
            block::<S, 8, K, STEP, SPREAD, false, false, TWICE, PARTIAL>(
                channel,
                lanes,
                pixel,
                row,
                source_step,
                target_step,
            );
            pixel += 8;
        }
        if const { S::LANES > 1 } && pixels >= 8 && pixels - pixel > 4 {
            return block::<S, 8, K, STEP, SPREAD, false, false, TWICE, PARTIAL>(
                channel,
                lanes,
                pixels - 8,
                row,
                source_step,
                target_step,
            );
        }
        while pixels - pixel >= 4 {
            block::<S, 4, K, STEP, SPREAD, false, false, TWICE, PARTIAL>(
                channel,
                lanes,
                pixel,
                row,
                source_step,
                target_step,
            );
            pixel += 4;
        }
        if pixels >= 4 && pixel < pixels {
            return block::<S, 4, K, STEP, SPREAD, false, false, TWICE, PARTIAL>(
                channel,
                lanes,
                pixels - 4,
                row,
                source_step,
                target_step,
            );
        }
        for pixel in pixel..pixels {
            block::<S, 1, 1, 0, 0, false, false, TWICE, PARTIAL>(channel, lanes, pixel, row, source_step, target_step);
        }
    }
}

/// Splits a row into blocks of seven pixels, of which it is a multiple. Rows of 28, 14 and 7 pixels in blocks of seven:
/// both gradients of a separable stage take 3 to 9 % less with AVX-512 (8 to 32 channels, 3×3 and 5×5, 2026-11-29);
/// with AVX2 rows of 7 pixels take 18 to 25 % less, of 14 pixels 10 %, and an inference at C=8 4 % less instructions on
/// NEON (AMD EPYC, Zen 5, 2026-12-01).
#[inline(always)]
unsafe fn sevens<
    S: Simd,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { K == 3 } && row.window.rows == 3 {
            return three_rows::<S, 7, STEP, SPREAD, false, TWICE, PARTIAL>(
                channel,
                lanes,
                row,
                source_step,
                target_step,
            );
        }
        for pixel in (0..row.pixels / const { pixels_per_register(TWICE) }).step_by(7) {
            block::<S, 7, K, STEP, SPREAD, false, false, TWICE, PARTIAL>(
                channel,
                lanes,
                pixel,
                row,
                source_step,
                target_step,
            );
        }
    }
}
