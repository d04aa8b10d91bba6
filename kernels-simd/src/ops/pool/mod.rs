//! Pooling over unpadded images: pixels outside the image never take part.
//!
//! The 3×3 windows of one row of outputs, the common case, overlap: they are handled in one run that keeps what
//! neighbouring windows share in registers. Other windows are handled one by one.

// An index here is also a position in the window.
#![allow(clippy::needless_range_loop)]

mod average;
mod global;
mod max;

use core::ops::Range;

use crate::arch::Simd;
use crate::ops::lanes::with_lanes;
use crate::shape::{ImageShape, PoolShape};

fn check(name: &str, input: &[f32], output: &[f32], shape: PoolShape) {
    assert!(shape.is_sane(), "{name}: not a window with less than half of it in the padding, {shape:?}");
    let lengths = (input.len(), output.len());
    assert_eq!(lengths, (shape.input.len(), shape.output().len()), "{name}: input and output of {shape:?}");
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

    /// The weight of each pixel in an average.
    #[inline(always)]
    fn share(&self) -> f32 {
        1.0 / (self.rows * self.columns) as f32
    }
}

/// Rows and columns of the windows that are handled row by row.
const EXTENT: usize = 3;

/// One row of outputs of 3×3 windows.
#[derive(Clone, Copy)]
struct Row {
    /// Elements of the input where the rows under the windows start. In place of a row that lies outside the image
    /// stands the last one inside.
    lines: [usize; EXTENT],
    /// Rows inside the image, 1 to 3.
    rows: usize,
    /// Element of the output where its row starts.
    output: usize,
    outputs: usize,
    padding: usize,
    shape: ImageShape,
}

impl Row {
    #[inline(always)]
    fn new(shape: &PoolShape, row: usize) -> Self {
        let (input, outputs) = (shape.input, shape.output().width);
        let rows = clip(shape, row, input.height);
        let line = |row: usize| (rows.start + row.min(rows.len() - 1)) * input.width * input.channels;
        Self {
            lines: [line(0), line(1), line(2)],
            rows: rows.len(),
            output: row * outputs * input.channels,
            outputs,
            padding: shape.padding,
            shape: input,
        }
    }

    /// Where a column of the padded image starts within a line, if it lies inside the image.
    #[inline(always)]
    fn column(&self, padded: usize) -> Option<usize> {
        let column = padded.wrapping_sub(self.padding);
        (column < self.shape.width).then(|| column * self.shape.channels)
    }
}

/// Moves on to the next window: what is kept of the columns that it shares becomes its first columns.
#[inline(always)]
fn advance<T: Copy, const STRIDE: usize>(columns: &mut [T; EXTENT]) {
    for k in 0..EXTENT - STRIDE {
        columns[k] = columns[k + STRIDE];
    }
}

/// What is done at each window.
trait Pooling {
    /// Handles `count` channels, from `channel` on, of one window.
    ///
    /// # Safety
    ///
    /// The window lies in the images, the channels exist, and the processor has the instruction set.
    unsafe fn window<S: Simd, const PARTIAL: bool>(&self, window: Window, channel: usize, count: usize);

    /// Handles `count` channels, from `channel` on, of all windows of a row, each `STRIDE < 3` to the right of the one
    /// before.
    ///
    /// # Safety
    ///
    /// As for [`window`](Self::window), for all windows.
    unsafe fn row<S: Simd, const PARTIAL: bool, const STRIDE: usize>(&self, row: Row, channel: usize, count: usize);
}

/// Handles all windows of an image.
///
/// # Safety
///
/// The images of `pooling` have the lengths of the shape, no window is empty, and the processor has the instruction
/// set.
#[inline(always)]
unsafe fn each_window<S: Simd, P: Pooling>(pooling: &P, shape: PoolShape) {
    let output = shape.output();
    for row in 0..output.height {
        for c in (0..output.channels).step_by(S::LANES) {
            with_lanes!(S, output.channels - c, PARTIAL, count, {
                // SAFETY: windows and rows are clipped to the image, and c + count <= channels.
                unsafe {
                    match (shape.kernel, shape.stride) {
                        (EXTENT, 1) => pooling.row::<S, PARTIAL, 1>(Row::new(&shape, row), c, count),
                        (EXTENT, 2) => pooling.row::<S, PARTIAL, 2>(Row::new(&shape, row), c, count),
                        _ => {
                            for column in 0..output.width {
                                pooling.window::<S, PARTIAL>(Window::new(&shape, row, column), c, count);
                            }
                        }
                    }
                }
            });
        }
    }
}
