//! Blocks of pixels of a row that fit the registers.

use super::pixels_per_register;
use super::places::{each_place, is_clipped, pixel_of_place, places};
use super::row::Row;
use crate::arch::Simd;
use crate::ops::lanes::{load, load_channels, store};

/// Computes all pixels of windows of 3×3, `P` at a time and at least as many, with all taps in registers: 32 pixels at
/// 16 channels take 44 ns, and 53 where the taps of each row are read again (AMD EPYC, Zen 5, AVX-512, 2026-11-28).
#[inline(always)]
pub(super) unsafe fn three_rows<
    S: Simd,
    const P: usize,
    const STEP: usize,
    const SPREAD: usize,
    const CLIPPED: bool,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    let window = &row.window;
    // SAFETY: the pointers of `row` cover all windows.
    unsafe {
        let mut taps = [[S::splat(0.0); 3]; 3];
        let mut rows = [row.source.wrapping_add(channel); 3];
        for (i, taps) in taps.iter_mut().enumerate() {
            for (j, tap) in taps.iter_mut().enumerate() {
                let at = i as isize * window.weight_row + j as isize * window.weight_column;
                *tap = load_channels::<S, TWICE, PARTIAL>(row.weights.offset(at).add(channel), lanes);
            }
            let back = if i >= window.rows_to_end { window.ring } else { 0 };
            rows[i] = rows[i].wrapping_add(i * window.source_row).wrapping_offset(-back);
        }
        let unit = source_step / STEP;
        let mut target = row.target.add(channel);
        let pixels = row.pixels / const { pixels_per_register(TWICE) };
        let mut left = pixels;
        loop {
            let mut sums = [S::splat(0.0); P];
            macro_rules! rows_of_taps {
                ($first:literal, $last:literal) => {
                    row_of_taps::<S, P, 3, STEP, SPREAD, $first, $last, TWICE, PARTIAL>(
                        lanes, unit, rows[0], &taps[0], &mut sums,
                    );
                    row_of_taps::<S, P, 3, STEP, SPREAD, $first, $last, TWICE, PARTIAL>(
                        lanes, unit, rows[1], &taps[1], &mut sums,
                    );
                    row_of_taps::<S, P, 3, STEP, SPREAD, $first, $last, TWICE, PARTIAL>(
                        lanes, unit, rows[2], &taps[2], &mut sums,
                    );
                };
            }
            match (CLIPPED && left == pixels, CLIPPED && left == P) {
                (false, false) => {
                    rows_of_taps!(false, false);
                }
                (true, false) => {
                    rows_of_taps!(true, false);
                }
                (false, true) => {
                    rows_of_taps!(false, true);
                }
                (true, true) => {
                    rows_of_taps!(true, true);
                }
            }
            store_pixels::<S, P, PARTIAL>(lanes, target_step, target, &sums);
            left -= P;
            if left == 0 {
                return;
            }
            // The last block may compute pixels of the one before again.
            let step = if left < P { core::mem::replace(&mut left, P) } else { P };
            for source in &mut rows {
                *source = source.wrapping_add(step * source_step);
            }
            target = target.add(step * target_step);
        }
    }
}

/// Computes `P` pixels. With `STEP > 0` the window has exactly `K` columns and the pattern is `(K, STEP, SPREAD)`: all
/// elements of a row of the window are read once. Otherwise `K` is 1, and the columns are taken one by one.
#[inline(always)]
pub(super) unsafe fn block<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const FIRST: bool,
    const LAST: bool,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    pixel: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    let window = &row.window;
    // SAFETY: the pointers of `row` cover all windows.
    unsafe {
        let mut source = row.source.wrapping_add(pixel * source_step + channel);
        let mut weights = row.weights.add(channel);
        let mut sums = [S::splat(0.0); P];
        let unit = source_step / const { if STEP > 0 { STEP } else { 1 } };
        for i in 0..window.rows {
            if i == window.rows_to_end {
                source = source.wrapping_offset(-window.ring);
            }
            if const { STEP > 0 } {
                let mut taps = [S::splat(0.0); K];
                for (j, tap) in taps.iter_mut().enumerate() {
                    *tap = load_channels::<S, TWICE, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                }
                row_of_taps::<S, P, K, STEP, SPREAD, FIRST, LAST, TWICE, PARTIAL>(
                    lanes, unit, source, &taps, &mut sums,
                );
            } else {
                for j in 0..window.columns {
                    let tap =
                        load_channels::<S, TWICE, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                    let source = source.add(j * window.source_column);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(source.add(p * source_step), lanes);
                        *sum = S::mul_add(x, tap, *sum);
                    }
                }
            }
            // Behind the last row these may point outside.
            source = source.wrapping_add(window.source_row);
            weights = weights.wrapping_offset(window.weight_row);
        }
        let target = row.target.add(pixel * target_step + channel);
        store_pixels::<S, P, PARTIAL>(lanes, target_step, target, &sums);
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
    const FIRST: bool,
    const LAST: bool,
    const TWICE: bool,
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
        // Pairs are at distances that the compiler knows. With short registers offsets cost nothing: an inference on
        // NEON takes 1 to 2 % less instructions (2026-11-30).
        if TWICE || const { S::LANES <= 4 } {
            return pixel_by_pixel::<S, P, K, STEP, SPREAD, FIRST, LAST, TWICE, PARTIAL>(
                lanes, unit, source, taps, sums,
            );
        }
        let mut at = source;
        each_place!(places(P, STEP, K, SPREAD), at, unit, PLACE, {
            if const { !is_clipped(PLACE, P, STEP, K, SPREAD, FIRST, LAST) } {
                let x = load::<S, PARTIAL>(at, lanes);
                for (j, tap) in taps.iter().enumerate() {
                    if let Some(pixel) = pixel_of_place(PLACE, j, STEP, SPREAD)
                        && let Some(sum) = sums.get_mut(pixel)
                    {
                        *sum = S::mul_add(x, *tap, *sum);
                    }
                }
            }
        });
    }
}

/// The same, each pixel for itself.
#[inline(always)]
unsafe fn pixel_by_pixel<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const FIRST: bool,
    const LAST: bool,
    const TWICE: bool,
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
                let at = |place: usize| {
                    let clipped = is_clipped(place, P, STEP, K, SPREAD, FIRST, LAST);
                    if clipped { S::splat(0.0) } else { load::<S, PARTIAL>(source.wrapping_add(place * unit), lanes) }
                };
                let place = p * STEP + j * SPREAD;
                // Between two pairs of pixels a load would cross lines of the cache: a forward stage of 3×3 at 8
                // channels, 28×28, takes 1.73 µs in place of 1.85; 5×5 gains nothing (AMD EPYC, Zen 5, 2026-11-29). At
                // an end one of them may be clipped.
                let in_halves = const { TWICE && STEP == 2 && (K == 3 || FIRST || LAST) };
                let odd = if FIRST || LAST { place + (K - 1) / 2 * SPREAD } else { place };
                let x = if in_halves && !odd.is_multiple_of(2) {
                    let before = match place {
                        0 if FIRST => S::splat(0.0),
                        0 => load::<S, PARTIAL>(source.wrapping_sub(unit), lanes),
                        _ => at(place - 1),
                    };
                    S::join_halves(before, at(place + 1))
                } else if is_clipped(place, P, STEP, K, SPREAD, FIRST, LAST) {
                    continue;
                } else {
                    at(place)
                };
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
