//! The gradient of a pool.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, for_registers, load, store};
use crate::ops::pool::check;
use crate::ops::pool::geometry::{Block, EXTENT, Window, advance, combine_lines, each_block};
use crate::ops::pool::reduction::{Pooling, Reduction, with_reduction};
use crate::shape::PoolShape;

/// The gradient with respect to a pool `z` that is not kept, as [`Kernels::norm_backward_apply`] has it, but for the
/// factor of `dy`, which is in it: `dy + q·(z − mean) + r`.
#[derive(Clone, Copy, Debug)]
pub struct PoolGradient<'a> {
    /// `[H_out, W_out, C]`.
    pub dy: &'a [f32],
    /// Mean of each channel.
    pub mean: &'a [f32],
    /// Factor of `z − mean` of each channel.
    pub q: &'a [f32],
    /// Summand of each channel.
    pub r: &'a [f32],
}

impl Kernels {
    /// Gradient of [`max_pool`](Self::max_pool): each `dy` goes to the first maximum of its window in row-major order.
    /// `dx` has the input shape and is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn max_pool_backward(self, x: &[f32], dy: &[f32], dx: &mut [f32], shape: PoolShape, accumulate: bool) {
        if !check("max_pool_backward", x, dy.len(), shape) {
            return;
        }
        let (pooling, gradient, x) = (Pooling::Maximum, Ready { dy: dy.as_ptr() }, x.as_ptr());
        let dx = begin(dx, shape, accumulate);
        // SAFETY: x and dx have the length of the input, dy that of the output, and no window is empty.
        unsafe {
            dispatch!(self, ready(x: *const f32, dx: *mut f32, shape: PoolShape, pooling: Pooling, gradient: Ready))
        }
    }

    /// Gradient of [`avg_pool`](Self::avg_pool). `dx` has the input shape and is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn avg_pool_backward(self, dy: &[f32], dx: &mut [f32], shape: PoolShape, accumulate: bool) {
        if !check("avg_pool_backward", dx, dy.len(), shape) {
            return;
        }
        let (pooling, gradient) = (Pooling::Average, Ready { dy: dy.as_ptr() });
        let dx = begin(dx, shape, accumulate);
        // Never read.
        let x = dx.cast_const();
        // SAFETY: dx has the length of the input, dy that of the output, and no window is empty.
        unsafe {
            dispatch!(self, ready(x: *const f32, dx: *mut f32, shape: PoolShape, pooling: Pooling, gradient: Ready))
        }
    }

    /// Gradient of a pool whose values are not kept, and of the batch normalisation behind it, with respect to the
    /// pool's input `x`. `dx` has the input shape and is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool).
    pub fn pool_norm_backward(
        self,
        pooling: Pooling,
        x: &[f32],
        gradient: PoolGradient<'_>,
        dx: &mut [f32],
        shape: PoolShape,
        accumulate: bool,
    ) {
        let PoolGradient { dy, mean, q, r } = gradient;
        if !check("pool_norm_backward", x, dy.len(), shape) {
            return;
        }
        let (lengths, channels) = ([mean, q, r].map(<[f32]>::len), shape.input.channels);
        assert_eq!(lengths, [channels; 3], "pool_norm_backward: mean, q, r of {shape:?}");
        let [dy, mean, q, r] = [dy, mean, q, r].map(<[f32]>::as_ptr);
        let (gradient, x) = (Norm { dy, mean, q, r }, x.as_ptr());
        let dx = begin(dx, shape, accumulate);
        // SAFETY: x and dx have the length of the input, dy that of the output, the others that of the channels, and no
        // window is empty.
        unsafe {
            dispatch!(self, norm(x: *const f32, dx: *mut f32, shape: PoolShape, pooling: Pooling, gradient: Norm))
        }
    }
}

/// Checks and clears the gradient of the input, to which everything is added.
pub(super) fn begin(dx: &mut [f32], shape: PoolShape, accumulate: bool) -> *mut f32 {
    assert_eq!(dx.len(), shape.input.len(), "gradient of a pool: dx of {shape:?}");
    if !accumulate {
        dx.fill(0.0);
    }
    dx.as_mut_ptr()
}

