//! [`Simd::add_groups`](super::Simd::add_groups) and its transposed form on AVX-512, in assembly: of the same in Rust
//! the compiler moves so many loads ahead that sums have to leave the registers, and it takes longer than without
//! groups.
//!
//! Four columns beside two registers take half as long as the 32 of these if they have a register of their own. Here
//! that register has products of these columns with four neighbouring factors, each in a quarter of the lanes, which
//! are added up at the end; so it is multiplied once for four factors. Eight columns are multiplied with two factors at
//! a time. 1×1 convolutions before and with groups, forward in µs: 36→36 at 32×32 13.1 and 11.0, 40→40 14.4 and 13.1,
//! 72→72 at 16×16 10.9 and 10.2 (AMD EPYC, Zen 5, 2026-11-28).
//!
//! `zmm0` to `zmm15` are the sums of eight rows of two registers, `zmm16` to `zmm23` those of the columns behind;
//! `zmm24` to `zmm26` have weights, `zmm28` a factor.

use core::arch::asm;
use core::arch::x86_64::*;

use super::Terms;

/// A factor in all lanes of `zmm28`: `x!(RELU, byte, address)`.
macro_rules! x {
    (false, $byte:literal, $address:literal) => {
        concat!("vbroadcastss zmm28, dword ptr [", $address, " + ", $byte, "]\n")
    };
    (true, $byte:literal, $address:literal) => {
        concat!("vmaxps zmm28, zmm29, dword ptr [", $address, " + ", $byte, "]{{1to16}}\n")
    };
}

/// Adds the products of a row's factor with two registers of weights.
macro_rules! row {
    ($relu:tt, $byte:literal, $address:literal, $first:literal, $second:literal) => {
        concat!(
            x!($relu, $byte, $address),
            concat!("vfmadd231ps zmm", $first, ", zmm28, zmm24\n"),
            concat!("vfmadd231ps zmm", $second, ", zmm28, zmm25\n"),
        )
    };
}

/// Adds the products of all rows' factors at `byte` with the row of weights at `b`, which moves on.
macro_rules! rows {
    ($relu:tt, $byte:literal) => {
        concat!(
            "vmovups zmm24, zmmword ptr [{b}]\n",
            "vmovups zmm25, zmmword ptr [{b} + 64]\n",
            "add {b}, {c}\n",
            row!($relu, $byte, "{a}", "0", "1"),
            row!($relu, $byte, "{a} + {s}", "2", "3"),
            row!($relu, $byte, "{a} + 2 * {s}", "4", "5"),
            row!($relu, $byte, "{a} + {s3}", "6", "7"),
            row!($relu, $byte, "{a} + 4 * {s}", "8", "9"),
            row!($relu, $byte, "{a} + {s5}", "10", "11"),
            row!($relu, $byte, "{a} + 2 * {s3}", "12", "13"),
            row!($relu, $byte, "{a} + {s7}", "14", "15"),
        )
    };
}

macro_rules! relu {
    (false) => {
        ""
    };
    (true) => {
        "vmaxps zmm28, zmm29, zmm28\n"
    };
}

/// Adds a row's products of a group: `rest!(W, RELU, address, sum)`.
macro_rules! rest {
    (4, $relu:tt, $address:literal, $sum:literal) => {
        rest!("vbroadcastf32x4 zmm28, xmmword ptr [", $relu, $address, $sum)
    };
    (8, $relu:tt, $address:literal, $sum:literal) => {
        rest!("vbroadcastsd zmm28, qword ptr [", $relu, $address, $sum)
    };
    ($load:literal, $relu:tt, $address:literal, $sum:literal) => {
        concat!(
            $load,
            concat!($address, "]\n"),
            "vpermilps zmm28, zmm28, zmm27\n",
            relu!($relu),
            concat!("vfmadd231ps zmm", $sum, ", zmm28, zmm26\n"),
        )
    };
}

/// Weights of the columns behind two registers, for a group.
macro_rules! rest_weights {
    (4) => {
        concat!(
            "vmovups xmm26 {{{m}}}{{z}}, xmmword ptr [{b} + 128]\n",
            "vmovups xmm28 {{{m}}}{{z}}, xmmword ptr [{b} + {c} + 128]\n",
            "vinsertf32x4 zmm26, zmm26, xmm28, 1\n",
            "vmovups xmm28 {{{m}}}{{z}}, xmmword ptr [{b} + 2 * {c} + 128]\n",
            "vinsertf32x4 zmm26, zmm26, xmm28, 2\n",
            "vmovups xmm28 {{{m}}}{{z}}, xmmword ptr [{b} + {c3} + 128]\n",
            "vinsertf32x4 zmm26, zmm26, xmm28, 3\n",
        )
    };
    (8) => {
        concat!(
            "vmovups ymm26 {{{m}}}{{z}}, ymmword ptr [{b} + 128]\n",
            "vmovups ymm28 {{{m}}}{{z}}, ymmword ptr [{b} + {c} + 128]\n",
            "vinsertf32x8 zmm26, zmm26, ymm28, 1 /* no {c3} */\n",
        )
    };
}

