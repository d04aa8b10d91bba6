//! ReLU, scalings and reductions of vectors.

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::lengths::require;
use crate::ops::lanes::{load, store, with_lanes};
use crate::ops::prelude::Prelude;
use crate::shape::{ImageShape, Padding};

impl Kernels {
    /// `y = max(x, 0)`; `y` is overwritten.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn relu(self, x: &[f32], y: &mut [f32]) {
        self.prelude(x, ImageShape::new(1, 1, x.len()), Padding::NONE, Prelude::Relu, y);
    }

    /// Gradient of [`relu`](Self::relu): `dx (+)= dy·[x > 0]`; `dx` is overwritten unless `accumulate`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn relu_backward(self, x: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
        self.prelude_backward(x, ImageShape::new(1, 1, x.len()), Padding::NONE, Prelude::Relu, dy, dx, accumulate);
    }

    /// `y += a·x`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn axpy(self, a: f32, x: &[f32], y: &mut [f32]) {
        require!(x.len() == y.len(), "axpy: x of {} and y of {} elements", x.len(), y.len());
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, axpy(a: f32, x: &[f32], y: &mut [f32])) }
    }

    /// `y += Σ xs`, in the order of `xs`: the bits of one [`axpy`](Self::axpy) with `a = 1` after the other.
    ///
    /// # Panics
    ///
    /// When a length differs.
    pub fn add_all(self, xs: &[&[f32]], y: &mut [f32]) {
        assert!(xs.iter().all(|x| x.len() == y.len()), "add_all: lengths of xs and y");
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, add_all(xs: &[&[f32]], y: &mut [f32])) }
    }

    /// `y = a·x`; `y` is overwritten.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn scale(self, a: f32, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "scale: lengths of x and y");
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, scale(a: f32, x: &[f32], y: &mut [f32])) }
    }

    /// `y = a·x + b·y`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn scale_add(self, a: f32, x: &[f32], b: f32, y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "scale_add: lengths of x and y");
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, scale_add(a: f32, x: &[f32], b: f32, y: &mut [f32])) }
    }

    /// `Σ x·y`, added up in an order that is fixed for the instruction set: short blocks in `f32`, their sums in `f64`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn dot(self, x: &[f32], y: &[f32]) -> f64 {
        assert_eq!(x.len(), y.len(), "dot: lengths of x and y");
        // SAFETY: the lengths are equal.
        unsafe { dispatch!(self, dot(x: &[f32], y: &[f32]) -> f64) }
    }

    /// `Σ x²`, added up as in [`dot`](Self::dot).
    pub fn sum_of_squares(self, x: &[f32]) -> f64 {
        self.dot(x, x)
    }
}

#[inline(always)]
unsafe fn axpy<S: Simd>(a: f32, x: &[f32], y: &mut [f32]) {
    for i in (0..x.len()).step_by(S::LANES) {
        with_lanes!(S, x.len() - i, PARTIAL, count, {
            // SAFETY: both slices have the same length, and i + count is not above it.
            unsafe {
                let before = load::<S, PARTIAL>(y.as_ptr().add(i), count);
                let value = S::mul_add(S::splat(a), load::<S, PARTIAL>(x.as_ptr().add(i), count), before);
                store::<S, PARTIAL>(y.as_mut_ptr().add(i), value, count);
            }
        });
    }
}

#[inline(always)]
unsafe fn add_all<S: Simd>(xs: &[&[f32]], y: &mut [f32]) {
    for i in (0..y.len()).step_by(S::LANES) {
        with_lanes!(S, y.len() - i, PARTIAL, count, {
            // SAFETY: all slices have the same length, and i + count is not above it.
            unsafe {
                let mut sum = load::<S, PARTIAL>(y.as_ptr().add(i), count);
                for x in xs {
                    sum = S::add(sum, load::<S, PARTIAL>(x.as_ptr().add(i), count));
                }
                store::<S, PARTIAL>(y.as_mut_ptr().add(i), sum, count);
            }
        });
    }
}

#[inline(always)]
unsafe fn scale<S: Simd>(a: f32, x: &[f32], y: &mut [f32]) {
    for i in (0..x.len()).step_by(S::LANES) {
        with_lanes!(S, x.len() - i, PARTIAL, count, {
            // SAFETY: both slices have the same length, and i + count is not above it.
            unsafe {
                let value = S::mul(S::splat(a), load::<S, PARTIAL>(x.as_ptr().add(i), count));
                store::<S, PARTIAL>(y.as_mut_ptr().add(i), value, count);
            }
        });
    }
}

#[inline(always)]
unsafe fn scale_add<S: Simd>(a: f32, x: &[f32], b: f32, y: &mut [f32]) {
    for i in (0..x.len()).step_by(S::LANES) {
        with_lanes!(S, x.len() - i, PARTIAL, count, {
            // SAFETY: both slices have the same length, and i + count is not above it.
            unsafe {
                let before = S::mul(S::splat(b), load::<S, PARTIAL>(y.as_ptr().add(i), count));
                let value = S::mul_add(S::splat(a), load::<S, PARTIAL>(x.as_ptr().add(i), count), before);
                store::<S, PARTIAL>(y.as_mut_ptr().add(i), value, count);
            }
        });
    }
}

/// Sums kept side by side in [`dot`], so that additions do not wait for each other.
const CHAINS: usize = 4;
/// Registers of each chain that are added up in `f32`.
const BLOCK: usize = 16;

#[inline(always)]
unsafe fn dot<S: Simd>(x: &[f32], y: &[f32]) -> f64 {
    let mut total = 0.0;
    let block = BLOCK * CHAINS * S::LANES;
    for (x, y) in x.chunks(block).zip(y.chunks(block)) {
        // SAFETY: both chunks have the same length, and i + count is not above it.
        let sums = unsafe {
            let mut sums = [S::splat(0.0); CHAINS];
            let whole = x.len() - x.len() % (CHAINS * S::LANES);
            for i in (0..whole).step_by(CHAINS * S::LANES) {
                for (chain, sum) in sums.iter_mut().enumerate() {
                    let at = i + chain * S::LANES;
                    *sum = S::mul_add(S::load(x.as_ptr().add(at)), S::load(y.as_ptr().add(at)), *sum);
                }
            }
            for i in (whole..x.len()).step_by(S::LANES) {
                with_lanes!(S, x.len() - i, PARTIAL, count, {
                    let (x, y) =
                        (load::<S, PARTIAL>(x.as_ptr().add(i), count), load::<S, PARTIAL>(y.as_ptr().add(i), count));
                    sums[0] = S::mul_add(x, y, sums[0]);
                });
            }
            S::reduce_add(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])))
        };
        total += f64::from(sums);
    }
    total
}
