//! Instructions of steps on 8-bit integers, by the kernels for the DSP extension.
//!
//! The numbers below are fitted to those that `scripts/kernel-instructions` counts at 8, 16 and 32 channels on 28×28
//! images (docs/edge.md; Cortex-M4F under emulation, 2026-11-24), with and without strides, dilations and ReLUs. A part
//! that depends neither on pixels nor on channels is what differs between few and many of them.

use darts_core::Int8Step;
use darts_kernels_simd::{DenseShape, Factor, ImageShape, Int8Input, PoolShape, Rescale, SeparableShape};

use crate::instructions::is_pointwise;

/// Channels that are computed together.
const QUAD: usize = 4;
/// Pixels of a row for which a dense convolution prepares its weights once.
const BLOCK: usize = 32;

/// For each multiply-add of a dense or 1×1 convolution, and more where a ReLU is computed.
const DENSE: f64 = 0.94;
const DENSE_RELU: f64 = 0.13;
/// For each of its outputs.
const DENSE_OUTPUT: f64 = 8.4;
/// For each block of pixels and output channel, and each block and weight.
const DENSE_BLOCK: f64 = 147.0;
const DENSE_WIDEN: f64 = 1.0;
/// For each pixel and four output channels, and row of a window whose elements are no multiple of four.
const DENSE_REST: f64 = 49.0;

/// For each tap inside of the image, and more where a ReLU is computed, and for each tap of a dilated window.
const DEPTHWISE: f64 = 2.73;
const DEPTHWISE_RELU: f64 = 0.5;
const DEPTHWISE_DILATED: f64 = 0.42;
/// For each of its outputs, each row and channel, and each row.
const DEPTHWISE_OUTPUT: f64 = 10.7;
const DEPTHWISE_CHANNEL: f64 = 60.0;
const DEPTHWISE_ROW: f64 = 390.0;

/// For each output of a 3×3 pool, and each of its pixels.
const MAX_POOL: f64 = 12.2;
const MAX_POOL_RESCALED: f64 = 18.0;
const MAX_POOL_PIXEL: f64 = 31.0;
const AVG_POOL: f64 = 22.5;
const AVG_POOL_PIXEL: f64 = 39.0;
/// For each element that is rescaled.
const RESCALE: f64 = 15.0;
/// For each element that is copied, and each that is converted or summed one by one; not measured alone.
const COPY: f64 = 1.0;
const CONVERT: f64 = 20.0;

/// Of the kernel of a step.
pub(super) fn work(step: &Int8Step) -> f64 {
    match *step {
        Int8Step::Dense { shape, input, .. } => dense(shape, input),
        Int8Step::Separable { shape, input, middle_zero, .. } => {
            let output = shape.output();
            let row = DenseShape { input: ImageShape { height: 1, ..shape.pointwise().input }, ..shape.pointwise() };
            let between = Int8Input { zero: middle_zero, relu: false };
            depthwise(shape, input) + output.height as f64 * dense_rows(row, between)
        }
        Int8Step::MaxPool { shape, rescale, .. } => {
            pool(shape, if copies(rescale) { MAX_POOL } else { MAX_POOL_RESCALED }, MAX_POOL_PIXEL)
        }
        Int8Step::AvgPool { shape, .. } => pool(shape, AVG_POOL, AVG_POOL_PIXEL),
        Int8Step::Rescale { shape, .. } => RESCALE * shape.len() as f64,
        Int8Step::Quantize { shape, .. }
        | Int8Step::Dequantize { shape, .. }
        | Int8Step::GlobalAvgPool { shape, .. } => CONVERT * shape.len() as f64,
        Int8Step::Prelude { shape, padding, .. } => COPY * shape.padded(padding).len() as f64,
        Int8Step::Zero { shape, .. } => COPY * shape.len() as f64,
    }
}

fn rectifies(input: Int8Input) -> bool {
    input.relu && input.zero != i8::MIN
}

fn dense(shape: DenseShape, input: Int8Input) -> f64 {
    let output = shape.output();
    if is_pointwise(shape) {
        // One row of all pixels.
        let input_row = ImageShape::new(1, shape.input.pixels(), shape.input.channels);
        dense_rows(DenseShape { input: input_row, ..shape }, input)
    } else {
        output.height as f64 * dense_rows(shape, input)
    }
}

/// Of one row of output pixels.
fn dense_rows(shape: DenseShape, input: Int8Input) -> f64 {
    let pixels = shape.output().width;
    let quads = shape.output_channels.div_ceil(QUAD);
    let weights = (quads * QUAD * shape.kernel_height * shape.kernel_width * shape.input.channels) as f64;
    let relu = if rectifies(input) { DENSE_RELU } else { 0.0 };
    let rest = if (shape.kernel_width * shape.input.channels).is_multiple_of(QUAD) { 0 } else { shape.kernel_height };
    let blocks = pixels.div_ceil(BLOCK) as f64;
    blocks * (DENSE_BLOCK * (quads * QUAD) as f64 + DENSE_WIDEN * weights)
        + pixels as f64
            * ((DENSE + relu) * weights + DENSE_OUTPUT * (quads * QUAD) as f64 + DENSE_REST * (quads * rest) as f64)
}

fn depthwise(shape: SeparableShape, input: Int8Input) -> f64 {
    let (output, channels) = (shape.output(), shape.input.channels.next_multiple_of(QUAD) as f64);
    let SeparableShape { kernel, stride, dilation, .. } = shape;
    let border = shape.padding().left;
    // Taps inside of the image, over all windows of a line.
    let inside = |outputs: usize, extent: usize| -> usize {
        let taps = |at: usize| {
            (0..kernel).filter(move |tap| (border..border + extent).contains(&(at * stride + tap * dilation)))
        };
        (0..outputs).map(|at| taps(at).count()).sum()
    };
    let taps = inside(output.height, shape.input.height) * inside(output.width, shape.input.width);
    let (rows, pixels) = (output.height as f64, (output.height * output.width) as f64);
    let relu = if rectifies(input) { DEPTHWISE_RELU } else { 0.0 };
    let dilated = if dilation > 1 { DEPTHWISE_DILATED * (kernel * kernel) as f64 } else { 0.0 };
    rows * DEPTHWISE_ROW
        + channels
            * (rows * DEPTHWISE_CHANNEL + pixels * (DEPTHWISE_OUTPUT + dilated) + taps as f64 * (DEPTHWISE + relu))
}

fn pool(shape: PoolShape, output: f64, pixel: f64) -> f64 {
    let pixels = (shape.output().height * shape.output().width) as f64;
    let windows = (shape.kernel * shape.kernel) as f64 / 9.0;
    pixels * windows * (output * shape.input.channels.next_multiple_of(QUAD) as f64 + pixel)
}

/// Whether elements stay what they are.
fn copies(rescale: Rescale) -> bool {
    let Rescale { factor: Factor { multiplier, shift }, source_zero, target_zero } = rescale;
    source_zero == target_zero && shift < 31 && multiplier == 1 << shift
}

#[cfg(test)]
mod tests {
    use super::super::instructions;
    use crate::instructions::tests::int8_steps;

    /// Of the whole firmware example, as `scripts/firmware-measure --integers` counted them, the start, the check of
    /// the file and the printing of the logits too, which no estimate contains.
    #[test]
    fn estimates_are_little_below_what_programs_took() {
        for (channels, counted) in [(8, 16_620_560.0), (4, 7_627_056.0)] {
            let ratio = instructions(&int8_steps("DARTS_V2", channels, 5)) as f64 / counted;
            assert!((0.85..1.0).contains(&ratio), "C={channels}: {ratio:.3}");
        }
    }
}
