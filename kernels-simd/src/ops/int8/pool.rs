//! Pools. Each value is rounded to the source's elements, and then rescaled.

use super::{LANES, Rescale, clamp};
use crate::kernels::Kernels;
use crate::ops::pool::geometry::Window;
use crate::shape::{ImageShape, PoolShape};

impl Kernels {
    /// Maximum over each window, rescaled; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or half a window or more may lie in the padding.
    pub fn int8_max_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        let largest = |values: &mut [i32; LANES], pixel: &[i8]| {
            values.iter_mut().zip(pixel).for_each(|(value, &q)| *value = (*value).max(q.into()));
        };
        each_window(x, y, shape, i8::MIN.into(), largest, |value, _| value, rescale);
    }

    /// Mean over the pixels of each window that lie inside the image, rounded half away from zero and rescaled; `y` has the
    /// output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`int8_max_pool`](Self::int8_max_pool).
    pub fn int8_avg_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        let sum = |values: &mut [i32; LANES], pixel: &[i8]| {
            values.iter_mut().zip(pixel).for_each(|(value, &q)| *value += i32::from(q));
        };
        each_window(x, y, shape, 0, sum, divide_rounded, rescale);
    }

    /// Mean of each channel over all pixels of an image `x` of `shape`: `y` `[C]` is the sum of what stands above the zero,
    /// rescaled, so that the factor contains one part of as many as there are pixels. Overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn int8_global_avg_pool(self, x: &[i8], shape: ImageShape, y: &mut [i8], rescale: Rescale) {
        assert!(
            shape.is_sane() && (x.len(), y.len()) == (shape.len(), shape.channels),
            "int8_global_avg_pool: x, y of {} and {} elements do not fit {shape:?}",
            x.len(),
            y.len()
        );
        for (channel, y) in y.iter_mut().enumerate() {
            let values = x[channel..].iter().step_by(shape.channels);
            let sum = values.fold(0i32, |sum, &q| sum.wrapping_add(i32::from(q) - i32::from(rescale.source_zero)));
            *y = clamp(rescale.factor.apply(sum) + i64::from(rescale.target_zero));
        }
    }
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
    assert!(shape.is_sane(), "a pool of int8: not a window with less than half of it in the padding, {shape:?}");
    let (output, channels) = (shape.output(), shape.input.channels);
    let (lengths, wanted) = ((x.len(), y.len()), (shape.input.len(), output.len()));
    assert_eq!(lengths, wanted, "a pool of int8: input and output of {shape:?}");
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

/// `sum / count`, rounded half away from zero.
fn divide_rounded(sum: i32, count: i32) -> i32 {
    let half = if sum < 0 { -count / 2 } else { count / 2 };
    (sum + half) / count
}
