//! What a separable convolution reads in training.

use crate::ops::prelude::Prelude;
use crate::ops::ring::Ring;
use crate::ops::stored::Stored;
use crate::shape::{ImageShape, SeparableShape};

/// The input of a separable convolution in training.
#[derive(Clone, Copy, Debug)]
pub struct SeparableInput<'a> {
    /// The image, `[H, W, C]`.
    pub x: Stored<'a>,
    /// The pass through which it is read.
    pub prelude: Prelude<'a>,
    /// What that pass makes of `x`, if it is there, as where several convolutions read one image; it is then read
    /// wherever the pass would be run. It is not checked against `x`, of which the backward pass may read the mask of a
    /// ReLU.
    pub preluded: Option<Preluded<'a>>,
}

impl<'a> SeparableInput<'a> {
    /// An image to which nothing was done yet.
    pub fn new(x: impl Into<Stored<'a>>, prelude: Prelude<'a>) -> Self {
        Self { x: x.into(), prelude, preluded: None }
    }
}

/// An image after its prelude, as [`Kernels::prelude`](crate::Kernels::prelude) makes it with as many columns of zeros
/// on the left and on the right, and no rows of them.
#[derive(Clone, Copy, Debug)]
pub struct Preluded<'a> {
    /// `[H, W + 2·border, C]`.
    pub values: &'a [f32],
    /// Columns of zeros on either side, as many as the padding of the convolution or more.
    pub border: usize,
}

impl Preluded<'_> {
    /// All rows, with the padding of `shape`, which is sane. They are only to be read.
    ///
    /// # Panics
    ///
    /// When the image does not fit the shape.
    pub(super) fn ring(&self, shape: SeparableShape) -> Ring {
        let (ImageShape { height, width, channels }, padding) = (shape.input, shape.padding().left);
        let row_len = self.border.checked_mul(2).and_then(|columns| columns.checked_add(width)?.checked_mul(channels));
        let rows = row_len.filter(|row_len| row_len.checked_mul(height) == Some(self.values.len()));
        let (Some(row_len), Some(before)) = (rows, self.border.checked_sub(padding)) else {
            panic!(
                "{} values behind a prelude, with a border of {}, do not fit {shape:?}",
                self.values.len(),
                self.border
            );
        };
        let start = self.values.as_ptr().wrapping_add(before * channels);
        Ring { start: start.cast_mut(), rows: height, row_len }
    }
}
