//! The pass ahead of a convolution: affine map, ReLU and zero padding in one.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store, with_lanes};
use crate::shape::{ImageShape, Padding};

/// What happens to each value before a convolution; slices hold one number per channel.
#[derive(Clone, Copy, Debug)]
pub enum Prelude<'a> {
    /// Nothing.
    Copy,
    /// `max(x, 0)`.
    Relu,
    /// `scale·x + shift`: a batch normalisation, folded.
    Affine {
        /// Factor of each channel.
        scale: &'a [f32],
        /// Summand of each channel.
        shift: &'a [f32],
    },
    /// `max(scale·x + shift, 0)`.
    AffineRelu {
        /// Factor of each channel.
        scale: &'a [f32],
        /// Summand of each channel.
        shift: &'a [f32],
    },
}

impl<'a> Prelude<'a> {
    fn affine(self) -> Option<(&'a [f32], &'a [f32])> {
        match self {
            Self::Copy | Self::Relu => None,
            Self::Affine { scale, shift } | Self::AffineRelu { scale, shift } => Some((scale, shift)),
        }
    }

    fn has_relu(self) -> bool {
        matches!(self, Self::Relu | Self::AffineRelu { .. })
    }

    fn check(self, channels: usize) {
        if let Some((scale, shift)) = self.affine() {
            assert_eq!(
                (scale.len(), shift.len()),
                (channels, channels),
                "prelude: scale and shift of {channels} channels"
            );
        }
    }
}

impl Kernels {
    /// `y` = the image `x` after `prelude`, with `padding` zeros around it; `y` has the padded shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn prelude(self, x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32]) {
        let padded = shape.padded(padding);
        assert_eq!((x.len(), y.len()), (shape.len(), padded.len()), "prelude: x, y of {shape:?}, {padding:?}");
        prelude.check(shape.channels);
        let border = padded.width * shape.channels;
        y[..padding.top * border].fill(0.0);
        y[(padding.top + shape.height) * border..].fill(0.0);
        // SAFETY: x and y have the lengths of the shape and the padded shape, scale and shift those of the channels.
        unsafe {
            dispatch!(
                self,
                forward(x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32])
            );
        }
    }

    /// Gradient of [`prelude`](Self::prelude) with respect to `u = scale·x + shift` (`scale` itself is not applied):
    /// `dx (+)= dy` inside the border, and where the prelude has a ReLU only for `u > 0`. `dy` has the padded shape, `dx`
    /// that of `x`; `dx` is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    #[allow(clippy::too_many_arguments)]
    pub fn prelude_backward(
        self,
        x: &[f32],
        shape: ImageShape,
        padding: Padding,
        prelude: Prelude<'_>,
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
    ) {
        let lengths = (x.len(), dy.len(), dx.len());
        let wanted = (shape.len(), shape.padded(padding).len(), shape.len());
        assert_eq!(lengths, wanted, "prelude_backward: x, dy, dx of {shape:?}, {padding:?}");
        prelude.check(shape.channels);
        // SAFETY: x and dx have the length of the shape, dy that of the padded shape, scale and shift those of the
        // channels.
        unsafe {
            dispatch!(
                self,
                backward(
                    x: &[f32],
                    shape: ImageShape,
                    padding: Padding,
                    prelude: Prelude<'_>,
                    dy: &[f32],
                    dx: &mut [f32],
                    accumulate: bool,
                )
            );
        }
    }
}

/// How a row of an image is walked: without an affine map it is one long pixel.
fn row_layout(shape: ImageShape, prelude: Prelude<'_>) -> (usize, usize) {
    match prelude.affine() {
        Some(_) => (shape.width, shape.channels),
        None => (1, shape.width * shape.channels),
    }
}

/// Scale and shift of `count` channels from `channel` on.
///
/// # Safety
///
/// As for [`Simd`]; the channels exist.
#[inline(always)]
unsafe fn affine_at<S: Simd, const PARTIAL: bool>(
    prelude: Prelude<'_>,
    channel: usize,
    count: usize,
) -> (S::Vector, S::Vector) {
    // SAFETY: the caller's promise.
    unsafe {
        match prelude.affine() {
            Some((scale, shift)) => (
                load::<S, PARTIAL>(scale.as_ptr().add(channel), count),
                load::<S, PARTIAL>(shift.as_ptr().add(channel), count),
            ),
            None => (S::splat(1.0), S::splat(0.0)),
        }
    }
}

#[inline(always)]
unsafe fn forward<S: Simd>(x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32]) {
    let row = shape.width * shape.channels;
    let (left, right) = (padding.left * shape.channels, padding.right * shape.channels);
    // SAFETY: the instruction set is there.
    let floor = unsafe { S::splat(if prelude.has_relu() { 0.0 } else { f32::NEG_INFINITY }) };
    for h in 0..shape.height {
        let x = &x[h * row..][..row];
        let y = &mut y[(padding.top + h) * (left + row + right)..][..left + row + right];
        y[..left].fill(0.0);
        y[left + row..].fill(0.0);
        let y = &mut y[left..left + row];
        if matches!(prelude, Prelude::Copy) {
            y.copy_from_slice(x);
            continue;
        }
        let (pixels, channels) = row_layout(shape, prelude);
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: x and y are rows of `pixels * channels` elements, and c + count <= channels.
                unsafe {
                    let (scale, shift) = affine_at::<S, PARTIAL>(prelude, c, count);
                    for at in (c..pixels * channels).step_by(channels) {
                        let u = S::mul_add(load::<S, PARTIAL>(x.as_ptr().add(at), count), scale, shift);
                        // In this order of arguments a NaN goes through.
                        store::<S, PARTIAL>(y.as_mut_ptr().add(at), S::max(floor, u), count);
                    }
                }
            });
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn backward<S: Simd>(
    x: &[f32],
    shape: ImageShape,
    padding: Padding,
    prelude: Prelude<'_>,
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let row = shape.width * shape.channels;
    let padded_row = row + (padding.left + padding.right) * shape.channels;
    for h in 0..shape.height {
        let x = &x[h * row..][..row];
        let dy = &dy[(padding.top + h) * padded_row + padding.left * shape.channels..][..row];
        let dx = &mut dx[h * row..][..row];
        if !prelude.has_relu() && !accumulate {
            dx.copy_from_slice(dy);
            continue;
        }
        let (pixels, channels) = row_layout(shape, prelude);
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: all three are rows of `pixels * channels` elements, and c + count <= channels.
                unsafe {
                    let (scale, shift) = affine_at::<S, PARTIAL>(prelude, c, count);
                    for at in (c..pixels * channels).step_by(channels) {
                        let mut gradient = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                        if prelude.has_relu() {
                            let u = S::mul_add(load::<S, PARTIAL>(x.as_ptr().add(at), count), scale, shift);
                            gradient = S::select(S::greater(u, S::splat(0.0)), gradient, S::splat(0.0));
                        }
                        if accumulate {
                            gradient = S::add(load::<S, PARTIAL>(dx.as_ptr().add(at), count), gradient);
                        }
                        store::<S, PARTIAL>(dx.as_mut_ptr().add(at), gradient, count);
                    }
                }
            });
        }
    }
}
