//! Shapes and output-size arithmetic. Every kernel works on one image in `[H, W, C]` (channels last); batches are loops
//! of the caller. Convolutions are *valid* (no padding of their own): the caller pads with [`Padding`] while it applies
//! the activation that precedes the convolution, which is one pass that has to be made anyway.

use core::ops::Range;

/// Elements of a line of the cache.
const LINE: usize = 16;

/// Output pixels, at least, that the forward pass of a separable convolution takes together: with 32 the calls take 3 %
/// more (AMD EPYC, Zen 4, 3×3 at 16 channels, 2026-11-24).
const FORWARD_PIXELS: usize = 64;

/// Output pixels, at least, that the backward pass of a separable convolution takes together: 128 are no faster (AMD
/// EPYC, Zen 4, 3×3 and 5×5 at 16 to 36 channels, 2026-11-24), nor on Zen 5. Where a pixel is no whole line it is twice
/// as many: at 8 channels the calls take 4 to 10 % less (AMD EPYC, Zen 5, 3×3 and 5×5, 28×28 and 32×32, 2026-11-29).
const BACKWARD_PIXELS: usize = 64;

/// Height, width and channels of one image, `[H, W, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels, the fastest index.
    pub channels: usize,
}

impl ImageShape {
    /// A shape of `height × width × channels`.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels }
    }
    /// `height * width`.
    pub const fn pixels(&self) -> usize {
        self.height * self.width
    }
    /// Number of elements, `height * width * channels`.
    pub const fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// Whether the image has no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// See [`is_sane`].
    pub(crate) const fn is_sane(&self) -> bool {
        is_sane(&[], &[&[self.height, self.width, self.channels]])
    }
    /// The shape after padding.
    pub const fn padded(&self, padding: Padding) -> Self {
        Self {
            height: self.height + padding.top + padding.bottom,
            width: self.width + padding.left + padding.right,
            channels: self.channels,
        }
    }
}

/// Rows and columns of zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const NONE: Self = Self { top: 0, bottom: 0, left: 0, right: 0 };
    /// `rows` above and below, `columns` left and right.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Self { top: rows, bottom: rows, left: columns, right: columns }
    }
}

/// Output extent of a window of `kernel` elements spread by `dilation`, moved by `stride`, over `input` elements that
/// already include any padding. Zero when the window does not fit.
pub const fn valid_extent(input: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
    let span = dilation * (kernel - 1) + 1;
    if input < span { 0 } else { divide(input - span, stride) + 1 }
}

/// `a / b`, without the time of a division for the strides and dilations of DARTS: the kernels ask for extents row by
/// row.
pub(crate) const fn divide(a: usize, b: usize) -> usize {
    match b {
        1 => a,
        2 => a / 2,
        // No shape that is sane has a stride or dilation of 0; a division by it would be a way to panic.
        0 => 0,
        _ => a / b,
    }
}

/// The same, rounded up.
pub(crate) const fn divide_up(a: usize, b: usize) -> usize {
    let quotient = divide(a, b);
    if quotient * b < a { quotient + 1 } else { quotient }
}

/// Whether the sizes are positive where they have to be and their products fit `usize`, so that the other functions
/// here can be relied on.
const fn is_sane(positive: &[usize], products: &[&[usize]]) -> bool {
    let mut i = 0;
    while i < positive.len() {
        if positive[i] == 0 {
            return false;
        }
        i += 1;
    }
    let mut p = 0;
    while p < products.len() {
        let (mut product, mut i) = (1usize, 0);
        while i < products[p].len() {
            match product.checked_mul(products[p][i]) {
                Some(next) => product = next,
                None => return false,
            }
            i += 1;
        }
        p += 1;
    }
    true
}

/// A depthwise convolution over an already padded image: every channel with its own `kernel × kernel` filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// The padded input, `[H, W, C]`.
    pub input: ImageShape,
    /// Filter extent in both directions (3, 5 or 7).
    pub kernel: usize,
    /// Step of the window in both directions.
    pub stride: usize,
    /// Distance between neighbouring taps.
    pub dilation: usize,
}

