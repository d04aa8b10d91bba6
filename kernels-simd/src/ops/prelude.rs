//! The pass ahead of a convolution: affine map, ReLU and zero padding in one.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::lengths::{part_mut, require};
use crate::ops::lanes::{load, store, with_lanes};
use crate::ops::periodic::{registers, with_period};
use crate::ops::stored::Element;
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

    /// Whether a ReLU is its end.
    pub(super) fn has_relu(self) -> bool {
        matches!(self, Self::Relu | Self::AffineRelu { .. })
    }

    /// `y` = the pixels `x` after the prelude.
    ///
    /// # Safety
    ///
    /// `x` and `y` have the same length, that of whole pixels of as many channels as the slices of the prelude.
    pub(super) unsafe fn row(self, kernels: Kernels, x: &[f32], y: &mut [f32]) {
        let prelude = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, forward_row(x: &[f32], prelude: Prelude<'_>, y: &mut [f32])) }
    }

    /// The same for pixels in half precision.
    ///
    /// # Safety
    ///
    /// As for [`row`](Self::row).
    pub(super) unsafe fn row_of_halves(self, kernels: Kernels, x: &[u16], y: &mut [f32]) {
        let prelude = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, forward_row_of_halves(x: &[u16], prelude: Prelude<'_>, y: &mut [f32])) }
    }

    /// Whether it fits an image of `shape`.
    #[must_use]
    pub(super) fn check(self, shape: ImageShape) -> bool {
        require!(shape.is_sane(), "prelude: the elements of {shape:?} cannot be counted");
        if let Some((scale, shift)) = self.affine() {
            let fits = [scale.len(), shift.len()] == [shape.channels; 2];
            require!(fits, "prelude: scale, shift of {shape:?}");
        }
        true
    }
}

impl Kernels {
    /// `y` = the image `x` after `prelude`, with `padding` zeros around it; `y` has the padded shape and is
    /// overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn prelude(self, x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32]) {
        if !prelude.check(shape) {
            return;
        }
        let padded = shape.padded(padding);
        let fits = (x.len(), y.len()) == (shape.len(), padded.len());
        require!(fits, "prelude: x, y of {} and {} elements do not fit {shape:?}, {padding:?}", x.len(), y.len());
        let border = padded.width * shape.channels;
        part_mut(y, 0, padding.top * border).fill(0.0);
        part_mut(y, (padding.top + shape.height) * border, padding.bottom * border).fill(0.0);
        // SAFETY: x and y have the lengths of the shape and the padded shape, scale and shift those of the channels.
        unsafe {
            dispatch!(
                self,
                forward(x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32])
            );
        }
    }

    /// Gradient of [`prelude`](Self::prelude) with respect to `u = scale·x + shift` (`scale` itself is not applied):
    /// `dx (+)= dy` inside the border, and where the prelude has a ReLU only for `u > 0`. `dy` has the padded shape,
    /// `dx` that of `x`; `dx` is overwritten unless `accumulate`.
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
        if !prelude.check(shape) {
            return;
        }
        let lengths = (x.len(), dy.len(), dx.len());
        let wanted = (shape.len(), shape.padded(padding).len(), shape.len());
        assert_eq!(lengths, wanted, "prelude_backward: x, dy, dx of {shape:?}, {padding:?}");
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

#[inline(always)]
unsafe fn forward<S: Simd>(x: &[f32], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [f32]) {
    let row = shape.width * shape.channels;
    let (left, right) = (padding.left * shape.channels, padding.right * shape.channels);
    for h in 0..shape.height {
        let y = part_mut(y, (padding.top + h) * (left + row + right), left + row + right);
        let Some((before, rest)) = y.split_at_mut_checked(left) else { return };
        let (Some((y, after)), Some(x)) = (rest.split_at_mut_checked(row), x.get(h * row..(h + 1) * row)) else {
            return;
        };
        before.fill(0.0);
        after.fill(0.0);
        // SAFETY: x and y are rows of as many whole pixels, and scale and shift have one element per channel.
        unsafe { forward_row::<S>(x, prelude, y) }
    }
}

