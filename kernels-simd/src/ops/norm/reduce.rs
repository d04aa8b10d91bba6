//! The sums over an image that batch normalisation needs in either direction.
//!
//! Both are `Σ dy` and `Σ dy·(z − mean)`; the moments are those of `dy = z` and no mean. Several terms with the same
//! `dy`, the values that a mixed sum reads, are handled in one pass.

use core::ptr;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{MAX_LANES, load, with_lanes};
use crate::ops::periodic::{add_lanes, registers, with_period};
use crate::ops::separable::NormSums;
use crate::ops::stored::{Element, Stored};

/// One of the values behind whose batch normalisation the same gradient stands.
#[derive(Debug)]
pub struct NormTerm<'a> {
    /// The value, `[P, C]`.
    pub z: Stored<'a>,
    /// Its mean, a factor, and where the sums are added.
    pub sums: NormSums<'a>,
}

impl Kernels {
    /// Adds `Σ z` and `Σ z²` of each channel of one image `z` `[P, C]` to `sum` and `sum_of_squares`, both `[C]`.
    ///
    /// # Panics
    ///
    /// When a length is not that of `channels` channels.
    pub fn channel_moments(self, z: &[f32], channels: usize, sum: &mut [f64], sum_of_squares: &mut [f64]) {
        assert_eq!(
            (sum.len(), sum_of_squares.len()),
            (channels, channels),
            "channel_moments: sums of {channels} channels"
        );
        let sums = NormSums { mean: &[], scale: 1.0, sum, dot: sum_of_squares };
        self.reduce(z, &mut [NormTerm { z: z.into(), sums }]);
    }

    /// Adds `scale·Σ dy` and `scale·Σ dy·(z − mean)` of each channel of one image `[P, C]` to `sum` and `dot`, both
    /// `[C]`.
    ///
    /// # Panics
    ///
    /// When a length is not that of the channels of `mean`.
    pub fn norm_backward_reduce(
        self,
        dy: &[f32],
        z: Stored<'_>,
        mean: &[f32],
        scale: f32,
        sum: &mut [f64],
        dot: &mut [f64],
    ) {
        self.norm_backward_reduce_terms(dy, &mut [NormTerm { z, sums: NormSums { mean, scale, sum, dot } }]);
    }

