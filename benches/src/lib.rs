//! What the benches share: seeded buffers and the instruction sets of this machine.

use darts_kernels_simd::{Isa, Kernels};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `len` floats in ±1, the same in every run.
pub fn buffer(len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(len as u64);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The kernels of every instruction set that this machine has.
pub fn kernels() -> impl Iterator<Item = Kernels> {
    Isa::available().filter_map(|isa| Kernels::with_isa(isa).ok())
}
