//! Dense convolutions: two products at a time, of input channels 0 and 2, and 1 and 3, of each four.

use core::arch::naked_asm;
use core::slice::{from_mut, from_ref};

use super::QUAD;
use super::instructions::load;
use super::space::{CHUNK, PIXELS, Space, Widened};
use super::sums::{Elements, write};
use crate::kernels::Kernels;
use crate::lengths::{self, part_mut, require, rest};
use crate::ops::int8::{Int8Input, Int8Part, Int8Target};
use crate::shape::{DenseShape, ImageShape};

/// The body of [`Kernels::int8_dense`].
pub(in crate::ops::int8) fn dense(
    _: Kernels,
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
    space: &mut Space,
) {
    let shape = in_one_row(shape);
    let output = shape.output();
    for row in 0..output.height {
        for column in (0..output.width).step_by(PIXELS) {
            let pixels = PIXELS.min(output.width - column);
            for first in (0..shape.output_channels).step_by(QUAD) {
                let channels = (first, QUAD.min(shape.output_channels - first));
                let mut run = Run { input, shape: &shape, row, column, pixels, channels, start: None };
                run.start = Some(bias(target, channels));
                for part in parts {
                    run.add_window(part, space);
                }
                let at = (row * output.width + column) * shape.output_pixel_stride + first;
                finish(lengths::part(&space.sums, 0, pixels), target, at, shape.output_pixel_stride, channels);
            }
        }
    }
}

/// The same convolution of an image of one row, if nothing lies between the pixels that it reads.
fn in_one_row(shape: DenseShape) -> DenseShape {
    let ImageShape { height, width, channels } = shape.input;
    let numbers =
        [shape.kernel_height, shape.kernel_width, shape.stride_height, shape.stride_width, 1 + shape.offset_height];
    if numbers == [1; 5] && shape.offset_width == 0 {
        DenseShape { input: ImageShape::new(1, height * width, channels), ..shape }
    } else {
        shape
    }
}

/// The bias of some output channels.
fn bias(target: &Int8Target<'_>, (first, count): (usize, usize)) -> [i32; QUAD] {
    let all = match target {
        Int8Target::Int8 { factors, .. } => factors.bias,
        Int8Target::F32 { bias, .. } => bias,
    };
    let mut bias = [0; QUAD];
    if let Some(all) = all.get(first..first + count) {
        bias.iter_mut().zip(all).for_each(|(bias, &value)| *bias = value);
    }
    bias
}

fn finish(
    sums: &[[i32; QUAD]],
    target: &mut Int8Target<'_>,
    at: usize,
    distance: usize,
    (first, count): (usize, usize),
) {
    match target {
        Int8Target::Int8 { y, factors, zero, accumulate } => {
            require!(
                !sums.is_empty() && at + (sums.len() - 1) * distance + count <= y.len(),
                "int8_dense: an output outside of y"
            );
            // SAFETY: just checked.
            unsafe {
                let first_element = y.as_mut_ptr().add(at);
                let elements = Elements { first: first_element, distance, zero: *zero, accumulate: *accumulate };
                write(sums, factors, (first, count), elements);
            }
        }
        Int8Target::F32 { y, scale, .. } => {
            let scale = lengths::part(scale, first, count);
            for (sums, y) in sums.iter().zip(y.get_mut(at..).unwrap_or_default().chunks_mut(distance.max(1))) {
                for ((y, &sum), scale) in y.iter_mut().zip(sums).zip(scale) {
                    *y = sum as f32 * scale;
                }
            }
        }
    }
}

/// Neighbouring output pixels of a row, and up to four output channels of them.
struct Run<'a> {
    input: Int8Input,
    shape: &'a DenseShape,
    row: usize,
    /// The first pixel.
    column: usize,
    pixels: usize,
    /// The first channel, and how many.
    channels: (usize, usize),
    /// What all sums begin with, until something has been added.
    start: Option<[i32; QUAD]>,
}