#[inline(always)]
unsafe fn forward_row<S: Simd>(x: &[f32], prelude: Prelude<'_>, y: &mut [f32]) {
    // SAFETY: promised by the caller.
    unsafe {
        match prelude {
            // No copy of a slice, which compares the lengths, and panics.
            Prelude::Copy => y.as_mut_ptr().copy_from_nonoverlapping(x.as_ptr(), x.len()),
            _ => changed_row::<S, f32>(x, prelude, y),
        }
    }
}

#[inline(always)]
unsafe fn forward_row_of_halves<S: Simd>(x: &[u16], prelude: Prelude<'_>, y: &mut [f32]) {
    // SAFETY: promised by the caller.
    unsafe { changed_row::<S, u16>(x, prelude, y) }
}

/// A row that is not only copied.
#[inline(always)]
unsafe fn changed_row<S: Simd, E: Element>(x: &[E], prelude: Prelude<'_>, y: &mut [f32]) {
    // SAFETY: promised by the caller.
    unsafe {
        match prelude {
            Prelude::Copy => floor_row::<S, E>(x, f32::NEG_INFINITY, y),
            Prelude::Relu => floor_row::<S, E>(x, 0.0, y),
            Prelude::Affine { scale, shift } => affine_row::<S, E>(x, scale, shift, f32::NEG_INFINITY, y),
            Prelude::AffineRelu { scale, shift } => affine_row::<S, E>(x, scale, shift, 0.0, y),
        }
    }
}

/// `y = max(floor, x)`.
#[inline(always)]
unsafe fn floor_row<S: Simd, E: Element>(x: &[E], floor: f32, y: &mut [f32]) {
    for i in (0..x.len()).step_by(S::LANES) {
        with_lanes!(S, x.len() - i, PARTIAL, count, {
            // SAFETY: x and y have the same length, and i + count is not above it.
            unsafe {
                // In this order of arguments a NaN goes through.
                let value = S::max(S::splat(floor), E::load::<S, PARTIAL>(x.as_ptr().add(i), count));
                store::<S, PARTIAL>(y.as_mut_ptr().add(i), value, count);
            }
        });
    }
}

/// `y = max(floor, scale·x + shift)`.
#[inline(always)]
unsafe fn affine_row<S: Simd, E: Element>(x: &[E], scale: &[f32], shift: &[f32], floor: f32, y: &mut [f32]) {
    // SAFETY: promised by the caller, and the period is that of the channels.
    unsafe {
        // Without vectors every channel is a register, and code is what is short.
        if const { S::LANES == 1 } {
            return affine_columns::<S, E>(x, scale, shift, floor, y);
        }
        with_period!(
            S,
            scale.len(),
            R,
            if const { R <= MOST_REGISTERS } {
                affine_periodic::<S, E, R>(x, scale, shift, floor, y);
            } else {
                affine_columns::<S, E>(x, scale, shift, floor, y);
            },
            affine_columns::<S, E>(x, scale, shift, floor, y)
        );
    }
}

/// Registers of factors for which it pays to repeat channels in them, for a row.
const MOST_REGISTERS: usize = 4;

/// Channels that begin again after `R` registers, in the order of memory.
#[inline(always)]
unsafe fn affine_periodic<S: Simd, E: Element, const R: usize>(
    x: &[E],
    scale: &[f32],
    shift: &[f32],
    floor: f32,
    y: &mut [f32],
) {
    let (len, x, y) = (x.len(), x.as_ptr(), y.as_mut_ptr());
    // SAFETY: x and y have the same length, and all that is read and written lies below.
    unsafe {
        let (scale, shift, floor) = (registers::<S, R>(scale), registers::<S, R>(shift), S::splat(floor));
        let mut at = 0;
        while at + R * S::LANES <= len {
            for (&scale, &shift) in scale.iter().zip(&shift) {
                let u = S::mul_add(E::load::<S, false>(x.add(at), S::LANES), scale, shift);
                // In this order of arguments a NaN goes through.
                S::store(y.add(at), S::max(floor, u));
                at += S::LANES;
            }
        }
        // What is left is less than a period.
        for (&scale, &shift) in scale.iter().zip(&shift) {
            if at >= len {
                break;
            }
            with_lanes!(S, len - at, PARTIAL, count, {
                let u = S::mul_add(E::load::<S, PARTIAL>(x.add(at), count), scale, shift);
                store::<S, PARTIAL>(y.add(at), S::max(floor, u), count);
            });
            at += S::LANES;
        }
    }
}

