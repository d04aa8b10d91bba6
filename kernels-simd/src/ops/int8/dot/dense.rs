//! Dense convolutions: the elements under the windows of a few pixels are laid side by side, and multiplied by all
//! weights.

use super::{Columns, Dot, GROUP, Group, LANES, PIXELS, Prepared, Space, Tile, low};
use crate::ops::int8::{ChannelFactors, Int8Input, Int8Part, Int8Target};
use crate::shape::DenseShape;

/// Terms of each sum.
pub(super) fn rows(parts: &[Int8Part<'_>], shape: &DenseShape) -> usize {
    parts.len() * shape.kernel_height * shape.kernel_width * shape.input.channels
}

/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn dense_body<D: Dot>(
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
    space: &mut Space,
) {
    let rows = rows(parts, &shape);
    let of_part = rows / parts.len();
    let outputs = shape.output_channels;
    let weights = |row: usize| match parts {
        [part] => &part.w[row * outputs..][..outputs],
        _ => &parts[row / of_part].w[row % of_part * outputs..][..outputs],
    };
    let pixels = shape.output().pixels();
    let at_once = Prepared::<{ super::DENSE_GROUPS }>::capacity(rows);
    let mut source = Source { parts, shape: &shape, low: low(input), rows, place: (0, 0) };
    for first in (0..outputs).step_by(at_once) {
        let channels = first..outputs.min(first + at_once);
        // SAFETY: the processor is the caller's promise.
        unsafe {
            if space.dense.channels != channels {
                let factors = match target {
                    Int8Target::Int8 { factors, .. } => *factors,
                    Int8Target::F32 { bias, .. } => ChannelFactors { bias, multiplier: &[], shift: &[] },
                };
                space.dense.prepare::<D>(weights, rows, channels, input, factors);
            }
            source.place = (0, 0);
            let mut pixel = 0;
            while pixel < pixels {
                if D::PIXELS == PIXELS && pixels - pixel > PIXELS / 2 {
                    pixel += block::<D, PIXELS>(&mut source, target, pixel, pixels, space);
                } else {
                    pixel += block::<D, { PIXELS / 2 }>(&mut source, target, pixel, pixels, space);
                }
            }
        }
    }
}

/// The output pixels from `pixel` on, `P` if there are as many. Returns how many it has computed.
///
/// # Safety
///
/// The processor has the instruction, and the weights are prepared.
#[inline(always)]
unsafe fn block<D: Dot, const P: usize>(
    source: &mut Source<'_>,
    target: &mut Int8Target<'_>,
    pixel: usize,
    pixels: usize,
    space: &mut Space,
) -> usize {
    let count = P.min(pixels - pixel);
    let depth = source.rows.div_ceil(GROUP);
    // SAFETY: the processor is the caller's promise, and what is multiplied has just been written.
    unsafe {
        source.lay_out::<D, P>(pixel, count, &mut space.columns);
        let columns: *const u8 = space.columns.0.as_ptr().cast();
        for (first, channels, weights, tile) in space.dense.tiles() {
            let sums = multiply::<D, P>(columns, depth, weights, tile);
            for (pixel, sums) in (pixel..pixel + count).zip(sums) {
                write::<D>(target, pixel * source.shape.output_pixel_stride, (first, channels), tile, sums);
            }
        }
    }
    count
}

/// # Safety
///
/// The processor has the instruction, weights are prepared, and `columns` has as many groups for each of the pixels.
#[inline(always)]
unsafe fn multiply<D: Dot, const P: usize>(
    columns: *const u8,
    depth: usize,
    weights: &[Group],
    tile: &Tile,
) -> [D::Sums; P] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [D::sums(&tile.start); P];
        for (group, weights) in weights.iter().enumerate() {
            let weights = D::load(weights);
            for (pixel, sums) in sums.iter_mut().enumerate() {
                *sums = D::add_splat(*sums, columns.add(GROUP * (pixel * depth + group)), weights);
            }
        }
        sums
    }
}

