//! A measuring tool: as many fused multiply-adds as the processor can do, on registers alone.

use core::hint::black_box;

use crate::arch::{Scalar, Simd};
use crate::isa::Isa;
use crate::kernels::{Kernels, dispatch};

/// Registers of sums that grow independently of each other. Twelve cover the latency of two units (five cycles at
/// most), and leave room for the operands in sixteen registers. 2026-11-24, Zen 4: the peak with AVX2 and with AVX-512.
const CHAINS: usize = 12;

/// Sums of portable code, and multiply-adds of each in a row: a loop of which the compiler makes vectors of its own, as
/// it does of kernels. Of twelve sums in one go it makes three registers, which wait for each other: 6.5 GFLOP/s, where
/// kernels reach 41 (AMD EPYC, Zen 5, 2026-11-29).
const PORTABLE_SUMS: usize = 256;
const PORTABLE_ROW: usize = 8;

impl Kernels {
    /// Does `rounds` rounds of fused multiply-adds in registers, each of
    /// [`multiply_adds_a_round`](Self::multiply_adds_a_round); timed, it tells the peak of one core. The value depends
    /// on all of them: it must be used (as by [`core::hint::black_box`]), so that they are done at all.
    pub fn multiply_adds(self, rounds: usize) -> f32 {
        // SAFETY: the instruction set is present.
        unsafe {
            match self.isa() {
                Isa::Scalar => chains::<Scalar, PORTABLE_SUMS, PORTABLE_ROW>(rounds),
                _ => dispatch!(self, vectors(rounds: usize) -> f32),
            }
        }
    }

    /// Multiply-adds of one round of [`multiply_adds`](Self::multiply_adds).
    pub fn multiply_adds_a_round(self) -> usize {
        match self.isa() {
            Isa::Scalar => PORTABLE_SUMS * PORTABLE_ROW,
            isa => CHAINS * isa.lanes(),
        }
    }
}

#[inline(always)]
unsafe fn vectors<S: Simd>(rounds: usize) -> f32 {
    // SAFETY: promised by the caller.
    unsafe { chains::<S, CHAINS, 1>(rounds) }
}

#[inline(always)]
unsafe fn chains<S: Simd, const N: usize, const ROW: usize>(rounds: usize) -> f32 {
    // SAFETY: the instruction set is present, as the caller promises.
    unsafe {
        // Every sum goes to `shift / (1 − factor)` = 2: neither overflow nor denormals, whatever `rounds` is. The
        // compiler must not know the values: of a sum that is 2 from the start it would do nothing.
        let [factor, shift] = [0.75, 0.5].map(|value| S::splat(black_box(value)));
        let mut sums = [S::splat(0.0); N];
        for (chain, sum) in sums.iter_mut().enumerate() {
            *sum = S::splat(black_box(chain as f32));
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                for _ in 0..ROW {
                    *sum = S::mul_add(*sum, factor, shift);
                }
            }
        }
        sums.into_iter().map(|sum| S::reduce_add(sum)).sum()
    }
}
