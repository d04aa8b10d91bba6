//! Pooling over unpadded images: pixels outside the image never take part.

use core::ops::Range;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store, with_lanes};
use crate::shape::{ImageShape, PoolShape};

impl Kernels {
    /// Maximum over each window; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or a window may lie outside the image (`2·padding >= kernel`).
    pub fn max_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        check("max_pool", x, y, shape);
        // SAFETY: x has the length of the input, y that of the output, and no window is empty.
        unsafe { dispatch!(self, max_forward(x: &[f32], y: &mut [f32], shape: PoolShape)) }
    }

    /// Gradient of [`max_pool`](Self::max_pool): each `dy` goes to the first maximum of its window in row-major order. `dx` has the
    /// input shape and is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn max_pool_backward(self, x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape, accumulate: bool) {
        check("max_pool_backward", x, dy, shape);
        assert_eq!(dx.len(), x.len(), "max_pool_backward: dx of {shape:?}");
        if !accumulate {
            dx.fill(0.0);
        }
        // SAFETY: x and dx have the length of the input, dy that of the output, and no window is empty.
        unsafe { dispatch!(self, max_backward(x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape)) }
    }

    /// Mean over the pixels of each window that lie inside the image; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn avg_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        check("avg_pool", x, y, shape);
        // SAFETY: x has the length of the input, y that of the output, and no window is empty.
        unsafe { dispatch!(self, avg_forward(x: &[f32], y: &mut [f32], shape: PoolShape)) }
    }

    /// Gradient of [`avg_pool`](Self::avg_pool). `dx` has the input shape and is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn avg_pool_backward(self, dy: &[f32], dx: &mut [f32], shape: PoolShape, accumulate: bool) {
        check("avg_pool_backward", dx, dy, shape);
        if !accumulate {
            dx.fill(0.0);
        }
        // SAFETY: dx has the length of the input, dy that of the output, and no window is empty.
        unsafe { dispatch!(self, avg_backward(dy: &[f32], dx: &mut [f32], shape: PoolShape)) }
    }

    /// Mean of each channel over all pixels of `x`; `y` is `[C]`, overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn global_avg_pool(self, x: &[f32], shape: ImageShape, y: &mut [f32]) {
        assert_eq!((x.len(), y.len()), (shape.len(), shape.channels), "global_avg_pool: x, y of {shape:?}");
        // SAFETY: x has the length of the shape and y that of the channels.
        unsafe { dispatch!(self, global_forward(x: &[f32], shape: ImageShape, y: &mut [f32])) }
    }

    /// Gradient of [`global_avg_pool`](Self::global_avg_pool): `dx (+)= dy / pixels`; `dx` is overwritten unless `accumulate`.
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

fn check(name: &str, input: &[f32], output: &[f32], shape: PoolShape) {
    let lengths = (input.len(), output.len());
    assert_eq!(lengths, (shape.input.len(), shape.output().len()), "{name}: input and output of {shape:?}");
    assert!(2 * shape.padding < shape.kernel, "{name}: a window may lie outside the image, {shape:?}");
}

/// One window, clipped to the image.
#[derive(Clone, Copy)]
struct Window {
    /// Element of the input where its first pixel starts.
    input: usize,
    /// Element of the output where its pixel starts.
    output: usize,
    rows: usize,
    columns: usize,
    shape: ImageShape,
}

/// Positions that the window of output position `output` covers, in one direction.
#[inline(always)]
fn clip(shape: &PoolShape, output: usize, extent: usize) -> Range<usize> {
    let start = output * shape.stride;
    start.saturating_sub(shape.padding)..(start + shape.kernel - shape.padding).min(extent)
}

impl Window {
    #[inline(always)]
    fn new(shape: &PoolShape, row: usize, column: usize) -> Self {
        let input = shape.input;
        let (rows, columns) = (clip(shape, row, input.height), clip(shape, column, input.width));
        Self {
            input: (rows.start * input.width + columns.start) * input.channels,
            output: (row * shape.output().width + column) * input.channels,
            rows: rows.len(),
            columns: columns.len(),
            shape: input,
        }
    }

    /// Element of the input at a pixel of the window.
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> usize {
        self.input + (row * self.shape.width + column) * self.shape.channels
    }

    #[inline(always)]
    fn share(&self) -> f32 {
        1.0 / (self.rows * self.columns) as f32
    }
}

/// What is done at each window.
trait Pooling {
    /// Handles `count` channels, from `channel` on, of one window.
    ///
    /// # Safety
    ///
    /// The window lies in the images, the channels exist, and the processor has the instruction set.
    unsafe fn pool<S: Simd, const PARTIAL: bool>(&self, window: Window, channel: usize, count: usize);
}