/// Where the gradient with respect to the values of a pool comes from.
///
/// # Safety
///
/// All methods: the channels and the element exist, and the processor has the instruction set.
trait Gradient {
    /// Whether it depends on the values.
    const READS_VALUE: bool;
    /// What is the same for all values of a register of channels.
    type Registers<S: Simd>: Copy;
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Self::Registers<S>;
    /// The gradient at element `at` of the output, where `value` stands.
    unsafe fn at<S: Simd, const PARTIAL: bool>(
        &self,
        registers: Self::Registers<S>,
        at: usize,
        value: S::Vector,
        lanes: usize,
    ) -> S::Vector;
}

/// It is there.
struct Ready {
    dy: *const f32,
}

impl Gradient for Ready {
    const READS_VALUE: bool = false;
    type Registers<S: Simd> = ();

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, _channel: usize, _lanes: usize) {}

    #[inline(always)]
    unsafe fn at<S: Simd, const PARTIAL: bool>(&self, (): (), at: usize, _value: S::Vector, lanes: usize) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { load::<S, PARTIAL>(self.dy.add(at), lanes) }
    }
}

/// As in [`PoolGradient`].
struct Norm {
    dy: *const f32,
    mean: *const f32,
    q: *const f32,
    r: *const f32,
}

impl Gradient for Norm {
    const READS_VALUE: bool = true;
    /// `mean`, `q`, `r`.
    type Registers<S: Simd> = [S::Vector; 3];

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> [S::Vector; 3] {
        // SAFETY: promised by the caller.
        unsafe { [self.mean, self.q, self.r].map(|all| load::<S, PARTIAL>(all.add(channel), lanes)) }
    }

    #[inline(always)]
    unsafe fn at<S: Simd, const PARTIAL: bool>(
        &self,
        [mean, q, r]: [S::Vector; 3],
        at: usize,
        value: S::Vector,
        lanes: usize,
    ) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe {
            let dy = load::<S, PARTIAL>(self.dy.add(at), lanes);
            S::add(dy, S::mul_add(q, S::sub(value, mean), r))
        }
    }
}

/// One body per gradient for [`dispatch`].
macro_rules! image {
    ($name:ident, $gradient:ty) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(x: *const f32, dx: *mut f32, shape: PoolShape, pooling: Pooling, gradient: $gradient) {
            // SAFETY: promised by the caller.
            unsafe { with_reduction!(pooling, K, each_output::<S, K, _>(x, dx, shape, &gradient)) }
        }
    };
}
image!(ready, Ready);
image!(norm, Norm);

/// Adds what comes from all outputs.
#[inline(always)]
unsafe fn each_output<S: Simd, K: Reduction, G: Gradient>(x: *const f32, dx: *mut f32, shape: PoolShape, gradient: &G) {
    // SAFETY: promised by the caller; blocks and windows are clipped to the image.
    unsafe { each_block!(S, shape, (2, 4), block or windows, <K, G>, (x, dx, gradient)) }
}

