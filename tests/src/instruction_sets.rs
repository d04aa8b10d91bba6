//! The instruction sets under test and the image shapes that exercise their lanes.

use darts_kernels_simd::{ImageShape, Isa, Kernels};

/// Kernels for every instruction set of this processor. The others are printed as skipped; one that `DARTS_REQUIRE_ISA`
/// (names with commas between them) lists must not be skipped.
///
/// # Panics
///
/// When a required instruction set is missing or has no such name.
pub fn kernels() -> Vec<Kernels> {
    let required = std::env::var("DARTS_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        let isa: Isa = name.parse().unwrap_or_else(|error| panic!("DARTS_REQUIRE_ISA={required}: {error}"));
        assert!(isa.is_available(), "DARTS_REQUIRE_ISA={required}: this processor has no {isa}");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        println!("skipped: {isa}, which this processor lacks");
    }
    Isa::available().filter_map(|isa| Kernels::with_isa(isa).ok()).collect()
}

/// [`kernels`], and those that have an instruction for sums of products of 8-bit integers without it too.
pub fn int8_kernels() -> Vec<Kernels> {
    let all = kernels().into_iter();
    all.flat_map(|kernels| [Some(kernels), kernels.int8_dot().map(|_| kernels.without_int8_dot())]).flatten().collect()
}

/// Channel counts around the register boundaries, up to two registers and one channel.
pub fn channel_counts(kernels: Kernels) -> Vec<usize> {
    let lanes = kernels.isa().lanes();
    let mut counts = vec![1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1];
    counts.retain(|&count| count > 0);
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Channels of which a few registers are a whole number of pixels, and which are not among [`channel_counts`].
pub fn repeating_channel_counts(kernels: Kernels) -> Vec<usize> {
    let lanes = kernels.isa().lanes();
    let mut counts = vec![
        lanes / 4,
        lanes / 2,
        lanes + lanes / 2,
        3 * lanes,
        4 * lanes,
        5 * lanes / 2,
        5 * lanes,
        9 * lanes / 4,
        9 * lanes,
    ];
    counts.retain(|count| *count > 0 && !channel_counts(kernels).contains(count));
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Images of heights and widths 1, 2, 3, 7 and 8 with [`channel_counts`], and one size with every count up to the
/// largest.
pub fn images(kernels: Kernels) -> Vec<ImageShape> {
    const EXTENTS: [usize; 5] = [1, 2, 3, 7, 8];
    let mut shapes: Vec<_> =
        (1..=2 * kernels.isa().lanes() + 1).map(|channels| ImageShape::new(3, 7, channels)).collect();
    for height in EXTENTS {
        for width in EXTENTS {
            shapes.extend(channel_counts(kernels).into_iter().map(|channels| ImageShape::new(height, width, channels)));
        }
    }
    shapes
}