/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
unsafe fn write<D: Dot>(
    target: &mut Int8Target<'_>,
    at: usize,
    (first, channels): (usize, usize),
    tile: &Tile,
    sums: D::Sums,
) {
    match target {
        Int8Target::Int8 { y, zero, accumulate, .. } => {
            let y = &mut y[at + first..][..channels];
            // SAFETY: that many elements are there, and the processor is the caller's promise.
            unsafe { D::write(sums, tile, y.as_mut_ptr(), channels, *zero, *accumulate) };
        }
        Int8Target::F32 { y, scale, .. } => {
            // SAFETY: as above.
            let sums: [i32; LANES] = unsafe { D::values(sums) };
            let scale = &scale[first..][..channels];
            y[at + first..][..channels].iter_mut().zip(sums).zip(scale).for_each(|((y, sum), scale)| {
                *y = sum as f32 * scale;
            });
        }
    }
}

/// Where the elements under windows are.
struct Source<'a> {
    parts: &'a [Int8Part<'a>],
    shape: &'a DenseShape,
    low: i8,
    rows: usize,
    /// Row and column of the next output pixel.
    place: (usize, usize),
}

impl Source<'_> {
    /// Writes the elements of `count` output pixels from `pixel`, the next one, on, each filled up to whole groups; the
    /// last is repeated up to `P`.
    ///
    /// # Safety
    ///
    /// The processor has the instruction, and the rows fit.
    #[inline(always)]
    unsafe fn lay_out<D: Dot, const P: usize>(&mut self, pixel: usize, count: usize, columns: &mut Columns) {
        let columns: *mut u8 = columns.0.as_mut_ptr().cast();
        let (depth, output) = (self.rows.div_ceil(GROUP), self.shape.output());
        if let [part] = self.parts
            && self.is_contiguous()
            && count == P
        {
            // SAFETY: as many bytes are there, and their number is a multiple of four for each pixel.
            return unsafe { D::copy(&part.x[pixel * self.rows..][..P * self.rows], self.low, columns) };
        }
        if self.is_contiguous() {
            self.place = (pixel / output.width, pixel % output.width);
        }
        let (row, column) = &mut self.place;
        for index in 0..P {
            // SAFETY: `P` pixels fit, and bytes behind one belong to the next one or are of no use.
            unsafe {
                let mut to = columns.add(GROUP * depth * index);
                let end = to.add(GROUP * depth);
                for part in self.parts {
                    for i in 0..self.shape.kernel_height {
                        let run = self.shape.window_row(*row, *column, i);
                        let run = &part.x[run];
                        D::copy(run, self.low, to);
                        to = to.add(run.len());
                    }
                }
                while to < end {
                    to.write(0);
                    to = to.add(1);
                }
            }
            if index + 1 < count {
                next(row, column, output.width);
            }
        }
        next(row, column, output.width);
    }

    /// Whether elements of output pixels lie one behind the other, in whole groups.
    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        let DenseShape {
            kernel_height, kernel_width, stride_height, stride_width, offset_height, offset_width, ..
        } = *self.shape;
        [kernel_height, kernel_width, stride_height, stride_width] == [1; 4]
            && [offset_height, offset_width] == [0; 2]
            && self.rows.is_multiple_of(GROUP)
    }
}

#[inline(always)]
fn next(row: &mut usize, column: &mut usize, width: usize) {
    *column += 1;
    if *column == width {
        (*row, *column) = (*row + 1, 0);
    }
}

impl DenseShape {
    /// The elements of one part under row `i` of the window of an output pixel.
    #[inline(always)]
    fn window_row(&self, row: usize, column: usize, i: usize) -> core::ops::Range<usize> {
        let (h, w) =
            (self.offset_height + row * self.stride_height + i, self.offset_width + column * self.stride_width);
        let start = (h * self.input.width + w) * self.input.channels;
        start..start + self.kernel_width * self.input.channels
    }
}
