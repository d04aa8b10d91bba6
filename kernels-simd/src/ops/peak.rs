//! A measuring tool: as many fused multiply-adds as the processor can do, on registers alone.

use core::hint::black_box;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};

/// Sums that grow independently of each other. Twelve cover the latency of two units (five cycles at most), and leave
/// room for the operands in sixteen registers. 2026-11-24, Zen 4: the peak with AVX2 and with AVX-512.
const CHAINS: usize = 12;

impl Kernels {
    /// Does `rounds` rounds of fused multiply-adds in registers, each of [`multiply_adds_a_round`](Self::multiply_adds_a_round);
    /// timed, it tells the peak of one core. The value depends on all of them: it must be used (as by
    /// [`core::hint::black_box`]), so that they are done at all.
    pub fn multiply_adds(self, rounds: usize) -> f32 {
        // SAFETY: the instruction set is present.
        unsafe { dispatch!(self, chains(rounds: usize) -> f32) }
    }

    /// Multiply-adds of one round of [`multiply_adds`](Self::multiply_adds).
    pub fn multiply_adds_a_round(self) -> usize {
        CHAINS * self.isa().lanes()
    }
}

#[inline(always)]
unsafe fn chains<S: Simd>(rounds: usize) -> f32 {
    // SAFETY: the instruction set is present, as the caller promises.
    unsafe {
        // Every sum goes to `shift / (1 − factor)` = 2: neither overflow nor denormals, whatever `rounds` is. The compiler must not
        // know the values: of a sum that is 2 from the start it would do nothing.
        let [factor, shift] = [0.75, 0.5].map(|value| S::splat(black_box(value)));
        let mut sums = [S::splat(0.0); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = S::splat(black_box(chain as f32));
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::mul_add(*sum, factor, shift);
            }
        }
        sums.into_iter().map(|sum| S::reduce_add(sum)).sum()
    }
}
