//! The gradient of the input at stride 1 with few copies. Where all columns of taps reach the gradient of the output, it is read where
//! it lies. What is left are the columns at both sides: they are computed as rows of the image turned by its diagonal, from a copy of the
//! outermost columns with zeros at their ends.

use super::input::InputGradient;
use crate::arch::Simd;
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};
use crate::ops::lanes::{for_registers, load, store};
use crate::ops::ring::Ring;
use crate::shape::{DepthwiseShape, ImageShape, Padding};

/// The width of a row from which on this is faster than copying all rows, in widths of a side; for other filters it is not.
///
/// Microseconds with copies of all rows and of the sides only: 3×3, 16 channels, 32×32, 1.90 and 1.52; 5×5 with dilation 2, 4.40 and 3.79;
/// 3×3, 32 channels, 16×16, 1.06 and 0.81; but 3×3, 64 channels, 8×8, 0.57 and 0.73, with dilation 2, 32 channels, 16×16, 1.24 and
/// 1.49, and 7×7, 3 channels, 32×32, 6.76 and 7.40. Code without vectors was slower by a tenth (AMD EPYC, Zen 5, AVX-512, 2026-11-29).
const fn sides_of_row(kernel: usize) -> Option<usize> {
    match kernel {
        3 => Some(8),
        5 => Some(4),
        _ => None,
    }
}

pub(super) struct Edges {
    shape: DepthwiseShape,
    padding: Padding,
    /// Columns of a side, of the padded input and of the output: as far as taps reach.
    side: usize,
}

/// A column of an image and where it goes, as a row.
struct Column {
    source: *const f32,
    /// Elements of a row of the image.
    row: usize,
    rows: usize,
    channels: usize,
    target: *mut f32,
}

impl Edges {
    /// For such a shape, if this is faster than copying all rows and the scratch has room.
    pub fn new(kernels: Kernels, shape: DepthwiseShape, padding: Padding) -> Option<Self> {
        let edges = Self { shape, padding, side: shape.backward_padding() };
        let fits = kernels.isa() != Isa::Scalar
            && shape.stride == 1
            && padding.left.max(padding.right) <= edges.side
            && sides_of_row(shape.kernel).is_some_and(|sides| sides * edges.side <= shape.output().width)
            && edges.side * edges.turned().backward_width() * shape.input.channels <= shape.backward_scratch();
        fits.then_some(edges)
    }

    /// The shape of the turned image.
    fn turned(&self) -> DepthwiseShape {
        let ImageShape { height, width, channels } = self.shape.input;
        DepthwiseShape { input: ImageShape::new(width, height, channels), ..self.shape }
    }

    /// Computes the gradient.
    ///
    /// # Safety
    ///
    /// The lengths fit the shape, the padding lies inside, and `scratch` has [`DepthwiseShape::backward_scratch`] elements.
    pub unsafe fn compute(&self, kernels: Kernels, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        let Self { shape, padding, side } = *self;
        let (input, output, channels) = (shape.input, shape.output(), shape.input.channels);
        let row = input.width * channels;
        let dx = dx.as_mut_ptr().wrapping_add(padding.top * row);
        let gradient = InputGradient::new(w, shape, Padding { left: side, right: side, ..padding });
        // As if there were zeros on the left, which taps between the sides do not reach.
        let start = dy.as_ptr().cast_mut().wrapping_sub(side * channels);
        let rows = Ring { start, rows: output.height, row_len: output.width * channels };
        // SAFETY: promised by the caller.
        unsafe {
            let target = dx.wrapping_add(side * channels);
            gradient.rows(kernels, rows, padding.top..input.height - padding.bottom, target, row, None);
        }
        let turned = self.turned();
        let gradient = InputGradient::turned(
            w,
            turned,
            Padding { left: padding.top, right: padding.bottom, ..Padding::NONE },
            row,
        );
        let turned_row = turned.backward_width() * channels;
        let inside = side * channels..(side + output.height) * channels;
        let sides = [(0, padding.left..side), (output.width - side, output.width..input.width - padding.right)];
        for (index, (first, columns)) in sides.into_iter().enumerate() {
            let ring = Ring::new(&mut scratch[..side * turned_row], side, inside.clone(), index > 0);
            // SAFETY: the image has the columns, and the ring room for them between its zeros.
            unsafe {
                for index in first..first + side {
                    let column = &Column {
                        source: dy.as_ptr().add(index * channels),
                        row: output.width * channels,
                        rows: output.height,
                        channels,
                        target: ring.start.add(ring.offset(index) + inside.start),
                    };
                    dispatch!(kernels, copy(column: &Column));
                }
                let target = dx.wrapping_add(columns.start * channels);
                gradient.rows(kernels, ring, columns, target, channels, None);
            }
        }
    }
}

#[inline(always)]
unsafe fn copy<S: Simd>(column: &Column) {
    // SAFETY: promised by the caller.
    unsafe { for_registers!(S, 0..column.channels, copy_register(column)) }
}

#[inline(always)]
unsafe fn copy_register<S: Simd, const PARTIAL: bool>(channel: usize, lanes: usize, column: &Column) {
    for y in 0..column.rows {
        // SAFETY: promised by the caller.
        unsafe {
            let value = load::<S, PARTIAL>(column.source.add(y * column.row + channel), lanes);
            store::<S, PARTIAL>(column.target.add(y * column.channels + channel), value, lanes);
        }
    }
}
