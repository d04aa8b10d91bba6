//! The gradient with respect to the weights.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, store};
use crate::ops::ring::Ring;

/// The padded input, some rows of which are zero and stored nowhere.
#[derive(Clone, Copy)]
pub(in crate::ops) struct FilterInput {
    pub rows: Ring,
    /// Rows of zeros above the others.
    pub above: usize,
    /// Rows that are stored; those behind are zeros again.
    pub inside: usize,
    /// The slot of the first stored row.
    pub slot: usize,
    /// A row of zeros.
    pub outside: *const f32,
}

impl FilterInput {
    #[inline(always)]
    unsafe fn row(&self, row: usize) -> *const f32 {
        let stored = row.wrapping_sub(self.above);
        if stored >= self.inside {
            return self.outside;
        }
        let slot = self.slot + stored;
        let slot = if slot >= self.rows.rows { slot - self.rows.rows } else { slot };
        // SAFETY: the slot is in the ring.
        unsafe { self.rows.start.add(slot * self.rows.row_len) }
    }
}

/// `dw[i, j, c] += Σ x[y·stride + i·dilation, v·stride + j·dilation, c] · dy[y, v, c]` over `height × width` pixels of
/// `dy`.
pub(in crate::ops) struct FilterGradient {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub channels: usize,
    pub x: FilterInput,
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
    unsafe { for_registers!(S, 0..gradient.channels, filter(gradient)) }
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
                taps::<S, R, 1, 1, 0, PARTIAL>(channel, lanes, (tap_row, column), gradient);
            }
            return;
        }
        match (gradient.stride, gradient.dilation) {
            (1, 1) => taps::<S, R, K, 4, 1, PARTIAL>(channel, lanes, (tap_row, 0), gradient),
            (1, 2) => taps::<S, R, K, 4, 2, PARTIAL>(channel, lanes, (tap_row, 0), gradient),
            _ => taps::<S, R, K, 1, 0, PARTIAL>(channel, lanes, (tap_row, 0), gradient),
        }
    }
}

/// The gradient of `R × K` taps, the first of which is at `(tap_row, tap_column)`, with their sums in registers.
#[inline(always)]
unsafe fn taps<S: Simd, const R: usize, const K: usize, const P: usize, const SPREAD: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    (tap_row, tap_column): (usize, usize),
    gradient: &FilterGradient,
) {
    let FilterGradient { kernel, stride, dilation, channels, width, .. } = *gradient;
    let column = dilation * channels;
    let whole = if const { SPREAD > 0 } { width - width % P } else { 0 };
    // SAFETY: the pointers cover all windows and pixels.
    unsafe {
        let mut sums = [[S::splat(0.0); K]; R];
        for y in 0..gradient.height {
            let mut rows = [core::ptr::null(); R];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = gradient.x.row(y * stride + (tap_row + r) * dilation).add(tap_column * column + channel);
            }
            let dy = gradient.dy.add(y * gradient.dy_row + channel);
            for pixel in (0..whole).step_by(P) {
                let mut gradients = [S::splat(0.0); P];
                for (p, gradient) in gradients.iter_mut().enumerate() {
                    *gradient = load::<S, PARTIAL>(dy.add((pixel + p) * channels), lanes);
                }
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let x = row.add(pixel * stride * channels);
                    for place in 0..P + (K - 1) * SPREAD {
                        let x = load::<S, PARTIAL>(x.add(place * channels), lanes);
                        for (j, sum) in sums.iter_mut().enumerate() {
                            if let Some(p) = place.checked_sub(j * SPREAD)
                                && p < P
                            {
                                *sum = S::mul_add(x, gradients[p], *sum);
                            }
                        }
                    }
                }
            }
            for pixel in whole..width {
                let gradient = load::<S, PARTIAL>(dy.add(pixel * channels), lanes);
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let x = row.add(pixel * stride * channels);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(x.add(j * column), lanes);
                        *sum = S::mul_add(x, gradient, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let dw = gradient.dw.add(((tap_row + r) * kernel + tap_column + j) * channels + channel);
                store::<S, PARTIAL>(dw, S::add(load::<S, PARTIAL>(dw, lanes), *sum), lanes);
            }
        }
    }
}
