//! Pooling over unpadded images: pixels outside the image never take part.
//!
//! A pool is a [`Reduction`] of the pixels of each window. What becomes of its values is up to an
//! [`Output`](outputs::Output): they can be stored, or used without ever leaving the registers. The gradient of the
//! values comes from a [`Gradient`](backward::Gradient).
//!
//! The 3×3 windows of a few rows of outputs, the common case, overlap: they are handled in one run that keeps what
//! neighbouring windows share in registers ([`Block`](geometry::Block)). Other windows are handled one by one.

// An index here is also a position in the window, and `array::map` is not always inlined: pools took up to three times
// as long.
#![allow(clippy::needless_range_loop)]

mod backward;
mod forward;
pub(in crate::ops) mod geometry;
mod global;
mod outputs;
mod pair;
mod pair_backward;
mod reduction;

pub use backward::PoolGradient;
pub use pair::{PairFactors, PairSums};
pub use pair_backward::{NormGradient, PAIR_TERMS, PairGradient, PairTerm};
pub use reduction::Pooling;

use crate::lengths::require;
use crate::shape::PoolShape;

/// Whether the lengths fit the shape.
#[must_use]
fn check(name: &str, input: &[f32], output: usize, shape: PoolShape) -> bool {
    require!(shape.is_sane(), "{name}: not a window with less than half of it in the padding, {shape:?}");
    let fits = (input.len(), output) == (shape.input.len(), shape.output().len());
    require!(fits, "{name}: input of {} and output of {output} elements do not fit {shape:?}", input.len());
    true
}
