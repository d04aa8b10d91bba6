//! The values of pools, handed to what is done with them.

use core::ptr;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, for_registers};
use crate::ops::pool::check;
use crate::ops::pool::geometry::{Block, EXTENT, Lines, Window, advance, combine_lines, each_block, splat_each};
use crate::ops::pool::outputs::{Mix, Norm, Output, Reduce, Store, SumMoments};
use crate::ops::pool::reduction::{Pooling, Pools, with_reduction};
use crate::ops::separable::{Moments, NormSums};
use crate::shape::PoolShape;

impl Kernels {
    /// Maximum over each window; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`, or half a window or more may lie in the padding.
    pub fn max_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        if !check("max_pool", x, y.len(), shape) {
            return;
        }
        let (pooling, output) = (Pooling::Maximum, Store { y: y.as_mut_ptr() });
        // SAFETY: x has the length of the input, y that of the output, and no window is empty.
        unsafe { dispatch!(self, store_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Store)) }
    }

    /// Mean over the pixels of each window that lie inside the image; `y` has the output shape and is overwritten.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn avg_pool(self, x: &[f32], y: &mut [f32], shape: PoolShape) {
        if !check("avg_pool", x, y.len(), shape) {
            return;
        }
        let (pooling, output) = (Pooling::Average, Store { y: y.as_mut_ptr() });
        // SAFETY: as above.
        unsafe { dispatch!(self, store_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Store)) }
    }

    /// Adds `Σ z` and `Σ z²` of each channel of `z`, a pool of `x` that is not kept.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn pool_moments(self, pooling: Pooling, x: &[f32], shape: PoolShape, moments: Moments<'_>) {
        if !check("pool_moments", x, shape.output().len(), shape) {
            return;
        }
        let Moments { sum, sum_of_squares } = moments;
        let lengths = (sum.len(), sum_of_squares.len());
        assert_eq!(lengths, (shape.input.channels, shape.input.channels), "pool_moments: sums of {shape:?}");
        let output = SumMoments { sum: sum.as_mut_ptr(), sum_of_squares: sum_of_squares.as_mut_ptr() };
        // SAFETY: x has the length of the input, the sums that of the channels, and no window is empty.
        unsafe { dispatch!(self, sum_moments(x: &[f32], shape: PoolShape, pooling: Pooling, output: SumMoments)) }
    }

    /// `y += scale·z`, with a factor per channel, for a pool `z` of `x` that is not kept: a term of
    /// [`mix`](Self::mix). `y` has the output shape.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn pool_mix(self, pooling: Pooling, x: &[f32], shape: PoolShape, scale: &[f32], y: &mut [f32]) {
        if !check("pool_mix", x, y.len(), shape) {
            return;
        }
        assert_eq!(scale.len(), shape.input.channels, "pool_mix: scale of {shape:?}");
        let output = Mix { scales: [scale.as_ptr()], image: 0.0, x: x.as_ptr(), y: y.as_mut_ptr() };
        // SAFETY: x has the length of the input, y that of the output, scale that of the channels, and no window is
        // empty.
        unsafe { dispatch!(self, mix_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Mix<1, false>)) }
    }

    /// The sums of [`norm_backward_reduce`](Self::norm_backward_reduce) for a pool `z` of `x` that is not kept; `dy`
    /// has the output shape.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn pool_norm_reduce(self, pooling: Pooling, x: &[f32], dy: &[f32], shape: PoolShape, sums: NormSums<'_>) {
        if !check("pool_norm_reduce", x, dy.len(), shape) {
            return;
        }
        let norms = [Norm::new("pool_norm_reduce", sums, shape)];
        let output = Reduce { dy: dy.as_ptr(), norms, x: x.as_ptr(), image: ptr::null_mut() };
        // SAFETY: x has the length of the input, dy that of the output, mean and the sums that of the channels, and no
        // window is empty.
        unsafe {
            dispatch!(self, reduce_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Reduce<1, false>))
        }
    }
}

/// One body per output for [`dispatch`].
macro_rules! image {
    ($name:ident, $output:ty) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(x: &[f32], shape: PoolShape, pooling: Pooling, output: $output) {
            // SAFETY: promised by the caller.
            unsafe { with_reduction!(pooling, K, each_output::<S, K, _, 1>(x.as_ptr(), shape, &output)) }
        }
    };
}
image!(store_image, Store);
image!(mix_image, Mix<1, false>);
image!(sum_moments, SumMoments);
image!(reduce_image, Reduce<1, false>);

/// Computes all outputs.
///
/// # Safety
///
/// `x` and what `output` reads and writes have the lengths of the shape, no window is empty, and the processor has the
/// instruction set.
#[inline(always)]
pub(super) unsafe fn each_output<S: Simd, K: Pools<N>, O: Output<N>, const N: usize>(
    x: *const f32,
    shape: PoolShape,
    output: &O,
) {
    // SAFETY: promised by the caller; blocks and windows are clipped to the image.
    unsafe {
        // Rows for whose columns there are registers.
        if const { N == 1 } {
            each_block!(S, shape, (4, 6), block or windows, <K, O, N>, (x, output));
        } else {
            each_block!(S, shape, (2, 4), block or windows, <K, O, N>, (x, output));
        }
    }
}

