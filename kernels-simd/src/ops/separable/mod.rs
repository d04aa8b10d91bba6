//! A separable convolution with its prelude as one pass over the rows of an image: what lies between the input and the
//! output never leaves the first cache.
//!
//! The image is worked through in strips of a few output rows. The preluded rows that the windows of a strip need are
//! kept in a ring, so that each is computed once; everything else holds one strip.

mod backward;
mod finish;
mod forward;
mod gradients;
mod input;
mod operands;

pub use forward::{Moments, SeparableScratch};
pub use input::{Preluded, SeparableInput};
pub use operands::{NormSums, OutputGradient, SeparableInputGradient, SeparableWeightGradient, SeparableWeights};
