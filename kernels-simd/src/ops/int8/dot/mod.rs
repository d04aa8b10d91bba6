//! Convolutions by the processor's instruction for sums of four products of 8-bit integers, VNNI of AVX-512 or SDOT of
//! NEON, or where it is missing by those for products of 16 bits.
//!
//! Weights are rows of all output channels. Four rows at a time are interleaved channel by channel, once for all
//! pixels. A dense convolution multiplies them by four elements of a pixel, the same for all channels, and a depthwise
//! one by four pixels that are interleaved the same way. Elements go in as they are; what the zero of the source adds
//! to a sum is known beforehand, since it is the zero times the sum of the channel's weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod dense;
mod depthwise;
#[cfg(target_arch = "aarch64")]
mod neon;
mod prepared;
#[cfg(target_arch = "x86_64")]
mod vnni;

use core::mem::MaybeUninit;

use super::{Int8Depthwise, Int8Input, Int8Part, Int8Target};
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::shape::{DenseShape, SeparableShape};
use dense::dense_body;
use depthwise::depthwise_row_body;
use prepared::{Prepared, Tile};

/// Channels whose sums are computed together.
const LANES: usize = if cfg!(target_arch = "aarch64") { 8 } else { 16 };
/// Elements that the instruction multiplies and adds up in a lane.
const GROUP: usize = 4;
/// Of weights that are prepared: channels, by [`LANES`], and groups of a dense and a depthwise convolution.
const MAX_TILES: usize = 256 / LANES;
const DENSE_GROUPS: usize = 6144 / LANES;
const DEPTHWISE_GROUPS: usize = 3328 / LANES;
/// Terms of a sum at most.
const MAX_ROWS: usize = 1024;
const MAX_TAPS: usize = 52;
/// Pixels whose sums are computed together at most.
const PIXELS: usize = 8;
/// Bytes that [`Dot::copy`] may write behind what it copies.
const SLACK: usize = 64;

/// Four elements of each of [`LANES`] channels, one channel behind the other.
#[cfg_attr(target_arch = "x86_64", repr(C, align(64)))]
#[cfg_attr(target_arch = "aarch64", repr(C, align(32)))]
struct Group([i8; GROUP * LANES]);

/// The instruction. All of it asks for the processor to have it and for valid pointers. What is called with it is
/// inlined: closures that go to functions of `core` are not always, and then lack the instruction set.
trait Dot: Copy {
    /// What holds a [`Group`].
    type Vector: Copy;
    /// What holds [`LANES`] sums.
    type Sums: Copy;
    /// Added to elements before they are multiplied: 128 if the instruction takes unsigned ones, which is the highest
    /// bit flipped.
    const OFFSET: i32;
    /// Pixels whose sums, with a group of weights, fit the registers.
    const PIXELS: usize;

    unsafe fn load(group: *const Group) -> Self::Vector;
    unsafe fn store(group: *mut Group, vector: Self::Vector);
    /// The first `count` elements of four rows channel by channel, and any values for those that are missing;
    /// `1..=LANES`.
    unsafe fn interleave(rows: [*const i8; GROUP], count: usize) -> Self::Vector;
    /// The larger of each element and `low`, with the offset.
    unsafe fn read(vector: Self::Vector, low: i8) -> Self::Vector;
    /// Reads `from` in the same way to `to`, behind which [`SLACK`] bytes may be overwritten.
    unsafe fn copy(from: &[i8], low: i8, to: *mut u8);
    unsafe fn sums(values: &[i32; LANES]) -> Self::Sums;
    unsafe fn values(sums: Self::Sums) -> [i32; LANES];
    /// Adds the four products of each channel.
    unsafe fn add(sums: Self::Sums, x: Self::Vector, w: Self::Vector) -> Self::Sums;
    /// The same with the four elements at `x` for all channels.
    unsafe fn add_splat(sums: Self::Sums, x: *const u8, w: Self::Vector) -> Self::Sums;
    /// Writes the first `count` sums, rescaled, to `y`: added to `zero`, or with `accumulate` to what is there.
    unsafe fn write(sums: Self::Sums, tile: &Tile, y: *mut i8, count: usize, zero: i8, accumulate: bool);
}