impl DepthwiseShape {
    /// The output, `[H_out, W_out, C]`.
    pub const fn output(&self) -> ImageShape {
        ImageShape::new(
            valid_extent(self.input.height, self.kernel, self.stride, self.dilation),
            valid_extent(self.input.width, self.kernel, self.stride, self.dilation),
            self.input.channels,
        )
    }
    /// Elements of the weights `[kernel, kernel, C]`.
    pub const fn weights(&self) -> usize {
        self.kernel * self.kernel * self.input.channels
    }
    /// See [`is_sane`].
    pub(crate) const fn is_sane(&self) -> bool {
        let ImageShape { height, width, channels } = self.input;
        is_sane(
            &[self.kernel, self.stride, self.dilation],
            &[&[height, width, channels], &[self.kernel, self.kernel, channels], &[self.kernel, self.dilation]],
        )
    }
    /// Width of a row of the output with as many zeros left and right as the gradient of the input reads.
    pub(crate) const fn backward_width(&self) -> usize {
        self.backward_padding() + divide_up(self.input.width, self.stride)
    }
    /// Zeros on the left of such a row.
    pub(crate) const fn backward_padding(&self) -> usize {
        divide((self.kernel - 1) * self.dilation, self.stride)
    }
    /// Rows of the gradient of the input that are computed together.
    pub(crate) const BACKWARD_BATCH: usize = 8;
    /// Rows of the output at most that reach one row of the input.
    pub(crate) const fn backward_rows(&self) -> usize {
        self.backward_padding() + 1
    }
    /// Elements of the scratch that the gradient with respect to the input needs.
    pub const fn backward_scratch(&self) -> usize {
        let rows = self.backward_rows() + Self::BACKWARD_BATCH - 1;
        if self.output().is_empty() { 0 } else { rows * self.backward_width() * self.input.channels }
    }
}

/// A dense convolution over an already padded image. A 1×1 kernel is the pointwise convolution.
///
/// The output may be a group of channels inside a wider image: pixel `p` of the output starts at element
/// `p * output_pixel_stride` of the slice given. This is how the two halves of a factorized reduction are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape {
    /// The padded input, `[H, W, C_in]`.
    pub input: ImageShape,
    /// Output channels.
    pub output_channels: usize,
    /// Filter rows.
    pub kernel_height: usize,
    /// Filter columns.
    pub kernel_width: usize,
    /// Step between output rows.
    pub stride_height: usize,
    /// Step between output columns.
    pub stride_width: usize,
    /// Row of the input at which the first window starts (1 for the second half of a factorized reduction).
    pub offset_height: usize,
    /// Column of the input at which the first window starts.
    pub offset_width: usize,
    /// Elements between neighbouring output pixels, at least `output_channels`.
    pub output_pixel_stride: usize,
}

impl DenseShape {
    /// A 1×1 convolution at stride 1 from `input` to `output_channels`, written contiguously.
    pub const fn pointwise(input: ImageShape, output_channels: usize) -> Self {
        Self::square(input, output_channels, 1, 1)
    }
    /// A `kernel × kernel` convolution with the same stride in both directions, written contiguously.
    pub const fn square(input: ImageShape, output_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            input,
            output_channels,
            kernel_height: kernel,
            kernel_width: kernel,
            stride_height: stride,
            stride_width: stride,
            offset_height: 0,
            offset_width: 0,
            output_pixel_stride: output_channels,
        }
    }
    /// The output, `[H_out, W_out, C_out]`.
    pub const fn output(&self) -> ImageShape {
        let height = self.input.height.saturating_sub(self.offset_height);
        let width = self.input.width.saturating_sub(self.offset_width);
        ImageShape::new(
            valid_extent(height, self.kernel_height, self.stride_height, 1),
            valid_extent(width, self.kernel_width, self.stride_width, 1),
            self.output_channels,
        )
    }
    /// Elements of the weights `[kernel_height, kernel_width, C_in, C_out]`.
    pub const fn weights(&self) -> usize {
        self.kernel_height * self.kernel_width * self.input.channels * self.output_channels
    }
    /// See [`is_sane`].
    pub(crate) const fn is_sane(&self) -> bool {
        let ImageShape { height, width, channels } = self.input;
        is_sane(
            &[self.kernel_height, self.kernel_width, self.stride_height, self.stride_width],
            &[
                &[height, width, channels],
                &[self.kernel_height, self.kernel_width, channels, self.output_channels],
                &[height, width, self.output_pixel_stride],
            ],
        )
    }
    /// Elements that the output slice must hold at least.
    pub const fn output_len(&self) -> usize {
        let pixels = self.output().pixels();
        if pixels == 0 { 0 } else { (pixels - 1) * self.output_pixel_stride + self.output_channels }
    }
}

