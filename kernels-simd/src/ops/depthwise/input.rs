//! The gradient with respect to the input.

use core::ops::Range;

use super::edges::Edges;
use super::pairs::{Column, Pairs};
use super::row::{Row, Window};
use crate::kernels::Kernels;
use crate::ops::prefetch::Ahead;
use crate::ops::ring::Ring;
use crate::shape::{DepthwiseShape, Padding, divide};

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
    if let Some(edges) = Edges::new(kernels, shape, padding) {
        // SAFETY: promised by the caller.
        return unsafe { edges.compute(kernels, dy, w, dx, scratch) };
    }
    let (left, row) = (shape.backward_padding() * channels, output.width * channels);
    let ring_rows = shape.backward_rows() + BATCH - 1;
    let ring = Ring::new(&mut scratch[..shape.backward_scratch()], ring_rows, left..left + row, false);
    let gradient = InputGradient::new(w, shape, padding);
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
    output_height: usize,
    /// Elements between the rows and between the columns of the weights.
    weight_steps: [usize; 2],
    /// Elements between pixels of a class.
    target_step: usize,
    /// Neighbouring taps among those that reach a pixel come from output pixels that are this far apart.
    output_step: usize,
    /// What is the same for all rows.
    window: Window,
    /// The taps that reach the first two pixels of a row.
    columns: [Column; 2],
}

impl<'a> InputGradient<'a> {
    /// With weights `w` of the shape.
    pub fn new(w: &'a [f32], shape: DepthwiseShape, padding: Padding) -> Self {
        let channels = shape.input.channels;
        Self::with_steps(w, shape, padding, [shape.kernel * channels, channels], shape.stride * channels)
    }

    /// Of an image turned by its diagonal, of `shape`, for weights `w` that are not. Pixels of a row are `target_step` elements apart.
    pub fn turned(w: &'a [f32], shape: DepthwiseShape, padding: Padding, target_step: usize) -> Self {
        let channels = shape.input.channels;
        Self::with_steps(w, shape, padding, [channels, shape.kernel * channels], target_step)
    }

    fn with_steps(
        w: &'a [f32],
        shape: DepthwiseShape,
        padding: Padding,
        weight_steps: [usize; 2],
        target_step: usize,
    ) -> Self {
        let (tap_step, output_step) = steps(shape);
        let [row_step, column_step] = weight_steps;
        let window = Window {
            rows: 0,
            columns: 0,
            source_row: 0,
            source_column: output_step * shape.input.channels,
            weight_row: -((tap_step * row_step) as isize),
            weight_column: -((tap_step * column_step) as isize),
            rows_to_end: 0,
            ring: 0,
        };
        let columns = [0, 1].map(|x| column(shape, padding.left + x, column_step));
        let output_height = shape.output().height;
        Self { w, shape, padding, output_height, weight_steps, target_step, output_step, window, columns }
    }

    /// Computes the rows `rows`, `target_row` elements apart and without the padding, from those of the gradient of the output, each
    /// with [`DepthwiseShape::backward_padding`] zeros on the left in a row of [`DepthwiseShape::backward_width`].
    ///
    /// # Safety
    ///
    /// The ring holds all rows that reach these, the weights fit the shape, and `target` has such rows.
    pub unsafe fn rows(
        &self,
        kernels: Kernels,
        dy: Ring,
        rows: Range<usize>,
        target: *mut f32,
        target_row: usize,
        mut ahead: Option<&mut Ahead>,
    ) {
        let Self { shape, padding, .. } = *self;
        let (stride, channels) = (shape.stride, shape.input.channels);
        let pixels = shape.input.width - padding.left - padding.right;
        let targets = (0..).map(|index| target.wrapping_add(index * target_row));
        let rows = rows.zip(targets).map(|(y, target)| self.row(dy, y, target));
        if stride == 1 {
            let rows = rows.map(|row| Row { pixels, ..self.place(row, 0, 0) });
            // SAFETY: the padding covers what the taps reach; the rest is promised by the caller.
            return unsafe { Row::compute_all(rows, kernels, channels, ahead) };
        }
        let mut start = 0;
        if stride == 2 && Pairs::fit(kernels, &self.columns, self.window.source_column == channels) {
            let pairs = rows.clone().map(|Row { window, source, weights, target, .. }| Pairs {
                window,
                source,
                weights,
                columns: &self.columns,
                target,
                pairs: pixels / 2,
            });
            // SAFETY: as above.
            unsafe { Pairs::compute_all(pairs, kernels, channels, ahead.take()) }
            start = pixels - pixels % 2;
        }
        for row in rows {
            if let Some(ahead) = &mut ahead {
                ahead.ask();
            }
            for class in 0..stride.min(pixels - start) {
                let pixels = (pixels - start - class).div_ceil(stride);
                let row = Row { pixels, ..self.place(row, start, class) };
                // SAFETY: as above.
                unsafe { Row::compute_all(core::iter::once(row), kernels, channels, None) }
            }
        }
    }

    /// Row `y`, before it is known which columns of taps reach which pixels.
    #[inline(always)]
    fn row(&self, dy: Ring, y: usize, target: *mut f32) -> Row {
        let (shape, channels) = (self.shape, self.shape.input.channels);
        let rows = Reach::new(y, shape, self.output_height);
        Row {
            window: dy.window(rows.first_output, self.output_step, Window { rows: rows.taps, ..self.window }),
            source: dy.start.wrapping_add(dy.offset(rows.first_output)),
            source_step: channels,
            weights: self.w.as_ptr().wrapping_add(rows.last_tap * self.weight_steps[0]),
            target,
            target_step: self.target_step,
            pixels: 0,
        }
    }

    /// The row from pixel `first + class` on, where `first` is a multiple of the stride and `class` is below it.
    #[inline(always)]
    fn place(&self, row: Row, first: usize, class: usize) -> Row {
        let Self { shape, padding, .. } = *self;
        let Column { taps, source, weight } = match class {
            0 | 1 => self.columns[class],
            _ => column(shape, padding.left + class, self.weight_steps[1]),
        };
        let channels = shape.input.channels;
        Row {
            window: Window { columns: taps, ..row.window },
            source: row.source.wrapping_add((source + divide(first, shape.stride)) * channels),
            weights: row.weights.wrapping_add(weight),
            target: row.target.wrapping_add((first + class) * channels),
            ..row
        }
    }
}

/// The taps that reach column `x` of the padded input, whose weights are `weight_step` elements apart.
fn column(shape: DepthwiseShape, x: usize, weight_step: usize) -> Column {
    let reach = Reach::behind_zeros(x, shape);
    Column { taps: reach.taps, source: reach.first_output, weight: reach.last_tap * weight_step }
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
        Self::new(x + shape.backward_padding() * shape.stride, shape, usize::MAX)
    }

    /// The first of the taps, which are `tap_step` apart; there is at least one.
    pub fn first_tap(&self, tap_step: usize) -> usize {
        self.last_tap - (self.taps - 1) * tap_step
    }

    fn new(position: usize, shape: DepthwiseShape, outputs: usize) -> Self {
        let mut reach = Self::default();
        for tap in (0..shape.kernel).rev() {
            let Some(distance) = position.checked_sub(tap * shape.dilation) else { continue };
            let output = divide(distance, shape.stride);
            let between = distance - output * shape.stride;
            if between == 0 && output < outputs {
                if reach.taps == 0 {
                    (reach.last_tap, reach.first_output) = (tap, output);
                }
                reach.taps += 1;
            }
        }
        reach
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
