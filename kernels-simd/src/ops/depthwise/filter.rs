//! The gradient with respect to the weights.

use super::pixels_per_register;
use super::places::{each_place, pixel_of_place, places};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{add_channels, for_registers, load, opaque};
use crate::ops::ring::PaddedRows;

/// `dw[i, j, c] += Σ x[y·stride + i·dilation, v·stride + j·dilation, c] · dy[y, v, c]` over `height × width` pixels of
/// `dy`.
#[derive(Clone, Copy)]
pub(in crate::ops) struct FilterGradient {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub channels: usize,
    /// The padded input.
    pub x: PaddedRows,
    pub dy: *const f32,
    /// Elements between the rows of `dy`.
    pub dy_row: usize,
    pub height: usize,
    pub width: usize,
    pub dw: *mut f32,
}

impl FilterGradient {
    /// Computes all taps and channels.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows and pixels; the rows under the windows are at most as many as the ring has slots.
    pub unsafe fn compute(&self, kernels: Kernels) {
        let gradient = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, filters(gradient: &FilterGradient)) }
    }
}

#[inline(always)]
unsafe fn filters<S: Simd>(gradient: &FilterGradient) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { S::TWICE } && 2 * gradient.channels == S::LANES && gradient.stride == 1 && pairs::<S>(gradient) {
            let done = gradient.width - gradient.width % 2;
            if done < gradient.width {
                let behind = done * gradient.channels;
                let x = PaddedRows {
                    rows: gradient.x.rows.starting_at(behind),
                    outside: gradient.x.outside.wrapping_add(behind),
                    ..gradient.x
                };
                let rest = FilterGradient { x, dy: gradient.dy.add(behind), width: 1, ..*gradient };
                filter::<S::Rest, false>(0, gradient.channels, &rest);
            }
            return;
        }
        match (gradient.channels, gradient.stride) {
            (16, 1) if const { S::LANES == 16 } => filters_of::<S, 16>(gradient),
            (32, 1) if const { S::LANES == 16 } => filters_of::<S, 32>(gradient),
            _ => for_registers!(S, 0..gradient.channels, filter(gradient)),
        }
    }
}

/// At stride 1, of so many channels, in whole registers: the compiler knows all distances but that of the dilation.
/// Both gradients of a separable 3×3 stage take 3 to 5 % less (AMD EPYC, Zen 5, AVX-512, 16 and 32 channels, 32×32 to
/// 7×7, 2026-11-29).
#[inline(always)]
unsafe fn filters_of<S: Simd, const CHANNELS: usize>(gradient: &FilterGradient) {
    let gradient = &FilterGradient { channels: CHANNELS, stride: 1, ..*gradient };
    for channel in (0..CHANNELS).step_by(S::LANES) {
        // SAFETY: promised by the caller.
        unsafe { filter::<S, false>(channel, S::LANES, gradient) }
    }
}

/// What whole pairs of pixels, whose channels together fill a register, contribute; false for uncommon filters, of
/// which nothing is done.
#[inline(always)]
unsafe fn pairs<S: Simd>(gradient: &FilterGradient) -> bool {
    let lanes = S::LANES;
    // SAFETY: promised by the caller.
    unsafe {
        match (gradient.kernel, gradient.dilation) {
            (3, 1) => taps::<S, 3, 3, 4, 2, 1, 2, true, false>(0, lanes, (0, 0), gradient),
            (3, 2) => taps::<S, 3, 3, 8, 1, 1, 2, true, false>(0, lanes, (0, 0), gradient),
            (5, 1) => taps::<S, 5, 5, 4, 2, 1, 1, true, false>(0, lanes, (0, 0), gradient),
            (5, 2) => taps::<S, 5, 5, 4, 1, 1, 1, true, false>(0, lanes, (0, 0), gradient),
            _ => return false,
        }
    }
    true
}