/// A depthwise convolution with "same" padding and a 1×1 convolution over its output, the building block of separable
/// convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeparableShape {
    /// The input without padding, `[H, W, C]`.
    pub input: ImageShape,
    /// Filter extent of the depthwise convolution in both directions, odd.
    pub kernel: usize,
    /// Step of the depthwise window in both directions.
    pub stride: usize,
    /// Distance between neighbouring taps.
    pub dilation: usize,
    /// Channels of the output.
    pub output_channels: usize,
}

impl SeparableShape {
    /// Zeros around the input: `dilation · (kernel − 1) / 2` on each side.
    pub const fn padding(&self) -> Padding {
        let border = self.dilation * (self.kernel - 1) / 2;
        Padding::symmetric(border, border)
    }
    /// The depthwise convolution, over the padded input.
    pub const fn depthwise(&self) -> DepthwiseShape {
        DepthwiseShape {
            input: self.input.padded(self.padding()),
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
        }
    }
    /// The 1×1 convolution, over the output of the depthwise one.
    pub const fn pointwise(&self) -> DenseShape {
        DenseShape::pointwise(self.depthwise().output(), self.output_channels)
    }
    /// The output, `[H_out, W_out, C_out]`.
    pub const fn output(&self) -> ImageShape {
        self.pointwise().output()
    }
    /// Elements of the scratch of the forward pass. It is part of the model format of `darts-core`: another value for a
    /// shape needs a new version of that.
    pub const fn forward_scratch(&self) -> usize {
        let rows = self.strip_rows();
        LINE - 1
            + self.ring_rows(rows) * self.ring_row()
            + self.strip_len(rows, self.input.channels)
            + 2 * self.output_channels
    }
    /// Elements of the scratch of a forward pass with moments that stores past the caches, whatever the channels.
    pub const fn streaming_scratch(&self) -> usize {
        self.forward_scratch() + LINE - 1 + self.strip_len(self.strip_rows(), self.output_channels)
    }
    /// Elements of the scratch of the backward pass.
    pub const fn backward_scratch(&self) -> usize {
        let rows = self.backward_strip_rows();
        LINE - 1
            + (self.ring_rows(rows) + 1) * self.ring_row()
            + self.backward_ring_rows() * self.backward_ring_row()
            + self.backward_buffer()
            + self.strip_len(rows, self.output_channels)
            + 2 * self.input.channels
    }
    /// Elements of the scratch of the forward pass on 8-bit integers. It is part of the model format of `darts-core`,
    /// as [`forward_scratch`](Self::forward_scratch).
    pub const fn int8_scratch(&self) -> usize {
        self.output().width * self.input.channels
    }
    /// See [`is_sane`].
    pub(crate) const fn is_sane(&self) -> bool {
        let Self { input, kernel, stride, dilation, output_channels } = *self;
        if !input.is_sane() || kernel % 2 == 0 || !is_sane(&[kernel, stride, dilation], &[&[kernel, dilation]]) {
            return false;
        }
        let border = 2 * self.padding().top;
        let (Some(height), Some(width)) = (input.height.checked_add(border), input.width.checked_add(border)) else {
            return false;
        };
        let most_channels = if input.channels > output_channels { input.channels } else { output_channels };
        let (Some(rows), Some(row)) = (height.checked_add(2), width.checked_mul(most_channels)) else { return false };
        let Some(row) = row.checked_add(LINE) else { return false };
        is_sane(
            &[input.channels, output_channels],
            &[
                // No scratch is longer: its parts are rows of whole lines, no more of them than so many images have.
                &[8, rows, row],
                &[kernel, kernel, input.channels],
                &[input.channels, output_channels],
            ],
        )
    }
    /// The part of a scratch that starts at a line of the cache.
    pub(crate) fn aligned(scratch: &mut [f32]) -> &mut [f32] {
        let skip = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        scratch.get_mut(skip..).unwrap_or_default()
    }
    /// Output rows that the forward pass takes together.
    pub(crate) const fn strip_rows(&self) -> usize {
        self.rows_of(FORWARD_PIXELS)
    }
    /// Output rows that the backward pass takes together.
    pub(crate) const fn backward_strip_rows(&self) -> usize {
        self.rows_of(if self.input.channels < LINE { 2 * BACKWARD_PIXELS } else { BACKWARD_PIXELS })
    }
    /// As many output rows as have `pixels` pixels, or all.
    const fn rows_of(&self, pixels: usize) -> usize {
        let ImageShape { height, width, .. } = self.output();
        let rows = if width == 0 { 1 } else { pixels.div_ceil(width) };
        match height {
            0 => 1,
            _ if rows < height => rows,
            _ => height,
        }
    }
    /// Elements of a strip of `rows` output rows with `channels` channels, whole lines.
    pub(crate) const fn strip_len(&self, rows: usize, channels: usize) -> usize {
        (rows * self.output().width * channels).next_multiple_of(LINE)
    }
    /// Elements for a strip of the depthwise output, or later for rows of the gradient of the input,
    /// at least one.
    pub(crate) const fn backward_buffer(&self) -> usize {
        let strip = self.strip_len(self.backward_strip_rows(), self.input.channels);
        let row = (self.input.width * self.input.channels).next_multiple_of(LINE);
        if row > strip { row } else { strip }
    }
    /// Input rows under the windows of `strip_rows` output rows.
    pub(crate) const fn ring_rows(&self, strip_rows: usize) -> usize {
        self.dilation * (self.kernel - 1) + 1 + (strip_rows - 1) * self.stride
    }
    /// Rows of the depthwise output's gradient that a strip and the input rows complete with it need, whole strips.
    pub(crate) const fn backward_ring_rows(&self) -> usize {
        let rows = self.backward_strip_rows();
        (rows + self.depthwise().backward_padding()).next_multiple_of(rows)
    }
    /// Elements of one such row, whole lines.
    pub(crate) const fn backward_ring_row(&self) -> usize {
        (self.depthwise().backward_width() * self.input.channels).next_multiple_of(LINE)
    }
    /// Elements of one padded input row, whole lines.
    pub(crate) const fn ring_row(&self) -> usize {
        (self.depthwise().input.width * self.input.channels).next_multiple_of(LINE)
    }
    /// The rows of taps of output row `row` that lie inside the image.
    pub(crate) const fn taps(&self, row: usize) -> Range<usize> {
        let (start, border) = (row * self.stride, self.padding().top);
        let above = divide_up(border.saturating_sub(start), self.dilation);
        let end = divide_up((self.input.height + border).saturating_sub(start), self.dilation);
        above..if end < self.kernel { end } else { self.kernel }
    }
    /// Input rows above the end of the windows of output row `row`.
    pub(crate) const fn rows_needed(&self, row: usize) -> usize {
        let end = row * self.stride + self.padding().top + 1;
        if end < self.input.height { end } else { self.input.height }
    }
}

/// A square pooling window over an unpadded image; pixels outside the image never take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// The input, `[H, W, C]`.
    pub input: ImageShape,
    /// Window extent in both directions.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Virtual padding on every side: the first window starts at `-padding`.
    pub padding: usize,
}

impl PoolShape {
    /// The output, `[H_out, W_out, C]`.
    pub const fn output(&self) -> ImageShape {
        ImageShape::new(
            valid_extent(self.input.height + 2 * self.padding, self.kernel, self.stride, 1),
            valid_extent(self.input.width + 2 * self.padding, self.kernel, self.stride, 1),
            self.input.channels,
        )
    }
    /// See [`is_sane`]. A padding of less than half the window also lets no window lie outside the image.
    pub(crate) const fn is_sane(&self) -> bool {
        is_sane(&[self.kernel, self.stride], &[]) && self.input.is_sane() && self.padding < self.kernel.div_ceil(2)
    }
}
