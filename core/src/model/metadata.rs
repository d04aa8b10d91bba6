//! What a network is for: its input, its classes, how images are normalised, and what it was built from.

use darts_kernels_simd::ImageShape;

use super::{ModelError, Section};

/// Which stem and how many reductions stand around the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NetworkKind {
    /// One 3×3 convolution, for small images.
    Cifar = 0,
    /// Three strided 3×3 convolutions.
    ImageNet = 1,
}

/// The metadata section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metadata<'a> {
    /// One input image, `[H, W, C]`.
    pub input: ImageShape,
    /// Number of logits.
    pub classes: usize,
    /// Number of cells.
    pub layers: usize,
    /// Channels of the first cell.
    pub channels: usize,
    /// Stem and reductions.
    pub kind: NetworkKind,
    /// Mean of each input channel, with pixels from 0 to 1.
    pub mean: &'a [f32],
    /// Standard deviation of each input channel, with pixels from 0 to 1.
    pub deviation: &'a [f32],
}

/// Bytes ahead of the means.
const FIXED_BYTES: usize = 16;

impl<'a> Metadata<'a> {
    /// Bytes of the section.
    pub(super) const fn encoded_len(&self) -> usize {
        FIXED_BYTES + 4 * self.mean.len() + 4 * self.deviation.len()
    }

    /// Bytes of one input image.
    pub(super) const fn input_bytes(&self) -> u64 {
        4 * self.input.height as u64 * self.input.width as u64 * self.input.channels as u64
    }

    /// Checks every number.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let positive = |field, value: usize| match value {
            1..=0xffff => Ok(()),
            _ => Err(ModelError::Metadata { field }),
        };
        positive("input height", self.input.height)?;
        positive("input width", self.input.width)?;
        positive("input channels", self.input.channels)?;
        positive("number of classes", self.classes)?;
        positive("number of layers", self.layers)?;
        positive("number of channels", self.channels)?;
        if self.input_bytes() > u64::from(u32::MAX) {
            return Err(ModelError::Metadata { field: "input size" });
        }
        let channels = self.input.channels;
        if self.mean.len() != channels || self.mean.iter().any(|mean| !mean.is_finite()) {
            return Err(ModelError::Metadata { field: "mean" });
        }
        if self.deviation.len() != channels || self.deviation.iter().any(|value| !(value.is_normal() && *value > 0.0)) {
            return Err(ModelError::Metadata { field: "standard deviation" });
        }
        Ok(())
    }

    /// The fixed part of a section whose numbers have been checked.
    pub(super) fn fixed_bytes(&self) -> [u8; FIXED_BYTES] {
        let [h0, h1] = (self.input.height as u16).to_le_bytes();
        let [w0, w1] = (self.input.width as u16).to_le_bytes();
        let [c0, c1] = (self.input.channels as u16).to_le_bytes();
        let [k0, k1] = (self.classes as u16).to_le_bytes();
        let [l0, l1] = (self.layers as u16).to_le_bytes();
        let [n0, n1] = (self.channels as u16).to_le_bytes();
        [h0, h1, w0, w1, c0, c1, k0, k1, l0, l1, n0, n1, self.kind as u8, 0, 0, 0]
    }

    pub(super) fn read(section: &'a [u8]) -> Result<Self, ModelError> {
        let length = ModelError::SectionLength(Section::Metadata);
        let Some((fixed, arrays)) = section.split_first_chunk::<FIXED_BYTES>() else {
            return Err(length);
        };
        let [h0, h1, w0, w1, c0, c1, k0, k1, l0, l1, n0, n1, kind, 0, 0, 0] = *fixed else {
            return Err(ModelError::Metadata { field: "reserved part" });
        };
        let number = |low, high| usize::from(u16::from_le_bytes([low, high]));
        let input = ImageShape::new(number(h0, h1), number(w0, w1), number(c0, c1));
        let arrays: &[f32] = bytemuck::try_cast_slice(arrays).map_err(|_| length.clone())?;
        let (mean, deviation) = arrays.split_at_checked(input.channels).ok_or(length.clone())?;
        if deviation.len() != input.channels {
            return Err(length);
        }
        let metadata = Self {
            input,
            classes: number(k0, k1),
            layers: number(l0, l1),
            channels: number(n0, n1),
            kind: match kind {
                0 => NetworkKind::Cifar,
                1 => NetworkKind::ImageNet,
                _ => return Err(ModelError::Metadata { field: "kind of network" }),
            },
            mean,
            deviation,
        };
        metadata.check()?;
        Ok(metadata)
    }
}