/// Adds one register of channels of what comes from a block.
///
/// The three pixels of a line under a window are combined first, so that this is done once for all rows of windows, and
/// a gradient goes to a line and then to a pixel of it. The first maximum in row-major order is the first in the first
/// line whose maximum is the window's.
#[inline(always)]
unsafe fn block<
    S: Simd,
    K: Reduction,
    G: Gradient,
    const ROWS: usize,
    const STRIDE: usize,
    const LINES: usize,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    block: &Block<ROWS, STRIDE, LINES>,
    x: *const f32,
    dx: *mut f32,
    gradient: &G,
) {
    let (mut outside, mut dropped) = ([K::IDENTITY; MAX_LANES], [0.0; MAX_LANES]);
    let x_lines = block.lines(x.cast_mut(), channel, &mut outside);
    let dx_lines = block.lines(dx, channel, &mut dropped);
    let reads_x = K::SELECTS || G::READS_VALUE;
    // SAFETY: columns are inside the image, and the caller promises the channels.
    unsafe {
        let registers = gradient.begin::<S, PARTIAL>(channel, lanes);
        let zero = S::splat(0.0);
        // The columns under the windows, and what windows so far add to their gradients.
        let mut x = [[S::splat(K::IDENTITY); LINES]; EXTENT];
        let mut dx = [[zero; LINES]; EXTENT];
        for k in 0..EXTENT - STRIDE {
            if let (true, Some(column)) = (reads_x, block.column(k)) {
                x[k] = x_lines.load::<S, PARTIAL>(column, lanes);
            }
        }
        let (mut inside, mut shares) = (0, [zero; ROWS]);
        for output in 0..block.outputs {
            for k in EXTENT - STRIDE..EXTENT {
                x[k] = match (reads_x, block.column(output * STRIDE + k)) {
                    (true, Some(column)) => x_lines.load::<S, PARTIAL>(column, lanes),
                    _ => [S::splat(K::IDENTITY); LINES],
                };
            }
            if block.columns(output) != inside {
                inside = block.columns(output);
                shares = block.shares::<S>(inside);
            }
            let mut lines = [zero; LINES];
            for line in 0..LINES {
                lines[line] = K::combine::<S>(x[0][line], K::combine::<S>(x[1][line], x[2][line]));
            }
            let windows = combine_lines::<_, ROWS, STRIDE, LINES>(&lines, |a, b| K::combine::<S>(a, b));
            let mut line_gradients = [zero; LINES];
            for row in 0..ROWS {
                let value = K::scale::<S>(windows[row], shares[row]);
                let at = block.output(row, output) + channel;
                let value = K::scale::<S>(gradient.at::<S, PARTIAL>(registers, at, value, lanes), shares[row]);
                let mut open = S::mask_all();
                for line in row * STRIDE..row * STRIDE + EXTENT {
                    let before = line_gradients[line];
                    line_gradients[line] = K::take::<S>(&mut open, lines[line], windows[row], value, before);
                }
            }
            for line in 0..LINES {
                let mut open = S::mask_all();
                for k in 0..EXTENT {
                    dx[k][line] = K::take::<S>(&mut open, x[k][line], lines[line], line_gradients[line], dx[k][line]);
                }
            }
            for k in 0..STRIDE {
                if let Some(column) = block.column(output * STRIDE + k) {
                    dx_lines.add::<S, PARTIAL>(column, dx[k], lanes);
                }
            }
            advance::<_, STRIDE>(&mut x);
            advance::<_, STRIDE>(&mut dx);
            dx[EXTENT - STRIDE..].fill([zero; LINES]);
        }
        for k in 0..EXTENT - STRIDE {
            if let Some(column) = block.column(block.outputs * STRIDE + k) {
                dx_lines.add::<S, PARTIAL>(column, dx[k], lanes);
            }
        }
    }
}

/// Adds one register of channels of what comes from a row of outputs, window by window.
#[inline(always)]
unsafe fn windows<S: Simd, K: Reduction, G: Gradient, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    row: usize,
    shape: PoolShape,
    x: *const f32,
    dx: *mut f32,
    gradient: &G,
) {
    // SAFETY: windows are clipped to the image, and the caller promises the channels.
    unsafe {
        let reads_x = K::SELECTS || G::READS_VALUE;
        let registers = gradient.begin::<S, PARTIAL>(channel, lanes);
        for column in 0..shape.output().width {
            let window = Window::new(&shape, row, column);
            let share = S::splat(window.share());
            let [combined] =
                if reads_x { window.combine::<S, K, 1, PARTIAL>(x, channel, lanes) } else { [S::splat(K::IDENTITY)] };
            let at = window.output + channel;
            let value = gradient.at::<S, PARTIAL>(registers, at, K::scale::<S>(combined, share), lanes);
            let value = K::scale::<S>(value, share);
            let mut open = S::mask_all();
            for row in 0..window.rows {
                for column in 0..window.columns {
                    let at = window.at(row, column) + channel;
                    let pixel = if K::SELECTS { load::<S, PARTIAL>(x.add(at), lanes) } else { combined };
                    let before = load::<S, PARTIAL>(dx.add(at), lanes);
                    let after = K::take::<S>(&mut open, pixel, combined, value, before);
                    store::<S, PARTIAL>(dx.add(at), after, lanes);
                }
            }
        }
    }
}