/// All products of a group.
macro_rules! group {
    (4, $relu:tt) => {
        concat!(
            rest_weights!(4),
            rows!($relu, "0"),
            rest!(4, $relu, "{a}", "16"),
            rest!(4, $relu, "{a} + {s}", "17"),
            rows!($relu, "4"),
            rest!(4, $relu, "{a} + 2 * {s}", "18"),
            rest!(4, $relu, "{a} + {s3}", "19"),
            rows!($relu, "8"),
            rest!(4, $relu, "{a} + 4 * {s}", "20"),
            rest!(4, $relu, "{a} + {s5}", "21"),
            rows!($relu, "12"),
            rest!(4, $relu, "{a} + 2 * {s3}", "22"),
            rest!(4, $relu, "{a} + {s7}", "23"),
            "add {a}, 16\n",
        )
    };
    (8, $relu:tt) => {
        concat!(
            rest_weights!(8),
            rows!($relu, "0"),
            rest!(8, $relu, "{a}", "16"),
            rest!(8, $relu, "{a} + {s}", "17"),
            rest!(8, $relu, "{a} + 2 * {s}", "18"),
            rest!(8, $relu, "{a} + {s3}", "19"),
            rows!($relu, "4"),
            rest!(8, $relu, "{a} + 4 * {s}", "20"),
            rest!(8, $relu, "{a} + {s5}", "21"),
            rest!(8, $relu, "{a} + 2 * {s3}", "22"),
            rest!(8, $relu, "{a} + {s7}", "23"),
            "add {a}, 8\n",
        )
    };
}

/// The products with rows of weights of a row's factors next to each other, of a matrix that is transposed.
macro_rules! columns {
    () => {
        concat!(
            "vmovups zmm24, zmmword ptr [{b}]\n",
            "vmovups zmm25, zmmword ptr [{b} + 64]\n",
            "add {b}, {c}\n",
            row!(false, "0", "{a}", "0", "1"),
            row!(false, "4", "{a}", "2", "3"),
            row!(false, "8", "{a}", "4", "5"),
            row!(false, "12", "{a}", "6", "7"),
            row!(false, "16", "{a}", "8", "9"),
            row!(false, "20", "{a}", "10", "11"),
            row!(false, "24", "{a}", "12", "13"),
            row!(false, "28", "{a}", "14", "15"),
            "add {a}, {s}\n",
        )
    };
}

/// The factors of a group of such a matrix, the first four of each in `zmm27` and the others in `zmm29`: `factors!(W)`.
macro_rules! factors {
    (4) => {
        concat!(factors!(4, "27", "0"), factors!(4, "29", "16"))
    };
    (8) => {
        concat!(factors!(8, "27", "0"), factors!(8, "29", "16"))
    };
    (4, $factors:literal, $byte:literal) => {
        concat!(
            concat!("vmovups xmm", $factors, ", xmmword ptr [{a} + ", $byte, "]\n"),
            factors!("4", $factors, "{a} + {s}", $byte, "1"),
            factors!("4", $factors, "{a} + 2 * {s}", $byte, "2"),
            factors!("4", $factors, "{a} + {s3}", $byte, "3"),
        )
    };
    (8, $factors:literal, $byte:literal) => {
        concat!(
            concat!("vbroadcastf32x4 zmm", $factors, ", xmmword ptr [{a} + ", $byte, "]\n"),
            concat!("vbroadcastf32x4 zmm", $factors, " {{{h}}}, xmmword ptr [{a} + {s} + ", $byte, "] /* {s3} */\n"),
        )
    };
    ("4", $factors:literal, $address:literal, $byte:literal, $place:literal) => {
        concat!(
            concat!("vinsertf32x4 zmm", $factors, ", zmm", $factors),
            concat!(", xmmword ptr [", $address, " + ", $byte, "], ", $place, "\n")
        )
    };
}

/// Adds a row's products of a group of such a matrix; `$all` is four times the two bits of the row's place.
macro_rules! rest_of {
    ($factors:literal, $all:literal, $sum:literal) => {
        concat!(
            concat!("vpermilps zmm28, zmm", $factors, ", ", $all, "\n"),
            concat!("vfmadd231ps zmm", $sum, ", zmm28, zmm26\n"),
        )
    };
}

/// All products of a group of such a matrix.
macro_rules! group_transposed {
    (4) => {
        concat!(
            rest_weights!(4),
            factors!(4),
            columns!(),
            rest_of!("27", "0x00", "16"),
            rest_of!("27", "0x55", "17"),
            columns!(),
            rest_of!("27", "0xaa", "18"),
            rest_of!("27", "0xff", "19"),
            columns!(),
            rest_of!("29", "0x00", "20"),
            rest_of!("29", "0x55", "21"),
            columns!(),
            rest_of!("29", "0xaa", "22"),
            rest_of!("29", "0xff", "23"),
        )
    };
    (8) => {
        concat!(
            rest_weights!(8),
            factors!(8),
            columns!(),
            rest_of!("27", "0x00", "16"),
            rest_of!("27", "0x55", "17"),
            rest_of!("27", "0xaa", "18"),
            rest_of!("27", "0xff", "19"),
            columns!(),
            rest_of!("29", "0x00", "20"),
            rest_of!("29", "0x55", "21"),
            rest_of!("29", "0xaa", "22"),
            rest_of!("29", "0xff", "23"),
        )
    };
}

