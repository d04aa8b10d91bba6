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
    let mut row = *row;
    // SAFETY: promised by the caller.
    unsafe {
        if const { S::TWICE } && 2 * channels == S::LANES && (row.source_step, row.target_step) == (channels, channels)
        {
            let done = pairs::<S>(&row);
            row.source = row.source.wrapping_add(done * channels);
            row.target = row.target.wrapping_add(done * channels);
            row.pixels -= done;
        }
        let row = &row;
        if const { S::LANES > 1 } {
            match row.pattern() {
                (2, 1, 1) => return for_registers!(S, 0..channels, blocks::<2, 1, 1, false>(row)),
                (3, 1, 1) => return for_registers!(S, 0..channels, blocks::<3, 1, 1, false>(row)),
                (5, 1, 1) => return for_registers!(S, 0..channels, blocks::<5, 1, 1, false>(row)),
                (7, 1, 1) => return for_registers!(S, 0..channels, blocks::<7, 1, 1, false>(row)),
                (3, 1, 2) => return for_registers!(S, 0..channels, blocks::<3, 1, 2, false>(row)),
                (5, 1, 2) => return for_registers!(S, 0..channels, blocks::<5, 1, 2, false>(row)),
                (3, 2, 1) => return for_registers!(S, 0..channels, blocks::<3, 2, 1, false>(row)),
                (5, 2, 1) => return for_registers!(S, 0..channels, blocks::<5, 2, 1, false>(row)),
                _ => {}
            }
        }
        for_registers!(S, 0..channels, blocks::<1, 0, 0, false>(row));
    }
}

/// Computes pixels in pairs, whose channels together fill a register: the taps then are in both halves of theirs. Returns how many pixels
/// are done, none for uncommon patterns.
///
/// At 8 channels, 28×28, the forward pass of a separable stage takes 2.7 µs and not 3.1 with a filter of 3×3, and 3.5 and not 5.0 with one
/// of 5×5 (AMD EPYC, Zen 5, AVX-512, 2026-11-28).
#[inline(always)]
unsafe fn pairs<S: Simd>(row: &Row) -> usize {
    let pairs =
        Row { source_step: 2 * row.source_step, target_step: 2 * row.target_step, pixels: row.pixels / 2, ..*row };
    // SAFETY: promised by the caller; a pair is two pixels next to each other.
    unsafe {
        match pairs.pattern() {
            (3, 1, 1) => blocks::<S, 3, 1, 1, true, false>(0, S::LANES, &pairs),
            (5, 1, 1) => blocks::<S, 5, 1, 1, true, false>(0, S::LANES, &pairs),
            (3, 2, 1) => blocks::<S, 3, 2, 1, true, false>(0, S::LANES, &pairs),
            (5, 2, 1) => blocks::<S, 5, 2, 1, true, false>(0, S::LANES, &pairs),
            _ => return 0,
        }
    }
    2 * pairs.pixels
}

/// A tap, with `TWICE` in both halves of the register.
#[inline(always)]
unsafe fn load_tap<S: Simd, const TWICE: bool, const PARTIAL: bool>(source: *const f32, lanes: usize) -> S::Vector {
    // SAFETY: promised by the caller.
    unsafe { if TWICE { S::load_twice(source) } else { load::<S, PARTIAL>(source, lanes) } }
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
) {
    let mut pixel = 0;
    // SAFETY: every block ends at or before `pixels`; the rest is promised by the caller.
    unsafe {
        if const { S::LANES == 16 && K == 3 } && row.window.rows == 3 && row.pixels >= 8 {
            return three_rows::<S, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row);
        }
        while const { S::LANES > 1 } && row.pixels - pixel >= 8 {
            block::<S, 8, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, pixel, row);
            pixel += 8;
        }
        if const { S::LANES > 1 } && row.pixels >= 8 && row.pixels - pixel > 4 {
            return block::<S, 8, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row.pixels - 8, row);
        }
        while row.pixels - pixel >= 4 {
            block::<S, 4, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, pixel, row);
            pixel += 4;
        }
        if row.pixels >= 4 && pixel < row.pixels {
            return block::<S, 4, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row.pixels - 4, row);
        }
        for pixel in pixel..row.pixels {
            block::<S, 1, 1, 0, 0, TWICE, PARTIAL>(channel, lanes, pixel, row);
        }
    }
}

