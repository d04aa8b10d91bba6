//! Sizes of the regions of a step, and whether a step is sound.
//!
//! Everything a kernel asserts is established here, so that executing a checked step cannot panic. Sizes are computed
//! in `u64`: the fields of a record are at most 16 bits (extents, channels) and 8 bits (filters), so that no product of
//! one image or filter overflows.

use core::ops::Range;

use darts_kernels_simd::{DenseShape, ImageShape, Padding, PoolShape, SeparableShape};

use super::{Operand, Place, Step, StepError, Storage, Weights};

/// Bytes of the regions of a step; 0 where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What it reads.
    pub source: u64,
    /// What it writes, from the first to the last element.
    pub target: u64,
    /// Where it keeps intermediate rows and widened weights.
    pub scratch: u64,
    /// Weights, with the bias behind them.
    pub weights: u64,
}

/// What the regions of a step must fit into, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The network's input.
    pub input: u64,
    /// The network's output.
    pub output: u64,
    /// The workspace.
    pub workspace: u64,
    /// The weights section.
    pub weights: u64,
}

const F32: u64 = 4;
const F16: u64 = 2;

/// First multiple of 4 that is not below `bytes`; there a bias begins.
pub(crate) const fn align4(bytes: u64) -> u64 {
    bytes.next_multiple_of(4)
}

pub(super) fn bytes(shape: ImageShape) -> u64 {
    shape.height as u64 * shape.width as u64 * shape.channels as u64 * F32
}

/// Requires a number to be in a range.
pub(super) fn within(
    name: &'static str,
    value: usize,
    range: core::ops::RangeInclusive<usize>,
) -> Result<(), StepError> {
    if range.contains(&value) { Ok(()) } else { Err(StepError::Parameter { name, value }) }
}

const BYTE: usize = u8::MAX as usize;
const WORD: usize = u16::MAX as usize;
/// Largest extent of a depthwise filter that the kernels take.
const DEPTHWISE_KERNEL: usize = 7;
/// Most bytes of the padded images of a separable convolution: below, nothing overflows 32 bits.
const SEPARABLE_BYTES: u64 = 1 << 30;

pub(super) fn image(shape: ImageShape) -> Result<(), StepError> {
    within("height", shape.height, 1..=WORD)?;
    within("width", shape.width, 1..=WORD)?;
    within("channels", shape.channels, 1..=WORD)
}

/// Checks an image and what is put around it.
pub(super) fn padded(shape: ImageShape, padding: Padding) -> Result<(), StepError> {
    image(shape)?;
    within("padding", padding.top, 0..=BYTE)?;
    within("padding", padding.bottom, 0..=BYTE)?;
    within("padding", padding.left, 0..=BYTE)?;
    within("padding", padding.right, 0..=BYTE)
}

/// Checks the shape of a dense convolution.
pub(super) fn dense(shape: DenseShape) -> Result<(), StepError> {
    image(shape.input)?;
    within("output channels", shape.output_channels, 1..=WORD)?;
    within("output pixel stride", shape.output_pixel_stride, shape.output_channels..=WORD)?;
    within("kernel", shape.kernel_height, 1..=BYTE)?;
    within("kernel", shape.kernel_width, 1..=BYTE)?;
    within("stride", shape.stride_height, 1..=BYTE)?;
    within("stride", shape.stride_width, 1..=BYTE)?;
    within("offset", shape.offset_height, 0..=BYTE)?;
    within("offset", shape.offset_width, 0..=BYTE)
}

/// Elements from the first to the last of a dense convolution's output.
pub(super) fn dense_target(shape: DenseShape) -> u64 {
    let output = shape.output();
    match output.height as u64 * output.width as u64 {
        0 => 0,
        pixels => (pixels - 1) * shape.output_pixel_stride as u64 + shape.output_channels as u64,
    }
}

/// Checks the windows of a pool.
pub(super) fn window(shape: PoolShape) -> Result<(), StepError> {
    image(shape.input)?;
    within("kernel", shape.kernel, 1..=BYTE)?;
    within("stride", shape.stride, 1..=BYTE)?;
    // So every window has its centre, and with that a pixel, inside the image.
    within("padding", shape.padding, 0..=(shape.kernel - 1) / 2)
}