/// Any channels, a register of them at a time.
#[inline(always)]
unsafe fn affine_columns<S: Simd, E: Element>(x: &[E], scale: &[f32], shift: &[f32], floor: f32, y: &mut [f32]) {
    let channels = scale.len();
    for c in (0..channels).step_by(S::LANES) {
        with_lanes!(S, channels - c, PARTIAL, count, {
            // SAFETY: x and y have the same length, that of whole pixels, and c + count <= channels.
            unsafe {
                let scale = load::<S, PARTIAL>(scale.as_ptr().add(c), count);
                let shift = load::<S, PARTIAL>(shift.as_ptr().add(c), count);
                for at in (c..x.len()).step_by(channels) {
                    let u = S::mul_add(E::load::<S, PARTIAL>(x.as_ptr().add(at), count), scale, shift);
                    store::<S, PARTIAL>(y.as_mut_ptr().add(at), S::max(S::splat(floor), u), count);
                }
            }
        });
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
        // SAFETY: x, dy and dx are rows of whole pixels, and scale and shift have one element per channel.
        unsafe {
            match prelude {
                Prelude::Copy | Prelude::Affine { .. } if accumulate => add_row::<S>(dy, dx),
                Prelude::Copy | Prelude::Affine { .. } => dx.copy_from_slice(dy),
                Prelude::Relu => relu_row_backward::<S>(x, dy, dx, accumulate),
                Prelude::AffineRelu { scale, shift } => {
                    affine_relu_row_backward::<S>(x, scale, shift, dy, dx, accumulate);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn add_row<S: Simd>(dy: &[f32], dx: &mut [f32]) {
    for i in (0..dy.len()).step_by(S::LANES) {
        with_lanes!(S, dy.len() - i, PARTIAL, count, {
            // SAFETY: dy and dx have the same length, and i + count is not above it.
            unsafe {
                pass::<S, PARTIAL>(S::mask_all(), dy.as_ptr().add(i), dx.as_mut_ptr().add(i), true, count);
            }
        });
    }
}

#[inline(always)]
unsafe fn relu_row_backward<S: Simd>(x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
    for i in (0..x.len()).step_by(S::LANES) {
        with_lanes!(S, x.len() - i, PARTIAL, count, {
            // SAFETY: all three have the same length, and i + count is not above it.
            unsafe {
                let open = S::greater(load::<S, PARTIAL>(x.as_ptr().add(i), count), S::splat(0.0));
                pass::<S, PARTIAL>(open, dy.as_ptr().add(i), dx.as_mut_ptr().add(i), accumulate, count);
            }
        });
    }
}

#[inline(always)]
unsafe fn affine_relu_row_backward<S: Simd>(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let channels = scale.len();
    for c in (0..channels).step_by(S::LANES) {
        with_lanes!(S, channels - c, PARTIAL, count, {
            // SAFETY: all three rows have the same length, that of whole pixels, and c + count <= channels.
            unsafe {
                let scale = load::<S, PARTIAL>(scale.as_ptr().add(c), count);
                let shift = load::<S, PARTIAL>(shift.as_ptr().add(c), count);
                for at in (c..x.len()).step_by(channels) {
                    let u = S::mul_add(load::<S, PARTIAL>(x.as_ptr().add(at), count), scale, shift);
                    let open = S::greater(u, S::splat(0.0));
                    pass::<S, PARTIAL>(open, dy.as_ptr().add(at), dx.as_mut_ptr().add(at), accumulate, count);
                }
            }
        });
    }
}

/// `dx (+)= dy` where `open`, and 0 elsewhere, in one register.
///
/// # Safety
///
/// As for [`load`] and [`store`].
#[inline(always)]
unsafe fn pass<S: Simd, const PARTIAL: bool>(
    open: S::Mask,
    dy: *const f32,
    dx: *mut f32,
    accumulate: bool,
    count: usize,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let gradient = S::select(open, load::<S, PARTIAL>(dy, count), S::splat(0.0));
        let before = if accumulate { load::<S, PARTIAL>(dx, count) } else { S::splat(0.0) };
        store::<S, PARTIAL>(dx, S::add(before, gradient), count);
    }
}
