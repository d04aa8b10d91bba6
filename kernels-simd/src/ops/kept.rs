//! Products whose weights stay in registers.

use super::product::Product;
use crate::arch::Simd;

/// Factors, and columns.
const SIZE: usize = 16;

/// Rows that are computed together.
const ROWS: usize = 8;

impl Product {
    /// Whether the weights fit the registers.
    pub(super) fn can_keep<S: Simd>(&self) -> bool {
        S::KEPT && (self.depth, self.columns, self.segments) == (SIZE, SIZE, 1) && self.gaps.is_none()
    }

    /// Computes the first rows of `c`, as many as there are in whole blocks, and returns how many these are.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, [`can_keep`](Self::can_keep), and the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn keep_weights<S: Simd>(&self, rows: usize) -> usize {
        let blocks = rows / ROWS;
        // SAFETY: the pointers cover the matrices.
        unsafe {
            let mut weights = [S::splat(0.0); SIZE];
            for (k, weights) in weights.iter_mut().enumerate() {
                *weights = S::load(self.b.add(k * SIZE));
            }
            let bias = if self.bias.is_null() { S::splat(0.0) } else { S::load(self.bias) };
            let (mut sum, mut squares) = (S::splat(0.0), S::splat(0.0));
            for block in 0..blocks {
                let a = self.a.add(block * ROWS * self.a_pixel);
                let c = self.c.add(block * ROWS * self.c_pixel);
                let mut sums = [bias; ROWS];
                if self.accumulate {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = S::add(*sum, S::load(c.add(r * self.c_pixel)));
                    }
                }
                S::add_kept(&mut sums, &weights, a, self.a_pixel);
                for (r, z) in sums.iter().enumerate() {
                    let c = c.add(r * self.c_pixel);
                    if self.stream { S::stream(c, *z) } else { S::store(c, *z) }
                }
                if !self.moments.is_null() {
                    for z in sums {
                        sum = S::add(sum, z);
                        squares = S::mul_add(z, z, squares);
                    }
                }
            }
            if !self.moments.is_null() {
                for (moment, value) in [sum, squares].into_iter().enumerate() {
                    let target = self.moments.add(moment * SIZE);
                    S::store(target, S::add(S::load(target), value));
                }
            }
        }
        blocks * ROWS
    }
}
