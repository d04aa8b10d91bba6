//! The depthwise part of separable convolutions: four channels at a time, one product an instruction.

use core::arch::naked_asm;
use core::ops::Range;

use super::QUAD;
use super::instructions::{even_bytes, load, odd_bytes};
use super::space::{PIXELS, Space, Widened};
use super::sums::{Elements, write};
use crate::kernels::Kernels;
use crate::lengths::{part, part_mut, require, rest};
use crate::ops::int8::{Int8Depthwise, Int8Input};
use crate::shape::{SeparableShape, divide_up};

/// Largest extent of a filter whose taps are widened.
const EXTENT: usize = 7;

/// Widened taps of four channels: channels 0 and 2, and 1 and 3.
type Taps = [[u32; 2]];

/// Computes output row `row` of [`Kernels::int8_depthwise`].
#[inline(never)]
#[allow(clippy::too_many_arguments)]
pub(in crate::ops::int8) fn depthwise_row(
    _: Kernels,
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Depthwise<'_>,
    row: usize,
    y: &mut [i8],
    space: &mut Space,
) {
    const { assert!(size_of::<Widened>() >= size_of::<[[u32; 2]; EXTENT * EXTENT]>()) }
    let (sums, widened) = (&mut space.sums, space.widened.as_flattened_mut().as_chunks_mut::<2>().0);
    let (channels, width) = (shape.input.channels, shape.output().width);
    let row = Row { x, shape, input, row, taps: shape.taps(row) };
    let (count, few) = (QUAD.min(channels), channels < QUAD || shape.kernel > EXTENT);
    require!(
        y.len() == width * channels && x.len() == shape.input.len(),
        "a row of int8_depthwise: x, y for {shape:?}"
    );
    for first in (0..channels).step_by(QUAD) {
        // The last four channels may have some of those before them.
        let first = first.min(channels - count);
        if !few {
            row.widen(weights.w, first, widened);
        }
        for column in (0..width).step_by(PIXELS) {
            let sums = part_mut(sums, 0, PIXELS.min(width - column));
            if few {
                row.add_one_by_one(weights.w, (first, count), column, sums);
            } else {
                row.add(widened, first, column, sums);
            }
            // SAFETY: `y` is a row of the output, and the channels are those of the shape.
            unsafe {
                let elements = Elements {
                    first: y.as_mut_ptr().add(column * channels + first),
                    distance: channels,
                    zero: weights.zero,
                    accumulate: false,
                };
                write(sums, &weights.factors, (first, count), elements);
            }
        }
    }
}

/// A row of outputs.
struct Row<'a> {
    x: &'a [i8],
    shape: &'a SeparableShape,
    input: Int8Input,
    row: usize,
    /// Rows of taps that lie inside the image.
    taps: Range<usize>,
}