impl Run<'_> {
    /// Adds the products under the windows.
    fn add_window(&mut self, part: &Int8Part<'_>, space: &mut Space) {
        let shape = self.shape;
        // A row of a window is one piece of the image.
        let len = shape.kernel_width * shape.input.channels;
        let distance = shape.stride_width * shape.input.channels;
        for i in 0..shape.kernel_height {
            let h = shape.offset_height + self.row * shape.stride_height + i;
            let w = shape.offset_width + self.column * shape.stride_width;
            let x = rest(part.x, (h * shape.input.width + w) * shape.input.channels);
            require!((self.pixels - 1) * distance + len <= x.len(), "int8_dense: a window outside of {shape:?}");
            for from in (0..len).step_by(CHUNK) {
                let (x, len) = (rest(x, from), CHUNK.min(len - from));
                let row = i * shape.kernel_width * shape.input.channels + from;
                let weights = rest(part.w, row * shape.output_channels);
                self.widen(weights, len, &mut space.widened);
                let whole = len / QUAD;
                let sums = part_mut(&mut space.sums, 0, self.pixels);
                if let (Some(widened @ [_, ..]), [_, ..]) = (space.widened.get(..whole), &*sums) {
                    // SAFETY: all windows lie in `x`, as required above, and these groups are widened.
                    unsafe { self.add_groups(x.as_ptr(), distance, widened, sums) };
                }
                if let (1.., Some(widened)) = (len % QUAD, space.widened.get(whole)) {
                    self.add_rest(rest(x, whole * QUAD), len % QUAD, distance, from_ref(widened), sums);
                }
            }
        }
    }

    /// Widens weights, rows of all output channels, and makes pairs of rows; what is missing in the last four rows is
    /// 0.
    fn widen(&self, weights: &[i8], rows: usize, widened: &mut Widened) {
        let (outputs, (first, count)) = (self.shape.output_channels, self.channels);
        let whole = if count == QUAD { rows / QUAD } else { 0 };
        require!(rows <= CHUNK && rows * outputs <= weights.len(), "int8_dense: weights for {:?}", self.shape);
        if whole > 0 {
            // SAFETY: these groups of rows have four weights each from `first` on.
            unsafe { widen(weights.as_ptr().add(first), outputs, widened.as_mut_ptr(), whole) };
        }
        for group in whole..rows.div_ceil(QUAD) {
            let mut missing = [[0; QUAD]; QUAD];
            let rows = weights.chunks_exact(outputs.max(1)).take(rows).skip(QUAD * group);
            for (to, row) in missing.iter_mut().zip(rows) {
                to.iter_mut().zip(lengths::part(row, first, count)).for_each(|(to, &weight)| *to = weight);
            }
            let Some(widened) = widened.get_mut(group) else { return };
            // SAFETY: it is one group.
            unsafe { widen(missing.as_flattened().as_ptr(), QUAD, widened, 1) };
        }
    }

    /// Adds the products of groups of four input channels; elements `distance` apart belong to neighbouring pixels.
    ///
    /// # Safety
    ///
    /// The elements of all pixels can be read, and there are groups and pixels.
    unsafe fn add_groups(
        &mut self,
        x: *const i8,
        distance: usize,
        widened: &[[u32; 2 * QUAD]],
        sums: &mut [[i32; QUAD]],
    ) {
        let (weights, sums) = (widened.as_ptr_range(), sums.as_mut_ptr_range());
        let to_next = distance.wrapping_sub(QUAD * widened.len());
        let start = self.start.take();
        let function = match (&start, self.input.rectifies()) {
            (Some(_), false) => multiply,
            (Some(_), true) => multiply_rectified,
            (None, false) => multiply_add,
            (None, true) => multiply_add_rectified,
        };
        let start = start.as_ref().map_or(core::ptr::null(), |start| start.as_ptr());
        let zero = self.input.minus_zero();
        // SAFETY: promised by the caller.
        unsafe { function(x, weights.start, weights.end, zero, sums.start, sums.end, to_next, weights.start, start) };
    }

    /// The same of the last `count` input channels, fewer than four.
    #[inline(never)]
    fn add_rest(
        &mut self,
        mut x: &[i8],
        count: usize,
        distance: usize,
        widened: &[[u32; 2 * QUAD]],
        sums: &mut [[i32; QUAD]],
    ) {
        if let Some(start) = self.start.take() {
            sums.fill(start);
        }
        for sums in sums {
            // Elements behind these are multiplied by 0.
            let group = if x.len() >= QUAD {
                // SAFETY: four elements are there.
                unsafe { load(x.as_ptr()) }
            } else {
                let mut group = [0; QUAD];
                group.iter_mut().zip(x).take(count).for_each(|(byte, &x)| *byte = x as u8);
                u32::from_le_bytes(group)
            };
            // SAFETY: it is one group of one pixel.
            unsafe { self.add_groups((&raw const group).cast(), 0, widened, from_mut(sums)) };
            x = x.get(distance..).unwrap_or_default();
        }
    }
}

