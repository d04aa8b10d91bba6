//! Depthwise convolutions: vectors over channels, several pixels at a time.
//!
//! Forward and the gradient with respect to the input share one routine, which computes pixels of a row from a list of
//! taps. The gradient with respect to the input at stride `s` falls into `s × s` classes of input pixels; each class is a
//! convolution at stride 1, with those taps that reach it, over the gradient of the output surrounded by zeros.

use super::lanes::{load, store};
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::shape::DepthwiseShape;

impl Kernels {
    /// Convolution of every channel with its own filter: `y = x * w`, with `x` `[H, W, C]`, `w` `[k, k, C]` and `y`
    /// `[H_out, W_out, C]`, overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape, or the kernel has more than 49 taps.
    pub fn depthwise(self, x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape) {
        check("depthwise", shape, x.len(), y.len(), w.len());
        // SAFETY: the lengths fit the shape.
        unsafe { dispatch!(self, forward(x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape)) }
    }

    /// Gradient of [`Kernels::depthwise`] with respect to its input: `dx = dy * wᵀ` over the whole padded input, overwritten.
    /// `scratch` holds [`DepthwiseShape::backward_scratch`] elements, of any value.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape, or the kernel has more than 49 taps; `scratch` may be longer.
    pub fn depthwise_backward_input(
        self,
        dy: &[f32],
        w: &[f32],
        dx: &mut [f32],
        shape: DepthwiseShape,
        scratch: &mut [f32],
    ) {
        check("depthwise_backward_input", shape, dx.len(), dy.len(), w.len());
        let needed = shape.backward_scratch();
        assert!(scratch.len() >= needed, "depthwise_backward_input: scratch of {}, not {needed}", scratch.len());
        // SAFETY: the lengths fit the shape.
        unsafe {
            dispatch!(self, backward_input(dy: &[f32], w: &[f32], dx: &mut [f32], shape: DepthwiseShape, scratch: &mut [f32]));
        }
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

/// Taps of the largest kernel, 7×7.
const MAX_TAPS: usize = 49;

fn check(name: &str, shape: DepthwiseShape, input: usize, output: usize, weights: usize) {
    assert!(
        input == shape.input.len()
            && output == shape.output().len()
            && weights == shape.weights()
            && shape.kernel * shape.kernel <= MAX_TAPS,
        "{name}: input of {input}, output of {output} and weights of {weights} elements do not fit {shape:?}"
    );
}

/// Runs `$body::<S or S::Half, PARTIAL>(channel, lanes, …)` for all vectors of channels.
macro_rules! for_channels {
    ($simd:ident, $channels:expr, $body:ident($($argument:expr),*)) => {{
        let channels = $channels;
        let mut channel = 0;
        while channel + $simd::LANES <= channels {
            $body::<$simd, false>(channel, $simd::LANES, $($argument),*);
            channel += $simd::LANES;
        }
        let left = channels - channel;
        if const { $simd::Half::LANES < $simd::LANES } && left == $simd::Half::LANES {
            $body::<$simd::Half, false>(channel, left, $($argument),*);
        } else if const { $simd::Half::LANES < $simd::LANES } && 0 < left && left < $simd::Half::LANES {
            $body::<$simd::Half, true>(channel, left, $($argument),*);
        } else if const { $simd::LANES > 1 } && left > 0 {
            $body::<$simd, true>(channel, left, $($argument),*);
        }
    }};
}

/// The elements that one pixel of the result is a sum of: `Σ_t source[offset_t] · weights[weight_t]`, offsets counted from
/// the place of the pixel.
struct Taps {
    taps: [(usize, usize); MAX_TAPS],
    count: usize,
}

impl Taps {
    fn new() -> Self {
        Self { taps: [(0, 0); MAX_TAPS], count: 0 }
    }
    fn push(&mut self, offset: usize, weight: usize) {
        self.taps[self.count] = (offset, weight);
        self.count += 1;
    }
}

/// `pixels` pixels of the result, `target_step` elements apart, from places `source_step` elements apart.
struct Row {
    source: *const f32,
    source_step: usize,
    weights: *const f32,
    target: *mut f32,
    target_step: usize,
    pixels: usize,
}

#[inline(always)]
unsafe fn row<S: Simd, const PARTIAL: bool>(channel: usize, lanes: usize, row: &Row, taps: &Taps) {
    let mut pixel = 0;
    // SAFETY: every block ends at or before `pixels`.
    unsafe {
        if const { S::LANES >= 4 } {
            while pixel + 8 <= row.pixels {
                block::<S, 8, PARTIAL>(channel, lanes, pixel, row, taps);
                pixel += 8;
            }
        }
        while pixel + 4 <= row.pixels {
            block::<S, 4, PARTIAL>(channel, lanes, pixel, row, taps);
            pixel += 4;
        }
        while pixel < row.pixels {
            block::<S, 1, PARTIAL>(channel, lanes, pixel, row, taps);
            pixel += 1;
        }
    }
}

#[inline(always)]
unsafe fn block<S: Simd, const P: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pixel: usize,
    row: &Row,
    taps: &Taps,
) {
    // SAFETY: the pointers of `row` cover what the taps reach.
    unsafe {
        let source = row.source.add(pixel * row.source_step + channel);
        let weights = row.weights.add(channel);
        let mut sums = [S::splat(0.0); P];
        for &(offset, weight) in taps.taps.get_unchecked(..taps.count) {
            let weight = load::<S, PARTIAL>(weights.add(weight), lanes);
            let source = source.add(offset);
            for (p, sum) in sums.iter_mut().enumerate() {
                let x = load::<S, PARTIAL>(source.add(p * row.source_step), lanes);
                *sum = S::mul_add(x, weight, *sum);
            }
        }
        let target = row.target.add(pixel * row.target_step + channel);
        for (p, sum) in sums.iter().enumerate() {
            store::<S, PARTIAL>(target.add(p * row.target_step), *sum, lanes);
        }
    }
}

#[inline(always)]
unsafe fn forward<S: Simd>(x: &[f32], w: &[f32], y: &mut [f32], shape: DepthwiseShape) {
    let (input, output) = (shape.input, shape.output());
    let mut taps = Taps::new();
    for ky in 0..shape.kernel {
        for kx in 0..shape.kernel {
            let offset = (ky * input.width + kx) * shape.dilation * input.channels;
            taps.push(offset, (ky * shape.kernel + kx) * input.channels);
        }
    }
    for y_row in 0..output.height {
        // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
        unsafe {
            let pixels = Row {
                source: x.as_ptr().add(y_row * shape.stride * input.width * input.channels),
                source_step: shape.stride * input.channels,
                weights: w.as_ptr(),
                target: y.as_mut_ptr().add(y_row * output.width * output.channels),
                target_step: output.channels,
                pixels: output.width,
            };
            for_channels!(S, output.channels, row(&pixels, &taps));
        }
    }
}

#[inline(always)]
unsafe fn backward_input<S: Simd>(dy: &[f32], w: &[f32], dx: &mut [f32], shape: DepthwiseShape, scratch: &mut [f32]) {
    let (input, padded) = (shape.input, shape.backward_padded());
    pad(dy, shape, scratch);
    for class_y in 0..shape.stride.min(input.height) {
        for class_x in 0..shape.stride.min(input.width) {
            let taps = taps_of_class(shape, class_y, class_x);
            for y in (class_y..input.height).step_by(shape.stride) {
                // SAFETY: the padding covers what the taps reach, and the lengths fit the shape.
                unsafe {
                    let pixels = Row {
                        source: scratch.as_ptr().add(y / shape.stride * padded.width * padded.channels),
                        source_step: input.channels,
                        weights: w.as_ptr(),
                        target: dx.as_mut_ptr().add((y * input.width + class_x) * input.channels),
                        target_step: shape.stride * input.channels,
                        pixels: (input.width - class_x).div_ceil(shape.stride),
                    };
                    for_channels!(S, input.channels, row(&pixels, &taps));
                }
            }
        }
    }
}

/// Copies `dy` into `scratch`, with zeros around it.
#[inline(always)]
fn pad(dy: &[f32], shape: DepthwiseShape, scratch: &mut [f32]) {
    let (output, padded, before) = (shape.output(), shape.backward_padded(), shape.backward_padding());
    if output.is_empty() {
        scratch[..padded.len()].fill(0.0);
        return;
    }
    let (row, left, middle) =
        (padded.width * padded.channels, before * padded.channels, output.width * output.channels);
    scratch[..before * row].fill(0.0);
    scratch[(before + output.height) * row..padded.len()].fill(0.0);
    let inside = scratch[before * row..].chunks_exact_mut(row);
    for (target, source) in inside.zip(dy.chunks_exact(middle)) {
        target[..left].fill(0.0);
        target[left..left + middle].copy_from_slice(source);
        target[left + middle..].fill(0.0);
    }
}

/// The taps that reach input pixels `(class_y, class_x)` modulo the stride, in the padded gradient: output row
/// `(y - ky·dilation) / stride` where that is a whole number, and the same for columns.
fn taps_of_class(shape: DepthwiseShape, class_y: usize, class_x: usize) -> Taps {
    let (padded, before) = (shape.backward_padded(), shape.backward_padding() * shape.stride);
    let place = |class: usize, k: usize| {
        let distance = before + class;
        let reached = distance.checked_sub(k * shape.dilation)?;
        (reached % shape.stride == 0).then_some(reached / shape.stride)
    };
    let mut taps = Taps::new();
    for (ky, y) in (0..shape.kernel).filter_map(|k| Some((k, place(class_y, k)?))) {
        for (kx, x) in (0..shape.kernel).filter_map(|k| Some((k, place(class_x, k)?))) {
            taps.push((y * padded.width + x) * padded.channels, (ky * shape.kernel + kx) * padded.channels);
        }
    }
    taps
}

#[inline(always)]
unsafe fn backward_weight<S: Simd>(x: &[f32], dy: &[f32], dw: &mut [f32], shape: DepthwiseShape) {
    let (x, dy, dw) = (x.as_ptr(), dy.as_ptr(), dw.as_mut_ptr());
    // SAFETY: the lengths fit the shape.
    unsafe { for_channels!(S, shape.input.channels, filter(x, dy, dw, shape)) }
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
    let k = shape.kernel;
    // SAFETY: every block of taps lies inside the filter; the rest is promised by the caller.
    unsafe {
        let (x, dy, dw) = (x.add(channel), dy.add(channel), dw.add(channel));
        match k {
            3 => filter_taps::<S, 3, 3, PARTIAL>(lanes, (0, 0), x, dy, dw, shape),
            5 if const { S::LANES == 16 } => filter_taps::<S, 5, 5, PARTIAL>(lanes, (0, 0), x, dy, dw, shape),
            5 => {
                for ky in 0..5 {
                    filter_taps::<S, 1, 5, PARTIAL>(lanes, (ky, 0), x, dy, dw, shape);
                }
            }
            7 => {
                for ky in 0..7 {
                    filter_taps::<S, 1, 7, PARTIAL>(lanes, (ky, 0), x, dy, dw, shape);
                }
            }
            _ => {
                for tap in 0..k * k {
                    filter_taps::<S, 1, 1, PARTIAL>(lanes, (tap / k, tap % k), x, dy, dw, shape);
                }
            }
        }
    }
}

/// The gradient of `R × K` taps, the first of which is at `(ky, kx)`.
#[inline(always)]
unsafe fn filter_taps<S: Simd, const R: usize, const K: usize, const PARTIAL: bool>(
    lanes: usize,
    (ky, kx): (usize, usize),
    x: *const f32,
    dy: *const f32,
    dw: *mut f32,
    shape: DepthwiseShape,
) {
    let (input, output) = (shape.input, shape.output());
    let (tap_row, tap_column) = (shape.dilation * input.width * input.channels, shape.dilation * input.channels);
    // SAFETY: the shape says that all windows lie inside the input, and the pointers fit the shape.
    unsafe {
        let mut sums = [[S::splat(0.0); K]; R];
        let mut dy = dy;
        for y in 0..output.height {
            let mut x = x.add(y * shape.stride * input.width * input.channels + ky * tap_row + kx * tap_column);
            for _ in 0..output.width {
                let gradient = load::<S, PARTIAL>(dy, lanes);
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (t, sum) in sums.iter_mut().enumerate() {
                        let x = load::<S, PARTIAL>(x.add(r * tap_row + t * tap_column), lanes);
                        *sum = S::mul_add(x, gradient, *sum);
                    }
                }
                x = x.add(shape.stride * input.channels);
                dy = dy.add(output.channels);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (t, sum) in sums.iter().enumerate() {
                let dw = dw.add(((ky + r) * shape.kernel + kx + t) * input.channels);
                store::<S, PARTIAL>(dw, S::add(load::<S, PARTIAL>(dw, lanes), *sum), lanes);
            }
        }
    }
}
