//! The gradient of both pools of an image at once, and of the image itself: what comes back to a state from all that a
//! mixed operation makes of it without weights.
//!
//! Windows are taken row by row. A line of the image under them is combined once, for all rows of windows that it lies
//! under, and what they give it is added up before it goes on to its pixels: each gradient of a maximum goes to a line,
//! of three, and then to a pixel of it, again of three. The first maximum in row-major order is the first in the first
//! line whose maximum is the window's.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, for_registers, load, store};
use crate::ops::pool::backward::begin;
use crate::ops::pool::check;
use crate::ops::pool::geometry::{EXTENT, clip};
use crate::ops::prefetch::ask_line;
use crate::shape::{ImageShape, PoolShape};

/// What [`Kernels::pool_pair_norm_backward`] makes the gradient of a pool's values `z` from, `Σ p·dy + q·(z − mean) +
/// r`; each has an element for each channel.
#[derive(Clone, Copy, Debug)]
pub struct NormGradient<'a> {
    /// Mean of `z`.
    pub mean: &'a [f32],
    /// Factor of `z − mean`.
    pub q: &'a [f32],
    /// Summand.
    pub r: &'a [f32],
}

/// The gradient of one of the mixes that read a state.
#[derive(Clone, Copy, Debug)]
pub struct PairTerm<'a> {
    /// `[H_out, W_out, C]`.
    pub dy: &'a [f32],
    /// Its factor `p` of each channel for the maximum over each window.
    pub maximum: &'a [f32],
    /// The same for the mean over each window.
    pub average: &'a [f32],
    /// Its factor for the image itself, 0 where that is no term.
    pub image: f32,
}

/// Mixes at most that [`Kernels::pool_pair_norm_backward`] takes at a time: a cell of the paper has four nodes.
pub const PAIR_TERMS: usize = 4;

/// The gradient of a state with respect to what mixes read of it without weights.
#[derive(Clone, Copy, Debug)]
pub struct PairGradient<'a> {
    /// The mixes, 1 to [`PAIR_TERMS`].
    pub terms: &'a [PairTerm<'a>],
    /// Of the maximum over each window.
    pub maximum: NormGradient<'a>,
    /// Of the mean over each window.
    pub average: NormGradient<'a>,
}

/// Rows of the scratch: three, and one of zeros.
const ROWS: usize = EXTENT + 1;

/// Registers of a row of the scratch for each window: of a line the maximum and the sum of its pixels under the window
/// and what the maximum's gradient is there, and of a row of windows the gradient of the mean, for each of its pixels.
/// Side by side they need one pointer.
const REGISTERS: usize = 4;
const MAXIMUM: usize = 0;
const SUM: usize = 1;
const GRADIENT: usize = 2;
const AVERAGE: usize = 3;

impl PoolShape {
    /// Whether [`Kernels::pool_pair_norm_backward`] can do with it: windows of 3×3 with a padding of 1 at stride 1 or
    /// 2.
    pub const fn has_pair_backward(&self) -> bool {
        self.kernel == EXTENT && self.padding == 1 && matches!(self.stride, 1 | 2)
    }

    /// Elements of the scratch of [`Kernels::pool_pair_norm_backward`].
    pub const fn pair_backward_scratch(&self) -> usize {
        row_len(self.output().width, MAX_LANES).saturating_mul(ROWS)
    }
}

/// Elements from one row of the scratch to the next. One register more than there are windows: rows of a power of two
/// would share few sets of the first cache.
const fn row_len(windows: usize, lanes: usize) -> usize {
    windows.saturating_add(1).saturating_mul(REGISTERS * lanes)
}

