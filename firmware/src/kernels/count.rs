//! Instructions of every kernel.

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::hprintln;
use darts_kernels_simd::{
    DenseShape, Factor, ImageShape, Int8Depthwise, Int8Input, Int8Part, Int8Target, Kernels, PoolShape, Rescale,
    SeparableShape,
};

use crate::Buffers;
use crate::random::{Factors, Random};

const CHANNELS: [usize; 3] = [8, 16, 32];
const EXTENT: usize = 28;
/// The board's clock is 25 MHz and an instruction takes a nanosecond.
const INSTRUCTIONS_PER_TICK: u32 = 40;
/// Of 24 bits.
const LAST_TICK: u32 = 0x00ff_ffff;

pub fn all(buffers: &mut Buffers, random: &mut Random, timer: SYST) {
    let factors = Factors::new(random, true);
    let rescale =
        Rescale { factor: random.usual_factor(30, 31), source_zero: random.element(), target_zero: random.element() };
    random.fill(&mut buffers.x);
    random.fill(&mut buffers.w);
    let mut counter = Counter { buffers, factors, timer };
    counter.start();
    hprintln!("instructions at C = {:?}, {}x{}", CHANNELS, EXTENT, EXTENT);
    for (name, kernel, stride, dilation, relu) in [
        ("depthwise 3x3", 3, 1, 1, false),
        ("depthwise 3x3 of a ReLU", 3, 1, 1, true),
        ("depthwise 3x3, stride 2", 3, 2, 1, false),
        ("depthwise 5x5", 5, 1, 1, false),
        ("depthwise 5x5 of a ReLU", 5, 1, 1, true),
        ("depthwise 3x3, dilation 2", 3, 1, 2, false),
        ("depthwise 5x5, dilation 2", 5, 1, 2, false),
    ] {
        counter.row(name, "multiply-add", |counter, input| {
            counter.depthwise(
                SeparableShape { input, kernel, stride, dilation, output_channels: 1 },
                Int8Input { zero: 3, relu },
            )
        });
    }
    for (name, stride, relu) in [("1x1", 1, false), ("1x1 of a ReLU", 1, true), ("1x1, stride 2", 2, false)] {
        counter.row(name, "multiply-add", |counter, input| {
            counter.dense(DenseShape::square(input, input.channels, 1, stride), Int8Input { zero: 3, relu })
        });
    }
    let same =
        Rescale { target_zero: rescale.source_zero, factor: Factor { multiplier: 1 << 30, shift: 30 }, ..rescale };
    for (name, rescale, average) in [
        ("max pool 3x3, same scale", same, false),
        ("max pool 3x3", rescale, false),
        ("average pool 3x3", rescale, true),
    ] {
        counter.row(name, "output", |counter, input| counter.pool(input, rescale, average));
    }
    for (name, accumulate) in [("addition with rescale", true), ("rescale", false)] {
        counter.row(name, "output", |counter, input| counter.rescale(input, rescale, accumulate));
    }
}

struct Counter<'b> {
    buffers: &'b mut Buffers,
    factors: Factors,
    timer: SYST,
}

impl Counter<'_> {
    fn start(&mut self) {
        self.timer.set_clock_source(SystClkSource::Core);
        self.timer.set_reload(LAST_TICK);
        self.timer.clear_current();
        self.timer.enable_counter();
    }

    /// Prints what `count` returns for each number of channels: instructions, and what they are for.
    fn row(&mut self, name: &str, unit: &str, mut count: impl FnMut(&mut Self, ImageShape) -> (u32, usize)) {
        let hundredths = CHANNELS.map(|channels| {
            let (ticks, work) = count(self, ImageShape::new(EXTENT, EXTENT, channels));
            u64::from(ticks) * u64::from(INSTRUCTIONS_PER_TICK) * 100 / work as u64
        });
        let [a, b, c] = hundredths.map(|value| (value / 100, value % 100));
        hprintln!("{:<26} {:>3}.{:02} {:>3}.{:02} {:>3}.{:02} per {}", name, a.0, a.1, b.0, b.1, c.0, c.1, unit);
    }

    fn depthwise(&mut self, shape: SeparableShape, input: Int8Input) -> (u32, usize) {
        let Buffers { x, w, y, .. } = &mut *self.buffers;
        let (depthwise, channels) = (shape.depthwise(), shape.input.channels);
        let output = depthwise.output();
        let factors = self.factors.without_bias(channels);
        let weights = Int8Depthwise { w: &w[..depthwise.weights()], factors, zero: 0 };
        let ticks = ticks(&self.timer, || {
            Kernels::detect().int8_depthwise(&x[..shape.input.len()], shape, input, weights, &mut y[..output.len()]);
        });
        (ticks, output.height * output.width * depthwise.weights())
    }

    fn dense(&mut self, shape: DenseShape, input: Int8Input) -> (u32, usize) {
        let Buffers { x, w, y, .. } = &mut *self.buffers;
        let parts = [Int8Part { x: &x[..shape.input.len()], w: &w[..shape.weights()] }];
        let (output, factors) = (shape.output(), self.factors.of(shape.output_channels));
        let y = &mut y[..shape.output_len()];
        let target = Int8Target::Int8 { y, factors, zero: 0, accumulate: false };
        let ticks = ticks(&self.timer, || Kernels::detect().int8_dense(&parts, input, target, shape));
        (ticks, output.height * output.width * shape.weights())
    }

    fn pool(&mut self, input: ImageShape, rescale: Rescale, average: bool) -> (u32, usize) {
        let Buffers { x, y, .. } = &mut *self.buffers;
        let shape = PoolShape { input, kernel: 3, stride: 1, padding: 1 };
        let (x, y) = (&x[..input.len()], &mut y[..input.len()]);
        let ticks = ticks(&self.timer, || {
            if average {
                Kernels::detect().int8_avg_pool(x, y, shape, rescale);
            } else {
                Kernels::detect().int8_max_pool(x, y, shape, rescale);
            }
        });
        (ticks, input.len())
    }

    fn rescale(&mut self, input: ImageShape, rescale: Rescale, accumulate: bool) -> (u32, usize) {
        let Buffers { x, y, .. } = &mut *self.buffers;
        let (x, y) = (&x[..input.len()], &mut y[..input.len()]);
        (ticks(&self.timer, || Kernels::detect().int8_rescale(x, y, rescale, accumulate)), input.len())
    }
}

/// Ticks of the timer, which counts down, during a call.
fn ticks(_: &SYST, call: impl FnOnce()) -> u32 {
    let before = SYST::get_current();
    call();
    before.wrapping_sub(SYST::get_current()) & LAST_TICK
}
