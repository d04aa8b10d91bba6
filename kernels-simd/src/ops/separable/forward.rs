//! The forward pass.

use core::ops::Range;
use core::ptr;

use super::input::SeparableInput;
use crate::kernels::Kernels;
use crate::lengths::{part, require};
use crate::ops::depthwise::{Row, Window};
use crate::ops::prefetch::{Ahead, Along};
use crate::ops::prelude::Prelude;
use crate::ops::product::{Destination, Product};
use crate::ops::ring::Ring;
use crate::ops::stored::{Source, StoredMut, Target};
use crate::ops::stream::{can_copy, can_stream, can_stream_halves, publish};
use crate::shape::SeparableShape;

/// Where the sums that a batch normalisation needs go: both are added to, one element per channel.
#[derive(Debug)]
pub struct Moments<'a> {
    /// `Σ z`.
    pub sum: &'a mut [f64],
    /// `Σ z²`.
    pub sum_of_squares: &'a mut [f64],
}

/// The memory in which a pass over an image works.
#[derive(Debug)]
pub struct SeparableScratch<'a> {
    /// As many as the pass needs or more, of any value unless `reused`.
    pub elements: &'a mut [f32],
    /// Whether the last that was written to `elements` was written by the same pass over an image of the same shape,
    /// and with [`preluded`](SeparableInput::preluded) given both times or neither. Then the zeros around images are
    /// there already, which take 1 to 5 % of the time of small images (AMD EPYC, Zen 5, 8 to 32 channels, 28×28 to 7×7,
    /// 2026-11-29).
    pub reused: bool,
}

impl<'a> SeparableScratch<'a> {
    /// Elements of any value.
    pub fn new(elements: &'a mut [f32]) -> Self {
        Self { elements, reused: false }
    }
}

/// Pixels whose sums are added up in `f32` before they go to `f64`.
pub(super) const SUMMED_PIXELS: usize = 1024;

/// So few values of the next strip, a page in single precision, are asked for at the rows of the depthwise convolution,
/// since along the product that follows they come late. A stage of 16 channels, 32×32, whose images lie here and there
/// in memory takes 5.3 µs in place of 5.7 for 3×3 and 7.4 in place of 8.8 for 5×5, and in the second cache 4.6 and 6.7
/// in place of 4.5 and 6.6. Along the product it takes 5.5 and 7.9, with all asked for at once 6.6 and 9.3, and with
/// what is asked for at the rows, but up to the second cache, 5.6 and 7.6. With more values that was slower: 32 and 64
/// channels take 1 to 3 % longer, 36 and 72 up to 16 % (AMD EPYC, Zen 5, AVX-512, 2026-11-30).
const FEW_VALUES: usize = 1024;

/// Channels with fewer are not asked for: at 8, 28×28 and stride 2 a stage takes 3 to 10 % longer for it, on AVX2 up to
/// 20 %. At 16 channels it takes a sixth less from memory, and a tenth more in the second cache; at stride 1, 14×14, a
/// quarter less for 3×3, and as long for 5×5 and in the cache (AMD EPYC, Zen 5, 2026-11-30).
const FEW_CHANNELS: usize = 16;

impl Kernels {
    /// A separable convolution of one image `x` `[H, W, C]`, after `prelude` and with "same" padding: depthwise with
    /// `depthwise` `[k, k, C]`, then pointwise with `pointwise` `[C, C_out]` and `bias` `[C_out]`. Overwrites `z`
    /// `[H_out, W_out, C_out]`, or with `accumulate` adds to it. `moments`, as [`Kernels::channel_moments`] of the
    /// final `z`, are added up on the way. `scratch` holds [`SeparableShape::forward_scratch`] elements; with moments
    /// and [`SeparableShape::streaming_scratch`] elements `z` is stored past the caches, which is faster where it is
    /// read when they have no room for it any more.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `scratch` may be longer.
    #[allow(clippy::too_many_arguments)]
    pub fn separable(
        self,
        x: &[f32],
        shape: SeparableShape,
        prelude: Prelude<'_>,
        depthwise: &[f32],
        pointwise: &[f32],
        bias: Option<&[f32]>,
        z: &mut [f32],
        accumulate: bool,
        moments: Option<Moments<'_>>,
        scratch: SeparableScratch<'_>,
    ) {
        let convolution = Convolution { x, shape, prelude, ready: None, depthwise, pointwise, bias, accumulate };
        convolution.run(self, z, moments, scratch);
    }

