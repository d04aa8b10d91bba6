//! The gradient before a batch normalisation, from that behind it.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store, with_lanes};
use crate::ops::periodic::{MAX_PERIOD, registers, with_period};

impl Kernels {
    /// `dz = scale·p·dy + q·(z − mean) + r` over one image `[P, C]`, all but `scale` per channel; `dz` is overwritten.
    ///
    /// # Panics
    ///
    /// When a length is not that of the channels of `mean`.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_backward_apply(
        self,
        dy: &[f32],
        z: &[f32],
        mean: &[f32],
        p: &[f32],
        q: &[f32],
        r: &[f32],
        scale: f32,
        dz: &mut [f32],
    ) {
        let channels = mean.len();
        let per_channel = (p.len(), q.len(), r.len());
        assert_eq!(per_channel, (channels, channels, channels), "norm_backward_apply: p, q, r of {channels} channels");
        assert_eq!((dy.len(), z.len()), (dz.len(), dz.len()), "norm_backward_apply: dy, z and dz");
        assert!(dz.len().is_multiple_of(channels), "{} values are no image of {channels} channels", dz.len());
        let coefficients = Coefficients { mean, p, q, r, scale };
        // SAFETY: dy, z and dz have the same length, a multiple of the channels; the others have one element per
        // channel.
        unsafe { dispatch!(self, image(dy: &[f32], z: &[f32], coefficients: Coefficients<'_>, dz: &mut [f32])) }
    }
}

/// All that there is per channel, and the factor of all.
#[derive(Clone, Copy)]
struct Coefficients<'a> {
    mean: &'a [f32],
    p: &'a [f32],
    q: &'a [f32],
    r: &'a [f32],
    scale: f32,
}

#[inline(always)]
unsafe fn image<S: Simd>(dy: &[f32], z: &[f32], coefficients: Coefficients<'_>, dz: &mut [f32]) {
    // SAFETY: the caller's lengths, and the period is that of the channels.
    unsafe {
        with_period!(
            S,
            coefficients.mean.len(),
            R,
            periodic::<S, R>(dy, z, coefficients, dz),
            pixels::<S>(dy, z, coefficients, dz)
        );
    }
}

/// What is the same for all pixels of a register of channels.
#[derive(Clone, Copy)]
struct Registers<S: Simd> {
    mean: S::Vector,
    p: S::Vector,
    q: S::Vector,
    r: S::Vector,
}

impl<S: Simd> Registers<S> {
    #[inline(always)]
    unsafe fn value(&self, dy: S::Vector, z: S::Vector) -> S::Vector {
        // SAFETY: the caller promises the instruction set.
        unsafe { S::mul_add(self.p, dy, S::mul_add(self.q, S::sub(z, self.mean), self.r)) }
    }
}

/// Channels that begin again after `R` registers.
#[inline(always)]
unsafe fn periodic<S: Simd, const R: usize>(dy: &[f32], z: &[f32], coefficients: Coefficients<'_>, dz: &mut [f32]) {
    let (dy, z, len, dz) = (dy.as_ptr(), z.as_ptr(), dz.len(), dz.as_mut_ptr());
    // SAFETY: `at + index·LANES` and as many lanes as are used are below the length of all images.
    unsafe {
        let Coefficients { mean, p, q, r, scale } = coefficients;
        let [mean, p, q, r] = [mean, p, q, r].map(|values| registers::<S, R>(values));
        let of = |index: usize| Registers::<S> {
            mean: mean[index % R],
            p: S::mul(S::splat(scale), p[index % R]),
            q: q[index % R],
            r: r[index % R],
        };
        let all: [Registers<S>; MAX_PERIOD] = core::array::from_fn(of);
        let block = MAX_PERIOD * S::LANES;
        let whole = len - len % block;
        for at in (0..whole).step_by(block) {
            for (index, registers) in all.iter().enumerate() {
                let at = at + index * S::LANES;
                S::store(dz.add(at), registers.value(S::load(dy.add(at)), S::load(z.add(at))));
            }
        }
        for (index, registers) in all.iter().enumerate() {
            let at = whole + index * S::LANES;
            if at >= len {
                break;
            }
            with_lanes!(S, len - at, PARTIAL, count, {
                let (dy, z) = (load::<S, PARTIAL>(dy.add(at), count), load::<S, PARTIAL>(z.add(at), count));
                store::<S, PARTIAL>(dz.add(at), registers.value(dy, z), count);
            });
        }
    }
}

/// Pixels that are finished for one register of channels before the next: a tile that stays in the first cache.
const TILE: usize = 32;

/// Any channels.
#[inline(always)]
unsafe fn pixels<S: Simd>(dy: &[f32], z: &[f32], coefficients: Coefficients<'_>, dz: &mut [f32]) {
    let Coefficients { mean, p, q, r, scale } = coefficients;
    let channels = mean.len();
    let pixels = dz.len() / channels;
    for first in (0..pixels).step_by(TILE) {
        let tile = first..pixels.min(first + TILE);
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: pixels and channels are inside, and the per-channel slices have `channels` elements.
                unsafe {
                    let [mean, p, q, r] = [mean, p, q, r].map(|all| load::<S, PARTIAL>(all.as_ptr().add(c), count));
                    let registers = Registers::<S> { mean, p: S::mul(S::splat(scale), p), q, r };
                    for pixel in tile.clone() {
                        let at = pixel * channels + c;
                        let dy = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                        let z = load::<S, PARTIAL>(z.as_ptr().add(at), count);
                        store::<S, PARTIAL>(dz.as_mut_ptr().add(at), registers.value(dy, z), count);
                    }
                }
            });
        }
    }
}
