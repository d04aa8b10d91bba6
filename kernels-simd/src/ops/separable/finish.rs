//! The end of the gradient of the input: the ReLU's mask, the addition to what is there, and the sums that the batch
//! normalisation before the stage needs.

use super::gradients::block_of;
use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::depthwise::pixels_per_register;
use crate::ops::lanes::{add_channels, for_registers, load, load_channels, store};
use crate::ops::prelude::Prelude;
use crate::ops::stored::{Element, Stored};

/// `dx (+)= gradient` where the prelude lets `x` through, over some pixels.
pub(super) struct Finish<'a> {
    pub x: Stored<'a>,
    pub gradient: *const f32,
    /// May be `gradient`.
    pub dx: *mut f32,
    pub pixels: usize,
    /// Those of a row.
    pub width: usize,
    pub channels: usize,
    pub prelude: Prelude<'a>,
    pub accumulate: bool,
    /// Whether `dx`, for which [`can_stream`](crate::ops::stream::can_stream), is stored past the caches.
    pub stream: bool,
    /// Null if no sums are wanted.
    pub mean: *const f32,
    /// `[2, channels]`: `Σ dx` and `Σ dx·(x − mean)` are added.
    pub sums: *mut f32,
}

impl Finish<'_> {
    /// Computes all pixels.
    ///
    /// # Safety
    ///
    /// `x` and the pointers cover the pixels and channels, and the prelude has as many channels.
    pub unsafe fn compute(&self, kernels: Kernels) {
        let finish = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, finish_pixels(finish: &Finish<'_>)) }
    }
}

/// Partial sums kept side by side, so that additions do not wait for each other.
pub(super) const CHAINS: usize = 2;

#[inline(always)]
unsafe fn finish_pixels<S: Simd>(finish: &Finish<'_>) {
    // SAFETY: promised by the caller.
    unsafe {
        match finish.x {
            Stored::F32(x) => finish_pixels_of::<S, f32>(x.as_ptr(), finish),
            Stored::F16(x) => finish_pixels_of::<S, u16>(x.as_ptr(), finish),
        }
    }
}

/// `x`: where [`Finish::x`] starts.
#[inline(always)]
unsafe fn finish_pixels_of<S: Simd, E: Element>(x: *const E, finish: &Finish<'_>) {
    let relu = finish.prelude.has_relu();
    // Stages of a search have a ReLU: others do without pairs.
    let in_pairs = const { S::TWICE } && 2 * finish.channels == S::LANES && finish.pixels.is_multiple_of(2);
    // SAFETY: promised by the caller.
    unsafe {
        match (relu, finish.mean.is_null()) {
            (true, true) if in_pairs => pixels::<S, E, true, false, true, false>(0, S::LANES, x, finish),
            (true, false) if in_pairs => pixels::<S, E, true, true, true, false>(0, S::LANES, x, finish),
            (false, true) => for_registers!(S, 0..finish.channels, pixels::<E, false, false, false>(x, finish)),
            (false, false) => for_registers!(S, 0..finish.channels, pixels::<E, false, true, false>(x, finish)),
            (true, true) => for_registers!(S, 0..finish.channels, pixels::<E, true, false, false>(x, finish)),
            (true, false) => for_registers!(S, 0..finish.channels, pixels::<E, true, true, false>(x, finish)),
        }
    }
}

/// What is the same for all pixels of one register of channels.
#[derive(Clone, Copy)]
struct Channels<S: Simd> {
    scale: S::Vector,
    shift: S::Vector,
    mean: S::Vector,
    lanes: usize,
    stream: bool,
}

/// All pixels of one register of channels; with `TWICE` of half a register of them, two pixels at a time.
#[inline(always)]
unsafe fn pixels<S: Simd, E: Element, const RELU: bool, const SUMS: bool, const TWICE: bool, const PARTIAL: bool>(
    channel: usize,
    lanes: usize,
    x: *const E,
    finish: &Finish<'_>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        // With 1 and 0 the sum is exact.
        let (scale, shift) = match finish.prelude {
            Prelude::AffineRelu { scale, shift } => (
                load_channels::<S, TWICE, PARTIAL>(scale.as_ptr().add(channel), lanes),
                load_channels::<S, TWICE, PARTIAL>(shift.as_ptr().add(channel), lanes),
            ),
            _ => (S::splat(1.0), zero),
        };
        let mean = if SUMS { load_channels::<S, TWICE, PARTIAL>(finish.mean.add(channel), lanes) } else { zero };
        let boundary = !TWICE || finish.dx.addr().is_multiple_of(S::LANES * size_of::<f32>());
        let stream = finish.stream && boundary;
        let constants = Channels::<S> { scale, shift, mean, lanes, stream };
        let (mut sums, mut dots) = ([zero; CHAINS], [zero; CHAINS]);
        let together = pixels_per_register(TWICE);
        let step = together * finish.channels;
        let mut at = channel;
        let mut left = finish.pixels / together;
        // The sums are the same bits then, whether or not gradients of weights are computed in the same pass. All
        // blocks that chains divide are one order. What is left of the channels behind whole registers always ends
        // here.
        let block = block_of(S::LANES, finish.width, finish.channels).unwrap_or(CHAINS);
        while left > 0 {
            let count = block.min(left);
            for _ in 0..count / CHAINS {
                for (sum, dot) in sums.iter_mut().zip(&mut dots) {
                    pixel::<S, E, RELU, SUMS, PARTIAL>(at, constants, x, finish, sum, dot);
                    at += step;
                }
            }
            if !count.is_multiple_of(CHAINS) {
                pixel::<S, E, RELU, SUMS, PARTIAL>(at, constants, x, finish, &mut sums[0], &mut dots[0]);
                at += step;
            }
            left -= count;
        }
        if SUMS {
            for (target, [a, b]) in [(0, sums), (finish.channels, dots)] {
                add_channels::<S, TWICE, PARTIAL>(S::add(a, b), finish.sums.add(target + channel), lanes);
            }
        }
    }
}

/// The register of one pixel that starts at element `at`.
#[inline(always)]
unsafe fn pixel<S: Simd, E: Element, const RELU: bool, const SUMS: bool, const PARTIAL: bool>(
    at: usize,
    Channels { scale, shift, mean, lanes, stream }: Channels<S>,
    x: *const E,
    finish: &Finish<'_>,
    sum: &mut S::Vector,
    dot: &mut S::Vector,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut value = load::<S, PARTIAL>(finish.gradient.add(at), lanes);
        let x = if RELU || SUMS { E::load::<S, PARTIAL>(x.add(at), lanes) } else { zero };
        if RELU {
            value = S::select(S::greater(S::mul_add(x, scale, shift), zero), value, zero);
        }
        let dx = finish.dx.add(at);
        if finish.accumulate {
            value = S::add(load::<S, PARTIAL>(dx, lanes), value);
        }
        if SUMS && !PARTIAL && stream {
            S::stream(dx, value);
        } else {
            store::<S, PARTIAL>(dx, value, lanes);
        }
        if SUMS {
            *sum = S::add(*sum, value);
            *dot = S::mul_add(value, S::sub(x, mean), *dot);
        }
    }
}
