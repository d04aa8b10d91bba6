//! Pooling over unpadded images: pixels outside the image never take part.

use core::ops::Range;

use super::{Real, put};
use crate::shape::{ImageShape, PoolShape};

/// Positions inside the image that the window of output position `output` covers, in one direction.
fn window(shape: &PoolShape, output: usize, extent: usize) -> Range<usize> {
    let start = output * shape.stride;
    start.saturating_sub(shape.padding)..(start + shape.kernel).saturating_sub(shape.padding).min(extent)
}

/// Rows and columns under the window of one output pixel.
fn window_of(shape: &PoolShape, row: usize, column: usize) -> (Range<usize>, Range<usize>) {
    (window(shape, row, shape.input.height), window(shape, column, shape.input.width))
}

/// Row, column and value of the largest element of a window, the first one in row-major order.
fn first_maximum<T: Real>(x: &[T], shape: &PoolShape, row: usize, column: usize, c: usize) -> (usize, usize, f64) {
    let (rows, columns) = window_of(shape, row, column);
    let mut best = (rows.start, columns.start, f64::NEG_INFINITY);
    for h in rows {
        for w in columns.clone() {
            let value = x[(h * shape.input.width + w) * shape.input.channels + c].get();
            if value > best.2 {
                best = (h, w, value);
            }
        }
    }
    best
}

/// Maximum over each window; `y` is overwritten.
pub fn max_pool<T: Real>(x: &[T], y: &mut [T], shape: PoolShape) {
    let output = shape.output();
    for row in 0..output.height {
        for column in 0..output.width {
            for c in 0..output.channels {
                let (_, _, value) = first_maximum(x, &shape, row, column, c);
                y[(row * output.width + column) * output.channels + c] = T::from_f64(value);
            }
        }
    }
}

/// Gradient of [`max_pool`]: each `dy` goes to the first maximum of its window in row-major order.
pub fn max_pool_backward<T: Real>(x: &[T], dy: &[T], dx: &mut [T], shape: PoolShape, accumulate: bool) {
    backward(dx, shape, accumulate, |row, column, h, w, c| {
        let (best_row, best_column, _) = first_maximum(x, &shape, row, column, c);
        let output = shape.output();
        let above = dy[(row * output.width + column) * output.channels + c].get();
        if (best_row, best_column) == (h, w) { above } else { 0.0 }
    });
}

/// Mean over the pixels of each window that lie inside the image; `y` is overwritten.
pub fn avg_pool<T: Real>(x: &[T], y: &mut [T], shape: PoolShape) {
    let output = shape.output();
    for row in 0..output.height {
        for column in 0..output.width {
            for c in 0..output.channels {
                let (rows, columns) = window_of(&shape, row, column);
                let count = rows.len() * columns.len();
                let mut sum = 0.0;
                for h in rows {
                    for w in columns.clone() {
                        sum += x[(h * shape.input.width + w) * shape.input.channels + c].get();
                    }
                }
                y[(row * output.width + column) * output.channels + c] = T::from_f64(sum / count as f64);
            }
        }
    }
}

/// Gradient of [`avg_pool`]; overwrites `dx`, or adds to it.
pub fn avg_pool_backward<T: Real>(dy: &[T], dx: &mut [T], shape: PoolShape, accumulate: bool) {
    backward(dx, shape, accumulate, |row, column, _, _, c| {
        let (rows, columns) = window_of(&shape, row, column);
        let output = shape.output();
        dy[(row * output.width + column) * output.channels + c].get() / (rows.len() * columns.len()) as f64
    });
}

/// `dx[h, w, c]` is the sum of `share(row, column, h, w, c)` over all output pixels whose window covers `(h, w)`.
fn backward<T: Real>(
    dx: &mut [T],
    shape: PoolShape,
    accumulate: bool,
    share: impl Fn(usize, usize, usize, usize, usize) -> f64,
) {
    let (input, output) = (shape.input, shape.output());
    for h in 0..input.height {
        for w in 0..input.width {
            for c in 0..input.channels {
                let mut sum = 0.0;
                for row in 0..output.height {
                    for column in 0..output.width {
                        let (rows, columns) = window_of(&shape, row, column);
                        if rows.contains(&h) && columns.contains(&w) {
                            sum += share(row, column, h, w, c);
                        }
                    }
                }
                put(&mut dx[(h * input.width + w) * input.channels + c], sum, accumulate);
            }
        }
    }
}

/// Mean of each channel over all pixels; `y` is `[C]`, overwritten.
pub fn global_avg_pool<T: Real>(x: &[T], shape: ImageShape, y: &mut [T]) {
    for c in 0..shape.channels {
        let sum: f64 = (0..shape.pixels()).map(|pixel| x[pixel * shape.channels + c].get()).sum();
        y[c] = T::from_f64(sum / shape.pixels() as f64);
    }
}

/// Gradient of [`global_avg_pool`]; overwrites `dx`, or adds to it.
pub fn global_avg_pool_backward<T: Real>(dy: &[T], shape: ImageShape, dx: &mut [T], accumulate: bool) {
    for (index, dx) in dx.iter_mut().enumerate() {
        put(dx, dy[index % shape.channels].get() / shape.pixels() as f64, accumulate);
    }
}
