//! Memory for measurements.

use std::ops::{Deref, DerefMut};

use super::random;

/// Bytes of a cache line, at a multiple of which the engine's buffers start too.
const LINE: usize = 64;

/// Random numbers in ±1, the same in every run, that start on a cache line.
pub(super) struct Buffer {
    storage: Vec<f32>,
    start: usize,
}

/// `len` random numbers.
pub(super) fn buffer(len: usize) -> Buffer {
    let slack = LINE / size_of::<f32>() - 1;
    let mut storage = random(len + slack);
    let start = storage.as_ptr().align_offset(LINE).min(slack);
    storage.truncate(start + len);
    Buffer { storage, start }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.storage[self.start..]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..]
    }
}
