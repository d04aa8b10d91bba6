//! The values of a pool, and what is done with them.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, for_registers, load, store};
use crate::ops::pool::check;
use crate::ops::pool::geometry::{Block, EXTENT, Lines, Window, advance, combine_lines, each_block};
use crate::ops::pool::reduction::{Pooling, Reduction, with_reduction};
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
        let output = Mix { scale: scale.as_ptr(), y: y.as_mut_ptr() };
        // SAFETY: x has the length of the input, y that of the output, scale that of the channels, and no window is
        // empty.
        unsafe { dispatch!(self, mix_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Mix)) }
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
        let NormSums { mean, scale, sum, dot } = sums;
        let (lengths, channels) = ((mean.len(), sum.len(), dot.len()), shape.input.channels);
        assert_eq!(lengths, (channels, channels, channels), "pool_norm_reduce: mean and sums of {shape:?}");
        let output = Reduce {
            dy: dy.as_ptr(),
            mean: mean.as_ptr(),
            scale: scale.into(),
            sum: sum.as_mut_ptr(),
            dot: dot.as_mut_ptr(),
        };
        // SAFETY: x has the length of the input, dy that of the output, mean and the sums that of the channels, and no
        // window is empty.
        unsafe { dispatch!(self, reduce_image(x: &[f32], shape: PoolShape, pooling: Pooling, output: Reduce)) }
    }
}

/// What is done with the values of a pool, one register of channels after the other.
///
/// # Safety
///
/// All methods: the channels exist, and the processor has the instruction set.
pub(super) trait Output {
    /// Whether to ask for the rows of the next block. States come from memory: the pools of a search at 8 channels take 15 % less (AMD
    /// EPYC, Zen 5, `darts bench step`, 2026-11-29).
    const ASKS: bool = true;
    /// What is kept in registers while values of the same channels pass by.
    type Registers<S: Simd>;
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Self::Registers<S>;
    /// Takes the values whose element of the output is `at`.
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        registers: &mut Self::Registers<S>,
        chain: usize,
        at: usize,
        value: S::Vector,
        lanes: usize,
    );
    unsafe fn end<S: Simd>(&self, registers: Self::Registers<S>, channel: usize, lanes: usize);
}

/// `y = z`.
struct Store {
    y: *mut f32,
}

impl Output for Store {
    const ASKS: bool = false;
    type Registers<S: Simd> = ();

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, _channel: usize, _lanes: usize) {}

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        (): &mut (),
        _chain: usize,
        at: usize,
        value: S::Vector,
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe { store::<S, PARTIAL>(self.y.add(at), value, lanes) }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, (): (), _channel: usize, _lanes: usize) {}
}

/// `y += scale·z`.
struct Mix {
    scale: *const f32,
    y: *mut f32,
}

impl Output for Mix {
    type Registers<S: Simd> = S::Vector;

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { load::<S, PARTIAL>(self.scale.add(channel), lanes) }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        scale: &mut S::Vector,
        _chain: usize,
        at: usize,
        value: S::Vector,
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let y = self.y.add(at);
            store::<S, PARTIAL>(y, S::mul_add(*scale, value, load::<S, PARTIAL>(y, lanes)), lanes);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, _scale: S::Vector, _channel: usize, _lanes: usize) {}
}

/// Partial sums kept side by side, so that additions do not wait for each other.
pub(super) const CHAINS: usize = 2;

/// Two sums per channel, in the registers of `f32` over the pixels of a block.
struct Sums<S: Simd> {
    first: S::Vector,
    second: S::Vector,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller promises the instruction set.
        unsafe { Self { first: S::splat(0.0), second: S::splat(0.0) } }
    }

    #[inline(always)]
    unsafe fn add_up([a, b]: [Self; CHAINS]) -> Self {
        // SAFETY: the caller promises the instruction set.
        unsafe { Self { first: S::add(a.first, b.first), second: S::add(a.second, b.second) } }
    }

    /// Adds `scale` times the sums.
    #[inline(always)]
    unsafe fn add_to(&self, scale: f64, first: *mut f64, second: *mut f64, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            add_lanes::<S>(scale, self.first, first, lanes);
            add_lanes::<S>(scale, self.second, second, lanes);
        }
    }
}

/// Adds `scale` times the first `lanes` lanes.
#[inline(always)]
pub(super) unsafe fn add_lanes<S: Simd>(scale: f64, sum: S::Vector, target: *mut f64, lanes: usize) {
    let mut values = [0.0; MAX_LANES];
    // SAFETY: promised by the caller.
    unsafe {
        S::store(values.as_mut_ptr(), sum);
        for lane in 0..lanes {
            *target.add(lane) += scale * f64::from(values[lane]);
        }
    }
}

/// `Σ z` and `Σ z²`.
struct SumMoments {
    sum: *mut f64,
    sum_of_squares: *mut f64,
}

impl Output for SumMoments {
    type Registers<S: Simd> = [Sums<S>; CHAINS];

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, _channel: usize, _lanes: usize) -> [Sums<S>; CHAINS] {
        // SAFETY: promised by the caller.
        unsafe { [Sums::new(), Sums::new()] }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        sums: &mut [Sums<S>; CHAINS],
        chain: usize,
        _at: usize,
        value: S::Vector,
        _lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let sums = &mut sums[chain % CHAINS];
            sums.first = S::add(sums.first, value);
            sums.second = S::mul_add(value, value, sums.second);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, sums: [Sums<S>; CHAINS], channel: usize, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe { Sums::add_up(sums).add_to(1.0, self.sum.add(channel), self.sum_of_squares.add(channel), lanes) }
    }
}

