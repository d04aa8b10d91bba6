//! The terms of a tile of a matrix product.

use super::lanes::MAX_LANES;
use super::strip::Strip;
use crate::arch::{Simd, Terms};

/// Elements that [`Simd::load_splats`] loads.
const FACTORS: usize = 4;

/// Whether a tile of `rows` rows, `whole` registers and `rest` of [`Simd::Rest`] is for [`Terms::add_groups`].
pub(super) const fn in_groups<S: Simd>(rows: usize, whole: usize, rest: usize) -> bool {
    S::GROUPS && rows == 8 && whole == 2 && rest == 1
}

/// All methods: the processor has the instruction set, the pointers cover the rows and the matrix `b`
/// `[depth, columns]`.
#[allow(clippy::missing_safety_doc)]
impl Terms {
    /// `sums += a · b`. In place: every array that is handed over is one more on the stack of an unoptimised program.
    #[inline(always)]
    pub(super) unsafe fn add<
        S: Simd,
        const R: usize,
        const V: usize,
        const U: usize,
        const PARTIAL: bool,
        const RELU: bool,
    >(
        self,
        sums: &mut [Strip<S, V, U>; R],
        lanes: usize,
    ) {
        let Self { a, a_pixel, depth, mut b, columns } = self;
        let mut k = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while const { S::BY_LANE } && k + FACTORS <= depth {
                let mut factors = [[S::splat(0.0); FACTORS]; R];
                for (r, factors) in factors.iter_mut().enumerate() {
                    *factors = S::load_splats::<RELU>(a.add(r * a_pixel + k));
                }
                for factor in 0..FACTORS {
                    let weights = Strip::load::<PARTIAL>(b, lanes);
                    for (sum, factors) in sums.iter_mut().zip(&factors) {
                        *sum = sum.add_scaled(factors[factor], &weights);
                    }
                    b = b.add(columns);
                }
                k += FACTORS;
            }
            for k in k..depth {
                let weights = Strip::load::<PARTIAL>(b, lanes);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let mut x = Strip::<S, V, U>::factor(a.add(r * a_pixel + k));
                    if RELU {
                        x = S::relu(x);
                    }
                    *sum = sum.add_scaled(x, &weights);
                }
                b = b.add(columns);
            }
        }
    }

    /// `sums += a · b` for the terms in whole groups, in a tile that is [`in_groups`]; returns the terms that are left.
    /// With `TRANSPOSED` neighbouring factors are those of neighbouring rows.
    #[inline(always)]
    pub(super) unsafe fn add_groups<
        S: Simd,
        const R: usize,
        const V: usize,
        const U: usize,
        const RELU: bool,
        const TRANSPOSED: bool,
    >(
        self,
        sums: &mut [Strip<S, V, U>; R],
        lanes: usize,
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut whole, mut rest) = ([[S::splat(0.0); 2]; 8], [S::Rest::splat(0.0); 8]);
            for (r, sum) in sums.iter().enumerate() {
                whole[r] = [sum.whole[0], sum.whole[1]];
                rest[r] = sum.rest[0];
            }
            let width = if lanes <= 4 { 4 } else { 8 };
            match (width, TRANSPOSED) {
                (4, false) => S::add_groups::<4, RELU>(&mut whole, &mut rest, lanes, self),
                (_, false) => S::add_groups::<8, RELU>(&mut whole, &mut rest, lanes, self),
                (4, true) => S::add_groups_transposed::<4>(&mut whole, &mut rest, lanes, self),
                (_, true) => S::add_groups_transposed::<8>(&mut whole, &mut rest, lanes, self),
            }
            for (r, sum) in sums.iter_mut().enumerate() {
                (sum.whole[0], sum.whole[1]) = (whole[r][0], whole[r][1]);
                sum.rest[0] = rest[r];
            }
            let left = self.depth % (MAX_LANES / width);
            let done = self.depth - left;
            let a = self.a.add(if TRANSPOSED { done * self.a_pixel } else { done });
            Self { a, depth: left, b: self.b.add(done * self.columns), ..self }
        }
    }
}
