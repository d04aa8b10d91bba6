//! Images whose channels begin again after 1, 2, 3, 4, 5 or 9 registers: they are read in the order of memory, register
//! by register, and what there is for each channel stands in as many registers. Channels that are fewer than the lanes,
//! or no multiple of them, are repeated, so that no lane is idle and no register lies across lines. With sixteen lanes
//! these are, for instance, 8, 16, 32, 48, 64, 20, 40, 80, 36, 72 and 144 channels.

use core::mem::MaybeUninit;

use crate::arch::Simd;
use crate::ops::lanes::{MAX_LANES, load, store, with_lanes};

/// The most registers after which channels may begin again.
const MAX_PERIOD: usize = 9;

/// `with_period!(S, channels, R, periodic, otherwise)` evaluates the first expression with the constant `R`, the
/// registers after which the channels begin again, or the second one where these are none of the above.
macro_rules! with_period {
    ($simd:ident, $channels:expr, $period:ident, $periodic:expr, $otherwise:expr) => {{
        let channels: usize = $channels;
        let begins_again = |registers: usize| channels > 0 && (registers * $simd::LANES).is_multiple_of(channels);
        if begins_again(1) {
            const $period: usize = 1;
            $periodic
        } else if begins_again(2) {
            const $period: usize = 2;
            $periodic
        } else if begins_again(3) {
            const $period: usize = 3;
            $periodic
        } else if begins_again(4) {
            const $period: usize = 4;
            $periodic
        } else if begins_again(5) {
            const $period: usize = 5;
            $periodic
        } else if begins_again(9) {
            const $period: usize = 9;
            $periodic
        } else {
            $otherwise
        }
    }};
}
pub(super) use with_period;

/// Values of the channels, again and again, in up to [`MAX_PERIOD`] registers.
pub(super) type Repeated = [MaybeUninit<f32>; MAX_LANES * MAX_PERIOD];

/// Nothing yet.
pub(super) const UNWRITTEN: Repeated = [MaybeUninit::uninit(); MAX_LANES * MAX_PERIOD];

/// Where `R` registers of the values stand: they themselves if they fill them, or `repeated`.
///
/// # Safety
///
/// `R` is the period of as many channels as there are values, and the processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn repeat<S: Simd, const R: usize>(values: &[f32], repeated: &mut Repeated) -> *const f32 {
    let channels = values.len();
    if channels == R * S::LANES {
        return values.as_ptr();
    }
    for first in (0..channels).step_by(S::LANES) {
        with_lanes!(S, channels - first, PARTIAL, count, {
            // SAFETY: the values exist, and `at + count` is at most `R` registers.
            unsafe {
                let register = load::<S, PARTIAL>(values.as_ptr().add(first), count);
                for at in (first..R * S::LANES).step_by(channels) {
                    store::<S, PARTIAL>(repeated.as_mut_ptr().add(at).cast(), register, count);
                }
            }
        });
    }
    repeated.as_ptr().cast()
}

/// The values in `R` registers.
///
/// # Safety
///
/// As for [`repeat`].
#[inline(always)]
pub(super) unsafe fn registers<S: Simd, const R: usize>(values: &[f32]) -> [S::Vector; R] {
    // SAFETY: promised by the caller; `R` registers stand there.
    unsafe {
        if const { R == 1 && S::TWICE } && 2 * values.len() == S::LANES {
            return [S::load_twice(values.as_ptr()); R];
        }
        let mut repeated = UNWRITTEN;
        let source = repeat::<S, R>(values, &mut repeated);
        let mut registers = [S::splat(0.0); R];
        for (index, register) in registers.iter_mut().enumerate() {
            *register = S::load(source.add(index * S::LANES));
        }
        registers
    }
}

/// Adds `scale` times the lanes of `R` registers to the sums of their channels.
///
/// # Safety
///
/// As for [`repeat`].
#[inline(always)]
pub(super) unsafe fn add_lanes<S: Simd, const R: usize>(scale: f64, registers: [S::Vector; R], sums: &mut [f64]) {
    let mut lanes = [0.0; MAX_LANES * MAX_PERIOD];
    for (index, register) in registers.into_iter().enumerate() {
        // SAFETY: promised by the caller; the registers fit.
        unsafe { S::store(lanes.as_mut_ptr().add(index * S::LANES), register) }
    }
    for values in lanes[..R * S::LANES].chunks_exact(sums.len()) {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += scale * f64::from(value);
        }
    }
}