/// Blocks from one to that whose lines it asks for. The next one begins sooner than memory answers: of a pass at 16
/// channels pairs of pools take 35 to 37 ms in place of 37 to 39 (AMD EPYC, Zen 5, `perf`, 2026-12-01).
const AHEAD: usize = 3;

/// Computes one register of channels of a block.
#[inline(always)]
unsafe fn block<
    S: Simd,
    K: Pools<N>,
    O: Output<N>,
    const N: usize,
    const ROWS: usize,
    const STRIDE: usize,
    const LINES: usize,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    block: &Block<ROWS, STRIDE, LINES>,
    x: *const f32,
    output: &O,
) {
    let mut outside = [[K::OUTSIDE[0]; MAX_LANES]; N];
    let mut lines = [block.lines(x.cast_mut(), channel, &mut outside[0]); N];
    for n in 1..N {
        outside[n] = [K::OUTSIDE[n]; MAX_LANES];
        lines[n] = block.lines(x.cast_mut(), channel, &mut outside[n]);
    }
    // SAFETY: columns are inside the image, and the caller promises the channels.
    unsafe {
        let mut registers = output.begin::<S, PARTIAL>(channel, lanes);
        // For each column under the windows, its part of the window of each row.
        let mut columns = [[splat_each::<S, N>(K::OUTSIDE); ROWS]; EXTENT];
        for k in 0..EXTENT - STRIDE {
            columns[k] = combine_column::<S, K, O, N, ROWS, STRIDE, LINES, PARTIAL>(block, &lines, k, lanes);
        }
        let (mut inside, mut shares) = (0, [S::splat(0.0); ROWS]);
        for index in 0..block.outputs {
            for k in EXTENT - STRIDE..EXTENT {
                let padded = index * STRIDE + k;
                columns[k] = combine_column::<S, K, O, N, ROWS, STRIDE, LINES, PARTIAL>(block, &lines, padded, lanes);
            }
            if block.columns(index) != inside {
                inside = block.columns(index);
                shares = block.shares::<S>(inside);
            }
            for row in 0..ROWS {
                let combined = K::combine::<S>(columns[0][row], K::combine::<S>(columns[1][row], columns[2][row]));
                let values = K::scale::<S>(combined, shares[row]);
                output.put::<S, PARTIAL>(&mut registers, row, block.output(row, index) + channel, values, lanes);
            }
            advance::<_, STRIDE>(&mut columns);
        }
        output.end::<S>(registers, channel, lanes);
    }
}

/// A column of the padded image, combined for each row of windows. The lines `x` of the pools differ in what stands
/// outside the image.
#[inline(always)]
unsafe fn combine_column<
    S: Simd,
    K: Pools<N>,
    O: Output<N>,
    const N: usize,
    const ROWS: usize,
    const STRIDE: usize,
    const LINES: usize,
    const PARTIAL: bool,
>(
    block: &Block<ROWS, STRIDE, LINES>,
    x: &[Lines<LINES>; N],
    padded: usize,
    lanes: usize,
) -> [[S::Vector; N]; ROWS] {
    // SAFETY: the column is inside the image, and the caller promises the channels.
    unsafe {
        let Some(column) = block.column(padded) else { return [splat_each::<S, N>(K::OUTSIDE); ROWS] };
        if const { O::ASKS } {
            // Blocks share the other lines.
            x[0].ask(column, EXTENT - STRIDE, AHEAD * block.below());
        }
        let pixels = x[0].load::<S, PARTIAL>(column, lanes);
        let mut lines = [[pixels[0]; N]; LINES];
        for line in 0..LINES {
            lines[line] = [pixels[line]; N];
        }
        for n in 1..N {
            // With less than half of a window in the padding no other lines are outside.
            for line in [0, LINES - 1] {
                lines[line][n] = x[n].load_line::<S, PARTIAL>(line, column, lanes);
            }
        }
        combine_lines::<_, ROWS, STRIDE, LINES>(&lines, |a, b| K::combine::<S>(a, b))
    }
}

/// Computes one register of channels of a row of outputs, window by window.
#[inline(always)]
unsafe fn windows<S: Simd, K: Pools<N>, O: Output<N>, const N: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    row: usize,
    shape: PoolShape,
    x: *const f32,
    output: &O,
) {
    // SAFETY: windows are clipped to the image, and the caller promises the channels.
    unsafe {
        let mut registers = output.begin::<S, PARTIAL>(channel, lanes);
        for column in 0..shape.output().width {
            let window = Window::new(&shape, row, column);
            let combined = window.combine::<S, K, N, PARTIAL>(x, channel, lanes);
            let values = K::scale::<S>(combined, S::splat(window.share()));
            output.put::<S, PARTIAL>(&mut registers, column, window.output + channel, values, lanes);
        }
        output.end::<S>(registers, channel, lanes);
    }
}