/// The gradient of all taps of one vector of channels, as many at a time as there are registers for.
#[inline(always)]
unsafe fn filter<S: Simd, const PARTIAL: bool>(channel: usize, lanes: usize, gradient: &FilterGradient) {
    let mut tap_row = 0;
    macro_rules! rows_of {
        ($rows:literal, $k:literal) => {
            while gradient.kernel - tap_row >= $rows {
                filter_rows::<S, $rows, $k, PARTIAL>(channel, lanes, tap_row, gradient);
                tap_row += $rows;
            }
        };
    }
    // SAFETY: every block of taps lies inside the filter; the rest is promised by the caller.
    unsafe {
        match gradient.kernel {
            _ if const { S::LANES == 1 } => rows_of!(1, 0),
            3 => rows_of!(3, 3),
            5 if const { S::LANES == 16 } => rows_of!(5, 5),
            5 => {
                rows_of!(2, 5);
                rows_of!(1, 5);
            }
            7 => rows_of!(1, 7),
            _ => rows_of!(1, 0),
        }
    }
}

/// The gradient of `R` rows of taps from `tap_row` on: `K` columns at once, or if that is 0 all columns one by one.
#[inline(always)]
unsafe fn filter_rows<S: Simd, const R: usize, const K: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    tap_row: usize,
    gradient: &FilterGradient,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { K == 0 } {
            for column in 0..gradient.kernel {
                taps::<S, R, 1, 1, 0, 0, 1, false, PARTIAL>(channel, lanes, (tap_row, column), gradient);
            }
            return;
        }
        let (stride, dilation) = (gradient.stride, gradient.dilation);
        // Where pixels do not start at lines of the cache, loads are what takes the time, and eight pixels need fewer
        // than twice those of four: 36 channels take 5 to 9 % less (AMD EPYC, Zen 4, AVX-512, weight gradient of 3×3,
        // 2026-11-24).
        match () {
            () if const { K == 3 && S::LANES == 16 } && stride == dilation => {
                taps::<S, R, K, 8, 1, 1, 2, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient)
            }
            () if const { K == 3 && S::LANES == 16 } && 2 * stride == dilation => {
                taps::<S, R, K, 8, 1, 2, 2, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient)
            }
            () if stride == dilation => {
                taps::<S, R, K, 4, 1, 1, 1, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient)
            }
            () if 2 * stride == dilation => {
                taps::<S, R, K, 4, 1, 2, 1, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient)
            }
            () if stride == 2 * dilation => {
                taps::<S, R, K, 4, 2, 1, 1, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient)
            }
            () => taps::<S, R, K, 1, 0, 0, 1, false, PARTIAL>(channel, lanes, (tap_row, 0), gradient),
        }
    }
}

/// The gradient of `R × K` taps, the first of which is at `(tap_row, tap_column)`, with their sums in registers. `P`
/// pixels at a time share what they read, and go to `N` partial sums by turns so that additions do not wait for each
/// other, if neighbouring pixels are `STEP` and neighbouring taps `SPREAD` of some unit apart; with `STEP = 0` it is a
/// pixel and a tap at a time. Two sums of each of nine taps take 42 ns for 32 pixels at 16 channels, one 47 (AMD EPYC,
/// Zen 5, AVX-512, 3×3, 2026-11-28).
#[inline(always)]
unsafe fn taps<
    S: Simd,
    const R: usize,
    const K: usize,
    const P: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    (tap_row, tap_column): (usize, usize),
    gradient: &FilterGradient,
) {
    let FilterGradient { kernel, stride, dilation, channels, .. } = *gradient;
    let column = dilation * channels;
    let width = gradient.width / const { pixels_per_register(TWICE) };
    // SAFETY: the pointers cover all windows and pixels.
    unsafe {
        let mut sums = [[[S::splat(0.0); N]; K]; R];
        for y in 0..gradient.height {
            let mut rows = [core::ptr::null(); R];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = gradient.x.row(y * stride + (tap_row + r) * dilation).add(tap_column * column + channel);
            }
            let mut dy = gradient.dy.add(y * gradient.dy_row + channel);
            for _ in 0..width / P {
                pixels::<S, R, K, P, STEP, SPREAD, N, TWICE, PARTIAL>(lanes, &mut rows, &mut dy, &mut sums, gradient);
            }
            let mut left = width % P;
            if const { P > 4 } && left >= 4 {
                pixels::<S, R, K, 4, STEP, SPREAD, N, TWICE, PARTIAL>(lanes, &mut rows, &mut dy, &mut sums, gradient);
                left -= 4;
            }
            if const { P > 2 } && left >= 2 {
                pixels::<S, R, K, 2, STEP, SPREAD, N, TWICE, PARTIAL>(lanes, &mut rows, &mut dy, &mut sums, gradient);
                left -= 2;
            }
            for _ in 0..left {
                pixels::<S, R, K, 1, STEP, SPREAD, N, TWICE, PARTIAL>(lanes, &mut rows, &mut dy, &mut sums, gradient);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, chains) in sums.iter().enumerate() {
                let sum = if const { N == 2 } { S::add(chains[0], chains[1]) } else { chains[0] };
                let dw = gradient.dw.add(((tap_row + r) * kernel + tap_column + j) * channels + channel);
                add_channels::<S, TWICE, PARTIAL>(sum, dw, lanes);
            }
        }
    }
}