/// Runs over all windows. A whole 3×3 window, the common case, gets a body of its own with loops unrolled.
#[inline(always)]
unsafe fn each_window<S: Simd, P: Pooling>(pooling: &P, shape: PoolShape) {
    let output = shape.output();
    for row in 0..output.height {
        for column in 0..output.width {
            let window = Window::new(&shape, row, column);
            for c in (0..output.channels).step_by(S::LANES) {
                with_lanes!(S, output.channels - c, PARTIAL, count, {
                    // SAFETY: the window is clipped to the image, and c + count <= channels.
                    unsafe {
                        if (window.rows, window.columns) == (3, 3) {
                            pooling.pool::<S, PARTIAL>(Window { rows: 3, columns: 3, ..window }, c, count);
                        } else {
                            pooling.pool::<S, PARTIAL>(window, c, count);
                        }
                    }
                });
            }
        }
    }
}

/// The largest of each channel in a window.
#[inline(always)]
unsafe fn maximum<S: Simd, const PARTIAL: bool>(x: *const f32, window: Window, c: usize, count: usize) -> S::Vector {
    // SAFETY: the caller promises the window and the channels.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        for row in 0..window.rows {
            for column in 0..window.columns {
                largest = S::max(load::<S, PARTIAL>(x.add(window.at(row, column) + c), count), largest);
            }
        }
        largest
    }
}

struct MaxForward {
    x: *const f32,
    y: *mut f32,
}

impl Pooling for MaxForward {
    #[inline(always)]
    unsafe fn pool<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let largest = maximum::<S, PARTIAL>(self.x, window, c, count);
            store::<S, PARTIAL>(self.y.add(window.output + c), largest, count);
        }
    }
}

#[inline(always)]
unsafe fn max_forward<S: Simd>(x: &[f32], y: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&MaxForward { x: x.as_ptr(), y: y.as_mut_ptr() }, shape) }
}

struct MaxBackward {
    x: *const f32,
    dy: *const f32,
    dx: *mut f32,
}

impl Pooling for MaxBackward {
    #[inline(always)]
    unsafe fn pool<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let largest = maximum::<S, PARTIAL>(self.x, window, c, count);
            let dy = load::<S, PARTIAL>(self.dy.add(window.output + c), count);
            let mut open = S::mask_all();
            for row in 0..window.rows {
                for column in 0..window.columns {
                    let at = window.at(row, column) + c;
                    let equal = S::equal(load::<S, PARTIAL>(self.x.add(at), count), largest);
                    let share = S::select(S::mask_and(equal, open), dy, S::splat(0.0));
                    open = S::mask_and_not(open, equal);
                    let before = load::<S, PARTIAL>(self.dx.add(at), count);
                    store::<S, PARTIAL>(self.dx.add(at), S::add(before, share), count);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn max_backward<S: Simd>(x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe {
        each_window::<S, _>(&MaxBackward { x: x.as_ptr(), dy: dy.as_ptr(), dx: dx.as_mut_ptr() }, shape);
    }
}

struct AvgForward {
    x: *const f32,
    y: *mut f32,
}

impl Pooling for AvgForward {
    #[inline(always)]
    unsafe fn pool<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let mut sum = S::splat(0.0);
            for row in 0..window.rows {
                for column in 0..window.columns {
                    sum = S::add(sum, load::<S, PARTIAL>(self.x.add(window.at(row, column) + c), count));
                }
            }
            let mean = S::mul(sum, S::splat(window.share()));
            store::<S, PARTIAL>(self.y.add(window.output + c), mean, count);
        }
    }
}

#[inline(always)]
unsafe fn avg_forward<S: Simd>(x: &[f32], y: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&AvgForward { x: x.as_ptr(), y: y.as_mut_ptr() }, shape) }
}

struct AvgBackward {
    dy: *const f32,
    dx: *mut f32,
}

impl Pooling for AvgBackward {
    #[inline(always)]
    unsafe fn pool<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let dy = load::<S, PARTIAL>(self.dy.add(window.output + c), count);
            let share = S::mul(dy, S::splat(window.share()));
            for row in 0..window.rows {
                for column in 0..window.columns {
                    let at = window.at(row, column) + c;
                    let before = load::<S, PARTIAL>(self.dx.add(at), count);
                    store::<S, PARTIAL>(self.dx.add(at), S::add(before, share), count);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn avg_backward<S: Simd>(dy: &[f32], dx: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&AvgBackward { dy: dy.as_ptr(), dx: dx.as_mut_ptr() }, shape) }
}

#[inline(always)]
unsafe fn global_forward<S: Simd>(x: &[f32], shape: ImageShape, y: &mut [f32]) {
    let share = 1.0 / shape.pixels() as f32;
    for c in (0..shape.channels).step_by(S::LANES) {
        with_lanes!(S, shape.channels - c, PARTIAL, count, {
            // SAFETY: pixels and channels lie in the image, and c + count <= channels.
            unsafe {
                let mut total = S::splat(0.0);
                for row in x.chunks_exact(shape.width * shape.channels) {
                    let mut sum = S::splat(0.0);
                    for pixel in row.chunks_exact(shape.channels) {
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
