//! Products of eight channels with eight in registers of sixteen lanes.
//!
//! Two factors of a pixel, which are one load, are multiplied with both their rows of weights at once. With a register
//! of half the width, half of every multiplication would be left out, and with two pixels in a register each factor
//! needs a permutation to get to its lanes: a forward stage (3×3, 28×28) takes 1.86 µs in place of 2.1, both gradients
//! 5.2 in place of 5.5 (AMD EPYC, Zen 5, 2026-11-29).

use super::dense::OuterProducts;
use super::product::{Destination, Product};
use crate::arch::Simd;
use crate::ops::lanes::add_channels;

/// Factors, and columns.
const SIZE: usize = 8;

/// Registers that are computed together, of two pixels each.
const REGISTERS: usize = 4;

impl Product {
    /// Whether it is one of these.
    pub(super) fn can_halve<S: Simd>(&self) -> bool {
        S::IN_TURN
            && self.columns == SIZE
            && self.depth == SIZE
            && self.a_pixel == SIZE
            && self.c_pixel == SIZE
            && self.segments == 1
            && self.gaps.is_none_or(|gaps| gaps.width.is_multiple_of(2))
    }

    /// Computes the first rows of `c`, as many as there are in pairs, and returns how many these are.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, [`can_halve`](Self::can_halve), and the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn halve<S: Simd>(&self, rows: usize) -> usize {
        let pairs = rows / 2;
        // SAFETY: the pointers cover the matrices.
        unsafe {
            let mut weights = [S::splat(0.0); SIZE / 2];
            for (k, weights) in weights.iter_mut().enumerate() {
                let row = self.b.add(2 * k * SIZE);
                *weights = S::interleave(row, row.add(SIZE));
            }
            let mut moments = [S::splat(0.0); 2];
            let mut pair = 0;
            while pair + REGISTERS <= pairs {
                self.block::<S, REGISTERS>(pair, &weights, &mut moments);
                pair += REGISTERS;
            }
            while pair < pairs {
                self.block::<S, 1>(pair, &weights, &mut moments);
                pair += 1;
            }
            if !self.moments.is_null() {
                for (index, moment) in moments.into_iter().enumerate() {
                    add_channels::<S, true, false>(moment, self.moments.add(index * SIZE), SIZE);
                }
            }
        }
        2 * pairs
    }

    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize>(
        &self,
        pair: usize,
        weights: &[S::Vector; SIZE / 2],
        [sum, squares]: &mut [S::Vector; 2],
    ) {
        let at = pair * 2 * SIZE;
        self.ahead.ask_in_place(2 * pair, 2 * N);
        // SAFETY: promised by the caller.
        unsafe {
            let bias = if self.bias.is_null() { S::splat(0.0) } else { S::load_twice(self.bias) };
            let mut sums = [bias; N];
            for (index, sum) in sums.iter_mut().enumerate() {
                let at = at + index * S::LANES;
                let mut parts = [S::splat(0.0); 2];
                for (k, &weights) in weights.iter().enumerate() {
                    for (pixel, part) in parts.iter_mut().enumerate() {
                        let factors = S::load_in_turn(self.a.add(at + pixel * SIZE + 2 * k));
                        *part = S::mul_add(factors, weights, *part);
                    }
                }
                if self.accumulate {
                    *sum = S::add(*sum, S::load(self.c.add(at)));
                }
                *sum = S::add(*sum, S::add_neighbours(parts[0], parts[1]));
            }
            let c = self.c.wrapping_add(at);
            if self.to == Destination::MemoryAsHalves {
                let halves = self.c.cast::<u16>().add(at);
                for (index, &z) in sums.iter().enumerate() {
                    S::stream_f16(halves.add(index * S::LANES), z);
                }
            } else if self.gaps.is_some() {
                let mut targets = self.targets(2 * pair);
                for &z in &sums {
                    S::store(targets.next(2), z);
                }
            } else if self.to == Destination::Memory && c.addr().is_multiple_of(S::LANES * size_of::<f32>()) {
                for (index, &z) in sums.iter().enumerate() {
                    S::stream(c.add(index * S::LANES), z);
                }
            } else {
                for (index, &z) in sums.iter().enumerate() {
                    S::store(c.add(index * S::LANES), z);
                }
            }
            if !self.moments.is_null() {
                for z in sums {
                    *sum = S::add(*sum, z);
                    *squares = S::mul_add(z, z, *squares);
                }
            }
        }
    }
}

impl OuterProducts {
    /// Whether it is one of these.
    pub(super) fn can_halve<S: Simd>(&self, depth: usize) -> bool {
        S::IN_TURN
            && depth == SIZE
            && self.columns == SIZE
            && self.x_pixel == SIZE
            && self.dy_pixel == SIZE
            && self.height == 1
    }

    /// Adds the products of the first pixels, as many as there are in pairs, and returns how many these are.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, [`can_halve`](Self::can_halve), and the processor has the instruction set.
    #[inline(always)]
    pub(super) unsafe fn halve<S: Simd>(&self) -> usize {
        let pairs = self.width / 2;
        // SAFETY: the pointers cover the matrices.
        unsafe {
            let mut sums = [[S::splat(0.0); 2]; SIZE / 2];
            for pair in 0..pairs {
                for pixel in 0..2 {
                    let at = (2 * pair + pixel) * SIZE;
                    let dy = self.dy.add(at);
                    let gradients = S::interleave(dy, dy);
                    for (k, sums) in sums.iter_mut().enumerate() {
                        let factors = S::load_in_turn(self.x.add(at + 2 * k));
                        sums[pixel] = S::mul_add(factors, gradients, sums[pixel]);
                    }
                }
            }
            for (k, [a, b]) in sums.into_iter().enumerate() {
                let rows = self.dw.add(2 * k * SIZE);
                S::store(rows, S::add(S::load(rows), S::separate(S::add(a, b))));
            }
        }
        2 * pairs
    }
}
