//! Hints that memory will be read or written soon.

use core::ops::Range;
use core::ptr;

/// Lines of a few streams, asked for in small portions, of each stream its share: more at once than the processor can
/// wait for would stop it. One stream after the other took 23.6 µs in place of 19.7 (AMD EPYC, Zen 5, both gradients of
/// a separable 3×3 convolution at 16 channels, 32×32, 1,024 images in turn, 2026-11-28).
pub(super) struct Ahead {
    streams: [Stream; STREAMS],
    /// Those in use.
    count: usize,
    /// Whether [`ask_at`](Self::ask_at) asks for every register.
    every_register: bool,
    /// Whether lines are to come up to the first cache.
    first_cache: bool,
}

/// Streams at most.
const STREAMS: usize = 4;

/// Elements of a line of the cache.
const LINE: usize = 16;

/// A strip, and those behind it, in memory, none of which need exist.
#[derive(Clone, Copy)]
struct Stream {
    /// Of the first strip; elements are counted from here.
    start: *const f32,
    /// Elements of a strip.
    len: usize,
    /// Elements of a portion of it.
    portion: usize,
    /// The first element that is not asked for yet.
    next: usize,
    /// The end of the strip that is asked for.
    end: usize,
}

impl Stream {
    /// The next `portions`, or what is left.
    #[inline(always)]
    fn take(&mut self, portions: usize) -> Range<usize> {
        let (next, end) = (self.next, self.end.min(self.next + self.portion * portions));
        self.next = end;
        next..end
    }
}

impl Ahead {
    /// Nothing.
    pub const NONE: Self = Self {
        streams: [Stream { start: ptr::null(), len: 0, portion: 0, next: 0, end: 0 }; STREAMS],
        count: 0,
        every_register: false,
        first_cache: false,
    };

    /// The strips that start where the streams do, of so many elements, in `portions` portions.
    pub fn new<const N: usize>(streams: [(*const f32, usize); N], portions: usize, every_register: bool) -> Self {
        const { assert!(N <= STREAMS, "more streams than there is room for") }
        let mut ahead = Self { every_register, ..Self::NONE };
        for (start, len) in streams {
            if len > 0
                && let Some(stream) = ahead.streams.get_mut(ahead.count)
            {
                let portion = len.div_ceil(LINE).div_ceil(portions.max(1)) * LINE;
                *stream = Stream { start, len, portion, next: 0, end: len };
                ahead.count += 1;
            }
        }
        ahead
    }

    /// The same, up to the first cache: where what is asked for is little and read soon.
    pub fn into_first_cache(self) -> Self {
        Self { first_cache: true, ..self }
    }

    /// Goes on to the strips behind these.
    pub fn next_strip(&mut self) {
        for stream in self.streams.iter_mut().take(self.count) {
            stream.next = stream.end;
            stream.end += stream.len;
        }
    }

    /// Asks for the next portion ahead of a row's register of channels from `channel` on: of the first, or of every
    /// one.
    #[inline(always)]
    pub fn ask_at(&mut self, channel: usize) {
        if channel == 0 || self.every_register {
            self.ask();
        }
    }

    /// Asks for the next portion.
    pub fn ask(&mut self) {
        for stream in self.streams.iter_mut().take(self.count) {
            let Range { start: mut next, end } = stream.take(1);
            while next < end {
                let line = stream.start.wrapping_add(next);
                if self.first_cache {
                    ask::<true>(line)
                } else {
                    ask::<false>(line)
                }
                next += LINE;
            }
        }
    }

    /// The next `portions`, along a product of `pixels` and `columns`.
    pub fn along(&mut self, portions: usize, pixels: usize, columns: usize) -> Along {
        let streams = self.streams.iter_mut().take(self.count).map(|stream| {
            let part = stream.take(portions);
            (stream.start.wrapping_add(part.start), part.len())
        });
        Along::new(streams, pixels, columns)
    }
}

