//! Pools.

use super::LANES;
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::lengths::part_mut;
use crate::ops::int8::Rescale;
use crate::ops::int8::pool::divide_rounded;
use crate::ops::pool::geometry::Window;
use crate::shape::PoolShape;

/// The body of [`Kernels::int8_max_pool`].
pub(in crate::ops::int8) fn max_pool(kernels: Kernels, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    // SAFETY: the body asks for nothing.
    unsafe { dispatch!(kernels, max_pool_body(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale)) }
}

/// The body of [`Kernels::int8_avg_pool`].
pub(in crate::ops::int8) fn avg_pool(kernels: Kernels, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    // SAFETY: the body asks for nothing.
    unsafe { dispatch!(kernels, avg_pool_body(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale)) }
}

#[inline(always)]
unsafe fn max_pool_body<S: Simd>(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let largest = |values: &mut [i8; LANES], pixel: &[i8]| {
        values.iter_mut().zip(pixel).for_each(|(value, &q)| *value = (*value).max(q));
    };
    each_window(x, y, shape, i8::MIN, largest, |values, _| values, rescale);
}

#[inline(always)]
unsafe fn avg_pool_body<S: Simd>(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let sum = |values: &mut [i32; LANES], pixel: &[i8]| {
        values.iter_mut().zip(pixel).for_each(|(value, &q)| *value += i32::from(q));
    };
    // Of a 3×3 window as many pixels are in the image; by a number that is known it is divided side by side.
    let mean = |sums: [i32; LANES], pixels| match pixels {
        9 => sums.map(|sum| divide_rounded(sum, 9) as i8),
        6 => sums.map(|sum| divide_rounded(sum, 6) as i8),
        _ => sums.map(|sum| divide_rounded(sum, pixels) as i8),
    };
    each_window(x, y, shape, 0, sum, mean, rescale);
}

/// Combines the pixels of each window from `initial` on, a few channels at a time, and rescales a row at a time.
#[inline(always)]
fn each_window<T: Copy>(
    x: &[i8],
    y: &mut [i8],
    shape: PoolShape,
    initial: T,
    combine: impl Fn(&mut [T; LANES], &[i8]),
    finish: impl Fn([T; LANES], i32) -> [i8; LANES],
    rescale: Rescale,
) {
    let (output, channels) = (shape.output(), shape.input.channels);
    for row in 0..output.height {
        for column in 0..output.width {
            let window = Window::new(&shape, row, column);
            let pixels = (window.rows * window.columns) as i32;
            for first in (0..channels).step_by(LANES) {
                let count = LANES.min(channels - first);
                let mut values = [initial; LANES];
                for i in 0..window.rows {
                    for j in 0..window.columns {
                        let at = window.at(i, j) + first;
                        if count == LANES {
                            let Some(pixel) = x.get(at..at + LANES) else { return };
                            combine(&mut values, pixel);
                        } else {
                            let Some(pixel) = x.get(at..at + count) else { return };
                            combine(&mut values, pixel);
                        }
                    }
                }
                let y = part_mut(y, window.output + first, count);
                if let Some(values) = finish(values, pixels).get(..y.len()) {
                    y.copy_from_slice(values);
                }
            }
        }
        for y in part_mut(y, row * output.width * channels, output.width * channels) {
            *y = rescale.element(*y, 0, false);
        }
    }
}
