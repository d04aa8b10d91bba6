//! Depthwise convolutions: the pixels under four taps at a time are interleaved.

use core::ops::Range;

use super::{Dot, GROUP, Group, MAX_TAPS, Space, Tile, low};
use crate::ops::int8::{Int8Depthwise, Int8Input};
use crate::shape::{ImageShape, SeparableShape};

/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn depthwise_row_body<D: Dot>(
    x: &[i8],
    shape: &SeparableShape,
    input: Int8Input,
    weights: &Int8Depthwise<'_>,
    row: usize,
    y: &mut [i8],
    space: &mut Space,
) {
    let (channels, taps) = (shape.input.channels, shape.kernel * shape.kernel);
    if space.depthwise.channels.is_empty() {
        let tap = |tap: usize| &weights.w[tap * channels..][..channels];
        // SAFETY: the processor is the caller's promise.
        unsafe { space.depthwise.prepare::<D>(tap, taps, 0..channels, input, weights.factors) };
        space.outside.fill(input.zero);
    }
    let window = Window { x, shape, row, outside: &space.outside[..channels] };
    let inside = window.inside();
    for (first, count, groups, tile) in space.depthwise.tiles() {
        let channels = Channels { first, count, groups, tile, low: low(input), zero: weights.zero };
        // SAFETY: the processor is the caller's promise, and the kernel's extent is looked at.
        unsafe {
            match shape.kernel {
                3 => window.columns_inside::<D, 3, 3>(inside.clone(), &channels, y),
                5 => window.columns_inside::<D, 5, 7>(inside.clone(), &channels, y),
                _ => {}
            }
        }
    }
    let done = if matches!(shape.kernel, 3 | 5) { inside } else { 0..0 };
    // Where a group has no more taps, the weights are 0.
    let mut pixels = [space.outside.as_ptr(); MAX_TAPS];
    for column in (0..done.start).chain(done.end..shape.output().width) {
        window.pixels(column, &mut pixels[..taps]);
        let y = &mut y[column * channels..][..channels];
        for (first, count, groups, tile) in space.depthwise.tiles() {
            // SAFETY: each pixel has all channels, and the processor is the caller's promise.
            unsafe {
                let mut sums = D::sums(&tile.start);
                for (pixels, group) in pixels.as_chunks::<GROUP>().0.iter().zip(groups) {
                    let [a, b, c, d] = *pixels;
                    let x = D::interleave([a.add(first), b.add(first), c.add(first), d.add(first)], count);
                    sums = D::add(sums, D::read(x, low(input)), D::load(group));
                }
                D::write(sums, tile, y[first..][..count].as_mut_ptr(), count, weights.zero, false);
            }
        }
    }
}

/// A few channels, and what becomes of them.
struct Channels<'a> {
    first: usize,
    count: usize,
    groups: &'a [Group],
    tile: &'a Tile,
    low: i8,
    zero: i8,
}

/// The windows of a row of output pixels.
struct Window<'a> {
    x: &'a [i8],
    shape: &'a SeparableShape,
    row: usize,
    /// A pixel outside of the image.
    outside: &'a [i8],
}

impl Window<'_> {
    /// Output columns whose windows are inside of the image; none if the rows are not.
    #[inline(always)]
    fn inside(&self) -> Range<usize> {
        let SeparableShape { input: ImageShape { width, .. }, kernel, stride, dilation, .. } = *self.shape;
        let (border, extent) = (self.shape.padding().left, (kernel - 1) * dilation);
        if self.shape.taps(self.row).len() == kernel && width > extent {
            border.div_ceil(stride)..(border + width - 1 - extent) / stride + 1
        } else {
            0..0
        }
    }

    /// Computes `channels` of the output columns `columns`, whose windows of `K × K` taps, in `GROUPS` groups, are
    /// inside.
    ///
    /// # Safety
    ///
    /// The processor has the instruction, and `K` is the kernel's extent.
    #[inline(always)]
    unsafe fn columns_inside<D: Dot, const K: usize, const GROUPS: usize>(
        &self,
        columns: Range<usize>,
        channels: &Channels<'_>,
        y: &mut [i8],
    ) {
        const { assert!(GROUPS == (K * K).div_ceil(GROUP)) };
        let SeparableShape { input: ImageShape { width, channels: all, .. }, stride, dilation, .. } = *self.shape;
        let Channels { first, count, groups, tile, low, zero } = *channels;
        if columns.is_empty() {
            return;
        }
        let border = self.shape.padding().left;
        let top = (self.row * stride - border) * width;
        let (row, tap) = (dilation * width * all, dilation * all);
        let windows = &self.x[(top + columns.start * stride - border) * all..];
        let last = (columns.len() - 1) * stride * all;
        assert!(last + (K - 1) * (row + tap) + first + count <= windows.len() && groups.len() == GROUPS);
        let y = &mut y[columns.start * all..columns.end * all];
        // SAFETY: the last window ends inside of `x`, as just asserted, and `y` has all channels of each column; the
        // groups are prepared, and the processor is the caller's promise.
        unsafe {
            let mut weights = [D::load(&groups[0]); GROUPS];
            for (weights, group) in weights.iter_mut().zip(groups) {
                *weights = D::load(group);
            }
            for (column, y) in y.chunks_exact_mut(all).enumerate() {
                let x = windows.as_ptr().add(column * stride * all + first);
                let mut sums = D::sums(&tile.start);
                for (group, weights) in weights.iter().enumerate() {
                    // Where there are no more taps, the weights are 0.
                    let mut pixels = [x; GROUP];
                    for (pixel, index) in pixels.iter_mut().zip(GROUP * group..K * K) {
                        *pixel = x.add(index / K * row + index % K * tap);
                    }
                    sums = D::add(sums, D::read(D::interleave(pixels, count), low), *weights);
                }
                D::write(sums, tile, y.as_mut_ptr().add(first), count, zero, false);
            }
        }
    }

    /// Finds the pixels under the taps of a window, one row behind the other.
    #[inline(always)]
    fn pixels(&self, column: usize, pixels: &mut [*const i8]) {
        let SeparableShape { input: ImageShape { width, channels, .. }, kernel, stride, dilation, .. } = *self.shape;
        let border = self.shape.padding().left;
        pixels.fill(self.outside.as_ptr());
        for i in self.shape.taps(self.row) {
            let h = self.row * stride + i * dilation - border;
            for (j, pixel) in pixels[i * kernel..][..kernel].iter_mut().enumerate() {
                if let Some(w) = (column * stride + j * dilation).checked_sub(border)
                    && w < width
                {
                    *pixel = self.x[(h * width + w) * channels..][..channels].as_ptr();
                }
            }
        }
    }
}