impl Row<'_> {
    /// Widens the taps of four channels from `first` on in the rows that lie inside the image.
    fn widen(&self, taps: &[i8], first: usize, widened: &mut Taps) {
        let SeparableShape { kernel, input, .. } = *self.shape;
        let row = kernel * input.channels;
        let taps = part(taps, self.taps.start * row, self.taps.len() * row);
        for (widened, taps) in widened.iter_mut().zip(taps.chunks_exact(input.channels.max(1))) {
            let Some(taps) = taps.get(first..first + QUAD) else { return };
            // SAFETY: four channels are there.
            let word = unsafe { load(taps.as_ptr()) };
            *widened = [even_bytes(word), odd_bytes(word)];
        }
    }

    /// Element of the image under the window of an output, at the first row of taps that lies inside and the given
    /// column of taps.
    fn at(&self, column: usize, j: usize) -> usize {
        let SeparableShape { input, stride, dilation, .. } = *self.shape;
        let border = self.shape.padding().left;
        let h = self.row * stride + self.taps.start * dilation - border;
        let w = column * stride + j * dilation - border;
        (h * input.width + w) * input.channels
    }

    /// Columns of taps that lie inside the image.
    fn columns(&self, column: usize) -> Range<usize> {
        let SeparableShape { input, kernel, stride, dilation, .. } = *self.shape;
        let (start, border) = (column * stride, self.shape.padding().left);
        let end = divide_up((input.width + border).saturating_sub(start), dilation).min(kernel);
        divide_up(border.saturating_sub(start), dilation).min(end)..end
    }

    /// Output columns whose windows lie wholly inside, as far as columns go.
    fn inside(&self) -> Range<usize> {
        let SeparableShape { input, stride, .. } = *self.shape;
        // A window reaches as far to the right as to the left.
        let border = self.shape.padding().left;
        let end = divide_up(input.width.saturating_sub(border), stride);
        let start = divide_up(border, stride);
        start.min(end)..end
    }

    /// The sums of four channels from `first` on, for outputs from `column` on.
    fn add(&self, widened: &Taps, first: usize, column: usize, sums: &mut [[i32; QUAD]]) {
        let end = column + sums.len();
        let inside = self.inside();
        let within = |at: usize| at.max(column).min(end);
        let inside = within(inside.start)..within(inside.end);
        let (before, rest) = sums.split_at_mut_checked(inside.start - column).unwrap_or_default();
        let (whole, after) = rest.split_at_mut_checked(inside.len()).unwrap_or_default();
        for (column, sums) in (column..).zip(before).chain((inside.end..).zip(after)) {
            self.add_windows::<0>(widened, first, column, self.columns(column), core::slice::from_mut(sums));
        }
        let taps = 0..self.shape.kernel;
        match self.shape.kernel {
            3 => self.add_windows::<3>(widened, first, inside.start, taps, whole),
            5 => self.add_windows::<5>(widened, first, inside.start, taps, whole),
            _ => self.add_windows::<0>(widened, first, inside.start, taps, whole),
        }
    }

    /// The same for outputs whose windows have the same columns of taps inside the image: `TAPS` or, if that is 0, any
    /// number.
    fn add_windows<const TAPS: usize>(
        &self,
        widened: &Taps,
        first: usize,
        column: usize,
        taps: Range<usize>,
        sums: &mut [[i32; QUAD]],
    ) {
        if taps.is_empty() || self.taps.is_empty() || sums.is_empty() {
            return sums.fill([0; QUAD]);
        }
        let SeparableShape { input, kernel, stride, dilation, .. } = *self.shape;
        let [rows, columns] = [&self.taps, &taps].map(extent);
        let from = self.at(column, taps.start) + first;
        let reach = (rows - 1) * dilation * input.width + (columns - 1) * dilation;
        let last = from + ((sums.len() - 1) * stride + reach) * input.channels;
        require!(
            last + QUAD <= self.x.len() && rows * kernel <= widened.len() && taps.start <= widened.len(),
            "a row of int8_depthwise: a window outside of {:?}",
            self.shape
        );
        let (column, row) = (dilation * input.channels, dilation * input.width * input.channels);
        let (first, sums) = (rest(widened, taps.start).as_ptr(), sums.as_mut_ptr_range());
        let function = match (TAPS, self.input.rectifies()) {
            (3, false) => windows_3,
            (3, true) => windows_3_rectified,
            (5, false) => windows_5,
            (5, true) => windows_5_rectified,
            (_, false) => windows_any,
            (_, true) => windows_any_rectified,
        };
        // What a function has passed over in a row.
        let passed = if TAPS == 0 { columns * column } else { TAPS / 5 * 2 * column };
        let distances = Distances {
            sums: sums.start,
            sums_end: sums.end,
            to_next: (stride * input.channels).wrapping_sub(rows * row),
            again: first,
            row_end: first.wrapping_add(if TAPS == 0 { columns } else { rows * kernel }),
            to_row: row - passed,
            to_row_taps: size_of::<[u32; 2]>() * (kernel - columns),
            row_taps: size_of::<[u32; 2]>() * kernel,
            end: first.wrapping_add(rows * kernel),
        };
        // SAFETY: the last element read is inside, as asserted above, and so is the last tap.
        unsafe { function(self.x.as_ptr().add(from), first, column, self.input.minus_zero(), distances) };
    }

    /// The sums of `count` channels from `first` on, where they are fewer than four, or taps are more than are widened.
    #[inline(never)]
    fn add_one_by_one(&self, taps: &[i8], (first, count): (usize, usize), column: usize, sums: &mut [[i32; QUAD]]) {
        let SeparableShape { input, kernel, dilation, .. } = *self.shape;
        for (column, sums) in (column..).zip(sums) {
            *sums = [0; QUAD];
            for (i, j) in (0..extent(&self.taps)).flat_map(|i| self.columns(column).map(move |j| (i, j))) {
                let at = self.at(column, j) + i * dilation * input.width * input.channels + first;
                let tap = ((self.taps.start + i) * kernel + j) * input.channels + first;
                let products = part(self.x, at, count).iter().zip(part(taps, tap, count));
                for (sum, (&x, &tap)) in sums.iter_mut().zip(products) {
                    *sum = sum.wrapping_add(self.input.offset(x) * i32::from(tap));
                }
            }
        }
    }
}

