//! [`Simd::add_kept`](super::Simd::add_kept) on AVX-512, in assembly: the compiler cannot be told which of 32 registers
//! to keep.
//!
//! A product of 16 factors with 16 columns has as many weights as 16 registers hold. With a tile of 16 rows and weights
//! that are read again, starting and ending tiles took a quarter of the time; eight rows with weights that stay take
//! 2.34 µs (1×1, 16→16, 32×32), and sixteen, whose sums wait for each other less, 2.12, which is 90 % of the peak (AMD
//! EPYC, Zen 5, 2026-11-29).

use core::arch::asm;
use core::arch::x86_64::*;

/// Adds the product of a row's factor at `byte` with a register of weights.
macro_rules! row {
    ($byte:literal, $weights:literal, $row:literal, $sum:literal) => {
        concat!("vfmadd231ps zmm", $sum, ", zmm", $weights, ", dword ptr [{a} + ", $row, " + ", $byte, "]{{1to16}}\n")
    };
}

/// The same for all rows.
macro_rules! rows {
    ($byte:literal, $weights:literal) => {
        concat!(
            row!($byte, $weights, "0", "0"),
            row!($byte, $weights, "64", "1"),
            row!($byte, $weights, "128", "2"),
            row!($byte, $weights, "192", "3"),
            row!($byte, $weights, "256", "4"),
            row!($byte, $weights, "320", "5"),
            row!($byte, $weights, "384", "6"),
            row!($byte, $weights, "448", "7"),
        )
    };
    (twice $byte:literal, $weights:literal) => {
        concat!(
            rows!($byte, $weights),
            row!($byte, $weights, "512", "8"),
            row!($byte, $weights, "576", "9"),
            row!($byte, $weights, "640", "10"),
            row!($byte, $weights, "704", "11"),
            row!($byte, $weights, "768", "12"),
            row!($byte, $weights, "832", "13"),
            row!($byte, $weights, "896", "14"),
            row!($byte, $weights, "960", "15"),
        )
    };
}

/// Runs all factors, with the first eight sums in `zmm0` to `zmm7` and the weights in `zmm16` to `zmm31`.
macro_rules! run {
    ($($twice:ident)?; $sums:expr, $weights:ident, $a:ident, $($operands:tt)*) => {
        asm!(
            rows!($($twice)? "0", "16"),
            rows!($($twice)? "4", "17"),
            rows!($($twice)? "8", "18"),
            rows!($($twice)? "12", "19"),
            rows!($($twice)? "16", "20"),
            rows!($($twice)? "20", "21"),
            rows!($($twice)? "24", "22"),
            rows!($($twice)? "28", "23"),
            rows!($($twice)? "32", "24"),
            rows!($($twice)? "36", "25"),
            rows!($($twice)? "40", "26"),
            rows!($($twice)? "44", "27"),
            rows!($($twice)? "48", "28"),
            rows!($($twice)? "52", "29"),
            rows!($($twice)? "56", "30"),
            rows!($($twice)? "60", "31"),
            a = in(reg) $a,
            inout("zmm0") $sums[0],
            inout("zmm1") $sums[1],
            inout("zmm2") $sums[2],
            inout("zmm3") $sums[3],
            inout("zmm4") $sums[4],
            inout("zmm5") $sums[5],
            inout("zmm6") $sums[6],
            inout("zmm7") $sums[7],
            in("zmm16") $weights[0],
            in("zmm17") $weights[1],
            in("zmm18") $weights[2],
            in("zmm19") $weights[3],
            in("zmm20") $weights[4],
            in("zmm21") $weights[5],
            in("zmm22") $weights[6],
            in("zmm23") $weights[7],
            in("zmm24") $weights[8],
            in("zmm25") $weights[9],
            in("zmm26") $weights[10],
            in("zmm27") $weights[11],
            in("zmm28") $weights[12],
            in("zmm29") $weights[13],
            in("zmm30") $weights[14],
            in("zmm31") $weights[15],
            $($operands)*
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

/// See [`Simd::add_kept`](super::Simd::add_kept).
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add(sums: &mut [__m512; 8], weights: &[__m512; 16], a: *const f32) {
    // SAFETY: reads 16 factors of eight rows.
    unsafe { run!(; sums, weights, a,) }
}

/// See [`Simd::add_kept_twice`](super::Simd::add_kept_twice).
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_twice(sums: &mut [__m512; 16], weights: &[__m512; 16], a: *const f32) {
    // SAFETY: reads 16 factors of sixteen rows.
    unsafe {
        run!(
            twice; sums, weights, a,
            inout("zmm8") sums[8],
            inout("zmm9") sums[9],
            inout("zmm10") sums[10],
            inout("zmm11") sums[11],
            inout("zmm12") sums[12],
            inout("zmm13") sums[13],
            inout("zmm14") sums[14],
            inout("zmm15") sums[15],
        )
    }
}
