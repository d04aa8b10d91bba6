//! The gradient with respect to the input.

use core::ops::Range;

use super::pairs::Pairs;
use super::row::{Row, Window};
use crate::kernels::Kernels;
use crate::ops::prefetch::Ahead;
use crate::ops::ring::Ring;
use crate::shape::{DepthwiseShape, ImageShape, Padding, divide, divide_up};

/// Rows of the gradient that are computed together.
const BATCH: usize = DepthwiseShape::BACKWARD_BATCH;

/// Computes the gradient of the padded input without the padding.
///
/// # Safety
///
/// The lengths fit the shape, and the padding lies inside.
pub(super) unsafe fn backward_input(
    kernels: Kernels,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    shape: DepthwiseShape,
    padding: Padding,
    scratch: &mut [f32],
) {
    let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
    if output.is_empty() {
        for y in padding.top..input.height - padding.bottom {
            dx[(y * input.width + padding.left) * channels..((y + 1) * input.width - padding.right) * channels]
                .fill(0.0);
        }
        return;
    }
    let gradient = InputGradient::new(kernels, w, shape, padding);
    if gradient.fits_clipped(kernels) {
        // SAFETY: promised by the caller.
        return unsafe { InputGradient { is_clipped: true, ..gradient }.image(kernels, dy, dx) };
    }
    let (left, row) = (shape.backward_padding() * channels, output.width * channels);
    let ring_rows = shape.backward_rows() + BATCH - 1;
    let ring = Ring::new(&mut scratch[..shape.backward_scratch()], ring_rows, left..left + row, false);
    let mut copied = 0;
    let inside = padding.top..input.height - padding.bottom;
    for first in inside.clone().step_by(BATCH) {
        let end = inside.end.min(first + BATCH);
        // Rows are copied when they are first read, and stay in the first cache as long as they are.
        while copied < output.height.min(divide(end - 1, shape.stride) + 1) {
            let source = &dy[copied * row..][..row];
            // SAFETY: a row of the ring has zeros on both sides of a row of `dy`.
            unsafe { source.as_ptr().copy_to_nonoverlapping(ring.start.add(ring.offset(copied) + left), row) };
            copied += 1;
        }
        // SAFETY: the lengths fit the shape, and all rows of `dy` that reach these are copied.
        unsafe {
            let target = dx.as_mut_ptr().add((first * input.width + padding.left) * channels);
            gradient.rows(kernels, ring, first..end, target, input.width * channels, None);
        }
    }
}

/// The gradient of the padded input without the columns of the padding, row by row.
pub(in crate::ops) struct InputGradient<'a> {
    w: &'a [f32],
    shape: DepthwiseShape,
    padding: Padding,
    output: ImageShape,
    /// Neighbouring taps among those that reach a pixel come from output pixels that are this far apart.
    output_step: usize,
    /// Rows of taps between these.
    tap_step: usize,
    /// What is the same for all rows.
    window: Window,
    /// The taps that reach the first two rows of the padded input.
    rows: [Reach; 2],
    /// The taps that reach the first two pixels of a row.
    columns: [Reach; 2],
    /// Whether pixels are computed in pairs.
    is_in_pairs: bool,
    /// Whether the gradient of the output has no zeros at the ends of its rows.
    is_clipped: bool,
}

impl<'a> InputGradient<'a> {
    /// With weights `w` of the shape.
    pub fn new(kernels: Kernels, w: &'a [f32], shape: DepthwiseShape, padding: Padding) -> Self {
        let channels = shape.input.channels;
        let (tap_step, output_step) = steps(shape);
        let window = Window {
            rows: 0,
            columns: 0,
            source_row: 0,
            source_column: output_step * channels,
            weight_row: -((tap_step * shape.kernel * channels) as isize),
            weight_column: -((tap_step * channels) as isize),
            rows_to_end: 0,
            ring: 0,
        };
        let rows = [0, 1].map(|y| Reach::behind_zeros(y, shape));
        let columns = [0, 1].map(|x| Reach::behind_zeros(padding.left + x, shape));
        let mut gradient = Self {
            w,
            shape,
            padding,
            output: shape.output(),
            output_step,
            tap_step,
            window,
            rows,
            columns,
            is_in_pairs: false,
            is_clipped: false,
        };
        gradient.is_in_pairs = gradient.fits_pairs(kernels);
        gradient
    }

    /// Pixels of a row.
    fn width(&self) -> usize {
        self.shape.input.width - self.padding.left - self.padding.right
    }

    /// Pixels that neighbouring columns of taps reach: every `stride`-th of a row.
    fn classes(&self) -> usize {
        self.shape.stride.min(self.width())
    }

