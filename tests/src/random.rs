//! Seeded test data.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator of test data; the same seed gives the same data everywhere.
pub struct Random(ChaCha8Rng);

impl Random {
    /// A generator for one test.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// `len` values, uniform in `-1..1`.
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    /// `len` values, uniform in `-1..1`, in `f64`.
    pub fn values_f64(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    /// `len` indices below `end`.
    pub fn indices(&mut self, len: usize, end: u32) -> Vec<u32> {
        (0..len).map(|_| self.0.random_range(0..end)).collect()
    }

    /// `len` integers, uniform over all of 8 bits.
    pub fn int8(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.0.random()).collect()
    }

    /// `len` integers, uniform in `-limit..limit`.
    pub fn int32(&mut self, len: usize, limit: i32) -> Vec<i32> {
        (0..len).map(|_| self.0.random_range(-limit..limit)).collect()
    }
}