/// Adds what `P` pixels contribute to the sums of [`taps`], and moves the pointers on to the next.
#[inline(always)]
unsafe fn pixels<
    S: Simd,
    const R: usize,
    const K: usize,
    const P: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    lanes: usize,
    rows: &mut [*const f32; R],
    dy: &mut *const f32,
    sums: &mut [[[S::Vector; N]; K]; R],
    gradient: &FilterGradient,
) {
    let FilterGradient { stride, channels, .. } = *gradient;
    let channels = channels * const { pixels_per_register(TWICE) };
    // SAFETY: promised by the caller.
    unsafe {
        let mut gradients = [S::splat(0.0); P];
        for (p, element) in gradients.iter_mut().enumerate() {
            *element = load::<S, PARTIAL>(dy.add(p * channels), lanes);
        }
        *dy = dy.wrapping_add(P * channels);
        // As a loop the rows would not be unrolled, and the sums would be kept in memory.
        macro_rules! rows {
            ($($r:literal),*) => {$(
                if const { $r < R } {
                    let x = opaque(rows[$r]);
                    // It never is, but the compiler must not mix the rows: it would keep more in registers than there
                    // are.
                    if const { R > 1 } && x.is_null() {
                        return;
                    }
                    row::<S, K, P, STEP, SPREAD, N, TWICE, PARTIAL>(lanes, x, &gradients, &mut sums[$r], gradient);
                    rows[$r] = rows[$r].wrapping_add(P * stride * channels);
                }
            )*};
        }
        rows!(0, 1, 2, 3, 4);
    }
}

/// Adds what `P` pixels contribute to one row of taps.
#[inline(always)]
unsafe fn row<
    S: Simd,
    const K: usize,
    const P: usize,
    const STEP: usize,
    const SPREAD: usize,
    const N: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    lanes: usize,
    x: *const f32,
    gradients: &[S::Vector; P],
    sums: &mut [[S::Vector; N]; K],
    gradient: &FilterGradient,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { STEP == 0 } {
            for (j, chains) in sums.iter_mut().enumerate() {
                let x = load::<S, PARTIAL>(x.add(j * gradient.dilation * gradient.channels), lanes);
                chains[0] = S::mul_add(x, gradients[0], chains[0]);
            }
        } else {
            let unit = gradient.stride * gradient.channels * const { pixels_per_register(TWICE) } / STEP;
            let mut at = x;
            each_place!(places(P, STEP, K, SPREAD), at, unit, PLACE, {
                let element = load::<S, PARTIAL>(at, lanes);
                for (j, chains) in sums.iter_mut().enumerate() {
                    if let Some(pixel) = pixel_of_place(PLACE, j, STEP, SPREAD)
                        && let Some(gradient) = gradients.get(pixel)
                    {
                        let chain = &mut chains[pixel % N];
                        *chain = S::mul_add(element, *gradient, *chain);
                    }
                }
            });
        }
    }
}