    /// The sums of [`norm_backward_reduce`](Self::norm_backward_reduce) of each of `terms`, all of which have the same
    /// channels, in one pass over `dy`.
    ///
    /// # Panics
    ///
    /// When a length is not that of the channels of the first term's `mean`.
    pub fn norm_backward_reduce_terms(self, dy: &[f32], terms: &mut [NormTerm<'_>]) {
        let channels = terms.first().map_or(0, |term| term.sums.mean.len());
        for NormTerm { z, sums: NormSums { mean, sum, dot, .. } } in &*terms {
            let lengths = [mean.len(), sum.len(), dot.len()];
            assert_eq!(lengths, [channels; 3], "norm_backward_reduce: mean and sums of {channels} channels");
            assert_eq!(dy.len(), z.len(), "norm_backward_reduce: dy and z");
        }
        self.reduce(dy, terms);
    }

    fn reduce(self, dy: &[f32], terms: &mut [NormTerm<'_>]) {
        let Some(first) = terms.first() else { return };
        let channels = first.sums.sum.len();
        assert!(
            channels > 0 && dy.len().is_multiple_of(channels),
            "{} values are no image of {channels} channels",
            dy.len()
        );
        // SAFETY: dy and all z have the same length, a multiple of the channels; means, where there are any, and sums
        // have one element per channel.
        unsafe { dispatch!(self, image(dy: &[f32], terms: &mut [NormTerm<'_>], channels: usize)) }
    }
}

#[inline(always)]
unsafe fn image<S: Simd>(dy: &[f32], terms: &mut [NormTerm<'_>], channels: usize) {
    let is_half = |term: &NormTerm<'_>| matches!(term.z, Stored::F16(_));
    for terms in terms.chunk_by_mut(|a, b| is_half(a) == is_half(b)) {
        // SAFETY: the caller's lengths.
        unsafe {
            if is_half(&terms[0]) {
                image_of::<S, u16>(dy, terms, channels);
            } else {
                image_of::<S, f32>(dy, terms, channels);
            }
        }
    }
}

/// Terms that are stored in the same form.
#[inline(always)]
unsafe fn image_of<S: Simd, E: Element>(dy: &[f32], terms: &mut [NormTerm<'_>], channels: usize) {
    // SAFETY: the caller's lengths, and the period is that of the channels.
    unsafe {
        with_period!(S, channels, R, periodic::<S, E, R, { if R < 3 { CHAINS } else { R } }>(dy, terms), {
            for term in terms {
                pixels::<S, E>(dy, term);
            }
        });
    }
}

/// The values of a term that is stored in this form.
fn values<'a, E: Element>(term: &NormTerm<'a>) -> &'a [E] {
    let Some(values) = E::values(term.z) else { unreachable!("values in another form") };
    values
}

/// Partial sums kept side by side, if the period does not ask for more, so that additions do not wait for each other.
const CHAINS: usize = 4;

/// Registers that each chain adds in one go.
const SHORT: usize = 16;

/// Elements of `dy` in a block, the sums over which go to `f64`: short sums in a row in each chain.
const fn block(lanes: usize, chains: usize) -> usize {
    16 * SHORT * chains * lanes
}

/// Channels that begin again after `R` registers, in `N` chains. Terms are taken in groups whose sums fit the
/// registers; each term of a group has loads of its own, by whose addresses the processor can tell what will be read
/// (see [`mix`](Kernels::mix)).
#[inline(always)]
unsafe fn periodic<S: Simd, E: Element, const R: usize, const N: usize>(dy: &[f32], terms: &mut [NormTerm<'_>]) {
    // AVX2 has 16 registers.
    let group = if N > 4 {
        1
    } else if S::LANES == 8 {
        2
    } else {
        4
    };
    for terms in terms.chunks_mut(group) {
        // SAFETY: promised by the caller.
        unsafe {
            match terms {
                [a, b, c, d] => terms_of_group::<S, E, R, N, 4>(dy, [a, b, c, d]),
                [a, b, c] => terms_of_group::<S, E, R, N, 3>(dy, [a, b, c]),
                [a, b] => terms_of_group::<S, E, R, N, 2>(dy, [a, b]),
                [a] => terms_of_group::<S, E, R, N, 1>(dy, [a]),
                _ => {}
            }
        }
    }
}

#[inline(always)]
unsafe fn terms_of_group<S: Simd, E: Element, const R: usize, const N: usize, const T: usize>(
    dy: &[f32],
    mut terms: [&mut NormTerm<'_>; T],
) {
    // SAFETY: the caller promises that all images have the length of dy.
    unsafe {
        let mut means = [[S::splat(0.0); R]; T];
        for (mean, term) in means.iter_mut().zip(&terms) {
            if !term.sums.mean.is_empty() {
                *mean = registers::<S, R>(term.sums.mean);
            }
        }
        for (index, dy) in dy.chunks(block(S::LANES, N)).enumerate() {
            let mut z = [ptr::null(); T];
            for (z, term) in z.iter_mut().zip(&terms) {
                *z = values::<E>(term).as_ptr().add(index * block(S::LANES, N));
            }
            let (sum, dots) = sums_of_block::<S, E, R, N, T>(dy, z, means);
            for (term, dot) in terms.iter_mut().zip(dots) {
                let scale = f64::from(term.sums.scale);
                add_lanes::<S, R>(scale, sum, term.sums.sum);
                add_lanes::<S, R>(scale, dot, term.sums.dot);
            }
        }
    }
}

/// `Σ dy` and, of each term, `Σ dy·(z − mean)`, over a block.
#[inline(always)]
unsafe fn sums_of_block<S: Simd, E: Element, const R: usize, const N: usize, const T: usize>(
    dy: &[f32],
    z: [*const E; T],
    means: [[S::Vector; R]; T],
) -> ([S::Vector; R], [[S::Vector; R]; T]) {
    const { assert!(N.is_multiple_of(R)) }
    let (len, dy) = (dy.len(), dy.as_ptr());
    // SAFETY: all images have `len` elements, and what is loaded lies below.
    unsafe {
        let zero = S::splat(0.0);
        let (mut sum, mut dots) = ([zero; R], [[zero; R]; T]);
        let step = N * S::LANES;
        let mut at = 0;
        while at < len {
            let (mut sums, mut parts) = ([zero; N], [[zero; N]; T]);
            let end = len.min(at + SHORT * step);
            while at + step <= end {
                for chain in 0..N {
                    let at = at + chain * S::LANES;
                    let dy = S::load(dy.add(at));
                    sums[chain] = S::add(sums[chain], dy);
                    for term in 0..T {
                        let centred = S::sub(E::load::<S, false>(z[term].add(at), S::LANES), means[term][chain % R]);
                        parts[term][chain] = S::mul_add(dy, centred, parts[term][chain]);
                    }
                }
                at += step;
            }
            for chain in 0..N {
                let at = at + chain * S::LANES;
                if at < end {
                    with_lanes!(S, end - at, PARTIAL, count, {
                        let dy = load::<S, PARTIAL>(dy.add(at), count);
                        sums[chain] = S::add(sums[chain], dy);
                        for term in 0..T {
                            let z = E::load::<S, PARTIAL>(z[term].add(at), count);
                            let centred = S::sub(z, means[term][chain % R]);
                            parts[term][chain] = S::mul_add(dy, centred, parts[term][chain]);
                        }
                    });
                }
            }
            at = end;
            fold::<S, R, N>(sums, &mut sum);
            for term in 0..T {
                fold::<S, R, N>(parts[term], &mut dots[term]);
            }
        }
        (sum, dots)
    }
}

/// Adds the chains of the same channels.
#[inline(always)]
unsafe fn fold<S: Simd, const R: usize, const N: usize>(chains: [S::Vector; N], sums: &mut [S::Vector; R]) {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        for (index, sum) in sums.iter_mut().enumerate() {
            let mut part = chains[index];
            if N == 4 && R == 1 {
                part = S::add(S::add(part, chains[1]), S::add(chains[2], chains[3]));
            } else {
                for chain in (index + R..N).step_by(R) {
                    part = S::add(part, chains[chain]);
                }
            }
            *sum = S::add(*sum, part);
        }
    }
}

/// Pixels whose sum is taken in one go, where a register has channels of one pixel.
const SHORT_PIXELS: usize = 8 * CHAINS;
/// Pixels whose short sums are added up in `f32` before they go to `f64`.
const WIDE_PIXELS: usize = 32 * SHORT_PIXELS;

/// Any channels.
#[inline(always)]
unsafe fn pixels<S: Simd, E: Element>(dy: &[f32], term: &mut NormTerm<'_>) {
    let z = values::<E>(term);
    let NormSums { mean, scale, sum, dot } = &mut term.sums;
    let channels = sum.len();
    for (dy, z) in dy.chunks(WIDE_PIXELS * channels).zip(z.chunks(WIDE_PIXELS * channels)) {
        for c in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - c, PARTIAL, count, {
                // SAFETY: dy and z are whole pixels, and mean has `channels` elements, if any.
                let (wide_sum, wide_dot) = unsafe { wide::<S, E, PARTIAL>(dy, z, mean, channels, c, count) };
                for lane in 0..count {
                    sum[c + lane] += f64::from(*scale) * f64::from(wide_sum[lane]);
                    dot[c + lane] += f64::from(*scale) * f64::from(wide_dot[lane]);
                }
            });
        }
    }
}

/// Sums of `count` channels, from `channel` on, over at most `WIDE_PIXELS` pixels.
#[inline(always)]
unsafe fn wide<S: Simd, E: Element, const PARTIAL: bool>(
    dy: &[f32],
    z: &[E],
    mean: &[f32],
    channels: usize,
    channel: usize,
    count: usize,
) -> ([f32; MAX_LANES], [f32; MAX_LANES]) {
    // SAFETY: the caller promises whole pixels; every pixel below is inside, and `channel + count <= channels`.
    unsafe {
        let zero = S::splat(0.0);
        let mean = if mean.is_empty() { zero } else { load::<S, PARTIAL>(mean.as_ptr().add(channel), count) };
        let (mut sum, mut dot) = (zero, zero);
        let pixels = z.len() / channels;
        for first in (0..pixels).step_by(SHORT_PIXELS) {
            let (mut sums, mut dots) = ([zero; CHAINS], [zero; CHAINS]);
            let mut pixel = first;
            let end = pixels.min(first + SHORT_PIXELS);
            while pixel < end {
                for chain in 0..CHAINS.min(end - pixel) {
                    let at = (pixel + chain) * channels + channel;
                    let dy = load::<S, PARTIAL>(dy.as_ptr().add(at), count);
                    let z = E::load::<S, PARTIAL>(z.as_ptr().add(at), count);
                    sums[chain] = S::add(sums[chain], dy);
                    dots[chain] = S::mul_add(dy, S::sub(z, mean), dots[chain]);
                }
                pixel += CHAINS;
            }
            sum = S::add(sum, S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
            dot = S::add(dot, S::add(S::add(dots[0], dots[1]), S::add(dots[2], dots[3])));
        }
        let mut result = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        S::store(result.0.as_mut_ptr(), sum);
        S::store(result.1.as_mut_ptr(), dot);
        result
    }
}