impl Step {
    /// Bytes of the step's regions, wherever they lie.
    ///
    /// # Errors
    ///
    /// [`StepError::Parameter`] if a number is out of its range, [`StepError::Empty`] if a window does not fit its
    /// image.
    pub fn sizes(&self) -> Result<Sizes, StepError> {
        if let Self::Int8(step) = self {
            let sizes = step.sizes()?;
            return if sizes.target == 0 { Err(StepError::Empty(Operand::Target)) } else { Ok(sizes) };
        }
        if !cfg!(feature = "float") {
            return Err(StepError::Float);
        }
        let sizes = match *self {
            Self::Prelude { shape, padding, .. } => {
                padded(shape, padding)?;
                Sizes { source: bytes(shape), target: bytes(shape.padded(padding)), ..Sizes::default() }
            }
            Self::Depthwise { shape, weights, scratch, .. } => {
                image(shape.input)?;
                depthwise(shape.kernel, shape.stride, shape.dilation)?;
                weights.check_scratch(scratch)?;
                let elements = (shape.kernel * shape.kernel) as u64 * shape.input.channels as u64;
                Sizes {
                    source: bytes(shape.input),
                    target: bytes(shape.output()),
                    scratch: weights.widened(elements),
                    weights: weights.stored_bytes(elements, None),
                }
            }
            Self::Separable { shape, weights, bias, .. } => separable_sizes(shape, weights, bias)?,
            Self::Dense { shape, weights, bias, scratch, block, .. } => {
                dense(shape)?;
                let channels = shape.output_channels;
                weights.check_scratch(scratch)?;
                let blocks = if weights.storage == Storage::F16 { 1..=channels } else { 0..=0 };
                within("block", block.into(), blocks)?;
                let rows = (shape.kernel_height * shape.kernel_width) as u64 * shape.input.channels as u64;
                let scratch = weights.widened(rows * u64::from(block));
                let weights = weights.stored_bytes(rows * channels as u64, bias.then_some(channels));
                Sizes { source: bytes(shape.input), target: dense_target(shape) * F32, scratch, weights }
            }
            Self::MaxPool { shape, .. } | Self::AvgPool { shape, .. } => {
                window(shape)?;
                Sizes { source: bytes(shape.input), target: bytes(shape.output()), ..Sizes::default() }
            }
            Self::GlobalAvgPool { shape, .. } => {
                image(shape)?;
                Sizes { source: bytes(shape), target: shape.channels as u64 * F32, ..Sizes::default() }
            }
            Self::Add { shape, .. } => {
                image(shape)?;
                Sizes { source: bytes(shape), target: bytes(shape), ..Sizes::default() }
            }
            Self::Zero { shape, .. } => {
                image(shape)?;
                Sizes { target: bytes(shape), ..Sizes::default() }
            }
            Self::Int8(_) => return Err(StepError::Float),
        };
        if sizes.target == 0 { Err(StepError::Empty(Operand::Target)) } else { Ok(sizes) }
    }

    /// Checks that the regions begin at multiples of 4 bytes, lie inside `limits` and do not overlap, and that the
    /// input or output is read or written as a whole. Returns the workspace bytes that the step needs: the end of its
    /// last region there.
    ///
    /// # Errors
    ///
    /// The first of these that does not hold, and as [`sizes`](Self::sizes).
    pub fn check(&self, limits: &Limits) -> Result<u64, StepError> {
        let sizes = self.sizes()?;
        let regions = self.regions(&sizes);
        let external = |operand, place, found, expected| match place {
            Some(Place::External) if found != expected => Err(StepError::ExternalLength { operand, found, expected }),
            _ => Ok(()),
        };
        external(Operand::Source, self.source(), sizes.source, limits.input)?;
        external(Operand::Target, Some(self.target()), sizes.target, limits.output)?;
        let mut needed = 0;
        for (i, (operand, region)) in regions.iter().enumerate() {
            let Some(region) = region else { continue };
            let limit = if *operand == Operand::Weights { limits.weights } else { limits.workspace };
            if !region.start.is_multiple_of(self.alignment(*operand)) {
                // Regions begin at offsets of 32 bits.
                return Err(StepError::Unaligned { operand: *operand, start: region.start as u32 });
            }
            if region.end > limit {
                return Err(StepError::Outside { operand: *operand, end: region.end, limit });
            }
            if *operand == Operand::Weights {
                continue;
            }
            needed = region.end.max(needed);
            for (other, earlier) in regions.iter().take(i) {
                if earlier.as_ref().is_some_and(|earlier| earlier.start < region.end && region.start < earlier.end) {
                    return Err(StepError::Overlap(*other, *operand));
                }
            }
        }
        Ok(needed)
    }

