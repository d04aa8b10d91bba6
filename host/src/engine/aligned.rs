//! Buffers that start on a cache line: a vector of the widest instruction set is one line, and loads that cross lines
//! cost twice. On Zen 4 the depthwise kernels are bound by loads.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// A fixed number of floats whose first lies at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let slack = LINE / size_of::<f32>() - 1;
        let storage = vec![0.0; len + slack];
        let start = storage.as_ptr().align_offset(LINE).min(slack);
        Self { storage, start, len }
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_any_length_start_on_a_line() {
        for len in [0, 1, 15, 16, 1000, 100_000] {
            let buffer = AlignedBuffer::new(len);
            assert_eq!((buffer.len(), buffer.as_ptr().addr() % LINE), (len, 0));
        }
    }
}
