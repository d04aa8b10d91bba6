//! Weighted sums of many tensors.
//!
//! A term that is not in the cache is read at the pace at which the processor foresees its addresses, which it does for
//! each instruction that loads. So terms are read by instructions of their own, a few terms in each group: eight terms
//! from memory took 23 µs for an image of 64 KB where all were read by the same, and 9 to 11 µs in groups of two, four
//! or eight (AMD EPYC, Zen 5, 2026-11-28). Software prefetches of any kind in the same loop gained nothing beside that.

use core::ptr;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{load, store, with_lanes};
use crate::ops::periodic::{UNWRITTEN, registers, repeat, with_period};
use crate::ops::stored::{Element, Stored};

/// One summand of [`Kernels::mix`]: a tensor and its factor per channel.
#[derive(Clone, Copy, Debug)]
pub struct MixTerm<'a> {
    /// The tensor, `[P, C]`.
    pub z: Stored<'a>,
    /// Factor of each channel, `[C]`.
    pub scale: &'a [f32],
}

impl Kernels {
    /// `y[p, c] (+)= shift[c] + Σ_t scale_t[c]·z_t[p, c]` over one image `[P, C]`, in one pass for every eight terms;
    /// `y` is overwritten unless `accumulate`. This is a mixed operation, or a whole node, of normalised tensors: the
    /// normalisations and the weights are folded into the factors.
    ///
    /// # Panics
    ///
    /// When the length of a tensor differs from that of `y`, or that of a factor from that of `shift`.
    pub fn mix(self, terms: &[MixTerm<'_>], shift: &[f32], y: &mut [f32], accumulate: bool) {
        let channels = shift.len();
        assert!(
            channels > 0 && y.len().is_multiple_of(channels),
            "mix: {} values are no image of {channels} channels",
            y.len()
        );
        for term in terms {
            assert_eq!((term.z.len(), term.scale.len()), (y.len(), channels), "mix: z and scale of a term");
        }
        // SAFETY: all tensors have the same length, a multiple of the channels; all factors have one element per
        // channel.
        unsafe { dispatch!(self, image(terms: &[MixTerm<'_>], shift: &[f32], y: &mut [f32], accumulate: bool)) }
    }
}

/// Terms in one pass.
const TERMS: usize = 8;

/// Registers whose sums are held while the terms pass by.
const REGISTERS: usize = 8;

#[inline(always)]
unsafe fn image<S: Simd>(terms: &[MixTerm<'_>], shift: &[f32], y: &mut [f32], accumulate: bool) {
    let channels = shift.len();
    let (first, rest) = terms.split_at(terms.len().min(TERMS));
    // SAFETY: the caller's lengths.
    unsafe {
        pass::<S>(first, channels, Some(shift), y, accumulate);
        for terms in rest.chunks(TERMS) {
            pass::<S>(terms, channels, None, y, true);
        }
    }
}

/// At most `TERMS` terms.
#[inline(always)]
unsafe fn pass<S: Simd>(
    terms: &[MixTerm<'_>],
    channels: usize,
    shift: Option<&[f32]>,
    y: &mut [f32],
    accumulate: bool,
) {
    // Whole registers of channels that are some are read a column of a tile at a time: from memory 64 channels took 2.6
    // µs for eight terms of 16 KB, and 3.3 to 4.5 in the order of memory. In half precision a register is half a line:
    // there it is 4.9 µs, and 2.5 in the order of memory (AMD EPYC, Zen 5, 2026-11-28 and 29).
    let columns = channels > S::LANES
        && channels.is_multiple_of(S::LANES)
        && channels <= 4 * S::LANES
        && terms.iter().all(|term| matches!(term.z, Stored::F32(_)));
    // SAFETY: the caller's lengths, and the period is that of the channels.
    unsafe {
        if columns {
            pixels::<S>(terms, channels, shift, y, accumulate);
            return;
        }
        with_period!(
            S,
            channels,
            R,
            periodic::<S, R, { REGISTERS.div_ceil(R) * R }>(terms, shift, y, accumulate),
            pixels::<S>(terms, channels, shift, y, accumulate)
        );
    }
}

/// Where a term and its factors start.
#[derive(Clone, Copy)]
struct Stream<E> {
    z: *const E,
    scale: *const f32,
}

/// Terms in one form.
struct Form<E> {
    streams: [Stream<E>; TERMS],
    count: usize,
}

impl<E: Element> Form<E> {
    /// Those of `terms` that are stored in this form, with the factors of each after `factors`.
    #[inline(always)]
    fn of<'a>(terms: &[MixTerm<'a>], mut factors: impl FnMut(usize, &'a [f32]) -> *const f32) -> Self {
        let mut form = Self { streams: [Stream { z: ptr::null(), scale: ptr::null() }; TERMS], count: 0 };
        for (index, term) in terms.iter().enumerate() {
            if let Some(z) = E::values(term.z) {
                form.streams[form.count] = Stream { z: z.as_ptr(), scale: factors(index, term.scale) };
                form.count += 1;
            }
        }
        form
    }
}

/// Terms as tiles read them: those in single precision ahead of those in half precision.
struct Streams {
    singles: Form<f32>,
    halves: Form<u16>,
}

impl Streams {
    #[inline(always)]
    fn of<'a>(terms: &[MixTerm<'a>], mut factors: impl FnMut(usize, &'a [f32]) -> *const f32) -> Self {
        Self { singles: Form::of(terms, &mut factors), halves: Form::of(terms, factors) }
    }
}

/// Some registers of the images.
#[derive(Clone, Copy)]
struct Tile {
    /// Element of the images where the first one starts.
    at: usize,
    /// Elements from one to the next.
    step: usize,
    /// Channel at which the first one starts.
    channel: usize,
    /// Elements in each.
    count: usize,
    /// Whether there are factors for all lanes.
    periodic: bool,
    /// Whether to add to what is there.
    accumulate: bool,
}

/// Channels that begin again after `R` registers, `N` registers at a time.
#[inline(always)]
unsafe fn periodic<S: Simd, const R: usize, const N: usize>(
    terms: &[MixTerm<'_>],
    shift: Option<&[f32]>,
    y: &mut [f32],
    accumulate: bool,
) {
    let mut repeated = [UNWRITTEN; TERMS];
    // SAFETY: `R` is the period of the channels.
    let streams = &Streams::of(terms, |index, scale| unsafe { repeat::<S, R>(scale, &mut repeated[index]) });
    let (len, y) = (y.len(), y.as_mut_ptr());
    // SAFETY: all images have `len` elements, and those of the tiles lie below.
    unsafe {
        let start = shift.map_or([S::splat(0.0); R], |shift| registers::<S, R>(shift));
        let mut tile = Tile { at: 0, step: S::LANES, channel: 0, count: S::LANES, periodic: true, accumulate };
        while tile.at + N * S::LANES <= len {
            sum::<S, R, N, false>(streams, start, y, tile);
            tile.at += N * S::LANES;
        }
        while tile.at + R * S::LANES <= len {
            sum::<S, R, R, false>(streams, start, y, tile);
            tile.at += R * S::LANES;
        }
        // What is left is less than a period.
        for (index, &start) in start.iter().enumerate() {
            if tile.at >= len {
                break;
            }
            with_lanes!(S, len - tile.at, PARTIAL, count, {
                let tile = Tile { channel: index * S::LANES, count, ..tile };
                sum::<S, 1, 1, PARTIAL>(streams, [start], y, tile);
            });
            tile.at += S::LANES;
        }
    }
}

/// Any channels.
#[inline(always)]
unsafe fn pixels<S: Simd>(
    terms: &[MixTerm<'_>],
    channels: usize,
    shift: Option<&[f32]>,
    y: &mut [f32],
    accumulate: bool,
) {
    let streams = &Streams::of(terms, |_, scale| scale.as_ptr());
    let shift = shift.map_or(ptr::null(), <[f32]>::as_ptr);
    let (pixels, y) = (y.len() / channels, y.as_mut_ptr());
    let whole = pixels - pixels % REGISTERS;
    let mut pixel = 0;
    while pixel < pixels {
        for channel in (0..channels).step_by(S::LANES) {
            with_lanes!(S, channels - channel, PARTIAL, count, {
                // SAFETY: the pixels and channels of the tile exist.
                unsafe {
                    let start =
                        [if shift.is_null() { S::splat(0.0) } else { load::<S, PARTIAL>(shift.add(channel), count) }];
                    let (at, step, periodic) = (pixel * channels + channel, channels, false);
                    let tile = Tile { at, step, channel, count, periodic, accumulate };
                    if pixel < whole {
                        sum::<S, 1, REGISTERS, PARTIAL>(streams, start, y, tile);
                    } else {
                        sum::<S, 1, 1, PARTIAL>(streams, start, y, tile);
                    }
                }
            });
        }
        pixel += if pixel < whole { REGISTERS } else { 1 };
    }
}

/// The `N` registers of a tile, from the summand `start` on.
#[inline(always)]
unsafe fn sum<S: Simd, const R: usize, const N: usize, const PARTIAL: bool>(
    streams: &Streams,
    start: [S::Vector; R],
    y: *mut f32,
    tile: Tile,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [start[0]; N];
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = start[index % R];
            if tile.accumulate {
                *sum = S::add(*sum, load::<S, PARTIAL>(y.add(tile.at + index * tile.step), tile.count));
            }
        }
        streams.singles.add::<S, R, N, PARTIAL>(&mut sums, tile);
        streams.halves.add::<S, R, N, PARTIAL>(&mut sums, tile);
        for (index, sum) in sums.into_iter().enumerate() {
            store::<S, PARTIAL>(y.add(tile.at + index * tile.step), sum, tile.count);
        }
    }
}

impl<E: Element> Form<E> {
    /// Adds all terms to a tile.
    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize, const N: usize, const PARTIAL: bool>(
        &self,
        sums: &mut [S::Vector; N],
        tile: Tile,
    ) {
        let mut streams = &self.streams[..self.count];
        // SAFETY: promised by the caller.
        unsafe {
            while let [a, b, c, d, rest @ ..] = streams {
                add::<S, E, R, N, PARTIAL, 4>([a, b, c, d], sums, tile);
                streams = rest;
            }
            match streams {
                [a, b, c] => add::<S, E, R, N, PARTIAL, 3>([a, b, c], sums, tile),
                [a, b] => add::<S, E, R, N, PARTIAL, 2>([a, b], sums, tile),
                [a] => add::<S, E, R, N, PARTIAL, 1>([a], sums, tile),
                _ => {}
            }
        }
    }
}

/// Adds a group of terms.
#[inline(always)]
unsafe fn add<S: Simd, E: Element, const R: usize, const N: usize, const PARTIAL: bool, const T: usize>(
    streams: [&Stream<E>; T],
    sums: &mut [S::Vector; N],
    tile: Tile,
) {
    // SAFETY: promised by the caller.
    unsafe {
        for stream in streams {
            let mut scale = [sums[0]; R];
            for (index, scale) in scale.iter_mut().enumerate() {
                let source = stream.scale.add(tile.channel + index * S::LANES);
                *scale = if tile.periodic { S::load(source) } else { load::<S, PARTIAL>(source, tile.count) };
            }
            for (index, sum) in sums.iter_mut().enumerate() {
                let z = E::load::<S, PARTIAL>(stream.z.add(tile.at + index * tile.step), tile.count);
                *sum = S::mul_add(scale[index % R], z, *sum);
            }
        }
    }
}
