//! Depthwise convolutions: vectors over channels, several pixels at a time.
//!
//! Forward and the gradient with respect to the input share one routine, which computes pixels of a row from a window
//! of taps. The gradient with respect to the input at stride `s` falls into `s × s` classes of input pixels; each class is
//! a convolution at stride 1, with those taps that reach it, over the gradient of the output with zeros left and right.

use super::lanes::{for_registers, load, store};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::shape::{DepthwiseShape, Padding};

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

    /// Gradient of [`Kernels::depthwise`] with respect to its input: `dx = dy * wᵀ`, where `dx` has the shape of the padded
    /// input. The pixels inside of `padding` are overwritten and those of the padding, whose gradient nobody needs, left
    /// alone; [`Padding::NONE`] computes all. `scratch` holds [`DepthwiseShape::backward_scratch`] elements, of any value.
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
        unsafe { dispatch!(self, backward_weight(x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape)) }
    }
}

fn check(name: &str, shape: DepthwiseShape, input: usize, output: usize, weights: usize) {
    assert!(
        shape.is_sane() && input == shape.input.len() && output == shape.output().len() && weights == shape.weights(),
        "{name}: input of {input}, output of {output} and weights of {weights} elements do not fit {shape:?}"
    );
}

/// The taps of one pixel of the result. Tap `(i, j)` multiplies the element `i * source_row + j * source_column` behind the
/// place of the pixel in the source with the weight `i * weight_row + j * weight_column` behind the first one. Where the
/// source is a ring of rows, those from `rows_to_end` on lie `ring` elements further back, at its beginning.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub rows: usize,
    pub columns: usize,
    pub source_row: usize,
    pub source_column: usize,
    pub weight_row: isize,
    pub weight_column: isize,
    pub rows_to_end: usize,
    pub ring: isize,
}

/// `pixels` pixels of the result, `target_step` elements apart, from places `source_step` elements apart.
pub(super) struct Row {
    pub window: Window,
    pub source: *const f32,
    pub source_step: usize,
    pub weights: *const f32,
    pub target: *mut f32,
    pub target_step: usize,
    pub pixels: usize,
}

impl Row {
    /// Computes all pixels of `channels` channels.
    ///
    /// # Safety
    ///
    /// The pointers cover all windows, weights and pixels.
    pub unsafe fn compute(&self, kernels: Kernels, channels: usize) {
        let row_of = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, row(row_of: &Row, channels: usize)) }
    }

    /// Columns of taps, and the distances between pixels and between columns in units of the smaller one.
    fn pattern(&self) -> (usize, usize, usize) {
        let (step, spread) = (self.source_step, self.window.source_column);
        let unit = step.min(spread);
        (self.window.columns, step / unit, spread / unit)
    }
}

/// Computes a row. Common patterns have code of their own, in which neighbouring pixels share what they read.
#[inline(always)]
unsafe fn row<S: Simd>(row: &Row, channels: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { S::LANES > 1 } {
            match row.pattern() {
                (2, 1, 1) => return for_registers!(S, 0..channels, blocks::<2, 1, 1>(row)),
                (3, 1, 1) => return for_registers!(S, 0..channels, blocks::<3, 1, 1>(row)),
                (5, 1, 1) => return for_registers!(S, 0..channels, blocks::<5, 1, 1>(row)),
                (7, 1, 1) => return for_registers!(S, 0..channels, blocks::<7, 1, 1>(row)),
                (3, 1, 2) => return for_registers!(S, 0..channels, blocks::<3, 1, 2>(row)),
                (5, 1, 2) => return for_registers!(S, 0..channels, blocks::<5, 1, 2>(row)),
                (3, 2, 1) => return for_registers!(S, 0..channels, blocks::<3, 2, 1>(row)),
                (5, 2, 1) => return for_registers!(S, 0..channels, blocks::<5, 2, 1>(row)),
                _ => {}
            }
        }
        for_registers!(S, 0..channels, blocks::<1, 0, 0>(row));
    }
}

/// Splits a row into blocks of pixels that fit the registers.
#[inline(always)]
unsafe fn blocks<S: Simd, const K: usize, const STEP: usize, const SPREAD: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    row: &Row,
) {
    let mut pixel = 0;
    macro_rules! blocks_of {
        ($k:tt, $step:tt, $spread:tt: $($pixels:literal),*) => {$(
            while row.pixels - pixel >= $pixels {
                block::<S, $pixels, $k, $step, $spread, PARTIAL>(channel, lanes, pixel, row);
                pixel += $pixels;
            }
        )*};
    }
    // SAFETY: every block ends at or before `pixels`; the rest is promised by the caller.
    unsafe {
        if const { S::LANES > 1 } {
            blocks_of!(K, STEP, SPREAD: 8);
        }
        blocks_of!(K, STEP, SPREAD: 4);
        blocks_of!(1, 0, 0: 2, 1);
    }
}