impl Kernels {
    /// What [`pool_norm_backward`](Self::pool_norm_backward) does for both pools of `x`, and `Σ image·dy`, added to
    /// `dx`, which is cleared before unless `accumulate`. The gradient of a maximum that is NaN may go to any pixel of
    /// its window. `scratch` holds [`PoolShape::pair_backward_scratch`] elements, of any value.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool); without terms or with more than [`PAIR_TERMS`]; without a
    /// [`PoolShape::has_pair_backward`]; with an `image` also when input and output differ in their shapes; when the
    /// scratch is too short.
    pub fn pool_pair_norm_backward(
        self,
        x: &[f32],
        gradient: PairGradient<'_>,
        dx: &mut [f32],
        shape: PoolShape,
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let PairGradient { terms, maximum, average } = gradient;
        assert!((1..=PAIR_TERMS).contains(&terms.len()), "pool_pair_norm_backward: {} terms, {shape:?}", terms.len());
        let (same, channels) = (shape.output() == shape.input, shape.input.channels);
        for &PairTerm { dy, maximum, average, image } in terms {
            if !check("pool_pair_norm_backward", x, dy.len(), shape) {
                return;
            }
            assert_eq!([maximum, average].map(<[f32]>::len), [channels; 2], "pool_pair_norm_backward: p of {shape:?}");
            assert!(same || image == 0.0, "pool_pair_norm_backward: an image of another shape, {shape:?}");
        }
        assert!(shape.has_pair_backward(), "pool_pair_norm_backward: {shape:?}");
        let (room, needed) = (scratch.len(), shape.pair_backward_scratch());
        assert!(room >= needed, "pool_pair_norm_backward: scratch of {room}, not {needed}");
        let norms = [maximum, average].map(|NormGradient { mean, q, r }| {
            let lengths = [mean, q, r].map(<[f32]>::len);
            assert_eq!(lengths, [channels; 3], "pool_pair_norm_backward: mean, q, r of {shape:?}");
            [mean, q, r].map(<[f32]>::as_ptr)
        });
        let dx = begin(dx, shape, accumulate);
        if x.is_empty() {
            return;
        }
        let pair = Pair { x: x.as_ptr(), terms, norms, dx, scratch: scratch.as_mut_ptr(), shape };
        // SAFETY: there are pixels, x and dx have the length of the input, each dy that of the output, the others that
        // of the channels, and the scratch is long enough. A single pixel has one window, whatever the stride.
        unsafe {
            if same {
                dispatch!(self, adjacent(pair: Pair<'_>));
            } else {
                dispatch!(self, strided(pair: Pair<'_>));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    x: *const f32,
    terms: &'a [PairTerm<'a>],
    /// `mean`, `q`, `r` of the maximum and of the mean.
    norms: [[*const f32; 3]; 2],
    dx: *mut f32,
    scratch: *mut f32,
    shape: PoolShape,
}

/// One body per stride for [`dispatch`].
macro_rules! image {
    ($name:ident, $stride:literal) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(pair: Pair<'_>) {
            // SAFETY: promised by the caller.
            unsafe { for_registers!(S, 0..pair.shape.input.channels, image::<$stride>(&pair)) }
        }
    };
}
image!(adjacent, 1);
image!(strided, 2);

/// Adds one register of channels of an image. Lines and columns are counted with the padding.
#[inline(always)]
unsafe fn image<S: Simd, const STRIDE: usize, const PARTIAL: bool>(channel: usize, lanes: usize, pair: &Pair<'_>) {
    let (height, windows) = (pair.shape.input.height, pair.shape.output());
    let rows = Rows { start: pair.scratch, len: row_len(windows.width, S::LANES) };
    // SAFETY: the scratch has all rows, and the caller promises the rest.
    unsafe {
        rows.fill::<S>(rows.zeros(), AVERAGE, 0.0, windows.width);
        // The first row of windows adds to these, too.
        for line in 0..EXTENT - STRIDE {
            rows.fill::<S>(rows.of(line), GRADIENT, 0.0, windows.width);
        }
        let (mut combined, mut spread) = (0, 1);
        for row in 0..windows.height {
            while combined < row * STRIDE + EXTENT {
                combine_line::<S, STRIDE, PARTIAL>(channel, lanes, pair, rows, combined);
                combined += 1;
            }
            match *pair.terms {
                [a] => row_of_windows::<S, STRIDE, 1, PARTIAL>(channel, lanes, pair, [a], rows, row),
                [a, b] => row_of_windows::<S, STRIDE, 2, PARTIAL>(channel, lanes, pair, [a, b], rows, row),
                [a, b, c] => row_of_windows::<S, STRIDE, 3, PARTIAL>(channel, lanes, pair, [a, b, c], rows, row),
                [a, b, c, d, ..] => {
                    row_of_windows::<S, STRIDE, 4, PARTIAL>(channel, lanes, pair, [a, b, c, d], rows, row)
                }
                [] => {}
            }
            let done = if row + 1 == windows.height { height + 1 } else { (row + 1) * STRIDE };
            while spread < done {
                spread_line::<S, STRIDE, PARTIAL>(channel, lanes, pair, rows, spread);
                spread += 1;
            }
        }
    }
}

/// The rows of the scratch.
#[derive(Clone, Copy)]
struct Rows {
    start: *mut f32,
    len: usize,
}

impl Rows {
    /// That of a line, or of a row of windows: of three in turn.
    #[inline(always)]
    fn of(self, line: usize) -> *mut f32 {
        self.start.wrapping_add(line % EXTENT * self.len)
    }

    /// The one whose averages are zeros.
    #[inline(always)]
    fn zeros(self) -> *mut f32 {
        self.start.wrapping_add(EXTENT * self.len)
    }

    #[inline(always)]
    unsafe fn fill<S: Simd>(self, row: *mut f32, register: usize, value: f32, windows: usize) {
        // SAFETY: the caller promises the row and the instruction set.
        unsafe {
            for window in 0..windows {
                S::store(row.add((window * REGISTERS + register) * S::LANES), S::splat(value));
            }
        }
    }
}

/// Maxima and sums of a line's pixels under each window.
#[inline(always)]
unsafe fn combine_line<S: Simd, const STRIDE: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pair: &Pair<'_>,
    rows: Rows,
    line: usize,
) {
    let (input, windows) = (pair.shape.input, pair.shape.output().width);
    let row = rows.of(line);
    // SAFETY: promised by the caller.
    unsafe {
        if line == 0 || line > input.height {
            rows.fill::<S>(row, MAXIMUM, f32::NEG_INFINITY, windows);
            rows.fill::<S>(row, SUM, 0.0, windows);
            return;
        }
        let x = pair.x.add((line - 1) * input.width * input.channels + channel);
        let mut first = pixel::<S, PARTIAL>(x, 0, input, lanes);
        let mut second = pixel::<S, PARTIAL>(x, 1, input, lanes);
        for window in 0..windows {
            let column = window * STRIDE;
            let third = pixel::<S, PARTIAL>(x, column + 2, input, lanes);
            // Two lines further down: inside of a pass at 16 channels, where the image mostly is in no cache, 13 of 16
            // ms are left of the time here (AMD EPYC, Zen 5, `perf`, 2026-12-01).
            ask_line(x.wrapping_add((column + 2 * input.width) * input.channels));
            let row = row.add(window * REGISTERS * S::LANES);
            S::store(row.add(MAXIMUM * S::LANES), S::max(first[0], S::max(second[0], third[0])));
            S::store(row.add(SUM * S::LANES), S::add(first[1], S::add(second[1], third[1])));
            first = if STRIDE == 1 { second } else { third };
            second = if STRIDE == 1 { third } else { pixel::<S, PARTIAL>(x, column + 3, input, lanes) };
        }
    }
}

/// The pixel of a column of a line for the maximum and for the sum, or what stands for it outside of the image.
#[inline(always)]
unsafe fn pixel<S: Simd, const PARTIAL: bool>(
    line: *const f32,
    column: usize,
    input: ImageShape,
    lanes: usize,
) -> [S::Vector; 2] {
    // SAFETY: promised by the caller.
    unsafe {
        if column == 0 || column > input.width {
            [S::splat(f32::NEG_INFINITY), S::splat(0.0)]
        } else {
            [load::<S, PARTIAL>(line.add((column - 1) * input.channels), lanes); 2]
        }
    }
}

/// The gradients of a row of windows: those of maxima are added to what their lines get, those of means stored. At
/// stride 1 those of the image itself are added to that at once.
#[inline(always)]
unsafe fn row_of_windows<S: Simd, const STRIDE: usize, const TERMS: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pair: &Pair<'_>,
    terms: [PairTerm<'_>; TERMS],
    rows: Rows,
    row: usize,
) {
    let Pair { norms, dx, shape: PoolShape { input, .. }, .. } = *pair;
    let windows = pair.shape.output().width;
    let line = row * STRIDE;
    let (lines, averages) = ([rows.of(line), rows.of(line + 1), rows.of(line + 2)], rows.of(row));
    // SAFETY: promised by the caller.
    unsafe {
        let mut factors = [[S::splat(0.0); 3]; 2];
        for (factors, sources) in factors.iter_mut().zip(norms) {
            for (factor, source) in factors.iter_mut().zip(sources) {
                *factor = load::<S, PARTIAL>(source.add(channel), lanes);
            }
        }
        let [[centre, q, r], [mean_centre, mean_q, mean_r]] = factors;
        let mut of_terms = [[S::splat(0.0); 3]; TERMS];
        for (factors, term) in of_terms.iter_mut().zip(&terms) {
            let [p, mean_p] = [term.maximum.as_ptr().add(channel), term.average.as_ptr().add(channel)];
            *factors = [load::<S, PARTIAL>(p, lanes), load::<S, PARTIAL>(mean_p, lanes), S::splat(term.image)];
        }
        let last = windows - 1;
        // Windows of as many pixels.
        for alike in [0..1, 1..last, last.max(1)..windows] {
            let pixels = clip(&pair.shape, row, input.height).len() * clip(&pair.shape, alike.start, input.width).len();
            let share = S::splat(1.0 / pixels as f32);
            for window in alike {
                let at = window * REGISTERS * S::LANES;
                let [a, b, c] = [lines[0].add(at), lines[1].add(at), lines[2].add(at)];
                let (in_a, in_b) = (S::load(a.add(MAXIMUM * S::LANES)), S::load(b.add(MAXIMUM * S::LANES)));
                let maximum = S::max(in_a, S::max(in_b, S::load(c.add(MAXIMUM * S::LANES))));
                let (of_a, of_b) = (S::load(a.add(SUM * S::LANES)), S::load(b.add(SUM * S::LANES)));
                let sum = S::add(of_a, S::add(of_b, S::load(c.add(SUM * S::LANES))));

                let mut of_maximum = S::mul_add(q, S::sub(maximum, centre), r);
                let mut of_mean = S::mul_add(mean_q, S::sub(S::mul(sum, share), mean_centre), mean_r);
                let mut of_image = S::splat(0.0);
                let at_dy = (row * windows + window) * input.channels + channel;
                for (term, [p, mean_p, image]) in terms.iter().zip(of_terms) {
                    let dy = load::<S, PARTIAL>(term.dy.as_ptr().add(at_dy), lanes);
                    of_maximum = S::mul_add(p, dy, of_maximum);
                    of_mean = S::mul_add(mean_p, dy, of_mean);
                    of_image = S::mul_add(image, dy, of_image);
                }
                S::store(averages.add(at + AVERAGE * S::LANES), S::mul(of_mean, share));
                let [in_a, in_b, in_c] = first_of_three::<S>(in_a, in_b, maximum);
                take::<S>(in_a, of_maximum, a.add(GRADIENT * S::LANES), true);
                take::<S>(in_b, of_maximum, b.add(GRADIENT * S::LANES), STRIDE == 1);
                take::<S>(in_c, of_maximum, c.add(GRADIENT * S::LANES), false);
                if const { STRIDE == 1 } {
                    let target = dx.add(at_dy);
                    store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, lanes), of_image), lanes);
                }
            }
        }
    }
}

/// Of three values, the first two of which are given, in which lanes each is the first to be their maximum.
#[inline(always)]
unsafe fn first_of_three<S: Simd>(first: S::Vector, second: S::Vector, maximum: S::Vector) -> [S::Mask; 3] {
    // SAFETY: promised by the caller.
    unsafe {
        let in_first = S::equal(first, maximum);
        let in_second = S::mask_and_not(S::equal(second, maximum), in_first);
        [in_first, in_second, S::mask_and_not(S::mask_and_not(S::mask_all(), in_first), in_second)]
    }
}

/// Gives a gradient to those lanes of a line that have the maximum; `begun` is whether a row of windows before has done
/// so.
#[inline(always)]
unsafe fn take<S: Simd>(taken: S::Mask, gradient: S::Vector, line: *mut f32, begun: bool) {
    // SAFETY: promised by the caller.
    unsafe {
        let gradient = S::select(taken, gradient, S::splat(0.0));
        S::store(line, if begun { S::add(S::load(line), gradient) } else { gradient });
    }
}

/// A line whose gradients are given to its pixels.
struct Line {
    /// Its row of the scratch.
    own: *const f32,
    /// Those of the rows of windows that it lies under.
    averages: [*const f32; EXTENT],
    x: *const f32,
    dx: *mut f32,
    input: ImageShape,
}

/// The pixels that a window shares with the one before, and what that and others give to them.
struct Shared<S: Simd> {
    pixels: [S::Vector; 2],
    sums: [S::Vector; 2],
}

/// Adds what a line gets to its pixels.
#[inline(always)]
unsafe fn spread_line<S: Simd, const STRIDE: usize, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    pair: &Pair<'_>,
    rows: Rows,
    line: usize,
) {
    let (input, windows) = (pair.shape.input, pair.shape.output());
    let row_above = |above: usize| {
        let (row, reach) = (line / STRIDE, line % STRIDE);
        let exists = row >= above && row - above < windows.height && above * STRIDE + reach < EXTENT;
        (if exists { rows.of(row - above) } else { rows.zeros() }).cast_const()
    };
    // SAFETY: promised by the caller.
    unsafe {
        let start = (line - 1) * input.width * input.channels + channel;
        let line = Line {
            own: rows.of(line),
            averages: [row_above(0), row_above(1), row_above(2)],
            x: pair.x.add(start),
            dx: pair.dx.add(start),
            input,
        };
        let pixels = [S::splat(f32::NEG_INFINITY), load::<S, PARTIAL>(line.x, lanes)];
        let mut shared = Shared { pixels, sums: [S::splat(0.0); 2] };
        let last = windows.width - 1;
        if last == 0 {
            return spread_window::<S, STRIDE, true, true, PARTIAL>(lanes, &line, 0, &mut shared);
        }
        spread_window::<S, STRIDE, true, false, PARTIAL>(lanes, &line, 0, &mut shared);
        for window in 1..last {
            spread_window::<S, STRIDE, false, false, PARTIAL>(lanes, &line, window, &mut shared);
        }
        spread_window::<S, STRIDE, false, true, PARTIAL>(lanes, &line, last, &mut shared);
    }
}

