//! Averages over whole images.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::lengths::require;
use crate::ops::lanes::{load, store, with_lanes};
use crate::shape::ImageShape;

impl Kernels {
    /// Mean of each channel over all pixels of `x`; `y` is `[C]`, overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn global_avg_pool(self, x: &[f32], shape: ImageShape, y: &mut [f32]) {
        let fits = shape.is_sane() && (x.len(), y.len()) == (shape.len(), shape.channels);
        require!(fits, "global_avg_pool: x, y of {} and {} elements do not fit {shape:?}", x.len(), y.len());
        // SAFETY: x has the length of the shape and y that of the channels.
        unsafe { dispatch!(self, global_forward(x: &[f32], shape: ImageShape, y: &mut [f32])) }
    }

    /// Gradient of [`global_avg_pool`](Self::global_avg_pool): `dx (+)= dy / pixels`; `dx` is overwritten unless
    /// `accumulate`.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn global_avg_pool_backward(self, dy: &[f32], shape: ImageShape, dx: &mut [f32], accumulate: bool) {
        assert_eq!(
            (dy.len(), dx.len()),
            (shape.channels, shape.len()),
            "global_avg_pool_backward: dy, dx of {shape:?}"
        );
        // SAFETY: dx has the length of the shape and dy that of the channels.
        unsafe {
            dispatch!(self, global_backward(dy: &[f32], shape: ImageShape, dx: &mut [f32], accumulate: bool));
        }
    }
}

#[inline(always)]
unsafe fn global_forward<S: Simd>(x: &[f32], shape: ImageShape, y: &mut [f32]) {
    let share = 1.0 / shape.pixels() as f32;
    for c in (0..shape.channels).step_by(S::LANES) {
        with_lanes!(S, shape.channels - c, PARTIAL, count, {
            // SAFETY: pixels and channels lie in the image, and c + count <= channels.
            unsafe {
                let mut total = S::splat(0.0);
                for row in x.chunks_exact((shape.width * shape.channels).max(1)) {
                    let mut sum = S::splat(0.0);
                    for pixel in row.chunks_exact(shape.channels.max(1)) {
                        sum = S::add(sum, load::<S, PARTIAL>(pixel.as_ptr().add(c), count));
                    }
                    total = S::add(total, sum);
                }
                store::<S, PARTIAL>(y.as_mut_ptr().add(c), S::mul(total, S::splat(share)), count);
            }
        });
    }
}

#[inline(always)]
unsafe fn global_backward<S: Simd>(dy: &[f32], shape: ImageShape, dx: &mut [f32], accumulate: bool) {
    let share = 1.0 / shape.pixels() as f32;
    for c in (0..shape.channels).step_by(S::LANES) {
        with_lanes!(S, shape.channels - c, PARTIAL, count, {
            // SAFETY: each pixel has `channels` elements, as has dy, and c + count <= channels.
            unsafe {
                let value = S::mul(load::<S, PARTIAL>(dy.as_ptr().add(c), count), S::splat(share));
                for pixel in dx.chunks_exact_mut(shape.channels) {
                    let target = pixel.as_mut_ptr().add(c);
                    let before = if accumulate { load::<S, PARTIAL>(target, count) } else { S::splat(0.0) };
                    store::<S, PARTIAL>(target, S::add(before, value), count);
                }
            }
        });
    }
}