/// Computes all pixels of windows of 3×3, eight at a time, with all taps in registers: 32 pixels at 16 channels take 44 ns, and 53 where the
/// taps of each row are read again (AMD EPYC, Zen 5, AVX-512, 2026-11-28).
#[inline(always)]
unsafe fn three_rows<S: Simd, const STEP: usize, const SPREAD: usize, const TWICE: bool, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    row: &Row,
) {
    let window = &row.window;
    // SAFETY: the pointers of `row` cover all windows.
    unsafe {
        let mut taps = [[S::splat(0.0); 3]; 3];
        let mut rows = [row.source.add(channel); 3];
        for (i, taps) in taps.iter_mut().enumerate() {
            for (j, tap) in taps.iter_mut().enumerate() {
                let at = i as isize * window.weight_row + j as isize * window.weight_column;
                *tap = load_tap::<S, TWICE, PARTIAL>(row.weights.offset(at).add(channel), lanes);
            }
            let back = if i >= window.rows_to_end { window.ring } else { 0 };
            rows[i] = rows[i].wrapping_add(i * window.source_row).wrapping_offset(-back);
        }
        let unit = row.source_step / STEP;
        let mut target = row.target.add(channel);
        let mut left = row.pixels;
        loop {
            let mut sums = [S::splat(0.0); 8];
            row_of_taps::<S, 8, 3, STEP, SPREAD, PARTIAL>(lanes, unit, rows[0], &taps[0], &mut sums);
            row_of_taps::<S, 8, 3, STEP, SPREAD, PARTIAL>(lanes, unit, rows[1], &taps[1], &mut sums);
            row_of_taps::<S, 8, 3, STEP, SPREAD, PARTIAL>(lanes, unit, rows[2], &taps[2], &mut sums);
            store_pixels::<S, 8, PARTIAL>(lanes, row.target_step, target, &sums);
            left -= 8;
            if left == 0 {
                return;
            }
            // The last block may compute pixels of the one before again.
            let step = if left < 8 { core::mem::replace(&mut left, 8) } else { 8 };
            for source in &mut rows {
                *source = source.add(step * row.source_step);
            }
            target = target.add(step * row.target_step);
        }
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
    const TWICE: bool,
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
        let unit = row.source_step / const { if STEP > 0 { STEP } else { 1 } };
        for i in 0..window.rows {
            if i == window.rows_to_end {
                source = source.wrapping_offset(-window.ring);
            }
            if const { STEP > 0 } {
                let mut taps = [S::splat(0.0); K];
                for (j, tap) in taps.iter_mut().enumerate() {
                    *tap = load_tap::<S, TWICE, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                }
                row_of_taps::<S, P, K, STEP, SPREAD, PARTIAL>(lanes, unit, source, &taps, &mut sums);
            } else {
                for j in 0..window.columns {
                    let tap = load_tap::<S, TWICE, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
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
        store_pixels::<S, P, PARTIAL>(lanes, row.target_step, target, &sums);
    }
}

/// Adds what the `K` taps of one row contribute to `P` pixels.
#[inline(always)]
unsafe fn row_of_taps<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const PARTIAL: bool,
>(
    lanes: usize,
    unit: usize,
    source: *const f32,
    taps: &[S::Vector; K],
    sums: &mut [S::Vector; P],
) {
    // SAFETY: promised by the caller.
    unsafe {
        for (p, sum) in sums.iter_mut().enumerate() {
            for (j, tap) in taps.iter().enumerate() {
                // The same place for several pixels and taps: the compiler loads it once.
                let x = load::<S, PARTIAL>(source.add((p * STEP + j * SPREAD) * unit), lanes);
                *sum = S::mul_add(x, *tap, *sum);
            }
        }
    }
}

/// Stores `P` pixels.
#[inline(always)]
unsafe fn store_pixels<S: Simd, const P: usize, const PARTIAL: bool>(
    lanes: usize,
    step: usize,
    target: *mut f32,
    sums: &[S::Vector; P],
) {
    // SAFETY: promised by the caller.
    unsafe {
        for (p, sum) in sums.iter().enumerate() {
            store::<S, PARTIAL>(target.add(p * step), *sum, lanes);
        }
    }
}
