//! What a kernel needs room for on its way.

use super::QUAD;

/// Output pixels whose sums are kept.
pub(super) const PIXELS: usize = 32;

/// Weights of one output channel that are widened at a time.
pub(super) const CHUNK: usize = 64;

/// The sums of four output channels of pixels.
pub(super) type Sums = [[i32; QUAD]; PIXELS];

/// Widened weights of four output channels: for each four input channels, 0 and 2 for every output channel, then 1 and
/// 3.
pub(super) type Widened = [[u32; 2 * QUAD]; CHUNK / QUAD];

/// Made once for a kernel call.
pub(in crate::ops::int8) struct Space {
    pub(super) sums: Sums,
    pub(super) widened: Widened,
}

impl Space {
    pub(in crate::ops::int8) const fn new() -> Self {
        Self { sums: [[0; QUAD]; PIXELS], widened: [[0; 2 * QUAD]; CHUNK / QUAD] }
    }
}
