//! Both pools of an image at once, and the image itself: what a mixed operation makes of a state without weights. Each window is read
//! once for all three.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, for_registers, load, store};
use crate::ops::pool::check;
use crate::ops::pool::forward::{CHAINS, add_lanes};
use crate::ops::pool::geometry::{Block, EXTENT, Lines, Window, advance, combine_lines, each_block};
use crate::ops::pool::reduction::{Average, Maximum, Reduction};
use crate::ops::separable::NormSums;
use crate::shape::PoolShape;

/// Factors of [`Kernels::pool_pair_mix`].
#[derive(Clone, Copy, Debug)]
pub struct PairFactors<'a> {
    /// Of the maximum over a window, one for each channel.
    pub maximum: &'a [f32],
    /// Of the mean over a window, one for each channel.
    pub average: &'a [f32],
    /// Of the image itself, if that is a term, too.
    pub image: Option<f32>,
}

/// Where [`Kernels::pool_pair_norm_reduce`] adds.
#[derive(Debug)]
pub struct PairSums<'a> {
    /// For the norm of the maximum over each window.
    pub maximum: NormSums<'a>,
    /// For the norm of the mean over each window.
    pub average: NormSums<'a>,
    /// `Σ dy·x` is added here, if it is wanted.
    pub image: Option<&'a mut f64>,
}

impl Kernels {
    /// `y += maximum·max(x) + average·mean(x) + image·x`, the terms of a [`mix`](Self::mix) that come from one state: what
    /// [`pool_mix`](Self::pool_mix) adds for both pools, and the image. `y` has the output shape.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool); with `image`, also when input and output differ in their shapes.
    pub fn pool_pair_mix(self, x: &[f32], shape: PoolShape, factors: PairFactors<'_>, y: &mut [f32]) {
        if !check("pool_pair_mix", x, y.len(), shape) {
            return;
        }
        let PairFactors { maximum, average, image } = factors;
        let (lengths, channels) = ([maximum, average].map(<[f32]>::len), shape.input.channels);
        assert_eq!(lengths, [channels; 2], "pool_pair_mix: factors of {shape:?}");
        assert!(
            image.is_none() || shape.output() == shape.input,
            "pool_pair_mix: an image of another shape, {shape:?}"
        );
        let (maximum, average) = (maximum.as_ptr(), average.as_ptr());
        let output = Mix { maximum, average, image: image.unwrap_or(0.0), x: x.as_ptr(), y: y.as_mut_ptr() };
        let image = image.is_some();
        // SAFETY: x has the length of the input, y that of the output and with an image the same, the factors that of the channels,
        // and no window is empty.
        unsafe { dispatch!(self, mix_image(x: &[f32], shape: PoolShape, image: bool, output: Mix)) }
    }

    /// The sums of [`pool_norm_reduce`](Self::pool_norm_reduce) for both pools of `x`, and with the image itself; `dy` has the output
    /// shape.
    ///
    /// # Panics
    ///
    /// As [`pool_pair_mix`](Self::pool_pair_mix).
    pub fn pool_pair_norm_reduce(self, x: &[f32], dy: &[f32], shape: PoolShape, sums: PairSums<'_>) {
        if !check("pool_pair_norm_reduce", x, dy.len(), shape) {
            return;
        }
        let PairSums { maximum, average, image } = sums;
        let channels = shape.input.channels;
        for NormSums { mean, sum, dot, .. } in [&maximum, &average] {
            let lengths = (mean.len(), sum.len(), dot.len());
            assert_eq!(lengths, (channels, channels, channels), "pool_pair_norm_reduce: mean and sums of {shape:?}");
        }
        let same = image.is_none() || shape.output() == shape.input;
        assert!(same, "pool_pair_norm_reduce: an image of another shape, {shape:?}");
        let (of_image, with_image) = (&mut 0.0, image.is_some());
        let output = Reduce {
            dy: dy.as_ptr(),
            x: x.as_ptr(),
            norms: [Norm::new(maximum), Norm::new(average)],
            image: image.unwrap_or(of_image),
        };
        // SAFETY: x has the length of the input, dy that of the output and with an image the same, means and sums that of the
        // channels, and no window is empty.
        unsafe { dispatch!(self, reduce_image(x: &[f32], shape: PoolShape, with_image: bool, output: Reduce)) }
    }
}

/// What is done with the values of both pools, one register of channels after the other. With `IMAGE` also with the image, whose
/// elements are those of the output.
///
/// # Safety
///
/// All methods: the channels exist, and the processor has the instruction set.
trait Output<const IMAGE: bool> {
    /// What is kept in registers while values of the same channels pass by.
    type Registers<S: Simd>;
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Self::Registers<S>;
    /// Takes the values, maximum and mean, whose element of the output is `at`.
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        registers: &mut Self::Registers<S>,
        chain: usize,
        at: usize,
        values: [S::Vector; 2],
        lanes: usize,
    );
    unsafe fn end<S: Simd>(&self, registers: Self::Registers<S>, channel: usize, lanes: usize);
}

