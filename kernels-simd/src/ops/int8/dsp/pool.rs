//! Pools: four channels at a time, and windows of three columns inside the image by functions of their own.

use core::arch::naked_asm;
use core::ops::Range;

use super::instructions::{add_even_bytes, add_odd_bytes, bytes, halves, largest_bytes, load, store};
use super::{QUAD, Scaler};
use crate::kernels::Kernels;
use crate::lengths::require;
use crate::ops::int8::pool::divide_rounded;
use crate::ops::int8::{Factor, Rescale};
use crate::ops::pool::geometry::Window;
use crate::shape::{PoolShape, divide, divide_up};

/// Most pixels of a window whose sum is known to fit 16 bits.
const PIXELS: usize = 256;

/// Columns of windows that have functions of their own.
const COLUMNS: usize = 3;

/// The body of [`Kernels::int8_max_pool`](crate::Kernels::int8_max_pool).
pub(in crate::ops::int8) fn max_pool(_: Kernels, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let Factor { multiplier, shift } = rescale.factor;
    let copies = shift < 31 && multiplier == 1 << shift && rescale.source_zero == rescale.target_zero;
    let scaler = Scaler::new(rescale);
    let largest = |pixels: &Pixels| {
        // SAFETY: they lie in the image.
        let largest = unsafe { pixels.fold(u32::from_le_bytes([i8::MIN as u8; QUAD]), largest_bytes) };
        if copies { largest } else { rescaled(largest, scaler, rescale) }
    };
    let one = |values: &mut dyn Iterator<Item = i32>| values.max().unwrap_or(0);
    let inside = |_| {
        let minus_zero = halves(-i16::from(rescale.source_zero));
        match scaler {
            _ if copies => Some((largest_copied as Function, Constants::default())),
            Some(scaler) => Some((largest_rescaled as Function, scaler.constants(rescale, minus_zero, 0))),
            None => None,
        }
    };
    each_window(x, y, shape, rescale, inside, largest, one);
}

/// The body of [`Kernels::int8_avg_pool`](crate::Kernels::int8_avg_pool).
pub(in crate::ops::int8) fn avg_pool(_: Kernels, x: &[i8], y: &mut [i8], shape: PoolShape, rescale: Rescale) {
    let scaler = Scaler::new(rescale);
    let mean = |pixels: &Pixels| {
        let count = (pixels.rows * pixels.columns) as i32;
        let add = |(even, odd), pixel| (add_even_bytes(even, pixel), add_odd_bytes(odd, pixel));
        // SAFETY: they lie in the image.
        let (even, odd) = unsafe { pixels.fold((0, 0), add) };
        let mean = |sum: u32| divide_rounded((sum as i16).into(), count) as u32;
        rescaled(bytes([mean(even), mean(odd), mean(even >> 16), mean(odd >> 16)]), scaler, rescale)
    };
    let one = |values: &mut dyn Iterator<Item = i32>| {
        let (sum, count) = values.fold((0, 0), |(sum, count), value| (sum + value, count + 1));
        divide_rounded(sum, count)
    };
    let inside = |count| match scaler {
        Some(scaler) if is_never_half_way(count) => {
            let (part, start) = parts(count, rescale);
            Some((means as Function, scaler.constants(rescale, part, start)))
        }
        _ => None,
    };
    each_window(x, y, shape, rescale, inside, mean, one);
}

/// Whether the mean of as many integers is never half way between two, so that it is rounded half up; and whether a
/// part of as many has 31 bits.
const fn is_never_half_way(count: usize) -> bool {
    count % 2 == 1 && count > 1
}

/// One part of `count`, in units of 2^-32, and what is added to means in units of 2^-16: a half, and the source's zero
/// taken off. What is lost of a sum is less than 2^-16 of its mean and 2^-16, less than what it is away from being half
/// way.
const fn parts(count: usize, rescale: Rescale) -> (u32, u32) {
    (divide(u32::MAX as usize, count) as u32, (0x8000 - ((rescale.source_zero as i32) << 16)) as u32)
}

impl Scaler {
    fn constants(self, rescale: Rescale, before: u32, start: u32) -> Constants {
        let Self { multiplier, shift, .. } = self;
        Constants { multiplier, shift, before, target_zero: rescale.target_zero.into(), start }
    }
}

