//! Pools. Each value is rounded to the source's elements, and then rescaled.

use super::{Rescale, bodies, clamp};
use crate::kernels::Kernels;
use crate::lengths::{require, rest};
use crate::shape::{ImageShape, PoolShape};

impl Kernels {
    /// Maximum over each window, rescaled; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or half a window or more may lie in the padding.
    pub fn int8_max_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        require!(fits(x, y, shape), "int8_max_pool: x, y of {} and {} elements for {shape:?}", x.len(), y.len());
        bodies::max_pool(self, x, y, shape, rescale);
    }

    /// Mean over the pixels of each window that lie inside the image, rounded half away from zero and rescaled; `y` has
    /// the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`int8_max_pool`](Self::int8_max_pool).
    pub fn int8_avg_pool(self, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
        require!(fits(x, y, shape), "int8_avg_pool: x, y of {} and {} elements for {shape:?}", x.len(), y.len());
        bodies::avg_pool(self, x, y, shape, rescale);
    }

    /// Mean of each channel over all pixels of an image `x` of `shape`: `y` `[C]` is the sum of what stands above the
    /// zero, rescaled, so that the factor contains one part of as many as there are pixels. Overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn int8_global_avg_pool(self, x: &[i8], shape: ImageShape, y: &mut [i8], rescale: Rescale) {
        require!(
            shape.is_sane() && (x.len(), y.len()) == (shape.len(), shape.channels),
            "int8_global_avg_pool: x, y of {} and {} elements do not fit {shape:?}",
            x.len(),
            y.len()
        );
        for (channel, y) in y.iter_mut().enumerate() {
            let values = rest(x, channel).iter().step_by(shape.channels.max(1));
            let sum = values.fold(0i32, |sum, &q| sum.wrapping_add(i32::from(q) - i32::from(rescale.source_zero)));
            *y = clamp(rescale.factor.apply(sum) + i64::from(rescale.target_zero));
        }
    }
}

/// Whether the lengths are those of the shape, and less than half of a window lies in the padding.
fn fits(x: &[i8], y: &[i8], shape: PoolShape) -> bool {
    shape.is_sane() && (x.len(), y.len()) == (shape.input.len(), shape.output().len())
}

/// `sum / count`, rounded half away from zero; 0 for a `count` of 0.
pub(super) const fn divide_rounded(sum: i32, count: i32) -> i32 {
    let half = if sum < 0 { -count / 2 } else { count / 2 };
    match (sum + half).checked_div(count) {
        Some(mean) => mean,
        None => 0,
    }
}
