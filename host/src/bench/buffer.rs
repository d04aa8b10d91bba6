//! Memory for measurements.

use darts_kernels_simd::{Kernels, Stored, StoredMut};

use super::random;
use crate::engine::Saved;
use crate::engine::aligned::AlignedBuffer;

/// `len` random numbers in ±1, the same in every run.
pub(super) fn buffer(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(len);
    buffer.copy_from_slice(&random(len));
    buffer
}

/// Random numbers in one of the forms in which a network keeps values.
pub(super) enum Values {
    Single(AlignedBuffer),
    /// Two in each place.
    Half(AlignedBuffer),
}

/// `len` random numbers, an even number, stored as `saved` says.
pub(super) fn values(len: usize, saved: Saved, kernels: Kernels) -> Values {
    let single = buffer(len);
    match saved {
        Saved::F32 => Values::Single(single),
        Saved::F16 => {
            let mut half = buffer(len / 2);
            kernels.f32_to_f16(&single, bytemuck::cast_slice_mut(&mut half));
            Values::Half(half)
        }
    }
}

impl Values {
    pub fn stored(&self) -> Stored<'_> {
        match self {
            Self::Single(values) => Stored::F32(values),
            Self::Half(values) => Stored::F16(bytemuck::cast_slice(values)),
        }
    }

    pub fn stored_mut(&mut self) -> StoredMut<'_> {
        match self {
            Self::Single(values) => StoredMut::F32(values),
            Self::Half(values) => StoredMut::F16(bytemuck::cast_slice_mut(values)),
        }
    }
}

/// `name`, and the form if that is half precision.
pub(super) fn name_of(name: &str, saved: Saved) -> String {
    match saved {
        Saved::F32 => name.to_owned(),
        Saved::F16 => format!("{name}, f16"),
    }
}

/// What `len` values take, in `f32`.
pub(super) fn floats(len: usize, saved: Saved) -> usize {
    match saved {
        Saved::F32 => len,
        Saved::F16 => len / 2,
    }
}
