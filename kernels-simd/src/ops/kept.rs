//! Products of sixteen factors with sixteen columns, whose weights, or their gradients, stay in registers.

use super::dense::OuterProducts;
use super::product::{Destination, Product};
use crate::arch::Simd;

/// Factors, and columns.
const SIZE: usize = 16;

/// Rows that are computed together.
const ROWS: usize = 8;

impl Product {
    /// Whether the weights fit the registers, and blocks of pixels what lies between gaps.
    pub(super) fn can_keep<S: Simd>(&self) -> bool {
        S::KEPT
            && (self.depth, self.columns, self.segments) == (SIZE, SIZE, 1)
            && (self.a_pixel, self.c_pixel) == (SIZE, SIZE)
            && self.gaps.is_none_or(|gaps| gaps.width.is_multiple_of(ROWS) && self.to == Destination::Caches)
    }

    /// Computes the first rows of `c`, as many as there are in whole blocks, and returns how many these are.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, [`can_keep`](Self::can_keep), and the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn keep_weights<S: Simd>(&self, rows: usize) -> usize {
        let &Self { a, accumulate, to, moments, .. } = self;
        let twice = self.gaps.is_none_or(|gaps| gaps.width.is_multiple_of(2 * ROWS));
        // SAFETY: the pointers cover the matrices, and no block has a gap in it.
        unsafe {
            let mut weights = [S::splat(0.0); SIZE];
            for (k, weights) in weights.iter_mut().enumerate() {
                *weights = S::load(self.b.add(k * SIZE));
            }
            let bias = if self.bias.is_null() { S::splat(0.0) } else { S::load(self.bias) };
            let mut targets = self.targets(0);
            let mut row = 0;
            if twice && !accumulate && to == Destination::Caches && moments.is_null() {
                while rows - row >= 2 * ROWS {
                    self.ahead.ask_in_place(row, 2 * ROWS);
                    let mut sums = [bias; 2 * ROWS];
                    S::add_kept_twice(&mut sums, &weights, a.add(row * SIZE));
                    let c = targets.next(2 * ROWS);
                    for (r, z) in sums.iter().enumerate() {
                        S::store(c.add(r * SIZE), *z);
                    }
                    row += 2 * ROWS;
                }
            }
            let (mut sum, mut squares) = (S::splat(0.0), S::splat(0.0));
            while rows - row >= ROWS {
                self.ahead.ask_in_place(row, ROWS);
                let (c, halves) = (targets.next(ROWS), self.c.cast::<u16>().wrapping_add(row * SIZE));
                let mut sums = [bias; ROWS];
                if accumulate {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = S::add(*sum, S::load(c.add(r * SIZE)));
                    }
                }
                S::add_kept(&mut sums, &weights, a.add(row * SIZE));
                for (r, z) in sums.iter().enumerate() {
                    match to {
                        Destination::Caches => S::store(c.add(r * SIZE), *z),
                        Destination::Memory => S::stream(c.add(r * SIZE), *z),
                        Destination::MemoryAsHalves => S::stream_f16(halves.add(r * SIZE), *z),
                    }
                }
                if !moments.is_null() {
                    for z in sums {
                        sum = S::add(sum, z);
                        squares = S::mul_add(z, z, squares);
                    }
                }
                row += ROWS;
            }
            if !moments.is_null() {
                for (moment, value) in [sum, squares].into_iter().enumerate() {
                    let target = moments.add(moment * SIZE);
                    S::store(target, S::add(S::load(target), value));
                }
            }
            row
        }
    }
}

impl OuterProducts {
    /// Whether the gradients fit the registers.
    pub(super) fn can_keep<S: Simd>(&self, depth: usize) -> bool {
        S::IN_TURN && (depth, self.columns, self.height) == (SIZE, SIZE, 1)
    }

    /// Adds the products of all pixels. Two factors of a pixel are one load, which multiplications that read their
    /// factors from memory wait for: 1×1, 16→16, 32×32 takes 1.97 µs in place of 2.12 (AMD EPYC, Zen 5, 2026-11-29).
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, [`can_keep`](Self::can_keep), and the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn keep_sums<S: Simd>(&self) {
        // SAFETY: the pointers cover the matrices.
        unsafe {
            // For two factors in turn, a register for each half of the columns.
            let mut sums = [[S::splat(0.0); 2]; SIZE / 2];
            for pixel in 0..self.width {
                let (x, dy) = (self.x.add(pixel * self.x_pixel), self.dy.add(pixel * self.dy_pixel));
                let half = dy.add(SIZE / 2);
                let gradients = [S::interleave(dy, dy), S::interleave(half, half)];
                for (k, sums) in sums.iter_mut().enumerate() {
                    let factors = S::load_in_turn(x.add(2 * k));
                    for (sum, gradients) in sums.iter_mut().zip(gradients) {
                        *sum = S::mul_add(factors, gradients, *sum);
                    }
                }
            }
            for (k, [low, high]) in sums.into_iter().enumerate() {
                let (low, high) = (S::separate(low), S::separate(high));
                let rows =
                    [S::join_halves(S::join_halves(low, low), high), S::join_halves(low, S::join_halves(high, high))];
                for (row, value) in rows.into_iter().enumerate() {
                    let dw = self.dw.add((2 * k + row) * SIZE);
                    S::store(dw, S::add(S::load(dw), value));
                }
            }
        }
    }
}