/// The length of a range. That of the standard library is checked by an assertion, which is not always seen to hold.
#[inline(always)]
const fn extent(range: &Range<usize>) -> usize {
    range.end.saturating_sub(range.start)
}

/// What the functions below have on the stack, in this order.
#[repr(C)]
struct Distances {
    sums: *mut [i32; QUAD],
    sums_end: *mut [i32; QUAD],
    /// Elements from behind the last row of a window to the next window.
    to_next: usize,
    /// The first tap.
    again: *const [u32; 2],
    /// Behind the last tap that is read: of the first row where any number of columns is read, of all rows elsewhere.
    row_end: *const [u32; 2],
    /// Elements from where a row was left to the next.
    to_row: usize,
    /// Bytes from where a row of taps was left to the next.
    to_row_taps: usize,
    /// Bytes of a row of taps.
    row_taps: usize,
    /// Where the row of taps behind the last would begin.
    end: *const [u32; 2],
}

/// The products of one tap: a load into lr, and what is done to two halves before they are multiplied.
macro_rules! tap {
    ($load:literal, $rectify:literal) => {
        concat!(
            $load,
            "\nldrd r4, r5, [r1], #8",
            "\nsxtab16 r12, r3, lr",
            "\nsxtab16 lr, r3, lr, ror #8\n",
            $rectify,
            "\nsmlabb r8, r12, r4, r8",
            "\nsmlabb r9, lr, r5, r9",
            "\nsmlatt r10, r12, r4, r10",
            "\nsmlatt r11, lr, r5, r11",
        )
    };
}

/// A function that computes the sums of windows: the given lines are those of a row of taps.
macro_rules! windows {
    ($name:ident, $($line:expr),*) => {
        /// # Safety
        ///
        /// All elements and taps can be read, and there are some.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(x: *const i8, taps: *const [u32; 2], column: usize, zero: u32, distances: Distances) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "mov r4, #0",
                "mov r5, #0",
                "mov r6, #0",
                "mov r7, #0",
                "push {{r4-r7}}",
                "ldrd r6, r7, [sp, #68]",
                // Each window.
                "2:",
                "ldm sp, {{r8-r11}}",
                // Each row.
                "3:",
                $($line,)*
                "bne 3b",
                // Sums and their end; to the next window, and taps.
                "ldrd r12, lr, [sp, #52]",
                "stm r12!, {{r8-r11}}",
                "str r12, [sp, #52]",
                "ldrd r4, r1, [sp, #60]",
                "ldr r6, [sp, #68]",
                "add r0, r4",
                "cmp r12, lr",
                "bne 2b",
                "add sp, #16",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

/// Windows of three, five or any number of columns.
macro_rules! all_windows {
    ($three:ident, $five:ident, $any:ident, $rectify:literal) => {
        windows!(
            $three,
            tap!("ldr lr, [r0]", $rectify),
            tap!("ldr lr, [r0, r2]", $rectify),
            tap!("ldr lr, [r0, r2, lsl #1]", $rectify),
            "add r0, r7",
            "cmp r1, r6"
        );
        windows!(
            $five,
            tap!("ldr lr, [r0]", $rectify),
            tap!("ldr lr, [r0, r2]", $rectify),
            tap!("ldr lr, [r0, r2, lsl #1]", $rectify),
            "add r0, r2",
            tap!("ldr lr, [r0, r2, lsl #1]", $rectify),
            "add r0, r2",
            tap!("ldr lr, [r0, r2, lsl #1]", $rectify),
            "add r0, r7",
            "cmp r1, r6"
        );
        windows!(
            $any,
            "4:",
            tap!("ldr lr, [r0]", $rectify),
            "add r0, r2",
            "cmp r1, r6",
            "bne 4b",
            "ldrd r4, r5, [sp, #76]",
            "ldr r12, [sp, #84]",
            "add r1, r4",
            "add r6, r5",
            "add r0, r7",
            "cmp r1, r12"
        );
    };
}

all_windows!(windows_3, windows_5, windows_any, "");
all_windows!(windows_3_rectified, windows_5_rectified, windows_any_rectified, "usat16 r12, #8, r12\nusat16 lr, #8, lr");
