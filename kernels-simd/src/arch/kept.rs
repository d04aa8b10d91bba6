//! [`Simd::add_kept`](super::Simd::add_kept) on AVX-512, in assembly: the compiler cannot be told which 24 of 32 registers to keep.
//!
//! A product of 16 factors with 16 columns has as many weights as 16 registers hold. With a tile of 16 rows and weights that are
//! read again, starting and ending tiles took a quarter of the time: 75 % of the peak instead of 87 % (AMD EPYC, Zen 5, 1×1,
//! 16→16, 32×32, 2026-11-28).

use core::arch::asm;
use core::arch::x86_64::*;

/// Adds the product of a row's factor at `byte` with a register of weights.
macro_rules! row {
    ($byte:literal, $weights:literal, $address:literal, $sum:literal) => {
        concat!("vfmadd231ps zmm", $sum, ", zmm", $weights, ", dword ptr [", $address, " + ", $byte, "]{{1to16}}\n")
    };
}

/// The same for all rows.
macro_rules! rows {
    ($byte:literal, $weights:literal) => {
        concat!(
            row!($byte, $weights, "{a}", "0"),
            row!($byte, $weights, "{a} + {s}", "1"),
            row!($byte, $weights, "{a} + 2 * {s}", "2"),
            row!($byte, $weights, "{a} + {s3}", "3"),
            row!($byte, $weights, "{a} + 4 * {s}", "4"),
            row!($byte, $weights, "{a} + {s5}", "5"),
            row!($byte, $weights, "{a} + 2 * {s3}", "6"),
            row!($byte, $weights, "{a} + {s7}", "7"),
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
pub(super) unsafe fn add(sums: &mut [__m512; 8], weights: &[__m512; 16], a: *const f32, a_pixel: usize) {
    // SAFETY: reads 16 factors of eight rows.
    unsafe {
        asm!(
            rows!("0", "16"),
            rows!("4", "17"),
            rows!("8", "18"),
            rows!("12", "19"),
            rows!("16", "20"),
            rows!("20", "21"),
            rows!("24", "22"),
            rows!("28", "23"),
            rows!("32", "24"),
            rows!("36", "25"),
            rows!("40", "26"),
            rows!("44", "27"),
            rows!("48", "28"),
            rows!("52", "29"),
            rows!("56", "30"),
            rows!("60", "31"),
            a = in(reg) a,
            s = in(reg) a_pixel * 4,
            s3 = in(reg) a_pixel * 12,
            s5 = in(reg) a_pixel * 20,
            s7 = in(reg) a_pixel * 28,
            inout("zmm0") sums[0],
            inout("zmm1") sums[1],
            inout("zmm2") sums[2],
            inout("zmm3") sums[3],
            inout("zmm4") sums[4],
            inout("zmm5") sums[5],
            inout("zmm6") sums[6],
            inout("zmm7") sums[7],
            in("zmm16") weights[0],
            in("zmm17") weights[1],
            in("zmm18") weights[2],
            in("zmm19") weights[3],
            in("zmm20") weights[4],
            in("zmm21") weights[5],
            in("zmm22") weights[6],
            in("zmm23") weights[7],
            in("zmm24") weights[8],
            in("zmm25") weights[9],
            in("zmm26") weights[10],
            in("zmm27") weights[11],
            in("zmm28") weights[12],
            in("zmm29") weights[13],
            in("zmm30") weights[14],
            in("zmm31") weights[15],
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}