/// `scale·Σ dy` and `scale·Σ dy·(z − mean)`.
struct Reduce {
    dy: *const f32,
    mean: *const f32,
    scale: f64,
    sum: *mut f64,
    dot: *mut f64,
}

impl Output for Reduce {
    type Registers<S: Simd> = ([Sums<S>; CHAINS], S::Vector);

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(
        &self,
        channel: usize,
        lanes: usize,
    ) -> ([Sums<S>; CHAINS], S::Vector) {
        // SAFETY: promised by the caller.
        unsafe { ([Sums::new(), Sums::new()], load::<S, PARTIAL>(self.mean.add(channel), lanes)) }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        (sums, mean): &mut ([Sums<S>; CHAINS], S::Vector),
        chain: usize,
        at: usize,
        value: S::Vector,
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let dy = load::<S, PARTIAL>(self.dy.add(at), lanes);
            let sums = &mut sums[chain % CHAINS];
            sums.first = S::add(sums.first, dy);
            sums.second = S::mul_add(dy, S::sub(value, *mean), sums.second);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, (sums, _): ([Sums<S>; CHAINS], S::Vector), channel: usize, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe { Sums::add_up(sums).add_to(self.scale, self.sum.add(channel), self.dot.add(channel), lanes) }
    }
}

/// One body per output for [`dispatch`].
macro_rules! image {
    ($name:ident, $output:ty) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(x: &[f32], shape: PoolShape, pooling: Pooling, output: $output) {
            // SAFETY: promised by the caller.
            unsafe { with_reduction!(pooling, K, each_output::<S, K, _>(x, shape, &output)) }
        }
    };
}
image!(store_image, Store);
image!(mix_image, Mix);
image!(sum_moments, SumMoments);
image!(reduce_image, Reduce);

/// Computes all outputs.
#[inline(always)]
unsafe fn each_output<S: Simd, K: Reduction, O: Output>(x: &[f32], shape: PoolShape, output: &O) {
    let x = x.as_ptr();
    // SAFETY: promised by the caller; blocks and windows are clipped to the image.
    unsafe { each_block!(S, shape, (4, 6), block or windows, <K, O>, (x, output)) }
}

/// Computes one register of channels of a block.
#[inline(always)]
unsafe fn block<
    S: Simd,
    K: Reduction,
    O: Output,
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
    let mut outside = [K::IDENTITY; MAX_LANES];
    let x = block.lines(x.cast_mut(), channel, &mut outside);
    // SAFETY: columns are inside the image, and the caller promises the channels.
    unsafe {
        let mut registers = output.begin::<S, PARTIAL>(channel, lanes);
        // For each column under the windows, its part of the window of each row.
        let mut columns = [[S::splat(K::IDENTITY); ROWS]; EXTENT];
        for k in 0..EXTENT - STRIDE {
            columns[k] = combine_column::<S, K, O, ROWS, STRIDE, LINES, PARTIAL>(block, &x, k, lanes);
        }
        let (mut inside, mut shares) = (0, [S::splat(0.0); ROWS]);
        for index in 0..block.outputs {
            for k in EXTENT - STRIDE..EXTENT {
                let padded = index * STRIDE + k;
                columns[k] = combine_column::<S, K, O, ROWS, STRIDE, LINES, PARTIAL>(block, &x, padded, lanes);
            }
            if block.columns(index) != inside {
                inside = block.columns(index);
                shares = block.shares::<S>(inside);
            }
            for row in 0..ROWS {
                let combined = K::combine::<S>(columns[0][row], K::combine::<S>(columns[1][row], columns[2][row]));
                let value = K::scale::<S>(combined, shares[row]);
                output.put::<S, PARTIAL>(&mut registers, row, block.output(row, index) + channel, value, lanes);
            }
            advance::<_, STRIDE>(&mut columns);
        }
        output.end::<S>(registers, channel, lanes);
    }
}

/// A column of the padded image, combined for each row of windows.
#[inline(always)]
unsafe fn combine_column<
    S: Simd,
    K: Reduction,
    O: Output,
    const ROWS: usize,
    const STRIDE: usize,
    const LINES: usize,
    const PARTIAL: bool,
>(
    block: &Block<ROWS, STRIDE, LINES>,
    x: &Lines<LINES>,
    padded: usize,
    lanes: usize,
) -> [S::Vector; ROWS] {
    // SAFETY: the column is inside the image, and the caller promises the channels.
    unsafe {
        match block.column(padded) {
            Some(column) => {
                if const { O::ASKS } {
                    // Blocks share the other lines.
                    x.ask(column, EXTENT - STRIDE, block.below());
                }
                combine_lines::<S, K, ROWS, STRIDE, LINES>(&x.load::<S, PARTIAL>(column, lanes))
            }
            None => [S::splat(K::IDENTITY); ROWS],
        }
    }
}

/// Computes one register of channels of a row of outputs, window by window.
#[inline(always)]
unsafe fn windows<S: Simd, K: Reduction, O: Output, const PARTIAL: bool>(
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
            let combined = window.combine::<S, K, PARTIAL>(x, channel, lanes);
            let value = K::scale::<S>(combined, S::splat(window.share()));
            output.put::<S, PARTIAL>(&mut registers, column, window.output + channel, value, lanes);
        }
        output.end::<S>(registers, channel, lanes);
    }
}
