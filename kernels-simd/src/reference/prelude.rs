//! Affine map, ReLU and padding ahead of a convolution.

use super::{Real, put};
use crate::Prelude;
use crate::shape::{ImageShape, Padding};

/// Scale, shift and whether negative values are cut, for one channel.
fn parameters(prelude: Prelude<'_>, channel: usize) -> (f64, f64, bool) {
    match prelude {
        Prelude::Copy => (1.0, 0.0, false),
        Prelude::Relu => (1.0, 0.0, true),
        Prelude::Affine { scale, shift } => (scale[channel].get(), shift[channel].get(), false),
        Prelude::AffineRelu { scale, shift } => (scale[channel].get(), shift[channel].get(), true),
    }
}

/// `y` = the padded image of `x` after the prelude; `y` is overwritten, its border with zeros.
pub fn prelude<T: Real>(x: &[T], shape: ImageShape, padding: Padding, prelude: Prelude<'_>, y: &mut [T]) {
    let padded = shape.padded(padding);
    for row in 0..padded.height {
        for column in 0..padded.width {
            for c in 0..shape.channels {
                let h = row.checked_sub(padding.top).filter(|&h| h < shape.height);
                let w = column.checked_sub(padding.left).filter(|&w| w < shape.width);
                let value = match (h, w) {
                    (Some(h), Some(w)) => {
                        let (scale, shift, relu) = parameters(prelude, c);
                        let u = scale * x[(h * shape.width + w) * shape.channels + c].get() + shift;
                        if relu { u.max(0.0) } else { u }
                    }
                    _ => 0.0,
                };
                y[(row * padded.width + column) * shape.channels + c] = T::from_f64(value);
            }
        }
    }
}

/// Gradient of [`prelude`] with respect to `u = scale·x + shift`; `dy` has the padded shape, `dx` the shape of `x`.
pub fn prelude_backward<T: Real>(
    x: &[T],
    shape: ImageShape,
    padding: Padding,
    prelude: Prelude<'_>,
    dy: &[T],
    dx: &mut [T],
    accumulate: bool,
) {
    let padded = shape.padded(padding);
    for h in 0..shape.height {
        for w in 0..shape.width {
            for c in 0..shape.channels {
                let index = (h * shape.width + w) * shape.channels + c;
                let (scale, shift, relu) = parameters(prelude, c);
                let open = !relu || scale * x[index].get() + shift > 0.0;
                let above = dy[((h + padding.top) * padded.width + w + padding.left) * shape.channels + c].get();
                put(&mut dx[index], if open { above } else { 0.0 }, accumulate);
            }
        }
    }
}
