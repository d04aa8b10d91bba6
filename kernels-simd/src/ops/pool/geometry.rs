//! Windows clipped to the image, one by one and in blocks of rows.

use core::ops::Range;

use crate::arch::Simd;
use crate::ops::lanes::{MAX_LANES, load, store};
use crate::ops::pool::reduction::Pools;
use crate::ops::prefetch::ask_line;
use crate::shape::{ImageShape, PoolShape};

/// Positions that the window of output position `output` covers, in one direction.
#[inline(always)]
pub(super) fn clip(shape: &PoolShape, output: usize, extent: usize) -> Range<usize> {
    let start = output * shape.stride;
    start.saturating_sub(shape.padding)..(start + shape.kernel - shape.padding).min(extent)
}

/// One window, clipped to the image.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Window {
    /// Element of the input where its first pixel starts.
    input: usize,
    /// Element of the output where its pixel starts.
    pub output: usize,
    pub rows: usize,
    pub columns: usize,
    shape: ImageShape,
}

impl Window {
    #[inline(always)]
    pub fn new(shape: &PoolShape, row: usize, column: usize) -> Self {
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
    pub fn at(&self, row: usize, column: usize) -> usize {
        self.input + (row * self.shape.width + column) * self.shape.channels
    }

    /// One part of as many as there are pixels.
    #[inline(always)]
    pub fn share(&self) -> f32 {
        1.0 / (self.rows * self.columns) as f32
    }

    /// All pixels, combined by each pool.
    ///
    /// # Safety
    ///
    /// The window lies in the image `x`, and the channels exist.
    #[inline(always)]
    pub unsafe fn combine<S: Simd, K: Pools<N>, const N: usize, const PARTIAL: bool>(
        &self,
        x: *const f32,
        channel: usize,
        lanes: usize,
    ) -> [S::Vector; N] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut combined = splat_each::<S, N>(K::OUTSIDE);
            for row in 0..self.rows {
                for column in 0..self.columns {
                    let pixel = load::<S, PARTIAL>(x.add(self.at(row, column) + channel), lanes);
                    combined = K::combine::<S>([pixel; N], combined);
                }
            }
            combined
        }
    }
}

/// A register for each value, all lanes the same.
///
/// # Safety
///
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn splat_each<S: Simd, const N: usize>(values: [f32; N]) -> [S::Vector; N] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut vectors = [S::splat(0.0); N];
        for n in 0..N {
            vectors[n] = S::splat(values[n]);
        }
        vectors
    }
}

/// Rows and columns of the windows that are handled in blocks.
pub(super) const EXTENT: usize = 3;

/// `ROWS` rows of outputs of 3×3 windows `STRIDE` apart, and the `LINES = (ROWS − 1)·STRIDE + 3` lines of the input
/// under them.
pub(super) struct Block<const ROWS: usize, const STRIDE: usize, const LINES: usize> {
    /// Elements of the input where the lines start that lie inside the image.
    lines: [Option<usize>; LINES],
    /// Lines inside the image under each row of windows, 1 to 3.
    inside: [usize; ROWS],
    /// Element of the output where the first row starts.
    output: usize,
    /// Outputs in a row.
    pub outputs: usize,
    shape: PoolShape,
}

impl<const ROWS: usize, const STRIDE: usize, const LINES: usize> Block<ROWS, STRIDE, LINES> {
    /// The rows of outputs from `row` on.
    #[inline(always)]
    pub fn new(shape: PoolShape, row: usize) -> Self {
        const { assert!(LINES == (ROWS - 1) * STRIDE + EXTENT) }
        let (input, outputs) = (shape.input, shape.output().width);
        let (mut lines, mut inside) = ([None; LINES], [0; ROWS]);
        for line in 0..LINES {
            let h = (row * STRIDE + line).wrapping_sub(shape.padding);
            lines[line] = (h < input.height).then(|| h * input.width * input.channels);
        }
        for r in 0..ROWS {
            inside[r] = clip(&shape, row + r, input.height).len();
        }
        Self { lines, inside, output: row * outputs * input.channels, outputs, shape }
    }

    /// Elements from the lines to those of the next block.
    #[inline(always)]
    pub fn below(&self) -> usize {
        ROWS * STRIDE * self.shape.input.width * self.shape.input.channels
    }

    /// Element of the output at a pixel of the block.
    #[inline(always)]
    pub fn output(&self, row: usize, output: usize) -> usize {
        self.output + (row * self.outputs + output) * self.shape.input.channels
    }

    /// A column of the padded image, if it lies inside.
    #[inline(always)]
    pub fn column(&self, padded: usize) -> Option<usize> {
        let column = padded.wrapping_sub(self.shape.padding);
        (column < self.shape.input.width).then_some(column)
    }

    /// Columns inside the image under the windows of a column of outputs.
    #[inline(always)]
    pub fn columns(&self, output: usize) -> usize {
        clip(&self.shape, output, self.shape.input.width).len()
    }

    /// One part of as many as there are pixels in each window of a column, `columns` of whose columns are inside.
    #[inline(always)]
    pub unsafe fn shares<S: Simd>(&self, columns: usize) -> [S::Vector; ROWS] {
        // SAFETY: the caller promises the instruction set.
        unsafe {
            let mut shares = [S::splat(0.0); ROWS];
            for row in 0..ROWS {
                shares[row] = S::splat(1.0 / (self.inside[row] * columns) as f32);
            }
            shares
        }
    }

