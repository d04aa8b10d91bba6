//! The gradient before a batch normalisation, from that behind it.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, load_channels, store, with_lanes};
use crate::ops::stored::{Element, Stored};

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
        z: Stored<'_>,
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
        let factors = &[mean, p, q, r];
        // SAFETY: dy, z and dz have the same length, a multiple of the channels; the others have one element per
        // channel.
        unsafe {
            dispatch!(
                self,
                image(dy: &[f32], z: Stored<'_>, factors: &[&[f32]; 4], scale: f32, dz: &mut [f32])
            );
        }
    }
}

/// Pixels that are finished for one register of channels before the next: a tile that stays in the first cache.
const TILE: usize = 32;

/// `factors`: `mean`, `p`, `q` and `r`.
#[inline(always)]
unsafe fn image<S: Simd>(dy: &[f32], z: Stored<'_>, factors: &[&[f32]; 4], scale: f32, dz: &mut [f32]) {
    // SAFETY: promised by the caller.
    unsafe {
        match z {
            Stored::F32(z) => image_of::<S, f32>(dy, z, factors, scale, dz),
            Stored::F16(z) => image_of::<S, u16>(dy, z, factors, scale, dz),
        }
    }
}

#[inline(always)]
unsafe fn image_of<S: Simd, E: Element>(dy: &[f32], z: &[E], factors: &[&[f32]; 4], scale: f32, dz: &mut [f32]) {
    let (len, channels) = (dz.len(), factors[0].len());
    let (dy, z, dz) = (dy.as_ptr(), z.as_ptr(), dz.as_mut_ptr());
    // SAFETY: elements and channels are inside, and the per-channel slices have `channels` elements.
    unsafe {
        if const { S::TWICE } && 2 * channels == S::LANES {
            let factors = Factors::<S>::load::<true, false>(factors, scale, 0, S::LANES);
            for at in (0..len).step_by(S::LANES) {
                with_lanes!(S, len - at, PARTIAL, count, {
                    factors.apply::<E, PARTIAL>(dy.add(at), z.add(at), dz.add(at), count);
                });
            }
            return;
        }
        // One register of channels needs no tiles.
        let tile = if channels <= S::LANES { len } else { TILE * channels };
        let mut first = 0;
        while first < len {
            let end = len.min(first + tile);
            for c in (0..channels).step_by(S::LANES) {
                with_lanes!(S, channels - c, PARTIAL, count, {
                    let factors = Factors::<S>::load::<false, PARTIAL>(factors, scale, c, count);
                    let mut at = first + c;
                    while at < end {
                        factors.apply::<E, PARTIAL>(dy.add(at), z.add(at), dz.add(at), count);
                        at += channels;
                    }
                });
            }
            first = end;
        }
    }
}

/// What there is for each channel of a register.
struct Factors<S: Simd> {
    mean: S::Vector,
    p: S::Vector,
    q: S::Vector,
    r: S::Vector,
}

impl<S: Simd> Factors<S> {
    /// Those of the channels from `channel` on, of means, `p`, `q` and `r`.
    #[inline(always)]
    unsafe fn load<const TWICE: bool, const PARTIAL: bool>(
        [mean, p, q, r]: &[&[f32]; 4],
        scale: f32,
        channel: usize,
        count: usize,
    ) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            let at = |values: &[f32]| load_channels::<S, TWICE, PARTIAL>(values.as_ptr().add(channel), count);
            Self { mean: at(mean), p: S::mul(S::splat(scale), at(p)), q: at(q), r: at(r) }
        }
    }

    #[inline(always)]
    unsafe fn apply<E: Element, const PARTIAL: bool>(&self, dy: *const f32, z: *const E, dz: *mut f32, count: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            let centred = S::sub(E::load::<S, PARTIAL>(z, count), self.mean);
            let value = S::mul_add(self.p, load::<S, PARTIAL>(dy, count), S::mul_add(self.q, centred, self.r));
            store::<S, PARTIAL>(dz, value, count);
        }
    }
}
