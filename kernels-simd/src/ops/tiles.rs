//! Register blocking of a matrix of `rows × columns` whose columns are contiguous, shared by the dense kernels.

use super::lanes::for_registers;
use crate::arch::Simd;

/// A computation that fills its result tile by tile, with the accumulators of a tile in registers.
pub(crate) trait Tiles {
    /// Computes rows `row..row + R` and, from `column` on, `V` vectors of columns; with `PARTIAL` only the first
    /// `lanes` lanes of the one vector exist.
    ///
    /// # Safety
    ///
    /// The tile lies inside the matrix, and the processor has the instruction set.
    unsafe fn tile<S: Simd, const R: usize, const V: usize, const PARTIAL: bool>(
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
        if const { S::LANES >= 8 } {
            while column + 2 * S::LANES <= columns {
                strip::<S, T, 2, false>(column, S::LANES, tiles, rows);
                column += 2 * S::LANES;
            }
        } else {
            while column + 4 * S::LANES <= columns {
                strip::<S, T, 4, false>(column, S::LANES, tiles, rows);
                column += 4 * S::LANES;
            }
        }
        for_registers!(S, column..columns, strip::<_, 1>(tiles, rows));
    }
}

/// All rows of one strip of `V` vectors, in the tallest tiles that leave registers for the operands.
#[inline(always)]
unsafe fn strip<S: Simd, T: Tiles, const V: usize, const PARTIAL: bool>(
    column: usize,
    lanes: usize,
    tiles: &T,
    rows: usize,
) {
    let mut row = 0;
    macro_rules! rows_of {
        ($($height:literal),*) => {$(
            while rows - row >= $height {
                tiles.tile::<S, $height, V, PARTIAL>(row, column, lanes);
                row += $height;
            }
        )*};
    }
    // SAFETY: every tile ends at or before `rows`, and the strip lies inside the matrix.
    unsafe {
        if const { S::LANES == 16 && V == 1 } {
            rows_of!(16);
        }
        if const { V == 1 && S::LANES >= 8 || S::LANES == 16 } {
            rows_of!(12, 8);
        }
        if const { S::LANES == 8 && V == 2 } {
            rows_of!(6);
        }
        rows_of!(4, 2, 1);
    }
}
