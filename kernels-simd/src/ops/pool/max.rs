//! Maxima.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store};
use crate::ops::pool::{EXTENT, Pooling, Row, Window, advance, check, each_window};
use crate::shape::PoolShape;

impl Kernels {
    /// Maximum over each window; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or half a window or more may lie in the padding.
    pub fn max_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        check("max_pool", x, y, shape);
        // SAFETY: x has the length of the input, y that of the output, and no window is empty.
        unsafe { dispatch!(self, forward(x: &[f32], y: &mut [f32], shape: PoolShape)) }
    }

    /// Gradient of [`max_pool`](Self::max_pool): each `dy` goes to the first maximum of its window in row-major order.
    /// `dx` has the input shape and is overwritten unless `accumulate`.
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
        unsafe { dispatch!(self, backward(x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape)) }
    }
}

/// Elements of one column under a row of windows. Outside the image there is nothing: no value is below minus infinity.
#[inline(always)]
unsafe fn column<S: Simd, const PARTIAL: bool>(
    image: *const f32,
    row: &Row,
    padded: usize,
    c: usize,
    count: usize,
) -> [S::Vector; EXTENT] {
    // SAFETY: the column is inside the image, and the caller promises the channels.
    unsafe {
        match row.column(padded) {
            Some(at) => [
                load::<S, PARTIAL>(image.add(row.lines[0] + at + c), count),
                load::<S, PARTIAL>(image.add(row.lines[1] + at + c), count),
                load::<S, PARTIAL>(image.add(row.lines[2] + at + c), count),
            ],
            None => [S::splat(f32::NEG_INFINITY); EXTENT],
        }
    }
}

/// The largest of three.
#[inline(always)]
unsafe fn largest<S: Simd>(of: [S::Vector; EXTENT]) -> S::Vector {
    // SAFETY: the caller promises the instruction set.
    unsafe { S::max(of[2], S::max(of[1], of[0])) }
}

/// Adds to one column under a row of windows, if it is inside the image. The last line may stand for a missing one as
/// well: its additions follow each other.
#[inline(always)]
unsafe fn add_column<S: Simd, const PARTIAL: bool>(
    image: *mut f32,
    row: &Row,
    padded: usize,
    values: [S::Vector; EXTENT],
    c: usize,
    count: usize,
) {
    let Some(at) = row.column(padded) else { return };
    for (line, value) in row.lines.into_iter().zip(values) {
        // SAFETY: the column is inside the image, and the caller promises the channels.
        unsafe {
            let target = image.add(line + at + c);
            store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, count), value), count);
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

struct Forward {
    x: *const f32,
    y: *mut f32,
}

impl Pooling for Forward {
    #[inline(always)]
    unsafe fn window<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let largest = maximum::<S, PARTIAL>(self.x, window, c, count);
            store::<S, PARTIAL>(self.y.add(window.output + c), largest, count);
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const PARTIAL: bool, const STRIDE: usize>(&self, row: Row, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            // The largest of each column of the window.
            let mut columns = [S::splat(0.0); EXTENT];
            for k in 0..EXTENT - STRIDE {
                columns[k] = largest::<S>(column::<S, PARTIAL>(self.x, &row, k, c, count));
            }
            for output in 0..row.outputs {
                for k in EXTENT - STRIDE..EXTENT {
                    columns[k] = largest::<S>(column::<S, PARTIAL>(self.x, &row, output * STRIDE + k, c, count));
                }
                let target = self.y.add(row.output + output * row.shape.channels + c);
                store::<S, PARTIAL>(target, largest::<S>(columns), count);
                advance::<_, STRIDE>(&mut columns);
            }
        }
    }
}

#[inline(always)]
unsafe fn forward<S: Simd>(x: &[f32], y: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&Forward { x: x.as_ptr(), y: y.as_mut_ptr() }, shape) }
}

struct Backward {
    x: *const f32,
    dy: *const f32,
    dx: *mut f32,
}

impl Pooling for Backward {
    #[inline(always)]
    unsafe fn window<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
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

    #[inline(always)]
    unsafe fn row<S: Simd, const PARTIAL: bool, const STRIDE: usize>(&self, row: Row, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            // The columns of the window, and what windows so far add to their gradients.
            let mut x = [[S::splat(0.0); EXTENT]; EXTENT];
            let mut dx = [[S::splat(0.0); EXTENT]; EXTENT];
            for k in 0..EXTENT - STRIDE {
                x[k] = column::<S, PARTIAL>(self.x, &row, k, c, count);
            }
            for output in 0..row.outputs {
                for k in EXTENT - STRIDE..EXTENT {
                    x[k] = column::<S, PARTIAL>(self.x, &row, output * STRIDE + k, c, count);
                }
                let dy = load::<S, PARTIAL>(self.dy.add(row.output + output * row.shape.channels + c), count);
                let peak = largest::<S>([largest::<S>(x[0]), largest::<S>(x[1]), largest::<S>(x[2])]);
                let mut open = S::mask_all();
                for line in 0..EXTENT {
                    for k in 0..EXTENT {
                        let equal = S::equal(x[k][line], peak);
                        let share = S::select(S::mask_and(equal, open), dy, S::splat(0.0));
                        open = S::mask_and_not(open, equal);
                        dx[k][line] = S::add(dx[k][line], share);
                    }
                }
                for k in 0..STRIDE {
                    add_column::<S, PARTIAL>(self.dx, &row, output * STRIDE + k, dx[k], c, count);
                }
                advance::<_, STRIDE>(&mut x);
                advance::<_, STRIDE>(&mut dx);
                dx[EXTENT - STRIDE..].fill([S::splat(0.0); EXTENT]);
            }
            for k in 0..EXTENT - STRIDE {
                add_column::<S, PARTIAL>(self.dx, &row, row.outputs * STRIDE + k, dx[k], c, count);
            }
        }
    }
}

#[inline(always)]
unsafe fn backward<S: Simd>(x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe {
        each_window::<S, _>(&Backward { x: x.as_ptr(), dy: dy.as_ptr(), dx: dx.as_mut_ptr() }, shape);
    }
}