/// What a kernel prepares of its weights, with the first row that it computes, and elements of pixels that are
/// multiplied next. It belongs to one call of a kernel, all of whose rows have the same weights.
pub(super) struct Space {
    dense: Prepared<DENSE_GROUPS>,
    depthwise: Prepared<DEPTHWISE_GROUPS>,
    /// A pixel outside of the image.
    outside: [i8; MAX_TILES * LANES],
    columns: Columns,
}

#[repr(C, align(64))]
struct Columns(MaybeUninit<[u8; PIXELS * MAX_ROWS + SLACK]>);

impl Space {
    /// Not a constant, which would be copied, tens of kilobytes of it.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            dense: Prepared::new(),
            depthwise: Prepared::new(),
            outside: [0; MAX_TILES * LANES],
            columns: Columns(MaybeUninit::uninit()),
        }
    }
}

/// The least element that counts.
fn low(input: Int8Input) -> i8 {
    if input.relu { input.zero } else { i8::MIN }
}

/// Whether there is one for the kernels' instruction set.
pub(super) fn is_available(kernels: Kernels) -> bool {
    kernels.isa() != Isa::Scalar
}

/// Calls a body with the instruction of the kernels. It is an unsafe operation: the processor must have it.
macro_rules! dispatch_dot {
    ($kernels:expr, $body:ident($($argument:ident: $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn vnni($($argument: $type),*) {
            // SAFETY: the instruction set is enabled; the rest is promised by the caller.
            unsafe { $body::<vnni::Vnni>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn avx2($($argument: $type),*) {
            // SAFETY: as above.
            unsafe { $body::<avx2::Avx2>($($argument),*) }
        }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon,dotprod")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn sdot($($argument: $type),*) {
            // SAFETY: as above.
            unsafe { $body::<neon::Neon<neon::Sdot>>($($argument),*) }
        }
        #[cfg(target_arch = "aarch64")]
        #[target_feature(enable = "neon")]
        #[allow(clippy::too_many_arguments)]
        unsafe fn neon($($argument: $type),*) {
            // SAFETY: as above.
            unsafe { $body::<neon::Neon<neon::Pairs>>($($argument),*) }
        }
        match $kernels.int8_dot() {
            #[cfg(target_arch = "x86_64")]
            Some(_) => vnni($($argument),*),
            #[cfg(target_arch = "x86_64")]
            None => avx2($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Some(_) => sdot($($argument),*),
            #[cfg(target_arch = "aarch64")]
            None => neon($($argument),*),
        }
    }};
}

/// Whether a dense convolution fits the space.
pub(super) fn fits_dense(parts: &[Int8Part<'_>], shape: &DenseShape) -> bool {
    (1..=MAX_ROWS).contains(&dense::rows(parts, shape))
}

/// Whether a depthwise convolution fits the space.
pub(super) fn fits_depthwise(shape: &SeparableShape) -> bool {
    shape.kernel * shape.kernel <= MAX_TAPS && shape.input.channels <= MAX_TILES * LANES
}

/// As [`dense`](super::bodies::dense).
///
/// # Safety
///
/// There is an instruction for the kernels, and the convolution fits.
pub(super) unsafe fn dense(
    kernels: Kernels,
    parts: &[Int8Part<'_>],
    input: Int8Input,
    target: &mut Int8Target<'_>,
    shape: DenseShape,
    space: &mut Space,
) {
    // SAFETY: promised by the caller.
    unsafe {
        dispatch_dot!(
            kernels,
            dense_body(
                parts: &[Int8Part<'_>],
                input: Int8Input,
                target: &mut Int8Target<'_>,
                shape: DenseShape,
                space: &mut Space,
            )
        );
    }
}

/// As [`depthwise_row`](super::bodies::depthwise_row).
///
/// # Safety
///
/// As [`dense`].
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn depthwise_row(
    kernels: Kernels,
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Depthwise<'_>,
    row: usize,
    y: &mut [i8],
    space: &mut Space,
) {
    // SAFETY: promised by the caller.
    unsafe {
        dispatch_dot!(
            kernels,
            depthwise_row_body(
                x: &[i8],
                shape: &SeparableShape,
                input: Int8Input,
                weights: &Int8Depthwise<'_>,
                row: usize,
                y: &mut [i8],
                space: &mut Space,
            )
        );
    }
}
