//! Depthwise convolutions: vectors over channels, several pixels at a time.
//!
//! Forward and the gradient with respect to the input share one routine, which computes pixels of a row from a window
//! of taps. The gradient with respect to the input at stride `s` falls into `s × s` classes of input pixels; each class
//! is a convolution at stride 1, with those taps that reach it, over the gradient of the output with zeros left and
//! right.

mod filter;
mod row;

use super::ring::Ring;
use crate::kernels::Kernels;
use crate::shape::{DepthwiseShape, Padding, divide};

pub(super) use filter::{FilterGradient, FilterInput};
pub(super) use row::{Row, Window};

impl Kernels {
    /// Convolution of every channel with its own filter: `y = x * w`, with `x` `[H, W, C]`, `w` `[k, k, C]` and `y`
    /// `[H_out, W_out, C]`, overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape.
    pub fn depthwise(self, x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape) {
        check("depthwise", shape, x.len(), y.len(), w.len());
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
        check("depthwise_backward_input", shape, dx.len(), dy.len(), w.len());
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
        check("depthwise_backward_weight", shape, x.len(), dy.len(), dw.len());
        // SAFETY: the lengths fit the shape.
        unsafe { backward_weight(self, x, dy, dw, shape) }
    }
}

fn check(name: &str, shape: DepthwiseShape, input: usize, output: usize, weights: usize) {
    assert!(
        shape.is_sane() && input == shape.input.len() && output == shape.output().len() && weights == shape.weights(),
        "{name}: input of {input}, output of {output} and weights of {weights} elements do not fit {shape:?}"
    );
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
    for y_row in 0..output.height {
        // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
        unsafe {
            let pixels = Row {
                window,
                source: x.as_ptr().add(y_row * shape.stride * input.width * input.channels),
                source_step: shape.stride * input.channels,
                weights: w.as_ptr(),
                target: y.as_mut_ptr().add(y_row * output.width * output.channels),
                target_step: output.channels,
                pixels: output.width,
            };
            pixels.compute(kernels, output.channels);
        }
    }
}

unsafe fn backward_input(
    kernels: Kernels,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    shape: DepthwiseShape,
    padding: Padding,
    scratch: &mut [f32],
) {
    let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
    let row = shape.backward_width() * channels;
    // No row reaches anything if there is none.
    let ring = Ring { start: scratch.as_mut_ptr(), rows: output.height.max(1), row_len: row };
    let mut copied = 0;
    for y in padding.top..input.height - padding.bottom {
        // Rows are copied when they are first read, while they are in the cache.
        while copied < output.height.min(y / shape.stride + 1) {
            let source = &dy[copied * output.width * channels..][..output.width * channels];
            pad_row(source, shape.backward_padding() * channels, &mut scratch[copied * row..][..row]);
            copied += 1;
        }
        // SAFETY: the lengths fit the shape, and all rows of `dy` that reach this one are copied.
        unsafe {
            let target = dx.as_mut_ptr().add((y * input.width + padding.left) * channels);
            input_gradient_row(kernels, ring, w, target, y, shape, padding);
        }
    }
}

/// Computes row `y` of the gradient of the padded input without the columns of the padding, from the rows of the
/// gradient of the output, each with [`DepthwiseShape::backward_padding`] zeros on the left in a row of
/// [`DepthwiseShape::backward_width`].
///
/// # Safety
///
/// The ring holds all rows that reach this one, `w` fits the shape, and `target` has such a row.
pub(super) unsafe fn input_gradient_row(
    kernels: Kernels,
    dy: Ring,
    w: &[f32],
    target: *mut f32,
    y: usize,
    shape: DepthwiseShape,
    padding: Padding,
) {
    let (width, channels) = (shape.input.width, shape.input.channels);
    // Neighbouring taps among those that reach a pixel are this far apart, and so are the output pixels that they come
    // from.
    let common = greatest_common_divisor(shape.stride, shape.dilation);
    let (tap_step, output_step) = (divide(shape.stride, common), divide(shape.dilation, common));
    let rows = Reach::new(y, shape, shape.output().height);
    for x in padding.left..(padding.left + shape.stride).min(width - padding.right) {
        let columns = Reach::new(x + shape.backward_padding() * shape.stride, shape, shape.backward_width());
        let last_tap = (rows.last_tap * shape.kernel + columns.last_tap) * channels;
        let taps = Window {
            rows: rows.taps,
            columns: columns.taps,
            source_row: 0,
            source_column: output_step * channels,
            weight_row: -((tap_step * shape.kernel * channels) as isize),
            weight_column: -((tap_step * channels) as isize),
            rows_to_end: 0,
            ring: 0,
        };
        // SAFETY: the padding covers what the taps reach; the rest is promised by the caller.
        unsafe {
            let pixels = Row {
                window: dy.window(rows.first_output, output_step, taps),
                source: dy.start.wrapping_add(dy.offset(rows.first_output) + columns.first_output * channels),
                source_step: channels,
                weights: w.as_ptr().add(last_tap),
                target: target.add((x - padding.left) * channels),
                target_step: shape.stride * channels,
                pixels: (width - padding.right - x).div_ceil(shape.stride),
            };
            pixels.compute(kernels, channels);
        }
    }
}

/// Copies one row of `dy` into a row of the scratch, with `left` zeros before it and zeros behind.
fn pad_row(dy: &[f32], left: usize, target: &mut [f32]) {
    target[..left].fill(0.0);
    target[left..left + dy.len()].copy_from_slice(dy);
    target[left + dy.len()..].fill(0.0);
}

/// The taps of one direction that reach a position of the input. From the last tap to the first the output positions
/// that they come from, `(position - tap * dilation) / stride`, ascend.
#[derive(Default)]
struct Reach {
    taps: usize,
    last_tap: usize,
    first_output: usize,
}

impl Reach {
    fn new(position: usize, shape: DepthwiseShape, outputs: usize) -> Self {
        let mut reach = Self::default();
        for tap in (0..shape.kernel).rev() {
            let Some(distance) = position.checked_sub(tap * shape.dilation) else { continue };
            let output = divide(distance, shape.stride);
            let between = distance - output * shape.stride;
            if between == 0 && output < outputs {
                if reach.taps == 0 {
                    (reach.last_tap, reach.first_output) = (tap, output);
                }
                reach.taps += 1;
            }
        }
        reach
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match (a, b) {
        (1, _) | (_, 1) => 1,
        (_, 0) => a,
        _ if a == b => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

unsafe fn backward_weight(kernels: Kernels, x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape) {
    let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
    let gradient = FilterGradient {
        kernel: shape.kernel,
        stride: shape.stride,
        dilation: shape.dilation,
        channels,
        x: FilterInput {
            rows: Ring { start: x.as_ptr().cast_mut(), rows: input.height, row_len: input.width * channels },
            above: 0,
            inside: input.height,
            slot: 0,
            outside: x.as_ptr(),
        },
        dy: dy.as_ptr(),
        dy_row: output.width * channels,
        height: output.height,
        width: output.width,
        dw: dw.as_mut_ptr(),
    };
    // SAFETY: the lengths fit the shape.
    unsafe { gradient.compute(kernels) }
}
