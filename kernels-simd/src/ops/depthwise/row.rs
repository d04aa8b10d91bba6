//! Pixels of a row, each from a window of taps.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, store};

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
    /// Computes all pixels of `channels` channels.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows, weights and pixels.
    pub unsafe fn compute(&self, kernels: Kernels, channels: usize) {
        let row_of = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, row(row_of: &Row, channels: usize)) }
    }

    /// Columns of taps, and the distances between pixels and between columns in units of the smaller one, if that is 1
    /// or 2.
    fn pattern(&self) -> (usize, usize, usize) {
        let (step, spread) = (self.source_step, self.window.source_column);
        let ratio = match () {
            () if step == spread => (1, 1),
            () if 2 * step == spread => (1, 2),
            () if step == 2 * spread => (2, 1),
            () => (0, 0),
        };
        (self.window.columns, ratio.0, ratio.1)
    }
}

/// Computes a row. Common patterns have code of their own, in which neighbouring pixels share what they read.
#[inline(always)]
unsafe fn row<S: Simd>(row: &Row, channels: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { S::LANES > 1 } {
            match row.pattern() {
                (2, 1, 1) => return for_registers!(S, 0..channels, blocks::<2, 1, 1>(row)),
                (3, 1, 1) => return for_registers!(S, 0..channels, blocks::<3, 1, 1>(row)),
                (5, 1, 1) => return for_registers!(S, 0..channels, blocks::<5, 1, 1>(row)),
                (7, 1, 1) => return for_registers!(S, 0..channels, blocks::<7, 1, 1>(row)),
                (3, 1, 2) => return for_registers!(S, 0..channels, blocks::<3, 1, 2>(row)),
                (5, 1, 2) => return for_registers!(S, 0..channels, blocks::<5, 1, 2>(row)),
                (3, 2, 1) => return for_registers!(S, 0..channels, blocks::<3, 2, 1>(row)),
                (5, 2, 1) => return for_registers!(S, 0..channels, blocks::<5, 2, 1>(row)),
                _ => {}
            }
        }
        for_registers!(S, 0..channels, blocks::<1, 0, 0>(row));
    }
}

/// Splits a row into blocks of pixels that fit the registers.
#[inline(always)]
unsafe fn blocks<S: Simd, const K: usize, const STEP: usize, const SPREAD: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    row: &Row,
) {
    let mut pixel = 0;
    macro_rules! blocks_of {
        ($k:tt, $step:tt, $spread:tt: $($pixels:literal),*) => {$(
            while row.pixels - pixel >= $pixels {
                block::<S, $pixels, $k, $step, $spread, PARTIAL>(channel, lanes, pixel, row);
                pixel += $pixels;
            }
        )*};
    }
    // SAFETY: every block ends at or before `pixels`; the rest is promised by the caller.
    unsafe {
        if const { S::LANES > 1 } {
            blocks_of!(K, STEP, SPREAD: 8);
        }
        blocks_of!(K, STEP, SPREAD: 4);
        blocks_of!(1, 0, 0: 2, 1);
    }
}

/// Computes `P` pixels. With `STEP > 0` the window has exactly `K` columns and the pattern is `(K, STEP, SPREAD)`: all
/// elements of a row of the window are read once. Otherwise `K` is 1, and the columns are taken one by one.
#[inline(always)]
unsafe fn block<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    pixel: usize,
    row: &Row,
) {
    let window = &row.window;
    // SAFETY: the pointers of `row` cover all windows.
    unsafe {
        let mut source = row.source.add(pixel * row.source_step + channel);
        let mut weights = row.weights.add(channel);
        let mut sums = [S::splat(0.0); P];
        for i in 0..window.rows {
            if i == window.rows_to_end {
                source = source.wrapping_offset(-window.ring);
            }
            if const { STEP > 0 } {
                let unit = row.source_step / STEP;
                let mut taps = [S::splat(0.0); K];
                for (j, tap) in taps.iter_mut().enumerate() {
                    *tap = load::<S, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                }
                for (p, sum) in sums.iter_mut().enumerate() {
                    for (j, tap) in taps.iter().enumerate() {
                        // The same place for several `p` and `j`: the compiler loads it once.
                        let x = load::<S, PARTIAL>(source.add((p * STEP + j * SPREAD) * unit), lanes);
                        *sum = S::mul_add(x, *tap, *sum);
                    }
                }
            } else {
                for j in 0..window.columns {
                    let tap = load::<S, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                    let source = source.add(j * window.source_column);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(source.add(p * row.source_step), lanes);
                        *sum = S::mul_add(x, tap, *sum);
                    }
                }
            }
            // Behind the last row these may point outside.
            source = source.wrapping_add(window.source_row);
            weights = weights.wrapping_offset(window.weight_row);
        }
        let target = row.target.add(pixel * row.target_step + channel);
        for (p, sum) in sums.iter().enumerate() {
            store::<S, PARTIAL>(target.add(p * row.target_step), *sum, lanes);
        }
    }
}