    /// [`separable`](Self::separable) for training, of an input in either form to a `z` in either form, which is
    /// overwritten: `scratch` holds [`SeparableShape::streaming_scratch`] elements. The moments are those of `z` before
    /// it is rounded.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `scratch` may be longer.
    #[allow(clippy::too_many_arguments)]
    pub fn separable_stored(
        self,
        input: SeparableInput<'_>,
        shape: SeparableShape,
        depthwise: &[f32],
        pointwise: &[f32],
        z: StoredMut<'_>,
        moments: Option<Moments<'_>>,
        scratch: SeparableScratch<'_>,
    ) {
        assert!(shape.is_sane(), "separable_stored: {shape:?}");
        let (len, needed) = (scratch.elements.len(), shape.streaming_scratch());
        assert!(len >= needed, "separable_stored: scratch of {len} elements, not {needed}, for {shape:?}");
        let SeparableInput { x, prelude, preluded } = input;
        let ready = preluded.map(|preluded| preluded.ring(shape));
        let convolution = Convolution { x, shape, prelude, ready, depthwise, pointwise, bias: None, accumulate: false };
        convolution.run(self, z, moments, scratch);
    }
}

/// What is computed from what.
struct Convolution<'a, X> {
    x: X,
    shape: SeparableShape,
    prelude: Prelude<'a>,
    /// All rows of `x` after the prelude, if they are there.
    ready: Option<Ring>,
    depthwise: &'a [f32],
    pointwise: &'a [f32],
    bias: Option<&'a [f32]>,
    accumulate: bool,
}

impl<X: Source> Convolution<'_, X> {
    /// Checks all lengths, and computes `z`.
    fn run(&self, kernels: Kernels, z: impl Target, moments: Option<Moments<'_>>, scratch: SeparableScratch<'_>) {
        let Self { x, shape, prelude, depthwise, pointwise, bias, .. } = *self;
        require!(
            shape.is_sane()
                && x.len() == shape.input.len()
                && z.len() == shape.output().len()
                && depthwise.len() == shape.depthwise().weights()
                && pointwise.len() == shape.pointwise().weights()
                && scratch.elements.len() >= shape.forward_scratch(),
            "separable: x, z, weights and scratch of {}, {}, {}, {} and {} elements do not fit {shape:?}",
            x.len(),
            z.len(),
            depthwise.len(),
            pointwise.len(),
            scratch.elements.len()
        );
        if !prelude.check(shape.input) {
            return;
        }
        let outputs = shape.output_channels;
        require!(bias.is_none_or(|bias| bias.len() == outputs), "separable: length of bias for {shape:?}");
        if let Some(moments) = &moments {
            let fits = [moments.sum.len(), moments.sum_of_squares.len()] == [outputs; 2];
            require!(fits, "separable: moments for {shape:?}");
        }
        // SAFETY: the lengths fit the shape.
        unsafe { self.compute(kernels, z, moments, scratch) }
    }

    unsafe fn compute(
        &self,
        kernels: Kernels,
        mut z: impl Target,
        mut moments: Option<Moments<'_>>,
        scratch: SeparableScratch<'_>,
    ) {
        let Self { x, shape, prelude, depthwise, pointwise, bias, accumulate, .. } = *self;
        let output = shape.output();
        let (strip_rows, ring_rows, outputs) =
            (shape.strip_rows(), shape.ring_rows(shape.strip_rows()), shape.output_channels);
        let SeparableScratch { elements, reused } = scratch;
        // What has moments is read through a batch norm, when the whole batch is done.
        let read_later = moments.is_some() && !accumulate && elements.len() >= shape.streaming_scratch();
        // SAFETY: the length fits the shape.
        let (ring, strip, partial, rest) = unsafe { parts(elements, shape) };
        partial.fill(0.0);
        let left = shape.padding().left * shape.input.channels;
        let inside = left..left + shape.input.width * shape.input.channels;
        let ring = self.ready.unwrap_or_else(|| Ring::new(ring, ring_rows, inside, reused));
        let (to, in_place) = destination(kernels, &mut z, shape, read_later);
        let copied = in_place.is_none();
        debug_assert!(!copied || rest.len() >= shape.strip_len(strip_rows, outputs), "a strip behind all else");
        let (mut rows_done, mut summed) = (0, 0);
        for first in (0..output.height).step_by(strip_rows.max(1)) {
            let rows = strip_rows.min(output.height - first);
            let pixels = rows * output.width;
            // SAFETY: the lengths fit the shape; the rows that a strip needs fit the ring.
            unsafe {
                let needed = shape.rows_needed(first + rows - 1);
                if self.ready.is_none() {
                    prelude_rows(kernels, x, shape, prelude, ring, rows_done..needed);
                }
                rows_done = rows_done.max(needed);
                // Outside of training the next strip is in the cache, and so is what is read by several.
                let next = if read_later && self.ready.is_none() { strip_rows } else { 0 };
                let (mut at_rows, along) = input_ahead(x, shape, rows_done, next);
                let middle = strip.as_mut_ptr();
                depthwise_rows(kernels, shape, ring, first..first + rows, depthwise, middle, at_rows.as_mut());
                let done = first * output.width * outputs;
                let product = Product {
                    a: strip.as_ptr(),
                    a_pixel: shape.input.channels,
                    a_segment: 0,
                    segments: 1,
                    depth: shape.input.channels,
                    b: pointwise.as_ptr(),
                    columns: outputs,
                    bias: bias.map_or(ptr::null(), <[f32]>::as_ptr),
                    accumulate,
                    c: match in_place {
                        Some(z) if to == Destination::MemoryAsHalves => z.cast::<u16>().add(done).cast(),
                        Some(z) => z.add(done),
                        None => rest.as_mut_ptr(),
                    },
                    c_pixel: outputs,
                    gaps: None,
                    to,
                    moments: if moments.is_some() { partial.as_mut_ptr() } else { ptr::null_mut() },
                    ahead: along,
                };
                product.compute(kernels, pixels);
                if copied {
                    z.copy(kernels, rest.as_ptr(), done, pixels * outputs);
                }
            }
            summed += pixels;
            if let Some(moments) = &mut moments
                && (summed >= SUMMED_PIXELS || first + rows == output.height)
            {
                add(moments.sum, part(partial, 0, outputs));
                add(moments.sum_of_squares, part(partial, outputs, outputs));
                partial.fill(0.0);
                summed = 0;
            }
        }
        if to != Destination::Caches || copied {
            publish();
        }
    }
}