    /// What the start of a region must be a multiple of.
    fn alignment(&self, operand: Operand) -> u64 {
        match self {
            Self::Int8(step) if operand != Operand::Weights => step.alignment(operand),
            _ => 4,
        }
    }

    /// The regions in the workspace, and that in the weights section last.
    fn regions(&self, sizes: &Sizes) -> [(Operand, Option<Range<u64>>); 4] {
        let region = |start: u32, bytes: u64| u64::from(start)..u64::from(start) + bytes;
        let placed = |place, bytes| match place {
            Some(Place::Workspace(start)) => Some(region(start, bytes)),
            Some(Place::External) | None => None,
        };
        let scratch = self.scratch().filter(|_| sizes.scratch > 0).map(|scratch| region(scratch, sizes.scratch));
        [
            (Operand::Source, placed(self.source(), sizes.source)),
            (Operand::Target, placed(Some(self.target()), sizes.target)),
            (Operand::Scratch, scratch),
            (Operand::Weights, self.weights_offset().map(|offset| region(offset, sizes.weights))),
        ]
    }
}

/// Checks the filter of a depthwise convolution.
fn depthwise(kernel: usize, stride: usize, dilation: usize) -> Result<(), StepError> {
    within("kernel", kernel, 1..=DEPTHWISE_KERNEL)?;
    within("stride", stride, 1..=BYTE)?;
    within("dilation", dilation, 1..=BYTE)
}

/// Checks the shape of a separable convolution.
pub(super) fn separable(shape: SeparableShape) -> Result<(), StepError> {
    let SeparableShape { input, kernel, stride, dilation, output_channels } = shape;
    image(input)?;
    depthwise(kernel, stride, dilation)?;
    if kernel.is_multiple_of(2) {
        return Err(StepError::Parameter { name: "kernel", value: kernel });
    }
    within("output channels", output_channels, 1..=WORD)?;
    let padded = input.padded(shape.padding());
    for channels in [input.channels, output_channels] {
        if bytes(ImageShape { channels, ..padded }) > SEPARABLE_BYTES {
            return Err(StepError::Parameter { name: "channels", value: channels });
        }
    }
    Ok(())
}

fn separable_sizes(shape: SeparableShape, weights: Weights, bias: bool) -> Result<Sizes, StepError> {
    separable(shape)?;
    let SeparableShape { input, kernel, output_channels, .. } = shape;
    let elements = (kernel * kernel + output_channels) as u64 * input.channels as u64;
    Ok(Sizes {
        source: bytes(input),
        target: bytes(shape.output()),
        scratch: shape.forward_scratch() as u64 * F32 + weights.widened(elements),
        weights: weights.stored_bytes(elements, bias.then_some(output_channels)),
    })
}

impl Weights {
    /// Requires that `f32` weights, which are not widened, have no place for that.
    fn check_scratch(&self, scratch: u32) -> Result<(), StepError> {
        let last = if self.storage == Storage::F16 { usize::MAX } else { 0 };
        within("scratch", scratch as usize, 0..=last)
    }

    /// Bytes of so many weights once they are widened.
    fn widened(&self, elements: u64) -> u64 {
        match self.storage {
            Storage::F32 => 0,
            Storage::F16 => elements * F32,
        }
    }

    /// Bytes of so many weights in the file, and of the bias of so many channels behind them.
    fn stored_bytes(&self, elements: u64, bias: Option<usize>) -> u64 {
        let bias = bias.map_or(0, |channels| channels as u64 * F32);
        match self.storage {
            Storage::F32 => elements * F32 + bias,
            Storage::F16 => align4(elements * F16) + bias,
        }
    }
}