/// Adds to a mixed sum.
struct Mix {
    maximum: *const f32,
    average: *const f32,
    image: f32,
    x: *const f32,
    y: *mut f32,
}

impl<const IMAGE: bool> Output<IMAGE> for Mix {
    /// The factors of maximum, mean and image.
    type Registers<S: Simd> = [S::Vector; 3];

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> [S::Vector; 3] {
        // SAFETY: promised by the caller.
        unsafe {
            let [maximum, average] =
                [self.maximum, self.average].map(|factors| load::<S, PARTIAL>(factors.add(channel), lanes));
            [maximum, average, S::splat(self.image)]
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        factors: &mut [S::Vector; 3],
        _chain: usize,
        at: usize,
        values: [S::Vector; 2],
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let y = self.y.add(at);
            let mut sum = load::<S, PARTIAL>(y, lanes);
            if IMAGE {
                sum = S::mul_add(factors[2], load::<S, PARTIAL>(self.x.add(at), lanes), sum);
            }
            sum = S::mul_add(factors[0], values[0], sum);
            store::<S, PARTIAL>(y, S::mul_add(factors[1], values[1], sum), lanes);
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, _factors: [S::Vector; 3], _channel: usize, _lanes: usize) {}
}

/// The sums of one norm.
struct Norm {
    mean: *const f32,
    scale: f64,
    sum: *mut f64,
    dot: *mut f64,
}

impl Norm {
    fn new(NormSums { mean, scale, sum, dot }: NormSums<'_>) -> Self {
        Self { mean: mean.as_ptr(), scale: scale.into(), sum: sum.as_mut_ptr(), dot: dot.as_mut_ptr() }
    }
}

/// Adds up for the norms behind both pools.
struct Reduce {
    dy: *const f32,
    x: *const f32,
    norms: [Norm; 2],
    image: *mut f64,
}

/// Partial sums of one register of channels.
struct Sums<S: Simd> {
    /// `Σ dy`.
    gradient: [S::Vector; CHAINS],
    /// `Σ dy·(z − mean)` of both pools.
    dots: [[S::Vector; CHAINS]; 2],
    /// `Σ dy·x`.
    image: [S::Vector; CHAINS],
    means: [S::Vector; 2],
}

impl<const IMAGE: bool> Output<IMAGE> for Reduce {
    type Registers<S: Simd> = Sums<S>;

