//! What the backward pass reads, but for its input, and where it writes.

use crate::kernels::Kernels;
use crate::ops::stored::Stored;
use crate::ops::stream::{can_copy, can_stream};
use crate::shape::SeparableShape;

/// The weights as the backward pass reads them.
#[derive(Clone, Copy, Debug)]
pub struct SeparableWeights<'a> {
    /// `[k, k, C]`.
    pub depthwise: &'a [f32],
    /// `[C_out, C]`, see [`Kernels::transpose`].
    pub pointwise_transposed: &'a [f32],
}

/// Where the gradient of the output comes from.
#[derive(Clone, Copy, Debug)]
pub enum OutputGradient<'a> {
    /// It is there, `[H_out, W_out, C_out]`.
    Ready(&'a [f32]),
    /// From the gradient `dy` behind the batch normalisation of the output, as [`Kernels::norm_backward_apply`]:
    /// `scale·p·dy + q·(z − mean) + r`.
    Norm {
        /// `[H_out, W_out, C_out]`.
        dy: &'a [f32],
        /// The output, `[H_out, W_out, C_out]`.
        z: Stored<'a>,
        /// Mean of each channel.
        mean: &'a [f32],
        /// Factor of `dy` of each channel.
        p: &'a [f32],
        /// Factor of `z − mean` of each channel.
        q: &'a [f32],
        /// Summand of each channel.
        r: &'a [f32],
        /// Factor of `dy` of the whole image.
        scale: f32,
    },
}

impl OutputGradient<'_> {
    /// The images that are read, the second one perhaps none.
    pub(super) fn images(&self) -> [Stored<'_>; 2] {
        match *self {
            Self::Ready(dz) => [dz.into(), Stored::F32(&[])],
            Self::Norm { dy, z, .. } => [dy.into(), z],
        }
    }

    pub(super) fn fits(&self, shape: SeparableShape) -> bool {
        let (len, channels) = (shape.output().len(), shape.output_channels);
        match self {
            Self::Ready(dz) => dz.len() == len,
            Self::Norm { dy, z, mean, p, q, r, .. } => {
                [dy.len(), z.len()] == [len; 2] && [mean, p, q, r].iter().all(|c| c.len() == channels)
            }
        }
    }
}

/// Where the gradient with respect to `u = scale·x + shift` of the prelude goes, and what else is added up from it.
#[derive(Debug)]
pub struct SeparableInputGradient<'a> {
    /// `[H, W, C]`.
    pub dx: &'a mut [f32],
    /// Whether to add to `dx`; otherwise it is overwritten.
    pub accumulate: bool,
    /// Sums over the final `dx`: right where this is the last contribution to it.
    pub sums: Option<NormSums<'a>>,
}

impl SeparableInputGradient<'_> {
    /// Whether the gradient is stored past the caches: with the sums for a batch norm it is read when the whole batch
    /// is done.
    pub(super) fn streams(&self, kernels: Kernels) -> bool {
        self.sums.is_some() && !self.accumulate && (can_copy(kernels) || self.is_made_of_lines())
    }

    /// Whether that takes no copy.
    pub(super) fn is_made_of_lines(&self) -> bool {
        self.sums.as_ref().is_some_and(|sums| can_stream(self.dx.as_ptr(), sums.mean.len()))
    }
}

/// The sums that the backward pass of a batch normalisation of `x` needs, as [`Kernels::norm_backward_reduce`].
#[derive(Debug)]
pub struct NormSums<'a> {
    /// Mean of each channel.
    pub mean: &'a [f32],
    /// Factor of both sums.
    pub scale: f32,
    /// `scale·Σ dx` is added, one element per channel.
    pub sum: &'a mut [f64],
    /// `scale·Σ dx·(x − mean)` is added, one element per channel.
    pub dot: &'a mut [f64],
}

/// Where the gradients with respect to the weights are added.
#[derive(Debug)]
pub struct SeparableWeightGradient<'a> {
    /// `[k, k, C]`.
    pub depthwise: &'a mut [f32],
    /// `[C, C_out]`.
    pub pointwise: &'a mut [f32],
}
