//! Images whose channels begin again after 1, 2 or 4 registers: they are read in the order of memory, register by register, and
//! what there is for each channel stands in as many registers. Channels that are fewer than the lanes are repeated, so that no
//! lane is idle.

use crate::arch::Simd;
use crate::ops::lanes::MAX_LANES;

/// The most registers after which channels may begin again.
pub(super) const MAX_PERIOD: usize = 4;

/// `with_period!(S, channels, R, periodic, otherwise)` evaluates the first expression with the constant `R`, the registers after
/// which the channels begin again, or the second one where these are not 1, 2 or 4.
macro_rules! with_period {
    ($simd:ident, $channels:expr, $period:ident, $periodic:expr, $otherwise:expr) => {{
        let channels: usize = $channels;
        if $simd::LANES.is_multiple_of(channels) {
            const $period: usize = 1;
            $periodic
        } else if channels == 2 * $simd::LANES {
            const $period: usize = 2;
            $periodic
        } else if channels == 4 * $simd::LANES {
            const $period: usize = 4;
            $periodic
        } else {
            $otherwise
        }
    }};
}
pub(super) use with_period;

/// One register of values, one for each channel, again and again.
///
/// # Safety
///
/// There are at most `LANES` values, a power of two.
#[inline(always)]
pub(super) unsafe fn repeat<S: Simd>(values: &[f32]) -> [f32; MAX_LANES] {
    let mut lanes = [0.0; MAX_LANES];
    for (lane, target) in lanes[..S::LANES].iter_mut().enumerate() {
        // SAFETY: the index is below the power of two. Slices of an unknown length would be copied by calls.
        *target = unsafe { *values.get_unchecked(lane & (values.len() - 1)) };
    }
    lanes
}

/// The values of all channels in `R` registers.
///
/// # Safety
///
/// `R` is the period of as many channels as there are values, and the processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn registers<S: Simd, const R: usize>(values: &[f32]) -> [S::Vector; R] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut registers = [S::splat(0.0); R];
        if values.len() < S::LANES {
            registers[0] = S::load(repeat::<S>(values).as_ptr());
        } else {
            for (index, register) in registers.iter_mut().enumerate() {
                *register = S::load(values.as_ptr().add(index * S::LANES));
            }
        }
        registers
    }
}

/// Adds `scale` times the lanes of `R` registers to the sums of their channels.
///
/// # Safety
///
/// As for [`registers`].
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