/// What the functions below load into registers 8 to 12.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Constants {
    multiplier: u32,
    shift: u32,
    /// What is added to both halves, or one part of as many as there are pixels.
    before: u32,
    target_zero: i32,
    /// What is added to means.
    start: u32,
}

/// What the functions below have on the stack, in this order.
#[repr(C)]
struct Distances {
    /// Elements from behind the last row of a window to the next window.
    to_next: usize,
    /// Elements from one output to the next.
    output: usize,
    /// Behind the last output.
    end: *mut i8,
    /// Rows of each window.
    rows: usize,
    constants: Constants,
}

/// From elements of windows of three columns, `pixel` apart, in rows `row` apart, to elements of neighbouring outputs.
type Function = unsafe extern "C" fn(x: *const i8, y: *mut i8, pixel: usize, row: usize, distances: Distances);

/// A [`Function`]: lines for the start of a window, for each of its pixels from where the first load is, and for its
/// end.
macro_rules! windows {
    ($name:ident, [$($start:literal),*], $pixel:literal, [$($end:literal),*]) => {
        /// # Safety
        ///
        /// The elements can be read and written, and there are some.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(x: *const i8, y: *mut i8, pixel: usize, row: usize, distances: Distances) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "add r12, sp, #52",
                "ldm r12, {{r8-r12}}",
                // Each window.
                "2:",
                $($start,)*
                "ldr lr, [sp, #48]",
                // Each row.
                "3:",
                "ldr r7, [r0]",
                $pixel,
                "ldr r7, [r0, r2]",
                $pixel,
                "ldr r7, [r0, r2, lsl #1]",
                $pixel,
                "add r0, r3",
                "subs lr, #1",
                "bne 3b",
                $($end,)*
                "ldrd r6, r7, [sp, #36]",
                "ldr lr, [sp, #44]",
                "add r0, r6",
                "add r1, r7",
                "cmp r1, lr",
                "bne 2b",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

/// The four numbers in registers 6, 7, 4 and 5 are shifted and rounded half up, and written as elements.
macro_rules! windows_rounded {
    ($name:ident, $start:tt, $pixel:literal, [$($end:literal),*]) => {
        windows!($name, $start, $pixel, [
            $($end,)*
            "asrs r6, r9",
            "adc r6, r11",
            "ssat r6, #8, r6",
            "asrs r7, r9",
            "adc r7, r11",
            "ssat r7, #8, r7",
            "asrs r4, r9",
            "adc r4, r11",
            "ssat r4, #8, r4",
            "asrs r5, r9",
            "adc r5, r11",
            "ssat r5, #8, r5",
            "strb r6, [r1]",
            "strb r7, [r1, #1]",
            "strb r4, [r1, #2]",
            "strb r5, [r1, #3]"
        ]);
    };
}

windows!(largest_copied, ["mov r4, #0x80808080"], "ssub8 r6, r4, r7\nsel r4, r4, r7", ["str r4, [r1]"]);
windows_rounded!(
    largest_rescaled,
    ["mov r4, #0x80808080"],
    "ssub8 r6, r4, r7\nsel r4, r4, r7",
    [
        "sxtab16 r5, r10, r4, ror #8",
        "sxtab16 r4, r10, r4",
        "smulwb r6, r8, r4",
        "smulwb r7, r8, r5",
        "smulwt r4, r8, r4",
        "smulwt r5, r8, r5"
    ]
);
windows_rounded!(
    means,
    ["mov r4, #0", "mov r5, #0"],
    "sxtab16 r4, r4, r7\nsxtab16 r5, r5, r7, ror #8",
    [
        "smlawb r6, r10, r4, r12",
        "smlawb r7, r10, r5, r12",
        "smlawt r4, r10, r4, r12",
        "smlawt r5, r10, r5, r12",
        "smulwt r6, r8, r6",
        "smulwt r7, r8, r7",
        "smulwt r4, r8, r4",
        "smulwt r5, r8, r5"
    ]
);

/// Four elements of the source as elements of the target.
#[inline(always)]
fn rescaled(word: u32, scaler: Option<Scaler>, rescale: Rescale) -> u32 {
    match scaler {
        Some(scaler) => scaler.word(word, [rescale.target_zero.into(); QUAD]),
        None => rescaled_exactly(word, rescale),
    }
}

#[inline(never)]
fn rescaled_exactly(word: u32, rescale: Rescale) -> u32 {
    u32::from_le_bytes(word.to_le_bytes().map(|byte| rescale.element(byte as i8, 0, false) as u8))
}

/// Four channels of the pixels of a window.
struct Pixels {
    first: *const i8,
    rows: usize,
    columns: usize,
    /// Elements from one row to the next.
    row: usize,
    /// Elements from one pixel to the next.
    pixel: usize,
}

impl Pixels {
    /// # Safety
    ///
    /// All of them can be read.
    #[inline(always)]
    unsafe fn fold<T: Copy>(&self, initial: T, combine: impl Fn(T, u32) -> T) -> T {
        let (mut combined, mut row) = (initial, self.first);
        for _ in 0..self.rows {
            // SAFETY: promised by the caller.
            unsafe {
                for column in 0..self.columns {
                    combined = combine(combined, load(row.add(column * self.pixel)));
                }
            }
            row = row.wrapping_add(self.row);
        }
        combined
    }
}

/// Writes what `inside` says for windows of three columns inside the image, if it says something for that many pixels,
/// and `quad` of each other window; or `one` of each channel, rescaled, where there are fewer than four, or a window
/// has too many pixels.
#[inline(always)]
fn each_window(
    x: &[i8],
    y: &mut [i8],
    shape: PoolShape,
    rescale: Rescale,
    inside: impl Fn(usize) -> Option<(Function, Constants)>,
    quad: impl Fn(&Pixels) -> u32,
    one: impl Fn(&mut dyn Iterator<Item = i32>) -> i32,
) {
    let (output, channels) = (shape.output(), shape.input.channels);
    require!(x.len() == shape.input.len() && y.len() == output.len(), "a pool of int8: x, y for {shape:?}");
    for row in 0..output.height {
        let (columns, function) = match columns_inside(&shape) {
            columns if shape.kernel == COLUMNS && channels >= QUAD && !columns.is_empty() => {
                (columns.clone(), inside(COLUMNS * Window::new(&shape, row, columns.start).rows))
            }
            _ => (0..0, None),
        };
        let columns = if function.is_some() { columns } else { 0..0 };
        if let Some((function, constants)) = function {
            let window = Window::new(&shape, row, columns.start);
            let input_row = shape.input.width * channels;
            for first in (0..channels).step_by(QUAD) {
                // The last four channels may have some of those before them.
                let first = first.min(channels - QUAD);
                // SAFETY: these windows lie in the image, the outputs in `y`, and the channels exist.
                unsafe {
                    let y = y.as_mut_ptr().add(window.output + first);
                    let distances = Distances {
                        to_next: (shape.stride * channels).wrapping_sub(window.rows * input_row),
                        output: channels,
                        end: y.wrapping_add(columns.len() * channels),
                        rows: window.rows,
                        constants,
                    };
                    function(x.as_ptr().add(window.at(0, 0) + first), y, channels, input_row, distances);
                }
            }
        }
        for column in (0..output.width).filter(|column| !columns.contains(column)) {
            let window = Window::new(&shape, row, column);
            let Window { rows, columns, output, .. } = window;
            if channels < QUAD || rows * columns > PIXELS {
                for channel in 0..channels {
                    let pixels = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
                    let element = |(i, j)| x.get(window.at(i, j) + channel).copied().unwrap_or_default().into();
                    let value = one(&mut pixels.map(element));
                    if let Some(y) = y.get_mut(output + channel) {
                        *y = rescale.element(value as i8, 0, false);
                    }
                }
                continue;
            }
            for first in (0..channels).step_by(QUAD) {
                let first = first.min(channels - QUAD);
                // SAFETY: a window lies in the image, and the channels exist.
                unsafe {
                    let first_pixel = x.as_ptr().add(window.at(0, 0) + first);
                    let row = shape.input.width * channels;
                    let pixels = Pixels { first: first_pixel, rows, columns, row, pixel: channels };
                    store(y.as_mut_ptr().add(output + first), quad(&pixels));
                }
            }
        }
    }
}

/// Output columns whose windows lie wholly inside the image, as far as columns go.
const fn columns_inside(shape: &PoolShape) -> Range<usize> {
    let start = divide_up(shape.padding, shape.stride);
    match (shape.input.width + shape.padding).checked_sub(shape.kernel) {
        Some(last) if divide(last, shape.stride) >= start => start..divide(last, shape.stride) + 1,
        _ => 0..0,
    }
}
