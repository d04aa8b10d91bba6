//! Places of a row that several pixels and taps read, one behind the other.

/// How many places `taps` neighbouring taps of `pixels` neighbouring pixels read, if pixels are `step` of some unit
/// apart and taps `spread`.
pub(in crate::ops) const fn places(pixels: usize, step: usize, taps: usize, spread: usize) -> usize {
    pixels.saturating_sub(1) * step + taps.saturating_sub(1) * spread + 1
}

/// The pixel that reads a place with tap `tap`; it need not exist.
#[inline(always)]
pub(in crate::ops) fn pixel_of_place(place: usize, tap: usize, step: usize, spread: usize) -> Option<usize> {
    let distance = place.checked_sub(tap * spread)?;
    distance.is_multiple_of(step).then(|| distance / step)
}

/// Whether a place is before the first pixel of a row whose first pixels these are, or behind the last of one whose
/// last they are. The middle one of the taps is at the pixel, or the first of two.
pub(in crate::ops) const fn is_clipped(
    place: usize,
    pixels: usize,
    step: usize,
    taps: usize,
    spread: usize,
    first: bool,
    last: bool,
) -> bool {
    let (before, behind) = (taps.saturating_sub(1) / 2 * spread, taps / 2 * spread);
    first && place < before || last && place + behind >= places(pixels, step, taps, spread)
}

/// `each_place!(count, pointer, unit, PLACE, { … })` runs the block for `count` places, at most 20, with `pointer` at
/// each of them in turn, `unit` elements apart. The pointer moves on: with an offset for each place, which the compiler
/// would keep in memory, forward rows of 36 channels take 6 to 9 % longer for 3×3 and 8 to 12 % for 5×5, of 12 channels
/// 16 to 32 %, of 16 channels up to 3 %, on AVX2 7 to 14 % for 3×3 (AMD EPYC, Zen 5, 32×32, 2026-11-30). As a loop it
/// was not unrolled for 5×5, which then took three times as long.
macro_rules! each_place {
    (@[$($index:literal)*] $count:expr, $at:ident, $unit:expr, $place:ident, $body:block) => {
        $(
            if const { $index < $count } {
                const $place: usize = $index;
                if const { $place > 0 } {
                    $at = $crate::ops::lanes::opaque($at.wrapping_add($unit));
                }
                $body
            }
        )*
    };
    ($count:expr, $at:ident, $unit:expr, $place:ident, $body:block) => {
        const { assert!($count <= 20, "more places than there is code for") }
        each_place!(@[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19] $count, $at, $unit, $place, $body)
    };
}
pub(in crate::ops) use each_place;
