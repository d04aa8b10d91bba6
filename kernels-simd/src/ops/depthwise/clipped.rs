//! Rows beyond whose ends nothing is read: the taps of their first and last pixels that lie there are left out by code
//! of its own, and zeros are neither multiplied nor needed.

use super::block::{block, three_rows};
use super::pixels_per_register;
use super::row::Row;
use crate::arch::Simd;

/// Pixels of a block of such rows, if there are as many.
pub(super) const fn clipped_block(pixels: usize) -> usize {
    if pixels.is_multiple_of(7) && !pixels.is_multiple_of(8) {
        7
    } else if pixels >= 8 {
        8
    } else {
        4
    }
}

/// Whether no block of a row of `pixels` pixels but the last, each of which reads `behind` pixels more than it has,
/// reads beyond the row's end.
pub(super) const fn fits_blocks(pixels: usize, block: usize, behind: usize) -> bool {
    pixels == block || pixels > block && (pixels.is_multiple_of(block) || behind <= pixels % block)
}

/// Splits such a row into blocks. The last one may compute pixels of the one before again.
#[inline(always)]
pub(super) unsafe fn clipped<
    S: Simd,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    macro_rules! blocks_of {
        ($pixels:literal) => {
            clipped_blocks::<S, $pixels, K, STEP, SPREAD, TWICE, PARTIAL>(channel, lanes, row, source_step, target_step)
        };
    }
    // SAFETY: promised by the caller.
    unsafe {
        match clipped_block(row.pixels / const { pixels_per_register(TWICE) }) {
            7 => blocks_of!(7),
            8 => blocks_of!(8),
            _ => blocks_of!(4),
        }
    }
}

/// The same, `P` pixels at a time and at least as many.
#[inline(always)]
unsafe fn clipped_blocks<
    S: Simd,
    const P: usize,
    const K: usize,
    const STEP: usize,
    const SPREAD: usize,
    const TWICE: bool,
    const PARTIAL: bool,
>(
    channel: usize,
    lanes: usize,
    row: &Row,
    source_step: usize,
    target_step: usize,
) {
    macro_rules! block_at {
        ($pixel:expr, $first:literal, $last:literal) => {
            block::<S, P, K, STEP, SPREAD, $first, $last, TWICE, PARTIAL>(
                channel,
                lanes,
                $pixel,
                row,
                source_step,
                target_step,
            )
        };
    }
    let pixels = row.pixels / const { pixels_per_register(TWICE) };
    // SAFETY: every block ends at or before `pixels`; the rest is promised by the caller.
    unsafe {
        if const { S::LANES == 16 && K == 3 && P > 4 } && row.window.rows == 3 {
            return three_rows::<S, P, STEP, SPREAD, true, TWICE, PARTIAL>(
                channel,
                lanes,
                row,
                source_step,
                target_step,
            );
        }
        if pixels == P {
            return block_at!(0, true, true);
        }
        block_at!(0, true, false);
        for pixel in (P..pixels - P).step_by(P) {
            block_at!(pixel, false, false);
        }
        block_at!(pixels - P, false, true);
    }
}
