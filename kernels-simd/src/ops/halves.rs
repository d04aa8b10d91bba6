//! Products of eight channels with eight, where two pixels fill a register: each half of a factor's register is that of one of them.
//!
//! With a register of half the width for each pixel, half of every multiplication would be left out.

use super::dense::OuterProducts;
use super::product::Product;
use crate::arch::Simd;

/// Factors, and columns.
const SIZE: usize = 8;

/// Registers that are computed together, of two pixels each.
const REGISTERS: usize = 8;

impl Product {
    /// Whether it is one of these.
    pub(super) fn can_halve<S: Simd>(&self) -> bool {
        S::SPLAT_HALVES
            && [self.depth, self.columns, self.a_pixel, self.c_pixel] == [SIZE; 4]
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
            let mut weights = [S::splat(0.0); SIZE];
            for (k, weights) in weights.iter_mut().enumerate() {
                *weights = S::load_twice(self.b.add(k * SIZE));
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
                    add_halves::<S>(moment, self.moments.add(index * SIZE));
                }
            }
        }
        2 * pairs
    }

    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize>(
        &self,
        pair: usize,
        weights: &[S::Vector; SIZE],
        [sum, squares]: &mut [S::Vector; 2],
    ) {
        let at = pair * 2 * SIZE;
        // SAFETY: promised by the caller.
        unsafe {
            let bias = if self.bias.is_null() { S::splat(0.0) } else { S::load_twice(self.bias) };
            let mut sums = [bias; N];
            for (index, sum) in sums.iter_mut().enumerate() {
                let at = at + index * S::LANES;
                if self.accumulate {
                    *sum = S::add(*sum, S::load(self.c.add(at)));
                }
                for (factor, &weights) in S::splat_halves(self.a.add(at)).into_iter().zip(weights) {
                    *sum = S::mul_add(factor, weights, *sum);
                }
            }
            let stream = self.stream && self.c.add(at).addr().is_multiple_of(S::LANES * size_of::<f32>());
            let mut targets = self.targets(2 * pair);
            for (index, &z) in sums.iter().enumerate() {
                let c = if self.gaps.is_some() { targets.next(2) } else { self.c.add(at + index * S::LANES) };
                if stream { S::stream(c, z) } else { S::store(c, z) }
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
        S::SPLAT_HALVES && [depth, self.columns, self.x_pixel, self.dy_pixel] == [SIZE; 4] && self.height == 1
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
            let mut sums = [S::splat(0.0); SIZE];
            for pair in 0..pairs {
                let at = pair * S::LANES;
                let gradients = S::load(self.dy.add(at));
                for (factor, sum) in S::splat_halves(self.x.add(at)).into_iter().zip(&mut sums) {
                    *sum = S::mul_add(factor, gradients, *sum);
                }
            }
            for (k, sum) in sums.into_iter().enumerate() {
                add_halves::<S>(sum, self.dw.add(k * SIZE));
            }
        }
        2 * pairs
    }
}

/// Adds both halves of a register to the eight elements at `target`.
#[inline(always)]
pub(super) unsafe fn add_halves<S: Simd>(value: S::Vector, target: *mut f32) {
    let mut lanes = [0.0; 2 * SIZE];
    // SAFETY: the register has as many lanes, and the caller promises the elements.
    unsafe {
        S::store(lanes.as_mut_ptr(), value);
        for lane in 0..SIZE {
            *target.add(lane) += lanes[lane] + lanes[SIZE + lane];
        }
    }
}
