//! The vocabulary of vector operations ([`Simd`]) and its implementations, one file per instruction set.
//!
//! A body in `ops/` is written once over this trait; `#[target_feature]` stands on the one instantiation per
//! instruction set, and everything inside is `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod groups;
#[cfg(target_arch = "x86_64")]
mod kept;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;

/// The terms of [`Simd::add_groups`]: the product of rows of `depth` factors, `a_pixel` elements apart, with a matrix
/// of rows that are `columns` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub a: *const f32,
    pub a_pixel: usize,
    pub depth: usize,
    pub b: *const f32,
    pub columns: usize,
}

/// Lanes of the widest instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// Operations on one register of `f32` lanes. Methods are `unsafe` because they may use instructions that the processor
/// must have, and because loads and stores take raw pointers.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Simd: Copy {
    /// A register.
    type Vector: Copy;
    /// The result of a comparison, one truth value per lane.
    type Mask: Copy;
    /// Lanes per register.
    const LANES: usize;
    /// What computes the last, fewer than `LANES` elements of a row where it has shorter registers; else `Self`.
    type Rest: Simd;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(source: *const f32) -> Self::Vector;
    /// One element from memory in all lanes. It is an instruction of its own even where multiplications could read the
    /// element themselves, each of them again.
    #[inline(always)]
    unsafe fn load_splat(source: *const f32) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(*source) }
    }
    /// Whether a multiplication can take one lane of a register for all lanes of a factor, so that
    /// [`load_splats`](Self::load_splats) is worth more than as many times [`load_splat`](Self::load_splat).
    const BY_LANE: bool = false;
    /// Each of four elements from memory in all lanes of a register, with `RELU` after [`relu`](Self::relu).
    #[inline(always)]
    unsafe fn load_splats<const RELU: bool>(source: *const f32) -> [Self::Vector; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut splats = [Self::splat(0.0); 4];
            for (index, splat) in splats.iter_mut().enumerate() {
                *splat = Self::splat(*source.add(index));
                if RELU {
                    *splat = Self::relu(*splat);
                }
            }
            splats
        }
    }
    /// The first lanes, as many as a register of [`Rest`](Self::Rest) has.
    unsafe fn rest(value: Self::Vector) -> <Self::Rest as Simd>::Vector;
    /// Whether there are [`add_groups`](Self::add_groups) and [`add_groups_transposed`](Self::add_groups_transposed).
    const GROUPS: bool = false;
    /// Adds products to eight rows of two registers and `lanes` (`0 < lanes <= W`, `W` being 4 or 8) columns behind
    /// these, for as many factors as there are in whole groups of `LANES / W`: the columns behind are computed for a
    /// group at a time.
    #[inline(always)]
    unsafe fn add_groups<const W: usize, const RELU: bool>(
        _whole: &mut [[Self::Vector; 2]; 8],
        _rest: &mut [<Self::Rest as Simd>::Vector; 8],
        _lanes: usize,
        _terms: Terms,
    ) {
    }
    /// The same, of a transposed matrix: the factors of neighbouring rows are neighbours, and those of one row
    /// `a_pixel` elements apart.
    #[inline(always)]
    unsafe fn add_groups_transposed<const W: usize>(
        _whole: &mut [[Self::Vector; 2]; 8],
        _rest: &mut [<Self::Rest as Simd>::Vector; 8],
        _lanes: usize,
        _terms: Terms,
    ) {
    }
    /// Whether there is [`load_twice`](Self::load_twice).
    const TWICE: bool = false;
    /// As many elements as a register of [`Rest`](Self::Rest) has, which is half a register, in both halves.
    #[inline(always)]
    unsafe fn load_twice(source: *const f32) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::load(source) }
    }
    /// The upper half of `a`, then the lower half of `b`; only where there is [`load_twice`](Self::load_twice).
    #[inline(always)]
    unsafe fn join_halves(a: Self::Vector, _b: Self::Vector) -> Self::Vector {
        a
    }
    /// The sum of both halves; only where there is [`load_twice`](Self::load_twice).
    #[inline(always)]
    unsafe fn add_halves(value: Self::Vector) -> <Self::Rest as Simd>::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::Rest::add(Self::rest(value), Self::rest(Self::join_halves(value, value))) }
    }
    /// Whether there are [`load_in_turn`](Self::load_in_turn), [`interleave`](Self::interleave),
    /// [`separate`](Self::separate) and [`add_neighbours`](Self::add_neighbours).
    const IN_TURN: bool = false;
    /// Two elements, the first in all even lanes and the second in all odd ones.
    #[inline(always)]
    unsafe fn load_in_turn(source: *const f32) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(*source) }
    }
    /// Half as many elements as there are lanes of each source, the first one's in the even lanes and the second one's
    /// in the odd ones.
    #[inline(always)]
    unsafe fn interleave(even: *const f32, _odd: *const f32) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(*even) }
    }
    /// The even lanes, then the odd ones.
    #[inline(always)]
    unsafe fn separate(value: Self::Vector) -> Self::Vector {
        value
    }
    /// Each even lane and the one behind it added up: those of `a` in the lower half, those of `b` in the upper one.
    #[inline(always)]
    unsafe fn add_neighbours(a: Self::Vector, _b: Self::Vector) -> Self::Vector {
        a
    }
    /// Whether there is [`add_kept`](Self::add_kept).
    const KEPT: bool = false;
    /// Adds to `sums` the products of eight rows of as many factors as there are `weights`; the rows lie one behind the
    /// other.
    #[inline(always)]
    unsafe fn add_kept(_sums: &mut [Self::Vector; 8], _weights: &[Self::Vector; 16], _a: *const f32) {}
    /// The same for sixteen rows.
    #[inline(always)]
    unsafe fn add_kept_twice(_sums: &mut [Self::Vector; 16], _weights: &[Self::Vector; 16], _a: *const f32) {}
    unsafe fn store(target: *mut f32, value: Self::Vector);
    /// Whether [`stream`](Self::stream) and [`stream_f16`](Self::stream_f16) are more than stores.
    const STREAMS: bool = false;
    /// Stores past the caches where the processor can; `target` lies on a boundary of a register.
    #[inline(always)]
    unsafe fn stream(target: *mut f32, value: Self::Vector) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(target, value) }
    }
    /// Loads the first `count` lanes (`0 < count < LANES`), zeros the rest and touches no memory behind them.
    unsafe fn load_partial(source: *const f32, count: usize) -> Self::Vector;
    /// Stores the first `count` lanes (`0 < count < LANES`) and touches no memory behind them.
    unsafe fn store_partial(target: *mut f32, value: Self::Vector, count: usize);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, fused where the instruction set has it.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of the two; `b` where either is NaN.
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `max(x, 0)`, NaN where `x` is (with one lane, where it is a positive one).
    #[inline(always)]
    unsafe fn relu(x: Self::Vector) -> Self::Vector {
        // SAFETY: the caller's promise.
        unsafe { Self::max(Self::splat(0.0), x) }
    }
    unsafe fn greater(a: Self::Vector, b: Self::Vector) -> Self::Mask;
    unsafe fn equal(a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// `a` where the mask is true, else `b`.
    unsafe fn select(mask: Self::Mask, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mask_all() -> Self::Mask;
    unsafe fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a & !b`.
    unsafe fn mask_and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Sum of all lanes, in an order fixed for the instruction set.
    unsafe fn reduce_add(value: Self::Vector) -> f32;
    /// Loads `LANES` numbers in IEEE half precision.
    unsafe fn load_f16(source: *const u16) -> Self::Vector;
    /// Loads the first `count` of them (`0 < count < LANES`), zeros the rest and touches no memory behind them.
    #[inline(always)]
    unsafe fn load_f16_partial(source: *const u16, count: usize) -> Self::Vector {
        let mut halves = [0; MAX_LANES];
        // SAFETY: the caller's promise; no register has more lanes.
        unsafe {
            halves.as_mut_ptr().copy_from_nonoverlapping(source, count);
            Self::load_f16(halves.as_ptr())
        }
    }
    /// Stores `LANES` numbers in IEEE half precision, rounded to nearest even.
    unsafe fn store_f16(target: *mut u16, value: Self::Vector);
    /// The same past the caches where the processor can; `target` lies on a boundary of half a register.
    #[inline(always)]
    unsafe fn stream_f16(target: *mut u16, value: Self::Vector) {
        // SAFETY: the caller's promise.
        unsafe { Self::store_f16(target, value) }
    }
}