/// Widens groups of four rows of four weights: of each channel the weights of rows 0 and 2, then those of rows 1 and 3.
///
/// # Safety
///
/// The weights can be read, rows `outputs` apart, and as many groups written; there is one.
#[unsafe(naked)]
unsafe extern "C" fn widen(weights: *const i8, outputs: usize, to: *mut [u32; 2 * QUAD], groups: usize) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "2:",
        "ldr r4, [r0]",
        "ldr r6, [r0, r1]",
        "ldr r8, [r0, r1, lsl #1]",
        "add r0, r1",
        "ldr r10, [r0, r1, lsl #1]",
        "add r0, r0, r1",
        "add r0, r0, r1, lsl #1",
        // Channels 0 and 2, and 1 and 3.
        "sxtb16 r5, r4, ror #8",
        "sxtb16 r4, r4",
        "sxtb16 r7, r6, ror #8",
        "sxtb16 r6, r6",
        "sxtb16 r9, r8, ror #8",
        "sxtb16 r8, r8",
        "sxtb16 r11, r10, ror #8",
        "sxtb16 r10, r10",
        // Rows 0 and 2 of channels 0 to 3; what is done with is overwritten.
        "pkhtb r12, r8, r4, asr #16",
        "pkhbt r4, r4, r8, lsl #16",
        "pkhtb lr, r9, r5, asr #16",
        "pkhbt r5, r5, r9, lsl #16",
        "stm r2!, {{r4, r5, r12, lr}}",
        "pkhtb r12, r10, r6, asr #16",
        "pkhbt r6, r6, r10, lsl #16",
        "pkhtb lr, r11, r7, asr #16",
        "pkhbt r7, r7, r11, lsl #16",
        "stm r2!, {{r6, r7, r12, lr}}",
        "subs r3, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
    )
}

/// A function that adds the products of groups of four input channels at `x` to the sums of each pixel, or to `start`.
/// `zero` is added to both halves of elements, then the given lines are executed, and then they are multiplied.
/// `to_next` leads from the end of a pixel's elements to the next pixel, and `again` are the weights.
macro_rules! multiply_add {
    ($name:ident, $start:literal, [$($line:literal),*]) => {
        /// # Safety
        ///
        /// The elements can be read, and there are groups and pixels.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            x: *const i8,
            weights: *const [u32; 2 * QUAD],
            weights_end: *const [u32; 2 * QUAD],
            zero: u32,
            sums: *mut [i32; QUAD],
            sums_end: *mut [i32; QUAD],
            to_next: usize,
            again: *const [u32; 2 * QUAD],
            start: *const i32,
        ) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "ldr r12, [sp, #36]",
                // Each pixel.
                "2:",
                $start,
                "ldm r12, {{r8-r11}}",
                // Each group.
                "3:",
                "ldr lr, [r0], #4",
                "ldm r1!, {{r4-r7}}",
                "sxtab16 r12, r3, lr",
                "sxtab16 lr, r3, lr, ror #8",
                $($line,)*
                "smlad r8, r12, r4, r8",
                "smlad r9, r12, r5, r9",
                "smlad r10, r12, r6, r10",
                "smlad r11, r12, r7, r11",
                "ldm r1!, {{r4-r7}}",
                "smlad r8, lr, r4, r8",
                "smlad r9, lr, r5, r9",
                "smlad r10, lr, r6, r10",
                "smlad r11, lr, r7, r11",
                "cmp r1, r2",
                "bne 3b",
                // Sums and their end; to the next pixel, and weights.
                "ldrd r12, lr, [sp, #36]",
                "stm r12!, {{r8-r11}}",
                "str r12, [sp, #36]",
                "ldrd r4, r1, [sp, #44]",
                "add r0, r4",
                "cmp r12, lr",
                "bne 2b",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

multiply_add!(multiply_add, "", []);
multiply_add!(multiply_add_rectified, "", ["usat16 r12, #8, r12", "usat16 lr, #8, lr"]);
multiply_add!(multiply, "ldr r12, [sp, #52]", []);
multiply_add!(multiply_rectified, "ldr r12, [sp, #52]", ["usat16 r12, #8, r12", "usat16 lr, #8, lr"]);