/// Computes `P` pixels. With `STEP > 0` the window has exactly `K` columns and the pattern is `(K, STEP, SPREAD)`: all elements of
/// a row of the window are read once. Otherwise `K` is 1, and the columns are taken one by one.
#[inline(always)]
unsafe fn block<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    pixel: usize,
    row: &Row,
) {
    let window = &row.window;
    // SAFETY: the pointers of `row` cover all windows.
    unsafe {
        let source = row.source.add(pixel * row.source_step + channel);
        let weights = row.weights.add(channel);
        let mut sums = [S::splat(0.0); P];
        for i in 0..window.rows {
            let ring = if i < window.rows_to_end { 0 } else { window.ring };
            let source = source.offset((i * window.source_row) as isize - ring);
            let weights = weights.offset(i as isize * window.weight_row);
            if const { STEP > 0 } {
                let unit = row.source_step / STEP;
                let mut taps = [S::splat(0.0); K];
                for (j, tap) in taps.iter_mut().enumerate() {
                    *tap = load::<S, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                }
                for (p, sum) in sums.iter_mut().enumerate() {
                    for (j, tap) in taps.iter().enumerate() {
                        // The same place for several `p` and `j`: the compiler loads it once.
                        let x = load::<S, PARTIAL>(source.add((p * STEP + j * SPREAD) * unit), lanes);
                        *sum = S::mul_add(x, *tap, *sum);
                    }
                }
            } else {
                for j in 0..window.columns {
                    let tap = load::<S, PARTIAL>(weights.offset(j as isize * window.weight_column), lanes);
                    let source = source.add(j * window.source_column);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(source.add(p * row.source_step), lanes);
                        *sum = S::mul_add(x, tap, *sum);
                    }
                }
            }
        }
        let target = row.target.add(pixel * row.target_step + channel);
        for (p, sum) in sums.iter().enumerate() {
            store::<S, PARTIAL>(target.add(p * row.target_step), *sum, lanes);
        }
    }
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
    let padded_row = shape.backward_width() * channels;
    // Neighbouring taps among those that reach a pixel are this far apart, and so are the output pixels that they come from.
    let common = greatest_common_divisor(shape.stride, shape.dilation);
    let (tap_step, output_step) = (shape.stride / common, shape.dilation / common);
    let mut copied = 0;
    for y in padding.top..input.height - padding.bottom {
        // Rows are copied when they are first read, while they are in the cache.
        while copied < output.height.min(y / shape.stride + 1) {
            let source = &dy[copied * output.width * channels..][..output.width * channels];
            pad_row(source, shape.backward_padding() * channels, &mut scratch[copied * padded_row..][..padded_row]);
            copied += 1;
        }
        let rows = Reach::new(y, shape, output.height);
        for x in padding.left..(padding.left + shape.stride).min(input.width - padding.right) {
            let columns = Reach::new(x + shape.backward_padding() * shape.stride, shape, shape.backward_width());
            let last_tap = (rows.last_tap * shape.kernel + columns.last_tap) * channels;
            // SAFETY: the padding covers what the taps reach, and the lengths fit the shape.
            unsafe {
                let pixels = Row {
                    window: Window {
                        rows: rows.taps,
                        columns: columns.taps,
                        source_row: output_step * padded_row,
                        source_column: output_step * channels,
                        weight_row: -((tap_step * shape.kernel * channels) as isize),
                        weight_column: -((tap_step * channels) as isize),
                        rows_to_end: rows.taps,
                        ring: 0,
                    },
                    source: scratch
                        .as_ptr()
                        .wrapping_add(rows.first_output * padded_row + columns.first_output * channels),
                    source_step: channels,
                    weights: w.as_ptr().add(last_tap),
                    target: dx.as_mut_ptr().add((y * input.width + x) * channels),
                    target_step: shape.stride * channels,
                    pixels: (input.width - padding.right - x).div_ceil(shape.stride),
                };
                pixels.compute(kernels, channels);
            }
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
            if distance.is_multiple_of(shape.stride) && distance / shape.stride < outputs {
                if reach.taps == 0 {
                    (reach.last_tap, reach.first_output) = (tap, distance / shape.stride);
                }
                reach.taps += 1;
            }
        }
        reach
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[inline(always)]
unsafe fn backward_weight<S: Simd>(x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape) {
    let (x, dy, dw) = (x.as_ptr(), dy.as_ptr(), dw.as_mut_ptr());
    // SAFETY: the lengths fit the shape.
    unsafe { for_registers!(S, 0..shape.input.channels, filter(x, dy, dw, shape)) }
}

/// The gradient of all taps of one vector of channels, as many at a time as there are registers for.
#[inline(always)]
unsafe fn filter<S: Simd, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
    shape: DepthwiseShape,
) {
    let mut tap_row = 0;
    macro_rules! rows_of {
        ($rows:literal, $k:literal) => {
            while shape.kernel - tap_row >= $rows {
                filter_rows::<S, $rows, $k, PARTIAL>(
                    lanes,
                    tap_row,
                    x.add(channel),
                    dy.add(channel),
                    dw.add(channel),
                    shape,
                );
                tap_row += $rows;
            }
        };
    }
    // SAFETY: every block of taps lies inside the filter; the rest is promised by the caller.
    unsafe {
        match shape.kernel {
            _ if const { S::LANES == 1 } => rows_of!(1, 0),
            3 => rows_of!(3, 3),
            5 if const { S::LANES == 16 } => rows_of!(5, 5),
            5 => {
                rows_of!(2, 5);
                rows_of!(1, 5);
            }
            7 => rows_of!(1, 7),
            _ => rows_of!(1, 0),
        }
    }
}