    /// Whether there is code for a gradient of the output without zeros at the ends of its rows.
    fn fits_clipped(&self, kernels: Kernels) -> bool {
        self.is_in_pairs || (0..self.classes()).all(|class| self.code(kernels, class) != Code::Zeros)
    }

    /// Whether there is code for pairs of pixels.
    fn fits_pairs(&self, kernels: Kernels) -> bool {
        let Self { shape: DepthwiseShape { stride, .. }, columns, output_step, .. } = self;
        *stride == 2
            && self.width() == 2 * self.output.width
            && *output_step == 1
            && self.beyond(columns[0].first_output, Pairs::columns(columns), self.output.width)
                == around(Pairs::columns(columns))
            && Pairs::fit(kernels, columns, self.output.width)
    }

    /// How the pixels of a class are computed.
    fn code(&self, kernels: Kernels, class: usize) -> Code {
        let (Reach { taps, first_output, .. }, pixels) = (self.column(class), self.pixels(class));
        let beyond = self.beyond(first_output, taps, pixels);
        if taps == 0 || beyond == [0; 2] {
            Code::Inside
        } else if beyond == around(taps).map(|places| places * self.output_step)
            && Row::fits_clipped(kernels, pixels, taps, self.output_step)
        {
            Code::Clipped
        } else {
            Code::Zeros
        }
    }

    /// Places before and behind a row of the gradient of the output under `taps` taps of so many pixels, from that
    /// place on for the first pixel.
    fn beyond(&self, first_output: usize, taps: usize, pixels: usize) -> [usize; 2] {
        let zeros = self.shape.backward_padding();
        let end = first_output + taps.saturating_sub(1) * self.output_step + pixels;
        [zeros.saturating_sub(first_output), end.saturating_sub(zeros + self.output.width)]
    }

    /// The taps that reach pixels of a class.
    fn column(&self, class: usize) -> Reach {
        match class {
            0 | 1 => self.columns[class],
            _ => Reach::behind_zeros(self.padding.left + class, self.shape),
        }
    }

    /// Pixels of a class in a row.
    fn pixels(&self, class: usize) -> usize {
        divide_up(self.width() - class, self.shape.stride)
    }

    /// Computes the rows `rows`, `target_row` elements apart and without the padding, from those of the gradient of the
    /// output, each with [`DepthwiseShape::backward_padding`] zeros on the left in a row of
    /// [`DepthwiseShape::backward_width`].
    ///
    /// # Safety
    ///
    /// The ring holds all rows that reach these, the weights fit the shape, and `target` has such rows. Where they are
    /// [clipped](Self::is_clipped) or in pairs, the zeros need not exist.
    pub unsafe fn rows(
        &self,
        kernels: Kernels,
        dy: Ring,
        rows: Range<usize>,
        target: *mut f32,
        target_row: usize,
        mut ahead: Option<&mut Ahead>,
    ) {
        let channels = self.shape.input.channels;
        let count = rows.len();
        if self.is_in_pairs {
            let place = &self.place(0, dy, rows.start, target, target_row);
            let pairs = |index| {
                let Row { window, source, weights, target, pixels, .. } = self.row(place, index);
                Pairs { window, source, weights, columns: &self.columns, target, pairs: pixels }
            };
            // SAFETY: promised by the caller.
            return unsafe { Pairs::compute_all(count, pairs, kernels, channels, ahead) };
        }
        for class in 0..self.classes() {
            let place = &self.place(class, dy, rows.start, target, target_row);
            let ahead = ahead.take();
            // SAFETY: zeros cover what taps reach beyond the rows, or it is not read; the rest is promised by the caller.
            unsafe {
                if self.is_clipped && self.code(kernels, class) == Code::Clipped {
                    Row::compute_all_clipped(count, |index| self.row(place, index), kernels, channels, ahead);
                } else {
                    Row::compute_all(count, |index| self.row(place, index), kernels, channels, ahead);
                }
            }
        }
    }

    /// Computes the gradient `dx` from that of the output where it lies.
    ///
    /// # Safety
    ///
    /// The lengths fit the shape, the padding lies inside, and [there is code](Self::fits_clipped).
    unsafe fn image(&self, kernels: Kernels, dy: &[f32], dx: &mut [f32]) {
        let Self { shape: DepthwiseShape { input, .. }, padding, output, .. } = *self;
        let zeros = self.shape.backward_padding() * input.channels;
        let start = dy.as_ptr().cast_mut().wrapping_sub(zeros);
        let dy = Ring { start, rows: output.height, row_len: output.width * input.channels };
        let target = dx.as_mut_ptr().wrapping_add((padding.top * input.width + padding.left) * input.channels);
        let inside = padding.top..input.height - padding.bottom;
        // SAFETY: promised by the caller.
        unsafe { self.rows(kernels, dy, inside, target, input.width * input.channels, None) }
    }

