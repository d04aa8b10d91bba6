//! Pools. Each value is rounded to the source's elements, and then rescaled.

use super::{Rescale, bodies, clamp};
use crate::kernels::Kernels;
use crate::shape::{ImageShape, PoolShape};

impl Kernels {
    /// Maximum over each window, rescaled; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or half a window or more may lie in the padding.
    pub fn int8_max_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        check(x, y, shape);
        bodies::max_pool(self, x, y, shape, rescale);
    }

    /// Mean over the pixels of each window that lie inside the image, rounded half away from zero and rescaled; `y` has the
    /// output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`int8_max_pool`](Self::int8_max_pool).
    pub fn int8_avg_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        check(x, y, shape);
        bodies::avg_pool(self, x, y, shape, rescale);
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

fn check(x: &[i8], y: &[i8], shape: PoolShape) {
    assert!(shape.is_sane(), "a pool of int8: not a window with less than half of it in the padding, {shape:?}");
    let (lengths, wanted) = ((x.len(), y.len()), (shape.input.len(), shape.output().len()));
    assert_eq!(lengths, wanted, "a pool of int8: input and output of {shape:?}");
}

/// `sum / count`, rounded half away from zero.
pub(super) const fn divide_rounded(sum: i32, count: i32) -> i32 {
    let half = if sum < 0 { -count / 2 } else { count / 2 };
    (sum + half) / count
}