/// The gradient of `R` rows of taps from `tap_row` on: `K` columns at once, or if that is 0 all columns one by one.
#[inline(always)]
unsafe fn filter_rows<S: Simd, const R: usize, const K: usize, const PARTIAL: bool>(
    lanes: usize,
    tap_row: usize,
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
    shape: DepthwiseShape,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if const { K == 0 } {
            for column in 0..shape.kernel {
                taps::<S, R, 1, 1, 0, PARTIAL>(lanes, (tap_row, column), x, dy, dw, shape);
            }
            return;
        }
        match (shape.stride, shape.dilation) {
            (1, 1) => taps::<S, R, K, 4, 1, PARTIAL>(lanes, (tap_row, 0), x, dy, dw, shape),
            (1, 2) => taps::<S, R, K, 4, 2, PARTIAL>(lanes, (tap_row, 0), x, dy, dw, shape),
            _ => taps::<S, R, K, 1, 0, PARTIAL>(lanes, (tap_row, 0), x, dy, dw, shape),
        }
    }
}

/// The gradient of `R × K` taps, the first of which is at `(tap_row, tap_column)`, with their sums in registers.
#[inline(always)]
unsafe fn taps<S: Simd, const R: usize, const K: usize, const P: usize, const SPREAD: usize, const PARTIAL: bool>(
    lanes: usize,
    (tap_row, tap_column): (usize, usize),
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
    shape: DepthwiseShape,
) {
    let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
    let (row, column) = (shape.dilation * input.width * channels, shape.dilation * channels);
    let whole = if const { SPREAD > 0 } { output.width - output.width % P } else { 0 };
    // SAFETY: the shape says that all windows lie inside the input, and the pointers fit the shape.
    unsafe {
        let mut sums = [[S::splat(0.0); K]; R];
        for y in 0..output.height {
            let x = x.add(y * shape.stride * input.width * channels + tap_row * row + tap_column * column);
            let dy = dy.add(y * output.width * channels);
            for pixel in (0..whole).step_by(P) {
                let (x, dy) = (x.add(pixel * shape.stride * channels), dy.add(pixel * channels));
                let mut gradients = [S::splat(0.0); P];
                for (p, gradient) in gradients.iter_mut().enumerate() {
                    *gradient = load::<S, PARTIAL>(dy.add(p * channels), lanes);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    for place in 0..P + (K - 1) * SPREAD {
                        let x = load::<S, PARTIAL>(x.add(r * row + place * channels), lanes);
                        for (j, sum) in sums.iter_mut().enumerate() {
                            if let Some(p) = place.checked_sub(j * SPREAD)
                                && p < P
                            {
                                *sum = S::mul_add(x, gradients[p], *sum);
                            }
                        }
                    }
                }
            }
            for pixel in whole..output.width {
                let x = x.add(pixel * shape.stride * channels);
                let gradient = load::<S, PARTIAL>(dy.add(pixel * channels), lanes);
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(x.add(r * row + j * column), lanes);
                        *sum = S::mul_add(x, gradient, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let dw = dw.add(((tap_row + r) * shape.kernel + tap_column + j) * channels);
                store::<S, PARTIAL>(dw, S::add(load::<S, PARTIAL>(dw, lanes), *sum), lanes);
            }
        }
    }
}
