//! Register blocking of a matrix of `rows × columns` whose columns are contiguous, shared by the dense kernels.

use super::lanes::for_registers;
use crate::arch::Simd;

/// A computation that fills its result tile by tile, with the accumulators of a tile in registers.
pub(crate) trait Tiles {
    /// Computes rows `row..row + R` and, from `column` on, the columns of a [`Strip`](super::strip::Strip) of `V` and
    /// `U` registers, the last of which has `lanes` lanes with `PARTIAL`.
    ///
    /// # Safety
    ///
    /// The tile lies inside the matrix, and the processor has the instruction set.
    unsafe fn tile<S: Simd, const R: usize, const V: usize, const U: usize, const PARTIAL: bool>(
        &self,
        row: usize,
        column: usize,
        lanes: usize,
    );
}

/// Runs all tiles of a matrix, strip of columns by strip of columns.
///
/// # Safety
///
/// As for [`Tiles::tile`], for the whole matrix.
#[inline(always)]
pub(crate) unsafe fn cover<S: Simd, T: Tiles>(tiles: &T, rows: usize, columns: usize) {
    let mut column = 0;
    // SAFETY: every strip ends at or before `columns`.
    unsafe {
        if const { S::LANES == 16 } {
            return cover_16::<S, T>(tiles, rows, columns);
        }
        if const { S::LANES == 8 } {
            while column + 2 * S::LANES <= columns {
                strip::<S, T, 2, 0, false>(column, S::LANES, tiles, rows);
                column += 2 * S::LANES;
            }
        } else {
            while column + 4 * S::LANES <= columns {
                strip::<S, T, 4, 0, false>(column, S::LANES, tiles, rows);
                column += 4 * S::LANES;
            }
            if const { S::LANES == 4 } && column + 2 * S::LANES <= columns {
                strip::<S, T, 2, 0, false>(column, S::LANES, tiles, rows);
                column += 2 * S::LANES;
            }
        }
        for_registers!(S, column..columns, strip::<_, 1, 0>(tiles, rows));
    }
}

/// With 32 registers of sixteen lanes: strips of up to three, the last with what is left at the end if that is a
/// register of eight lanes or a part of one.
///
/// # Safety
///
/// As for [`cover`].
#[inline(always)]
unsafe fn cover_16<S: Simd, T: Tiles>(tiles: &T, rows: usize, columns: usize) {
    let left = columns % S::LANES;
    let with_rest = (1..=S::Rest::LANES).contains(&left);
    let (mut column, mut registers) = (0, columns / S::LANES);
    while registers > 0 {
        let taken = match registers {
            1 | 2 => registers,
            4 => 2,
            // So that two remain for the last strip.
            3 if with_rest => 1,
            6 if with_rest => 2,
            _ => 3,
        };
        let partial = left < S::Rest::LANES;
        // SAFETY: every strip ends at or before `columns`.
        unsafe {
            match (taken, with_rest && registers <= 2) {
                (1, true) if partial => return strip::<S, T, 1, 1, true>(column, left, tiles, rows),
                (1, true) => return strip::<S, T, 1, 1, false>(column, left, tiles, rows),
                (2, true) if partial => return strip::<S, T, 2, 1, true>(column, left, tiles, rows),
                (2, true) => return strip::<S, T, 2, 1, false>(column, left, tiles, rows),
                (1, _) => strip::<S, T, 1, 0, false>(column, S::LANES, tiles, rows),
                (2, _) => strip::<S, T, 2, 0, false>(column, S::LANES, tiles, rows),
                _ => strip::<S, T, 3, 0, false>(column, S::LANES, tiles, rows),
            }
        }
        registers -= taken;
        column += taken * S::LANES;
    }
    // SAFETY: what is left ends at `columns`.
    unsafe { for_registers!(S, column..columns, strip::<_, 1, 0>(tiles, rows)) }
}

/// All rows of one strip, in the tallest tiles that leave registers for the operands.
///
/// Tiles of 8 rows by three registers of sixteen lanes are as fast as those of 12 rows by two, divide the pixels of the
/// usual images, and read the weights a third less often (AMD EPYC, Zen 4, `inference`, 2026-11-24).
#[inline(always)]
unsafe fn strip<S: Simd, T: Tiles, const V: usize, const U: usize, const PARTIAL: bool>(
    column: usize,
    lanes: usize,
    tiles: &T,
    rows: usize,
) {
    let mut row = 0;
    macro_rules! rows_of {
        ($($height:literal),*) => {$(
            while rows - row >= $height {
                tiles.tile::<S, $height, V, U, PARTIAL>(row, column, lanes);
                row += $height;
            }
        )*};
    }
    // SAFETY: every tile ends at or before `rows`, and the strip lies inside the matrix.
    unsafe {
        if const { S::LANES == 16 && V == 1 && U == 0 } {
            rows_of!(16);
        }
        if const { S::LANES == 8 && V == 1 } {
            rows_of!(12);
        }
        if const { S::LANES == 4 && V <= 2 || S::LANES == 8 && V == 1 || S::LANES == 16 } {
            rows_of!(8);
        }
        if const { S::LANES == 8 && V == 2 } {
            rows_of!(6);
        }
        rows_of!(4, 2, 1);
    }
}
