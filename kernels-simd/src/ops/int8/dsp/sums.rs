//! From sums to elements.

use core::arch::naked_asm;

use super::QUAD;
use crate::ops::int8::{ChannelFactors, Factor, clamp};

/// Where elements of neighbouring output pixels lie.
#[derive(Clone, Copy)]
pub(super) struct Elements {
    /// That of the first pixel and the first of the channels.
    pub(super) first: *mut i8,
    /// Elements between neighbouring pixels.
    pub(super) distance: usize,
    /// What stands for 0.
    pub(super) zero: i8,
    /// Whether they are added to, instead of overwritten.
    pub(super) accumulate: bool,
}

/// Writes `count` channels from `first` on of some pixels.
///
/// # Safety
///
/// The elements can be written, the channels have factors, and `count` is at most [`QUAD`].
#[inline(never)]
pub(super) unsafe fn write(
    sums: &[[i32; QUAD]],
    factors: &ChannelFactors<'_>,
    (first, count): (usize, usize),
    elements: Elements,
) {
    let channels = first..first + count;
    let (Some(multipliers), Some(shifts)) = (factors.multiplier.get(channels.clone()), factors.shift.get(channels))
    else {
        return;
    };
    let all = multipliers.iter().zip(shifts).map(|(&multiplier, &shift)| Factor { multiplier, shift });
    if count < QUAD || !all.clone().all(is_rounded_half_up) {
        for (channel, factor) in all.enumerate() {
            // SAFETY: promised by the caller.
            unsafe { write_exact(sums, channel, factor, elements) };
        }
        return;
    }
    let Elements { first: y, distance, zero, accumulate } = elements;
    let sums = sums.as_ptr_range();
    let mut rest = Shifts([0; QUAD]);
    rest.0.iter_mut().zip(shifts).for_each(|(rest, &shift)| *rest = u32::from(shift) - 32);
    let function = if accumulate { add_four } else { write_four };
    // SAFETY: promised by the caller.
    unsafe { function(sums.start, y, distance, multipliers.as_ptr(), rest, zero.into(), sums.end) };
}

/// What is left to shift of four products without their last 32 bits.
#[repr(C)]
struct Shifts([u32; QUAD]);

/// One channel with any factor.
///
/// # Safety
///
/// As [`write`].
#[inline(never)]
unsafe fn write_exact(sums: &[[i32; QUAD]], channel: usize, factor: Factor, elements: Elements) {
    let mut y = elements.first.wrapping_add(channel);
    for sums in sums {
        let Some(&sum) = sums.get(channel) else { return };
        // SAFETY: promised by the caller.
        unsafe {
            let before = if elements.accumulate { *y } else { elements.zero };
            *y = clamp(factor.apply(sum) + i64::from(before));
        }
        y = y.wrapping_add(elements.distance);
    }
}

/// A function that writes four channels whose products are rounded half up: the last bit that is shifted out is the
/// carry. The given lines load what is added to r12, if it is not `zero`.
macro_rules! write_four {
    ($name:ident, $a:literal, $b:literal, $c:literal, $d:literal) => {
        /// # Safety
        ///
        /// The elements can be written, and there are some.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            sums: *const [i32; QUAD],
            y: *mut i8,
            distance: usize,
            multipliers: *const i32,
            shifts: Shifts,
            zero: i32,
            sums_end: *const [i32; QUAD],
        ) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "ldm r3, {{r8-r11}}",
                "ldr r12, [sp, #52]",
                "2:",
                "ldm r0!, {{r4-r7}}",
                "smmul r4, r4, r8",
                "smmul r5, r5, r9",
                "smmul r6, r6, r10",
                "smmul r7, r7, r11",
                "ldrd r3, lr, [sp, #36]",
                $a,
                "asrs r4, r3",
                "adc r4, r12",
                "ssat r4, #8, r4",
                $b,
                "asrs r5, lr",
                "adc r5, r12",
                "ssat r5, #8, r5",
                "ldrd r3, lr, [sp, #44]",
                $c,
                "asrs r6, r3",
                "adc r6, r12",
                "ssat r6, #8, r6",
                $d,
                "asrs r7, lr",
                "adc r7, r12",
                "ssat r7, #8, r7",
                "strb r4, [r1]",
                "strb r5, [r1, #1]",
                "strb r6, [r1, #2]",
                "strb r7, [r1, #3]",
                "ldr r3, [sp, #56]",
                "add r1, r2",
                "cmp r0, r3",
                "bne 2b",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

write_four!(write_four, "", "", "", "");
write_four!(add_four, "ldrsb r12, [r1]", "ldrsb r12, [r1, #1]", "ldrsb r12, [r1, #2]", "ldrsb r12, [r1, #3]");

/// Whether no product of a sum lies half way between two integers, and all of what is left has more than 32 bits behind
/// the point.
fn is_rounded_half_up(factor: Factor) -> bool {
    let (multiplier, shift) = (factor.multiplier, u32::from(factor.shift));
    // Half way is an odd multiple of 2^(shift − 1), and no sum has more than 31 zeros at its end.
    (33..=62).contains(&shift) && (multiplier == 0 || multiplier.trailing_zeros() + 32 < shift)
}