/// What a scratch holds: the ring, a strip of the depthwise convolution's output, the sums of the moments, and what is
/// left.
///
/// # Safety
///
/// There are [`SeparableShape::forward_scratch`] elements.
#[inline(always)]
unsafe fn parts(elements: &mut [f32], shape: SeparableShape) -> (&mut [f32], &mut [f32], &mut [f32], &mut [f32]) {
    let rows = shape.strip_rows();
    let scratch = SeparableShape::aligned(elements);
    // SAFETY: behind less than a line there is room for all of them.
    unsafe {
        let (ring, scratch) = scratch.split_at_mut_unchecked(shape.ring_rows(rows) * shape.ring_row());
        let (strip, scratch) = scratch.split_at_mut_unchecked(shape.strip_len(rows, shape.input.channels));
        let (sums, rest) = scratch.split_at_mut_unchecked(2 * shape.output_channels);
        (ring, strip, sums, SeparableShape::aligned(rest))
    }
}

/// How products of strips store `z`, and where it starts; nowhere if strips are copied.
fn destination<Z: Target>(
    kernels: Kernels,
    z: &mut Z,
    shape: SeparableShape,
    read_later: bool,
) -> (Destination, Option<*mut f32>) {
    let (columns, pixels) = (shape.output_channels, shape.strip_rows() * shape.output().width);
    match (z.in_place(), z.halves()) {
        (Some(z), _) if read_later && can_stream(z, columns) => (Destination::Memory, Some(z)),
        (Some(z), _) if !(read_later && can_copy(kernels)) => (Destination::Caches, Some(z)),
        (_, Some(z)) if can_stream_halves(kernels, z, columns, pixels) => (Destination::MemoryAsHalves, Some(z.cast())),
        _ => (Destination::Caches, None),
    }
}

