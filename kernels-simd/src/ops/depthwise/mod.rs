//! Depthwise convolutions: vectors over channels, several pixels at a time.
//!
//! Forward and the gradient with respect to the input share one routine, which computes pixels of a row from a window
//! of taps. The gradient with respect to the input at stride `s` falls into `s × s` classes of input pixels; each class
//! is a convolution at stride 1, with those taps that reach it, over the gradient of the output. At stride 2 the two
//! classes of a row of even width are mostly computed together ([`pairs`]). Taps beyond the ends of a row are left out
//! ([`clipped`]), or there are zeros for them.

mod batch;
mod block;
mod clipped;
mod filter;
mod input;
mod pairs;
pub(super) mod places;
mod row;

use super::ring::Ring;
use crate::kernels::Kernels;
use crate::lengths::require;
use crate::shape::{DepthwiseShape, Padding};

use input::backward_input;

pub(super) use filter::FilterGradient;
pub(super) use input::{InputGradient, Reach, steps};
pub(super) use row::{Row, Window};

impl Kernels {
    /// Convolution of every channel with its own filter: `y = x * w`, with `x` `[H, W, C]`, `w` `[k, k, C]` and `y`
    /// `[H_out, W_out, C]`, overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn depthwise(self, x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape) {
        if !check("depthwise", shape, x.len(), y.len(), w.len()) {
            return;
        }
        // SAFETY: the lengths fit the shape.
        unsafe { forward(self, x, w, y, shape) }
    }

    /// Gradient of [`Kernels::depthwise`] with respect to its input: `dx = dy * wᵀ`, where `dx` has the shape of the
    /// padded input. The pixels inside of `padding` are overwritten and those of the padding, whose gradient nobody
    /// needs, left alone; [`Padding::NONE`] computes all. `scratch` holds [`DepthwiseShape::backward_scratch`]
    /// elements, of any value.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape, or the padding is larger than the input; `scratch` may be longer.
    pub fn depthwise_backward_input(
        self,
        dy: &[f32],
        w: &[f32],
        dx: &mut [f32],
        shape: DepthwiseShape,
        padding: Padding,
        scratch: &mut [f32],
    ) {
        if !check("depthwise_backward_input", shape, dx.len(), dy.len(), w.len()) {
            return;
        }
        let needed = shape.backward_scratch();
        assert!(scratch.len() >= needed, "depthwise_backward_input: scratch of {}, not {needed}", scratch.len());
        let fits = |before: usize, after: usize, size| before.checked_add(after).is_some_and(|sum| sum <= size);
        assert!(
            fits(padding.top, padding.bottom, shape.input.height)
                && fits(padding.left, padding.right, shape.input.width),
            "depthwise_backward_input: {padding:?} is larger than {shape:?}"
        );
        // SAFETY: the lengths fit the shape, and the padding lies inside.
        unsafe { backward_input(self, dy, w, dx, shape, padding, scratch) }
    }

    /// Gradient of [`Kernels::depthwise`] with respect to its weights: adds `Σ_pixels x·dy` to `dw` `[k, k, C]`.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn depthwise_backward_weight(self, x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape) {
        if !check("depthwise_backward_weight", shape, x.len(), dy.len(), dw.len()) || dy.is_empty() {
            return;
        }
        // SAFETY: the lengths fit the shape.
        unsafe { backward_weight(self, x, dy, dw, shape) }
    }
}

/// Pixels that are computed as one, `twice` for those whose channels fill half a register.
pub(super) const fn pixels_per_register(twice: bool) -> usize {
    if twice { 2 } else { 1 }
}

/// Whether the lengths fit the shape.
#[must_use]
fn check(name: &str, shape: DepthwiseShape, input: usize, output: usize, weights: usize) -> bool {
    let fits =
        shape.is_sane() && input == shape.input.len() && output == shape.output().len() && weights == shape.weights();
    require!(
        fits,
        "{name}: input of {input}, output of {output} and weights of {weights} elements do not fit {shape:?}"
    );
    true
}

unsafe fn forward(kernels: Kernels, x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape) {
    let (input, output) = (shape.input, shape.output());
    let window = Window {
        rows: shape.kernel,
        columns: shape.kernel,
        source_row: shape.dilation * input.width * input.channels,
        source_column: shape.dilation * input.channels,
        weight_row: (shape.kernel * input.channels) as isize,
        weight_column: input.channels as isize,
        rows_to_end: shape.kernel,
        ring: 0,
    };
    let y = y.as_mut_ptr();
    let row = |row| Row {
        window,
        source: x.as_ptr().wrapping_add(row * shape.stride * input.width * input.channels),
        source_step: shape.stride * input.channels,
        weights: w.as_ptr(),
        target: y.wrapping_add(row * output.width * output.channels),
        target_step: output.channels,
        pixels: output.width,
    };
    // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
    unsafe { Row::compute_all(output.height, row, kernels, output.channels, None) }
}

unsafe fn backward_weight(kernels: Kernels, x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape) {
    let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
    let gradient = FilterGradient {
        kernel: shape.kernel,
        stride: shape.stride,
        dilation: shape.dilation,
        channels,
        x: Ring { start: x.as_ptr().cast_mut(), rows: input.height, row_len: input.width * channels }.padded(
            0,
            0,
            input.height,
            x.as_ptr(),
        ),
        dy: dy.as_ptr(),
        dy_row: output.width * channels,
        height: output.height,
        width: output.width,
        dw: dw.as_mut_ptr(),
    };
    // SAFETY: the lengths fit the shape.
    unsafe { gradient.compute(kernels) }
}