    /// Where the pixels of a class are in the rows from row `first` on.
    fn place(&self, class: usize, dy: Ring, first: usize, target: *mut f32, target_row: usize) -> Place {
        let (channels, column) = (self.shape.input.channels, self.column(class));
        Place {
            dy,
            first,
            columns: column.taps,
            source: dy.start.wrapping_add(column.first_output * channels),
            weights: self.w.as_ptr().wrapping_add(column.last_tap * channels),
            target: target.wrapping_add(class * channels),
            target_row,
            pixels: self.pixels(class),
        }
    }

    /// One of these rows.
    #[inline(always)]
    fn row(&self, place: &Place, index: usize) -> Row {
        let (channels, reach) = (self.shape.input.channels, self.reach(place.first + index));
        let window = Window { rows: reach.taps, columns: place.columns, ..self.window };
        Row {
            window: place.dy.window(reach.first_output, self.output_step, window),
            source: place.source.wrapping_add(place.dy.offset(reach.first_output)),
            source_step: channels,
            weights: place.weights.wrapping_add(reach.last_tap * self.shape.kernel * channels),
            target: place.target.wrapping_add(index * place.target_row),
            target_step: self.shape.stride * channels,
            pixels: place.pixels,
        }
    }

    /// The rows of taps that reach row `y` from rows of the output.
    #[inline(always)]
    fn reach(&self, y: usize) -> Reach {
        let Self { shape, output_step, tap_step, .. } = *self;
        let moved = divide(y, shape.stride);
        let class = y - moved * shape.stride;
        let reach = match class {
            0 | 1 => self.rows[class],
            _ => Reach::behind_zeros(class, shape),
        };
        let (first, zeros) = (reach.first_output + moved, shape.backward_padding());
        let above = divide_up(zeros.saturating_sub(first), output_step);
        let first_output = first + above * output_step - zeros;
        Reach {
            taps: reach
                .taps
                .saturating_sub(above)
                .min(divide_up(self.output.height.saturating_sub(first_output), output_step)),
            last_tap: reach.last_tap.saturating_sub(above * tap_step),
            first_output,
        }
    }
}

/// Rows of pixels that the same columns of taps reach.
struct Place {
    dy: Ring,
    /// Row of the padded input.
    first: usize,
    /// Columns of taps.
    columns: usize,
    /// The first row of the ring, at the place of the last tap of the first pixel.
    source: *mut f32,
    /// The last of the columns of taps, in the first row of them.
    weights: *const f32,
    /// The first pixel.
    target: *mut f32,
    /// Elements between rows.
    target_row: usize,
    /// Pixels of a row.
    pixels: usize,
}

/// Taps before and behind the middle one, or the first of two.
fn around(taps: usize) -> [usize; 2] {
    [taps.saturating_sub(1) / 2, taps / 2]
}

/// How pixels that the same taps reach are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    /// All taps are inside of the gradient of the output.
    Inside,
    /// Without what lies beyond the ends of its rows.
    Clipped,
    /// With zeros at the ends of its rows.
    Zeros,
}

/// The taps of one direction that reach a position of the input. From the last tap to the first the output positions
/// that they come from, `(position - tap * dilation) / stride`, ascend.
#[derive(Clone, Copy, Default)]
pub(in crate::ops) struct Reach {
    pub taps: usize,
    pub last_tap: usize,
    pub first_output: usize,
}

impl Reach {
    /// At position `x` of the padded input, as if there were outputs everywhere; their first one is counted from
    /// [`DepthwiseShape::backward_padding`] zeros before the others.
    pub fn behind_zeros(x: usize, shape: DepthwiseShape) -> Self {
        let position = x + shape.backward_padding() * shape.stride;
        let mut reach = Self::default();
        for tap in (0..shape.kernel).rev() {
            let Some(distance) = position.checked_sub(tap * shape.dilation) else { continue };
            let output = divide(distance, shape.stride);
            if distance == output * shape.stride {
                if reach.taps == 0 {
                    (reach.last_tap, reach.first_output) = (tap, output);
                }
                reach.taps += 1;
            }
        }
        reach
    }

    /// The first of the taps, which are `tap_step` apart; there is at least one.
    pub fn first_tap(&self, tap_step: usize) -> usize {
        self.last_tap - (self.taps - 1) * tap_step
    }
}

/// How far the taps are apart that reach the same position, and the outputs that they come from.
pub(in crate::ops) fn steps(shape: DepthwiseShape) -> (usize, usize) {
    let common = greatest_common_divisor(shape.stride, shape.dilation);
    (divide(shape.stride, common), divide(shape.dilation, common))
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match (a, b) {
        (1, _) | (_, 1) => 1,
        (_, 0) => a,
        _ if a == b => a,
        _ => greatest_common_divisor(b, a % b),
    }
}
