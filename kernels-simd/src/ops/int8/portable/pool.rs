//! Pools.

use super::LANES;
use crate::ops::int8::pool::divide_rounded;
use crate::ops::int8::{Rescale, clamp};
use crate::ops::pool::geometry::Window;
use crate::shape::PoolShape;

/// The body of [`Kernels::int8_max_pool`](crate::Kernels::int8_max_pool).
pub(in crate::ops::int8) fn max_pool(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let largest = |values: &mut [i32; LANES], pixel: &[i8]| {
        values.iter_mut().zip(pixel).for_each(|(value, &q)| *value = (*value).max(q.into()));
    };
    each_window(x, y, shape, i8::MIN.into(), largest, |value, _| value, rescale);
}

/// The body of [`Kernels::int8_avg_pool`](crate::Kernels::int8_avg_pool).
pub(in crate::ops::int8) fn avg_pool(x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let sum = |values: &mut [i32; LANES], pixel: &[i8]| {
        values.iter_mut().zip(pixel).for_each(|(value, &q)| *value += i32::from(q));
    };
    each_window(x, y, shape, 0, sum, divide_rounded, rescale);
}

/// Combines the pixels of each window from `initial` on, a few channels at a time.
fn each_window(
    x: &[i8],
    y: &mut [i8],
    shape: PoolShape,
    initial: i32,
    combine: impl Fn(&mut [i32; LANES], &[i8]),
    finish: impl Fn(i32, i32) -> i32,
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
                        combine(&mut values, &x[window.at(i, j) + first..][..count]);
                    }
                }
                for (y, value) in y[window.output + first..][..count].iter_mut().zip(values) {
                    let value = finish(value, pixels) - i32::from(rescale.source_zero);
                    *y = clamp(rescale.factor.apply(value) + i64::from(rescale.target_zero));
                }
            }
        }
    }
}
