//! Whole registers and their first lanes, with one text for both.

pub(super) use crate::arch::MAX_LANES;
use crate::arch::Simd;

/// `with_lanes!(S, rest, PARTIAL, count, { … })` runs the block for the next `count` of `rest` channels (`rest > 0`):
/// for a whole register with the constant `PARTIAL` false, or for what is left with `PARTIAL` true.
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

/// `for_registers!(S, range, body::<constants>(arguments))` calls `body::<S, constants, PARTIAL>(element, lanes,
/// arguments)` for every register of a range of elements. What is left at the end goes to [`Simd::Rest`]: element by
/// element where that has one lane, else as one register if it fits there, else as the first lanes of one of `S`.
macro_rules! for_registers {
    ($simd:ident, $range:expr, $body:ident$(::<$($constant:tt),*>)?($($argument:expr),*)) => {{
        let core::ops::Range { start: mut element, end } = $range;
        while end - element >= $simd::LANES {
            $body::<$simd, $($($constant,)*)? false>(element, $simd::LANES, $($argument),*);
            element += $simd::LANES;
        }
        let left = end - element;
        if const { $simd::Rest::LANES == 1 } {
            while element < end {
                $body::<$simd::Rest, $($($constant,)*)? false>(element, 1, $($argument),*);
                element += 1;
            }
        } else if const { $simd::Rest::LANES < $simd::LANES } && left == $simd::Rest::LANES {
            $body::<$simd::Rest, $($($constant,)*)? false>(element, left, $($argument),*);
        } else if const { $simd::Rest::LANES < $simd::LANES } && 0 < left && left < $simd::Rest::LANES {
            $body::<$simd::Rest, $($($constant,)*)? true>(element, left, $($argument),*);
        } else if left > 0 {
            $body::<$simd, $($($constant,)*)? true>(element, left, $($argument),*);
        }
    }};
}
pub(super) use for_registers;

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

/// What there is for each channel: with `TWICE` as many as half a register has, in both halves of it, else as [`load`].
///
/// # Safety
///
/// As for [`Simd::load_twice`] and [`load`].
#[inline(always)]
pub(super) unsafe fn load_channels<S: Simd, const TWICE: bool, const PARTIAL: bool>(
    source: *const f32,
    count: usize,
) -> S::Vector {
    // SAFETY: the caller's promise.
    unsafe { if TWICE { S::load_twice(source) } else { load::<S, PARTIAL>(source, count) } }
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

/// Adds to what there is for each channel; with `TWICE` both halves of the register.
///
/// # Safety
///
/// As for [`load_channels`] and [`store`].
#[inline(always)]
pub(super) unsafe fn add_channels<S: Simd, const TWICE: bool, const PARTIAL: bool>(
    value: S::Vector,
    target: *mut f32,
    count: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TWICE {
            S::Rest::store(target, S::Rest::add(S::Rest::load(target), S::add_halves(value)));
        } else {
            store::<S, PARTIAL>(target, S::add(load::<S, PARTIAL>(target, count), value), count);
        }
    }
}

/// The pointer, of which the compiler no longer knows where it comes from. Addresses at distances from it that stay the
/// same in a loop are then computed from it and the distances; otherwise the compiler may keep a pointer of its own for
/// each of them, in memory if there are many, and move all on in every turn.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // What it points to is not touched.
pub(super) fn opaque(pointer: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let pointer = {
        let same;
        // SAFETY: nothing is executed.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) pointer => same, options(pure, nomem, nostack, preserves_flags));
        }
        same
    };
    pointer
}