/// Runs all groups, with the sums in `zmm0` to `zmm23`.
macro_rules! run {
    ($group:expr, $whole:ident, $rest:ident, $mask:ident, $terms:ident, $count:ident, $($operands:tt)*) => {
        asm!(
            "2:",
            $group,
            "dec {n}",
            "jnz 2b",
            a = inout(reg) $terms.a => _,
            s = in(reg) $terms.a_pixel * 4,
            s3 = in(reg) $terms.a_pixel * 12,
            b = inout(reg) $terms.b => _,
            c = in(reg) $terms.columns * 4,
            c3 = in(reg) $terms.columns * 12,
            n = inout(reg) $count => _,
            m = in(kreg) $mask,
            $($operands)*
            inout("zmm0") $whole[0][0],
            inout("zmm1") $whole[0][1],
            inout("zmm2") $whole[1][0],
            inout("zmm3") $whole[1][1],
            inout("zmm4") $whole[2][0],
            inout("zmm5") $whole[2][1],
            inout("zmm6") $whole[3][0],
            inout("zmm7") $whole[3][1],
            inout("zmm8") $whole[4][0],
            inout("zmm9") $whole[4][1],
            inout("zmm10") $whole[5][0],
            inout("zmm11") $whole[5][1],
            inout("zmm12") $whole[6][0],
            inout("zmm13") $whole[6][1],
            inout("zmm14") $whole[7][0],
            inout("zmm15") $whole[7][1],
            inout("zmm16") $rest[0],
            inout("zmm17") $rest[1],
            inout("zmm18") $rest[2],
            inout("zmm19") $rest[3],
            inout("zmm20") $rest[4],
            inout("zmm21") $rest[5],
            inout("zmm22") $rest[6],
            inout("zmm23") $rest[7],
            out("zmm24") _,
            out("zmm25") _,
            out("zmm26") _,
            out("zmm28") _,
            options(readonly, nostack),
        )
    };
}

/// See [`Simd::add_groups`](super::Simd::add_groups); `mask` has the lanes.
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
pub(super) unsafe fn add<const W: usize, const RELU: bool>(
    whole: &mut [[__m512; 2]; 8],
    rest: &mut [__m256; 8],
    mask: __mmask16,
    terms: Terms,
) {
    let count = terms.depth / const { 16 / W };
    if count == 0 {
        return;
    }
    let mut sums = widened(rest);
    // Which factor of a group a lane is multiplied with.
    let places = if const { W == 4 } {
        _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
    } else {
        _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
    };
    // SAFETY: reads what the terms say: factors and weights of `count` groups.
    unsafe {
        macro_rules! run_with {
            ($width:tt, $relu:tt) => {
                run!(
                    group!($width, $relu), whole, sums, mask, terms, count,
                    s5 = in(reg) terms.a_pixel * 20,
                    s7 = in(reg) terms.a_pixel * 28,
                    in("zmm27") places,
                    in("zmm29") _mm512_setzero_ps(),
                )
            };
        }
        match const { (W, RELU) } {
            (4, false) => run_with!(4, false),
            (4, true) => run_with!(4, true),
            (_, false) => run_with!(8, false),
            (_, true) => run_with!(8, true),
        }
    }
    add_up::<W>(rest, sums);
}

/// See [`Simd::add_groups_transposed`](super::Simd::add_groups_transposed); `mask` has the lanes.
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
pub(super) unsafe fn add_transposed<const W: usize>(
    whole: &mut [[__m512; 2]; 8],
    rest: &mut [__m256; 8],
    mask: __mmask16,
    terms: Terms,
) {
    let count = terms.depth / const { 16 / W };
    if count == 0 {
        return;
    }
    let mut sums = widened(rest);
    // SAFETY: reads what the terms say: factors and weights of `count` groups.
    unsafe {
        if const { W == 4 } {
            run!(
                group_transposed!(4), whole, sums, mask, terms, count,
                out("zmm27") _,
                out("zmm29") _,
            )
        } else {
            run!(
                group_transposed!(8), whole, sums, mask, terms, count,
                h = in(kreg) 0xff00u16,
                out("zmm27") _,
                out("zmm29") _,
            )
        }
    }
    add_up::<W>(rest, sums);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widened(rest: &[__m256; 8]) -> [__m512; 8] {
    rest.map(|rest| _mm512_zextps256_ps512(rest))
}

/// Overwrites `rest` with the sums over the groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn add_up<const W: usize>(rest: &mut [__m256; 8], sums: [__m512; 8]) {
    for (rest, &sum) in rest.iter_mut().zip(&sums) {
        let halves = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum));
        *rest = if const { W == 4 } {
            _mm256_zextps128_ps256(_mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves)))
        } else {
            halves
        };
    }
}
