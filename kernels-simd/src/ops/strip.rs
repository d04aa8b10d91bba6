//! A few neighbouring registers, the unit of the columns of a tile.

use super::lanes::{load, store};
use crate::arch::Simd;

/// `V` registers of `S` and behind them `U` of [`Simd::Rest`]. In memory the last of all may be cut off: with `PARTIAL`
/// it has `lanes` lanes.
#[derive(Clone, Copy)]
pub(super) struct Strip<S: Simd, const V: usize, const U: usize> {
    pub whole: [S::Vector; V],
    pub rest: [<S::Rest as Simd>::Vector; U],
}

/// All methods: the processor has the instruction set, and pointers cover the strip's elements.
#[allow(clippy::missing_safety_doc)]
impl<S: Simd, const V: usize, const U: usize> Strip<S, V, U> {
    #[inline(always)]
    pub unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { whole: [S::splat(0.0); V], rest: [S::Rest::splat(0.0); U] } }
    }

    #[inline(always)]
    pub unsafe fn load<const PARTIAL: bool>(source: *const f32, lanes: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let mut strip = Self::zero();
            for (v, whole) in strip.whole.iter_mut().enumerate() {
                let source = source.add(v * S::LANES);
                *whole = if PARTIAL && U == 0 && v + 1 == V { load::<S, true>(source, lanes) } else { S::load(source) };
            }
            for (u, rest) in strip.rest.iter_mut().enumerate() {
                let source = source.add(V * S::LANES + u * S::Rest::LANES);
                *rest = if u + 1 == U { load::<S::Rest, PARTIAL>(source, lanes) } else { S::Rest::load(source) };
            }
            strip
        }
    }

    #[inline(always)]
    pub unsafe fn store<const PARTIAL: bool>(&self, target: *mut f32, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            for (v, &whole) in self.whole.iter().enumerate() {
                let target = target.add(v * S::LANES);
                if PARTIAL && U == 0 && v + 1 == V {
                    store::<S, true>(target, whole, lanes);
                } else {
                    S::store(target, whole);
                }
            }
            for (u, &rest) in self.rest.iter().enumerate() {
                let target = target.add(V * S::LANES + u * S::Rest::LANES);
                if u + 1 == U {
                    store::<S::Rest, PARTIAL>(target, rest, lanes);
                } else {
                    S::Rest::store(target, rest);
                }
            }
        }
    }

    /// Stores past the caches; `target` lies on a boundary of a register. What is cut off is stored as ever.
    #[inline(always)]
    pub unsafe fn stream<const PARTIAL: bool>(&self, target: *mut f32, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if PARTIAL {
                return self.store::<PARTIAL>(target, lanes);
            }
            for (v, &whole) in self.whole.iter().enumerate() {
                S::stream(target.add(v * S::LANES), whole);
            }
            for (u, &rest) in self.rest.iter().enumerate() {
                S::Rest::stream(target.add(V * S::LANES + u * S::Rest::LANES), rest);
            }
        }
    }

    /// The registers of `S` past the caches in half precision; `target` lies on a boundary of half a register.
    #[inline(always)]
    pub unsafe fn stream_halves(&self, target: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { self.whole.iter().enumerate().for_each(|(v, &whole)| S::stream_f16(target.add(v * S::LANES), whole)) }
    }

    /// `self + other`.
    #[inline(always)]
    pub unsafe fn add(mut self, other: &Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            for (a, &b) in self.whole.iter_mut().zip(&other.whole) {
                *a = S::add(*a, b);
            }
            for (a, &b) in self.rest.iter_mut().zip(&other.rest) {
                *a = S::Rest::add(*a, b);
            }
            self
        }
    }

    /// The factor at `source` for [`add_scaled`](Self::add_scaled).
    #[inline(always)]
    pub unsafe fn factor(source: *const f32) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { if const { V + U > 1 } { S::load_splat(source) } else { S::splat(*source) } }
    }

    /// `self + factor · other`, `factor` being the same in all lanes.
    #[inline(always)]
    pub unsafe fn add_scaled(mut self, factor: S::Vector, other: &Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            for (a, &b) in self.whole.iter_mut().zip(&other.whole) {
                *a = S::mul_add(factor, b, *a);
            }
            for (a, &b) in self.rest.iter_mut().zip(&other.rest) {
                *a = S::Rest::mul_add(S::rest(factor), b, *a);
            }
            self
        }
    }

    /// `self + other²`.
    #[inline(always)]
    pub unsafe fn add_square(mut self, other: &Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            for (a, &b) in self.whole.iter_mut().zip(&other.whole) {
                *a = S::mul_add(b, b, *a);
            }
            for (a, &b) in self.rest.iter_mut().zip(&other.rest) {
                *a = S::Rest::mul_add(b, b, *a);
            }
            self
        }
    }
}