    /// The lines of an image for one register of channels; `outside` stands for all pixels of the missing ones.
    #[inline(always)]
    pub fn lines(&self, image: *mut f32, channel: usize, outside: &mut [f32; MAX_LANES]) -> Lines<LINES> {
        let mut lines = Lines { start: [outside.as_mut_ptr(); LINES], step: [0; LINES] };
        for (line, start) in self.lines.iter().enumerate() {
            if let Some(start) = start {
                lines.start[line] = image.wrapping_add(start + channel);
                lines.step[line] = self.shape.input.channels;
            }
        }
        lines
    }
}

/// A register of channels of each of the lines under a block.
#[derive(Clone, Copy)]
pub(super) struct Lines<const LINES: usize> {
    start: [*mut f32; LINES],
    /// Elements from one column to the next.
    step: [usize; LINES],
}

impl<const LINES: usize> Lines<LINES> {
    /// The values of one column.
    ///
    /// # Safety
    ///
    /// The column and the channels are inside the image.
    #[inline(always)]
    pub unsafe fn load<S: Simd, const PARTIAL: bool>(&self, column: usize, lanes: usize) -> [S::Vector; LINES] {
        // SAFETY: promised by the caller.
        unsafe {
            let mut values = [S::splat(0.0); LINES];
            for line in 0..LINES {
                values[line] = self.load_line::<S, PARTIAL>(line, column, lanes);
            }
            values
        }
    }

    /// The values of one column of one line.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load).
    #[inline(always)]
    pub unsafe fn load_line<S: Simd, const PARTIAL: bool>(
        &self,
        line: usize,
        column: usize,
        lanes: usize,
    ) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { load::<S, PARTIAL>(self.start[line].add(column * self.step[line]), lanes) }
    }

    /// Asks for what lies `below` elements behind a column of the lines from `first` on.
    #[inline(always)]
    pub fn ask(&self, column: usize, first: usize, below: usize) {
        for line in first..LINES {
            ask_line(self.start[line].wrapping_add(column * self.step[line] + below));
        }
    }

    /// Adds to the values of one column.
    ///
    /// # Safety
    ///
    /// As for [`load`](Self::load); the image may be written.
    #[inline(always)]
    pub unsafe fn add<S: Simd, const PARTIAL: bool>(&self, column: usize, values: [S::Vector; LINES], lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            for line in 0..LINES {
                let target = self.start[line].add(column * self.step[line]);
                store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, lanes), values[line]), lanes);
            }
        }
    }
}

/// The windows of a column of a block, combined from its lines.
#[inline(always)]
pub(super) fn combine_lines<T: Copy, const ROWS: usize, const STRIDE: usize, const LINES: usize>(
    lines: &[T; LINES],
    combine: impl Fn(T, T) -> T,
) -> [T; ROWS] {
    let mut windows = [lines[0]; ROWS];
    let mut row = 0;
    while row < ROWS {
        let line = row * STRIDE;
        let shared = combine(lines[line + 1], lines[line + 2]);
        windows[row] = combine(lines[line], shared);
        row += 1;
        if STRIDE == 1 && row < ROWS {
            windows[row] = combine(shared, lines[line + EXTENT]);
            row += 1;
        }
    }
    windows
}

/// Moves on to the next windows: what is kept of the columns that they share becomes their first columns.
#[inline(always)]
pub(super) fn advance<T: Copy, const STRIDE: usize>(columns: &mut [T; EXTENT]) {
    for k in 0..EXTENT - STRIDE {
        columns[k] = columns[k + STRIDE];
    }
}

/// `each_block!(S, shape, (ROWS, LINES), body or windows, <types>, (arguments))` handles all outputs of an image from
/// top to bottom, and all channels of each block of rows. At stride 1, blocks have `ROWS` rows over `LINES` lines; at
/// stride 2, where rows of windows share little, and at the end they have one row. Each is
/// `body::<S, types, ROWS, STRIDE, LINES, PARTIAL>(channel, lanes, block, arguments)`. Other windows are handled by
/// `windows::<S, types, PARTIAL>(channel, lanes, row, shape, arguments)`, a row of outputs at a time.
macro_rules! each_block {
    ($simd:ident, $shape:ident, $adjacent:tt, $body:ident or $windows:ident,
     <$($type:tt),*>, $arguments:tt) => {{
        use $crate::ops::pool::geometry::blocks;
        let mut row = 0;
        match ($shape.kernel, $shape.stride) {
            (EXTENT, 1) => {
                blocks!($simd, $shape, row, 1, $adjacent, $body, [$($type),*], $arguments);
                blocks!($simd, $shape, row, 1, (1, 3), $body, [$($type),*], $arguments);
            }
            (EXTENT, 2) => {
                blocks!($simd, $shape, row, 2, (1, 3), $body, [$($type),*], $arguments);
            }
            _ => each_block!(@windows $simd, $shape, row, $windows, [$($type),*], $arguments),
        }
    }};
    (@windows $simd:ident, $shape:ident, $row:ident, $windows:ident, [$($type:tt),*], ($($argument:expr),*)) => {
        while $row < $shape.output().height {
            for_registers!($simd, 0..$shape.input.channels, $windows::<$($type),*>($row, $shape, $($argument),*));
            $row += 1;
        }
    };
}
pub(super) use each_block;

/// The blocks of `ROWS` rows that are left from `row` on; see [`each_block`].
macro_rules! blocks {
    ($simd:ident, $shape:ident, $row:ident, $stride:tt, ($rows:tt, $lines:tt), $body:ident, [$($type:tt),*],
     ($($argument:expr),*)) => {
        while $shape.output().height - $row >= $rows {
            let block = &Block::<$rows, $stride, $lines>::new($shape, $row);
            let channels = 0..$shape.input.channels;
            for_registers!($simd, channels, $body::<$($type,)* $rows, $stride, $lines>(block, $($argument),*));
            $row += $rows;
        }
    };
}
pub(super) use blocks;
