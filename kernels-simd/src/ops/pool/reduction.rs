//! How the pixels of a window become one value, and how its gradient goes back to them.

use crate::arch::Simd;

/// What a pool computes from each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value; its gradient goes to the first maximum in row-major order.
    Maximum,
    /// The mean over the pixels that lie inside the image.
    Average,
}

/// `with_reduction!(pooling, K, …)` evaluates the expression with the type `K` that implements `pooling`.
macro_rules! with_reduction {
    ($pooling:expr, $reduction:ident, $body:expr) => {
        match $pooling {
            $crate::ops::pool::Pooling::Maximum => {
                type $reduction = $crate::ops::pool::reduction::Maximum;
                $body
            }
            $crate::ops::pool::Pooling::Average => {
                type $reduction = $crate::ops::pool::reduction::Average;
                $body
            }
        }
    };
}
pub(super) use with_reduction;

/// A reduction that is made in any order: `scale(combine(combine(a, b), …), share)`, with the share `1 / pixels`.
///
/// # Safety
///
/// All methods: the processor has the instruction set.
pub(in crate::ops) trait Reduction {
    /// What stands outside the image, where it changes nothing.
    const IDENTITY: f32;
    /// Whether the gradient depends on the values.
    const SELECTS: bool;
    unsafe fn combine<S: Simd>(a: S::Vector, b: S::Vector) -> S::Vector;
    /// A value from what was combined, or what reaches each pixel of a gradient.
    unsafe fn scale<S: Simd>(value: S::Vector, share: S::Vector) -> S::Vector;
    /// `before` plus what one of the operands of `combined` gets of a gradient. `open` says in which lanes the operands
    /// before it have left it any.
    unsafe fn take<S: Simd>(
        open: &mut S::Mask,
        operand: S::Vector,
        combined: S::Vector,
        gradient: S::Vector,
        before: S::Vector,
    ) -> S::Vector;
}

/// `N` pools of the same windows, one or both.
///
/// # Safety
///
/// All methods: the processor has the instruction set.
pub(in crate::ops) trait Pools<const N: usize> {
    /// What stands outside the image for each of them.
    const OUTSIDE: [f32; N];
    unsafe fn combine<S: Simd>(a: [S::Vector; N], b: [S::Vector; N]) -> [S::Vector; N];
    unsafe fn scale<S: Simd>(values: [S::Vector; N], share: S::Vector) -> [S::Vector; N];
}

impl<K: Reduction> Pools<1> for K {
    const OUTSIDE: [f32; 1] = [K::IDENTITY];

    #[inline(always)]
    unsafe fn combine<S: Simd>([a]: [S::Vector; 1], [b]: [S::Vector; 1]) -> [S::Vector; 1] {
        // SAFETY: promised by the caller.
        unsafe { [<K as Reduction>::combine::<S>(a, b)] }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>([value]: [S::Vector; 1], share: S::Vector) -> [S::Vector; 1] {
        // SAFETY: promised by the caller.
        unsafe { [<K as Reduction>::scale::<S>(value, share)] }
    }
}

/// Maximum and average.
pub(super) struct Both;

impl Pools<2> for Both {
    const OUTSIDE: [f32; 2] = [Maximum::IDENTITY, Average::IDENTITY];

    #[inline(always)]
    unsafe fn combine<S: Simd>(a: [S::Vector; 2], b: [S::Vector; 2]) -> [S::Vector; 2] {
        // SAFETY: promised by the caller.
        unsafe { [S::max(a[0], b[0]), S::add(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>([maximum, total]: [S::Vector; 2], share: S::Vector) -> [S::Vector; 2] {
        // SAFETY: promised by the caller.
        unsafe { [maximum, S::mul(total, share)] }
    }
}

pub(super) struct Maximum;

impl Reduction for Maximum {
    const IDENTITY: f32 = f32::NEG_INFINITY;
    const SELECTS: bool = true;

    #[inline(always)]
    unsafe fn combine<S: Simd>(a: S::Vector, b: S::Vector) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { S::max(a, b) }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(value: S::Vector, _share: S::Vector) -> S::Vector {
        value
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(
        open: &mut S::Mask,
        operand: S::Vector,
        combined: S::Vector,
        gradient: S::Vector,
        before: S::Vector,
    ) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe {
            let taken = S::mask_and(S::equal(operand, combined), *open);
            *open = S::mask_and_not(*open, taken);
            S::select(taken, S::add(before, gradient), before)
        }
    }
}

pub(super) struct Average;

impl Reduction for Average {
    const IDENTITY: f32 = 0.0;
    const SELECTS: bool = false;

    #[inline(always)]
    unsafe fn combine<S: Simd>(a: S::Vector, b: S::Vector) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(value: S::Vector, share: S::Vector) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { S::mul(value, share) }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(
        _open: &mut S::Mask,
        _operand: S::Vector,
        _combined: S::Vector,
        gradient: S::Vector,
        before: S::Vector,
    ) -> S::Vector {
        // SAFETY: promised by the caller.
        unsafe { S::add(before, gradient) }
    }
}