/// The same for what it gets from one window, to those pixels that the next one does not share.
#[inline(always)]
unsafe fn spread_window<S: Simd, const STRIDE: usize, const FIRST: bool, const LAST: bool, const PARTIAL: bool>(
    lanes: usize,
    line: &Line,
    window: usize,
    shared: &mut Shared<S>,
) {
    let (column, at, input) = (window * STRIDE, window * REGISTERS * S::LANES, line.input);
    // SAFETY: promised by the caller.
    unsafe {
        let Shared { pixels: [a, b], sums: [a_sum, b_sum] } = *shared;
        let c = if LAST && column + 2 > input.width {
            S::splat(f32::NEG_INFINITY)
        } else {
            load::<S, PARTIAL>(line.x.add((column + 1) * input.channels), lanes)
        };
        let [first, second, third] = line.averages;
        let mut average =
            S::add(S::load(first.add(at + AVERAGE * S::LANES)), S::load(second.add(at + AVERAGE * S::LANES)));
        if const { STRIDE == 1 } {
            average = S::add(average, S::load(third.add(at + AVERAGE * S::LANES)));
        }
        let maximum = S::load(line.own.add(at + MAXIMUM * S::LANES));
        let gradient = S::load(line.own.add(at + GRADIENT * S::LANES));
        let [in_first, in_second, in_third] = first_of_three::<S>(a, b, maximum);
        let a_sum = S::add(a_sum, average);
        let a_sum = S::select(in_first, S::add(a_sum, gradient), a_sum);
        let b_sum = if STRIDE == 1 { S::add(b_sum, average) } else { average };
        let b_sum = S::select(in_second, S::add(b_sum, gradient), b_sum);
        let c_sum = S::select(in_third, S::add(average, gradient), average);
        if !FIRST {
            add::<S, PARTIAL>(a_sum, line, column, lanes);
        }
        if LAST || const { STRIDE == 2 } {
            add::<S, PARTIAL>(b_sum, line, column + 1, lanes);
        }
        if LAST {
            if column + 2 <= input.width {
                add::<S, PARTIAL>(c_sum, line, column + 2, lanes);
            }
        } else if const { STRIDE == 1 } {
            *shared = Shared { pixels: [b, c], sums: [b_sum, c_sum] };
        } else {
            // Of the pixels of the next window it shares the first alone.
            let next = load::<S, PARTIAL>(line.x.add((column + 2) * input.channels), lanes);
            *shared = Shared { pixels: [c, next], sums: [c_sum, c_sum] };
        }
    }
}

/// Adds a value to the gradient of a column's pixel.
#[inline(always)]
unsafe fn add<S: Simd, const PARTIAL: bool>(value: S::Vector, line: &Line, column: usize, lanes: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        let target = line.dx.add((column - 1) * line.input.channels);
        store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, lanes), value), lanes);
    }
}
