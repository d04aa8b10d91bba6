//! Averages.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store};
use crate::ops::pool::{EXTENT, Pooling, Row, Window, advance, check, each_window};
use crate::shape::PoolShape;

impl Kernels {
    /// Mean over the pixels of each window that lie inside the image; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn avg_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        check("avg_pool", x, y, shape);
        // SAFETY: x has the length of the input, y that of the output, and no window is empty.
        unsafe { dispatch!(self, forward(x: &[f32], y: &mut [f32], shape: PoolShape)) }
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
        unsafe { dispatch!(self, backward(dy: &[f32], dx: &mut [f32], shape: PoolShape)) }
    }
}

/// The weight of each pixel of the window of one output.
#[inline(always)]
fn share<const STRIDE: usize>(row: &Row, output: usize) -> f32 {
    let columns = (0..EXTENT).filter(|k| row.column(output * STRIDE + k).is_some()).count();
    1.0 / (row.rows * columns) as f32
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

    #[inline(always)]
    unsafe fn row<S: Simd, const PARTIAL: bool, const STRIDE: usize>(&self, row: Row, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            // The sum of each column of the window.
            let mut columns = [S::splat(0.0); EXTENT];
            for k in 0..EXTENT - STRIDE {
                columns[k] = self.column::<S, PARTIAL>(&row, k, c, count);
            }
            for output in 0..row.outputs {
                for k in EXTENT - STRIDE..EXTENT {
                    columns[k] = self.column::<S, PARTIAL>(&row, output * STRIDE + k, c, count);
                }
                let sum = S::add(columns[0], S::add(columns[1], columns[2]));
                let target = self.y.add(row.output + output * row.shape.channels + c);
                store::<S, PARTIAL>(target, S::mul(sum, S::splat(share::<STRIDE>(&row, output))), count);
                advance::<_, STRIDE>(&mut columns);
            }
        }
    }
}

impl Forward {
    /// Sum of one column under a row of windows.
    #[inline(always)]
    unsafe fn column<S: Simd, const PARTIAL: bool>(
        &self,
        row: &Row,
        padded: usize,
        c: usize,
        count: usize,
    ) -> S::Vector {
        // SAFETY: the column is inside the image, and the caller promises the channels.
        unsafe {
            let mut sum = S::splat(0.0);
            if let Some(at) = row.column(padded) {
                for line in 0..EXTENT {
                    if line < row.rows {
                        sum = S::add(sum, load::<S, PARTIAL>(self.x.add(row.lines[line] + at + c), count));
                    }
                }
            }
            sum
        }
    }
}

#[inline(always)]
unsafe fn forward<S: Simd>(x: &[f32], y: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&Forward { x: x.as_ptr(), y: y.as_mut_ptr() }, shape) }
}

struct Backward {
    dy: *const f32,
    dx: *mut f32,
}

impl Pooling for Backward {
    #[inline(always)]
    unsafe fn window<S: Simd, const PARTIAL: bool>(&self, window: Window, c: usize, count: usize) {
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

    #[inline(always)]
    unsafe fn row<S: Simd, const PARTIAL: bool, const STRIDE: usize>(&self, row: Row, c: usize, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            // What the windows so far add to every pixel of a column.
            let mut columns = [S::splat(0.0); EXTENT];
            for output in 0..row.outputs {
                let dy = load::<S, PARTIAL>(self.dy.add(row.output + output * row.shape.channels + c), count);
                let value = S::mul(dy, S::splat(share::<STRIDE>(&row, output)));
                for column in &mut columns {
                    *column = S::add(*column, value);
                }
                for k in 0..STRIDE {
                    self.add_column::<S, PARTIAL>(&row, output * STRIDE + k, columns[k], c, count);
                }
                advance::<_, STRIDE>(&mut columns);
                columns[EXTENT - STRIDE..].fill(S::splat(0.0));
            }
            for k in 0..EXTENT - STRIDE {
                self.add_column::<S, PARTIAL>(&row, row.outputs * STRIDE + k, columns[k], c, count);
            }
        }
    }
}

impl Backward {
    /// Adds to every pixel of one column under a row of windows.
    #[inline(always)]
    unsafe fn add_column<S: Simd, const PARTIAL: bool>(
        &self,
        row: &Row,
        padded: usize,
        value: S::Vector,
        c: usize,
        count: usize,
    ) {
        let Some(at) = row.column(padded) else { return };
        for line in 0..EXTENT {
            if line < row.rows {
                // SAFETY: the column is inside the image, and the caller promises the channels.
                unsafe {
                    let target = self.dx.add(row.lines[line] + at + c);
                    store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, count), value), count);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn backward<S: Simd>(dy: &[f32], dx: &mut [f32], shape: PoolShape) {
    // SAFETY: promised by the caller.
    unsafe { each_window::<S, _>(&Backward { dy: dy.as_ptr(), dx: dx.as_mut_ptr() }, shape) }
}