/// What a product asks for on its way, of each stream as many elements for each pixel and register of columns.
///
/// The processor foresees some lines of a stream, but waits for the rest where a strip is longer: from memory a forward
/// stage of 3×3 takes 3.5 µs in place of 4.3 at 32 channels, 16×16, 2.7 in place of 3.4 at 64, 8×8, and 24 in place of
/// 36 at 36, 32×32 (AMD EPYC, Zen 5, 2026-11-29).
#[derive(Clone, Copy)]
pub(super) struct Along {
    streams: [*const f32; STREAMS],
    count: usize,
    each: usize,
    pixels: usize,
}

/// Columns of a register of those that share what is asked for.
const COLUMNS: usize = 16;

impl Along {
    /// Nothing.
    pub const NONE: Self = Self { streams: [ptr::null(); STREAMS], count: 0, each: 0, pixels: 0 };

    /// The elements of all streams, which need not exist, along a product of `pixels` and `columns`; of all streams as
    /// many as of the longest.
    pub fn new(streams: impl IntoIterator<Item = (*const f32, usize)>, pixels: usize, columns: usize) -> Self {
        let parts = (pixels * columns.div_ceil(COLUMNS)).max(1);
        let mut along = Self { pixels, ..Self::NONE };
        for (start, len) in streams {
            if len > 0
                && let Some(stream) = along.streams.get_mut(along.count)
            {
                *stream = start;
                along.count += 1;
                along.each = along.each.max(len.div_ceil(parts));
            }
        }
        along
    }

    /// Asks for what belongs to a tile of `rows` and `width` columns, at `row` and `column`.
    #[inline(always)]
    pub fn ask(&self, (row, rows): (usize, usize), (column, width): (usize, usize)) {
        if self.each > 0 {
            let registers = width.div_ceil(COLUMNS);
            let before = column / COLUMNS * self.pixels + row * registers;
            self.ask_part(before * self.each, rows * registers * self.each);
        }
    }

    /// The same for rows of one register of columns, without a call, which would cost the caller what it has in
    /// registers of vectors.
    #[inline(always)]
    pub fn ask_in_place(&self, row: usize, rows: usize) {
        let (first, len) = (row * self.each, rows * self.each);
        for at in (first..first + len).step_by(LINE) {
            for stream in self.streams.iter().take(self.count) {
                ask_line(stream.wrapping_add(at));
            }
        }
    }

    /// Asks for `len` elements from `first` on, of all streams in turn.
    #[inline(never)]
    fn ask_part(&self, first: usize, len: usize) {
        let elements = (first..first + len).step_by(LINE);
        match self.streams.get(..self.count) {
            Some(&[a]) => elements.for_each(|at| ask_line(a.wrapping_add(at))),
            Some(&[a, b]) => elements.for_each(|at| [a, b].iter().for_each(|start| ask_line(start.wrapping_add(at)))),
            Some(&[a, b, c]) => {
                elements.for_each(|at| [a, b, c].iter().for_each(|start| ask_line(start.wrapping_add(at))))
            }
            streams => elements.for_each(|at| {
                streams.unwrap_or_default().iter().for_each(|start| ask_line(start.wrapping_add(at)));
            }),
        }
    }
}

/// Asks for a line, up to the second cache: a strip and what the next one reads do not fit the first. From memory that
/// gave 44 % of the peak instead of 35 % into the first cache (AMD EPYC, Zen 4, backward pass of a separable 3×3
/// convolution at 16 channels, 2026-11-24).
#[inline(always)]
pub(super) fn ask_line(line: *const f32) {
    ask::<false>(line);
}

/// Asks for a line, up to the second cache or the first.
#[inline(always)]
fn ask<const FIRST_CACHE: bool>(line: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if FIRST_CACHE { _mm_prefetch::<_MM_HINT_T0>(line.cast()) } else { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
