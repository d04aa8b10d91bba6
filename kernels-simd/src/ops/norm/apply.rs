//! The gradient before a batch normalisation, from that behind it.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store, with_lanes};

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
        // SAFETY: dy, z and dz have the same length, a multiple of the channels; the others have one element per
        // channel.
        unsafe {
            dispatch!(
                self,
                image(
                    dy: &[f32],
                    z: &[f32],
                    mean: &[f32],
                    p: &[f32],
                    q: &[f32],
                    r: &[f32],
                    scale: f32,
                    dz: &mut [f32],
                )
            );
        }
    }
}

/// Pixels that are finished for one register of channels before the next: a tile that stays in the first cache.
const TILE: usize = 32;

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn image<S: Simd>(
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
    let pixels = dz.len() / channels;
    for first in (0..pixels).step_by(TILE) {
        let tile = first..pixels.min(first + TILE);
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: pixels and channels are inside, and the per-channel slices have `channels` elements.
                unsafe {
                    let mean = load::<S, PARTIAL>(mean.as_ptr().add(c), count);
                    let p = S::mul(S::splat(scale), load::<S, PARTIAL>(p.as_ptr().add(c), count));
                    let q = load::<S, PARTIAL>(q.as_ptr().add(c), count);
                    let r = load::<S, PARTIAL>(r.as_ptr().add(c), count);
                    for pixel in tile.clone() {
                        let at = pixel * channels + c;
                        let dy = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                        let centred = S::sub(load::<S, PARTIAL>(z.as_ptr().add(at), count), mean);
                        let value = S::mul_add(p, dy, S::mul_add(q, centred, r));
                        store::<S, PARTIAL>(dz.as_mut_ptr().add(at), value, count);
                    }
                }
            });
        }
    }
}
