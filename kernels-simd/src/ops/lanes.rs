//! Whole registers and their first lanes, with one text for both.

use crate::arch::Simd;

/// Lanes of the widest instruction set.
pub(super) const MAX_LANES: usize = 16;

/// `with_lanes!(S, rest, PARTIAL, count, { … })` runs the block for the next `count` of `rest` channels (`rest > 0`): for a whole
/// register with the constant `PARTIAL` false, or for what is left with `PARTIAL` true.
macro_rules! with_lanes {
    ($simd:ident, $rest:expr, $partial:ident, $count:ident, $body:block) => {{
        let rest: usize = $rest;
        if rest >= $simd::LANES {
            const $partial: bool = false;
            let $count = $simd::LANES;
            $body
        } else {
            const $partial: bool = true;
            let $count = rest;
            $body
        }
    }};
}
pub(super) use with_lanes;

/// A register from memory: all lanes, or with `PARTIAL` the first `count` (`0 < count < LANES`) and zeros.
///
/// # Safety
///
/// As for [`Simd::load`] and [`Simd::load_partial`].
#[inline(always)]
pub(super) unsafe fn load<S: Simd, const PARTIAL: bool>(source: *const f32, count: usize) -> S::Vector {
    // SAFETY: the caller's promise.
    unsafe { if PARTIAL { S::load_partial(source, count) } else { S::load(source) } }
}

/// A register to memory: all lanes, or with `PARTIAL` the first `count` (`0 < count < LANES`).
///
/// # Safety
///
/// As for [`Simd::store`] and [`Simd::store_partial`].
#[inline(always)]
pub(super) unsafe fn store<S: Simd, const PARTIAL: bool>(target: *mut f32, value: S::Vector, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if PARTIAL { S::store_partial(target, value, count) } else { S::store(target, value) } }
}
