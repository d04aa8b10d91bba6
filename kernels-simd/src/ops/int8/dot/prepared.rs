//! Weights as the instruction takes them, and what becomes of their sums.

use core::mem::MaybeUninit;
use core::ops::Range;
use core::slice;

use super::{Dot, GROUP, Group, LANES, MAX_TILES};
use crate::ops::int8::{ChannelFactors, Factor, Int8Input};

/// Of [`LANES`] output channels; what is missing has zeros.
#[repr(C, align(64))]
pub(super) struct Tile {
    /// What sums begin with: the bias, less what the source's zero adds.
    pub(super) start: [i32; LANES],
    /// The factors, as [`Factor::apply`] uses them.
    pub(super) multiplier: [i64; LANES],
    pub(super) shift: [i64; LANES],
    /// 1 half, shifted.
    pub(super) half: [i64; LANES],
}

/// The weights of some output channels.
pub(super) struct Prepared<const GROUPS: usize> {
    groups: MaybeUninit<[Group; GROUPS]>,
    tiles: MaybeUninit<[Tile; MAX_TILES]>,
    /// Those that there are, none at first.
    pub(super) channels: Range<usize>,
    /// Groups of each tile.
    depth: usize,
}

impl<const GROUPS: usize> Prepared<GROUPS> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { groups: MaybeUninit::uninit(), tiles: MaybeUninit::uninit(), channels: 0..0, depth: 0 }
    }

    /// Output channels at most, with sums of `rows` products.
    pub(super) const fn capacity(rows: usize) -> usize {
        let tiles = GROUPS / rows.div_ceil(GROUP);
        LANES * if tiles < MAX_TILES { tiles } else { MAX_TILES }
    }

    /// Prepares the weights of `channels`, of which there are as many as fit; `row` returns each row of weights of all
    /// channels, and `factors` has a bias only, or a bias or none and the others.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    #[inline(always)]
    pub(super) unsafe fn prepare<'w, D: Dot>(
        &mut self,
        row: impl Fn(usize) -> &'w [i8],
        rows: usize,
        channels: Range<usize>,
        input: Int8Input,
        factors: ChannelFactors<'_>,
    ) {
        const NONE: [i8; LANES] = [0; LANES];
        const ONES: [u8; GROUP] = [1; GROUP];
        assert!(rows > 0 && channels.len() <= Self::capacity(rows));
        (self.depth, self.channels) = (rows.div_ceil(GROUP), channels.clone());
        let (tiles, groups): (*mut Tile, *mut Group) =
            (self.tiles.as_mut_ptr().cast(), self.groups.as_mut_ptr().cast());
        for (index, first) in channels.clone().step_by(LANES).enumerate() {
            let of_tile = first..channels.end.min(first + LANES);
            // SAFETY: rows are sliced to the channels that are read of them, so many tiles and groups fit, and the
            // processor is the caller's promise.
            unsafe {
                let mut sums = D::sums(&[0; LANES]);
                for group in 0..self.depth {
                    let mut four = [NONE.as_ptr(); GROUP];
                    for (pointer, row_index) in four.iter_mut().zip(GROUP * group..rows) {
                        *pointer = row(row_index)[of_tile.clone()].as_ptr();
                    }
                    let weights = D::interleave(four, of_tile.len());
                    D::store(groups.add(index * self.depth + group), weights);
                    sums = D::add_splat(sums, ONES.as_ptr(), weights);
                }
                let zero = i32::from(input.zero) + D::OFFSET;
                tiles.add(index).write(Tile::new(D::values(sums), zero, factors, of_tile));
            }
        }
    }

    /// Of each tile its first channel, how many it has, its groups of weights and the rest.
    #[inline(always)]
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize, &[Group], &Tile)> {
        let (tiles, groups): (*const Tile, *const Group) = (self.tiles.as_ptr().cast(), self.groups.as_ptr().cast());
        self.channels.clone().step_by(LANES).enumerate().map(move |(index, first)| {
            // SAFETY: the tiles of these channels, and as many groups of each, are prepared, and nobody writes to them
            // meanwhile.
            let (groups, tile) =
                unsafe { (slice::from_raw_parts(groups.add(index * self.depth), self.depth), &*tiles.add(index)) };
            (first, LANES.min(self.channels.end - first), groups, tile)
        })
    }
}

impl Tile {
    #[inline(always)]
    fn new(sums: [i32; LANES], zero: i32, factors: ChannelFactors<'_>, channels: Range<usize>) -> Self {
        let mut tile = Self { start: [0; LANES], multiplier: [0; LANES], shift: [1; LANES], half: [1; LANES] };
        for (lane, channel) in channels.enumerate() {
            let bias = factors.bias.get(channel).copied().unwrap_or(0);
            tile.start[lane] = bias.wrapping_sub(sums[lane].wrapping_mul(zero));
            if let (Some(&multiplier), Some(&shift)) = (factors.multiplier.get(channel), factors.shift.get(channel)) {
                let shift = shift.clamp(1, Factor::MAX_SHIFT);
                tile.multiplier[lane] = multiplier.into();
                tile.shift[lane] = shift.into();
                tile.half[lane] = 1 << (shift - 1);
            }
        }
        tile
    }
}