/// What is asked for at the rows of a strip or along its product: the rows of `x` that are read for `rows` more rows of
/// the output, from row `first` on.
fn input_ahead<X: Source>(x: X, shape: SeparableShape, first: usize, rows: usize) -> (Option<Ahead>, Along) {
    let row = shape.input.width * shape.input.channels;
    let len = rows * shape.stride * row;
    let memory = x.memory(first * row, len);
    if len == 0 || shape.input.channels < FEW_CHANNELS {
        return (None, Along::NONE);
    }
    if len <= FEW_VALUES {
        return (Some(Ahead::new([memory], rows, false).into_first_cache()), Along::NONE);
    }
    (None, Along::new([memory], rows * shape.output().width, shape.output_channels))
}

/// Adds sums to sums in double precision.
pub(super) fn add(target: &mut [f64], values: &[f32]) {
    for (target, &value) in target.iter_mut().zip(values) {
        *target += f64::from(value);
    }
}

/// Fills the ring with the rows `rows` of `x` after the prelude.
///
/// # Safety
///
/// `x` is the image of the shape and has the rows, `prelude` fits it, and the ring has rows of
/// [`SeparableShape::ring_row`] elements.
pub(super) unsafe fn prelude_rows<X: Source>(
    kernels: Kernels,
    x: X,
    shape: SeparableShape,
    prelude: Prelude<'_>,
    ring: Ring,
    rows: Range<usize>,
) {
    let len = shape.input.width * shape.input.channels;
    for h in rows {
        // SAFETY: a row of the ring has the padding on both sides of the row of the image, which is one of `x`.
        unsafe {
            let left = shape.padding().left * shape.input.channels;
            let target = core::slice::from_raw_parts_mut(ring.start.add(ring.offset(h) + left), len);
            x.preluded(kernels, h * len..(h + 1) * len, prelude, target);
        }
    }
}

/// Widths of a row of the image, in columns of its border, up to which taps beyond its ends are left out: microseconds
/// of a forward stage with them and without, AVX-512 and AVX2, 5×5 with dilation 2 at 64 channels, 8×8, 2.99 and 2.77,
/// 5.5 and 5.1; at 16 channels, 32×32, 6.4 and 6.1, 11.4 and 10.9; but 3×3 at 8 channels, 28×28, 1.77 and 1.85, 2.67
/// and 2.76 (AMD EPYC, Zen 5, 2026-12-01).
const CLIPPED_WIDTH: usize = 16;

/// Computes the rows `rows` of the output of the depthwise convolution from those in the ring.
///
/// # Safety
///
/// The ring holds the rows of the image under the windows, `depthwise` the weights, and `target` has such rows of the
/// output.
pub(super) unsafe fn depthwise_rows(
    kernels: Kernels,
    shape: SeparableShape,
    ring: Ring,
    rows: Range<usize>,
    depthwise: &[f32],
    target: *mut f32,
    ahead: Option<&mut Ahead>,
) {
    let (channels, width) = (shape.input.channels, shape.output().width);
    let first = rows.start;
    let row = |index| {
        let row = first + index;
        // Taps above and below the image are left out.
        let taps = shape.taps(row);
        let h = row * shape.stride + taps.start * shape.dilation - shape.padding().top;
        let window = Window {
            rows: taps.len(),
            columns: shape.kernel,
            source_row: 0,
            source_column: shape.dilation * channels,
            weight_row: (shape.kernel * channels) as isize,
            weight_column: channels as isize,
            rows_to_end: 0,
            ring: 0,
        };
        Row {
            window: ring.window(h, shape.dilation, window),
            source: ring.start.wrapping_add(ring.offset(h)),
            source_step: shape.stride * channels,
            weights: depthwise.as_ptr().wrapping_add(taps.start * shape.kernel * channels),
            target: target.wrapping_add(index * width * channels),
            target_step: channels,
            pixels: width,
        }
    };
    // SAFETY: promised by the caller.
    unsafe {
        if shape.stride == 1
            && width <= CLIPPED_WIDTH * shape.padding().left
            && Row::fits_clipped(kernels, width, shape.kernel, shape.dilation)
        {
            Row::compute_all_clipped(rows.len(), row, kernels, channels, ahead);
        } else {
            Row::compute_all(rows.len(), row, kernels, channels, ahead);
        }
    }
}
