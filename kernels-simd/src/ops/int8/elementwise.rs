//! What treats every element alike.

use super::{Int8Input, Rescale, bodies, clamp};
use crate::kernels::Kernels;
use crate::lengths::{part_mut, require};
use crate::shape::{ImageShape, Padding};

impl Kernels {
    /// `y` = the nearest elements to `x · inverse_scale + zero`, halves away from zero, or with `accumulate` `y` and
    /// these without the zero added up.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn int8_quantize(self, x: &[f32], inverse_scale: f32, zero: i8, y: &mut [i8], accumulate: bool) {
        require!(x.len() == y.len(), "int8_quantize: x, y of {} and {} elements", x.len(), y.len());
        for (y, x) in y.iter_mut().zip(x) {
            let value = x * inverse_scale;
            // The cast cuts off, and NaN becomes 0.
            let rounded = (value + 0.5f32.copysign(value)) as i32;
            let before = if accumulate { *y } else { zero };
            *y = clamp(i64::from(rounded) + i64::from(before));
        }
    }

    /// `y = scale · (x − zero)`: what the elements of `x` stand for.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn int8_dequantize(self, x: &[i8], scale: f32, zero: i8, y: &mut [f32]) {
        require!(x.len() == y.len(), "int8_dequantize: x, y of {} and {} elements", x.len(), y.len());
        for (y, &x) in y.iter_mut().zip(x) {
            *y = scale * (i32::from(x) - i32::from(zero)) as f32;
        }
    }

    /// `y` = the image `x` as `input` reads it, with `padding` elements that stand for 0 around it; both have the scale
    /// and the zero of `input`. `y` has the padded shape and is overwritten.
    ///
    /// # Panics
    ///
    /// When a length does not fit `shape`.
    pub fn int8_prelude(self, x: &[i8], shape: ImageShape, padding: Padding, input: Int8Input, y: &mut [i8]) {
        let padded = shape.padded(padding);
        require!(
            shape.is_sane() && (x.len(), y.len()) == (shape.len(), padded.len()),
            "int8_prelude: x, y of {} and {} elements do not fit {shape:?}, {padding:?}",
            x.len(),
            y.len()
        );
        y.fill(input.zero);
        let (row, padded_row) = (shape.width * shape.channels, padded.width * shape.channels);
        if row == 0 {
            return;
        }
        let rows = y.chunks_exact_mut(padded_row.max(1)).skip(padding.top);
        for (y, x) in rows.zip(x.chunks_exact(row)) {
            let y = part_mut(y, padding.left * shape.channels, row);
            if input.relu {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.max(input.zero));
            } else if let Some(x) = x.get(..y.len()) {
                y.copy_from_slice(x);
            }
        }
    }

    /// `y` = the rescaled `x`, or with `accumulate` `y` and it added up: then only the scale of `y` counts.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn int8_rescale(self, x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool) {
        require!(x.len() == y.len(), "int8_rescale: x, y of {} and {} elements", x.len(), y.len());
        bodies::rescale(self, x, y, rescale, accumulate);
    }
}
