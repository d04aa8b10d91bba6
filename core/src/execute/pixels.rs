//! Images of bytes.

use core::slice;

use darts_kernels_simd::Kernels;

use crate::model::Metadata;

/// Pixels `[H, W, C]` of a byte each, and how they become the network's input.
#[derive(Clone, Copy)]
pub(crate) struct Pixels<'p> {
    bytes: &'p [u8],
    mean: &'p [f32],
    deviation: &'p [f32],
}

impl<'p> Pixels<'p> {
    pub(crate) fn new(bytes: &'p [u8], metadata: &Metadata<'p>) -> Self {
        Self { bytes, mean: metadata.mean, deviation: metadata.deviation }
    }

    /// The network's input: `(pixel / 255 − mean) / deviation` per channel.
    pub(crate) fn normalized(self) -> impl Iterator<Item = f32> {
        let channels = self.mean.iter().zip(self.deviation).cycle();
        self.bytes.iter().zip(channels).map(|(&pixel, (mean, deviation))| (f32::from(pixel) / 255.0 - mean) / deviation)
    }

    /// The network's input in 8-bit integers, by the kernel that takes it as `f32`, but without room for that.
    pub(super) fn quantize(self, kernels: Kernels, inverse_scale: f32, zero: i8, target: &mut [i8], accumulate: bool) {
        for (target, value) in target.iter_mut().zip(self.normalized()) {
            kernels.int8_quantize(&[value], inverse_scale, zero, slice::from_mut(target), accumulate);
        }
    }
}