    #[inline(always)]
    unsafe fn begin<S: Simd, const PARTIAL: bool>(&self, channel: usize, lanes: usize) -> Sums<S> {
        // SAFETY: promised by the caller.
        unsafe {
            let zeros = [S::splat(0.0); CHAINS];
            let means = [&self.norms[0], &self.norms[1]].map(|norm| load::<S, PARTIAL>(norm.mean.add(channel), lanes));
            Sums { gradient: zeros, dots: [zeros; 2], image: zeros, means }
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const PARTIAL: bool>(
        &self,
        sums: &mut Sums<S>,
        chain: usize,
        at: usize,
        values: [S::Vector; 2],
        lanes: usize,
    ) {
        // SAFETY: promised by the caller.
        unsafe {
            let chain = chain % CHAINS;
            let dy = load::<S, PARTIAL>(self.dy.add(at), lanes);
            sums.gradient[chain] = S::add(sums.gradient[chain], dy);
            for pool in 0..2 {
                let centred = S::sub(values[pool], sums.means[pool]);
                sums.dots[pool][chain] = S::mul_add(dy, centred, sums.dots[pool][chain]);
            }
            if IMAGE {
                let x = load::<S, PARTIAL>(self.x.add(at), lanes);
                sums.image[chain] = S::mul_add(dy, x, sums.image[chain]);
            }
        }
    }

    #[inline(always)]
    unsafe fn end<S: Simd>(&self, sums: Sums<S>, channel: usize, lanes: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let total = |[a, b]: [S::Vector; CHAINS]| S::add(a, b);
            let gradient = total(sums.gradient);
            for (norm, dot) in self.norms.iter().zip(sums.dots) {
                add_lanes::<S>(norm.scale, gradient, norm.sum.add(channel), lanes);
                add_lanes::<S>(norm.scale, total(dot), norm.dot.add(channel), lanes);
            }
            if IMAGE {
                // Lanes that are no channels hold zeros.
                *self.image += f64::from(S::reduce_add(total(sums.image)));
            }
        }
    }
}

/// One body per output for [`dispatch`].
macro_rules! image {
    ($name:ident, $output:ty) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(x: &[f32], shape: PoolShape, image: bool, output: $output) {
            // SAFETY: promised by the caller.
            unsafe {
                if image {
                    each_output::<S, _, true>(x, shape, &output);
                } else {
                    each_output::<S, _, false>(x, shape, &output);
                }
            }
        }
    };
}
image!(mix_image, Mix);
image!(reduce_image, Reduce);

/// Computes all outputs.
#[inline(always)]
unsafe fn each_output<S: Simd, O: Output<IMAGE>, const IMAGE: bool>(x: &[f32], shape: PoolShape, output: &O) {
    let x = x.as_ptr();
    // SAFETY: promised by the caller; blocks and windows are clipped to the image.
    unsafe { each_block!(S, shape, (2, 4), block or windows, <O, IMAGE>, (x, output)) }
}

/// Computes one register of channels of a block.
#[inline(always)]
unsafe fn block<
    S: Simd,
    O: Output<IMAGE>,
    const IMAGE: bool,
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
    let mut outside = ([Maximum::IDENTITY; MAX_LANES], [Average::IDENTITY; MAX_LANES]);
    let lines = Pair {
        maximum: block.lines(x.cast_mut(), channel, &mut outside.0),
        average: block.lines(x.cast_mut(), channel, &mut outside.1),
    };
    // SAFETY: columns are inside the image, and the caller promises the channels.
    unsafe {
        let mut registers = output.begin::<S, PARTIAL>(channel, lanes);
        // For each column under the windows, its part of the window of each row.
        let mut maxima = [[S::splat(Maximum::IDENTITY); ROWS]; EXTENT];
        let mut totals = [[S::splat(Average::IDENTITY); ROWS]; EXTENT];
        for k in 0..EXTENT - STRIDE {
            (maxima[k], totals[k]) = lines.combine::<S, ROWS, STRIDE, PARTIAL>(block, k, lanes);
        }
        let (mut inside, mut shares) = (0, [S::splat(0.0); ROWS]);
        for index in 0..block.outputs {
            for k in EXTENT - STRIDE..EXTENT {
                (maxima[k], totals[k]) = lines.combine::<S, ROWS, STRIDE, PARTIAL>(block, index * STRIDE + k, lanes);
            }
            if block.columns(index) != inside {
                inside = block.columns(index);
                shares = block.shares::<S>(inside);
            }
            for row in 0..ROWS {
                let maximum = S::max(maxima[0][row], S::max(maxima[1][row], maxima[2][row]));
                let total = S::add(totals[0][row], S::add(totals[1][row], totals[2][row]));
                let (at, values) = (block.output(row, index) + channel, [maximum, S::mul(total, shares[row])]);
                output.put::<S, PARTIAL>(&mut registers, row, at, values, lanes);
            }
            advance::<_, STRIDE>(&mut maxima);
            advance::<_, STRIDE>(&mut totals);
        }
        output.end::<S>(registers, channel, lanes);
    }
}

/// The lines under a block, with what stands outside of the image for each pool.
struct Pair<const LINES: usize> {
    maximum: Lines<LINES>,
    average: Lines<LINES>,
}

impl<const LINES: usize> Pair<LINES> {
    /// A column of the padded image, combined for each row of windows by both pools.
    ///
    /// # Safety
    ///
    /// The channels exist, and the processor has the instruction set.
    #[inline(always)]
    unsafe fn combine<S: Simd, const ROWS: usize, const STRIDE: usize, const PARTIAL: bool>(
        &self,
        block: &Block<ROWS, STRIDE, LINES>,
        padded: usize,
        lanes: usize,
    ) -> ([S::Vector; ROWS], [S::Vector; ROWS]) {
        // SAFETY: the column is inside the image, and the caller promises the channels.
        unsafe {
            let Some(column) = block.column(padded) else {
                return ([S::splat(Maximum::IDENTITY); ROWS], [S::splat(Average::IDENTITY); ROWS]);
            };
            // Blocks share the other lines.
            self.maximum.ask(column, EXTENT - STRIDE, block.below());
            let values = self.maximum.load::<S, PARTIAL>(column, lanes);
            // With less than half of a window in the padding only the first and the last line can be outside.
            let mut summands = values;
            for line in [0, LINES - 1] {
                summands[line] = self.average.load_line::<S, PARTIAL>(line, column, lanes);
            }
            (
                combine_lines::<S, Maximum, ROWS, STRIDE, LINES>(&values),
                combine_lines::<S, Average, ROWS, STRIDE, LINES>(&summands),
            )
        }
    }
}

/// Computes one register of channels of a row of outputs, window by window.
#[inline(always)]
unsafe fn windows<S: Simd, O: Output<IMAGE>, const IMAGE: bool, const PARTIAL: bool>(
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
            let maximum = window.combine::<S, Maximum, PARTIAL>(x, channel, lanes);
            let total = window.combine::<S, Average, PARTIAL>(x, channel, lanes);
            let values = [maximum, S::mul(total, S::splat(window.share()))];
            output.put::<S, PARTIAL>(&mut registers, column, window.output + channel, values, lanes);
        }
        output.end::<S>(registers, channel, lanes);
    }
}
