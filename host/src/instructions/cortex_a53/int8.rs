//! Steps on 8-bit integers.

use darts_core::Int8Step;
use darts_kernels_simd::{DenseShape, SeparableShape};

/// Channels, terms and pixels that are computed together.
const LANES: usize = 8;
const GROUP: usize = 4;
const PIXELS: usize = 4;

/// For each four terms of the sums of eight channels of a dense or 1×1 convolution.
const DENSE: f64 = 12.45;
/// For each four and each eight of its outputs, and each block of pixels.
const DENSE_OUTPUT: f64 = 4.6;
const DENSE_OUTPUTS: f64 = 49.3;
const DENSE_BLOCK: f64 = 262.5;
/// For each element of a window, to lay it beside the others.
const DENSE_WINDOW: f64 = 1.7;
/// To prepare weights: for each four rows of eight channels, and each eight channels.
const PREPARE: f64 = 13.1;
const PREPARE_CHANNELS: f64 = 2180.0;

/// For each four taps of eight channels of a depthwise convolution, each four outputs, and each row.
const DEPTHWISE: f64 = 40.0;
const DEPTHWISE_OUTPUT: f64 = 34.2;
const DEPTHWISE_ROW: f64 = 115.0;
/// For each tap of a window that is not all inside of the image.
const DEPTHWISE_BORDER: f64 = 35.5;

/// For each output pixel of a 3×3 pool, and each of its channels; where eight have the maximum taken at once, for
/// these.
const MAX_POOL_PIXEL: f64 = 170.0;
const MAX_POOL_LANES: f64 = 225.0;
const MAX_POOL: f64 = 145.0;
const AVG_POOL_PIXEL: f64 = 404.0;
const AVG_POOL: f64 = 16.8;
/// For each element that is rescaled, that is converted or summed one by one, and that is copied.
const RESCALE: f64 = 9.85;
const CONVERT: f64 = 9.0;
const COPY: f64 = 1.4;
/// For each step: to read its record and find its regions.
const STEP: f64 = 1100.0;

/// Of a step.
pub(super) fn work(step: &Int8Step) -> f64 {
    let pool = |pixels: usize, kernel: usize, pixel: f64| (pixels * kernel * kernel) as f64 / 9.0 * pixel;
    STEP + match *step {
        Int8Step::Dense { shape, more, .. } => {
            let (blocks, each) = (shape.output().pixels().div_ceil(PIXELS), dense(shape));
            // Several are added up, and then written once.
            each + prepare(window(shape), shape.output_channels) + if more { 0.0 } else { written(shape, blocks) }
        }
        Int8Step::Separable { shape, .. } => {
            let (output, pointwise) = (shape.output(), shape.pointwise());
            let blocks = output.height * output.width.div_ceil(PIXELS);
            depthwise(shape)
                + prepare(shape.kernel * shape.kernel, shape.input.channels)
                + dense(pointwise)
                + prepare(window(pointwise), pointwise.output_channels)
                + written(pointwise, blocks)
        }
        Int8Step::MaxPool { shape, .. } => {
            let (whole, rest) = (shape.input.channels / LANES, shape.input.channels % LANES);
            let pixel = MAX_POOL_PIXEL + MAX_POOL_LANES * whole as f64 + MAX_POOL * rest as f64;
            pool(shape.output().pixels(), shape.kernel, pixel)
        }
        Int8Step::AvgPool { shape, .. } => {
            let pixel = AVG_POOL_PIXEL + AVG_POOL * shape.input.channels as f64;
            pool(shape.output().pixels(), shape.kernel, pixel)
        }
        Int8Step::Rescale { shape, .. } => RESCALE * shape.len() as f64,
        Int8Step::Quantize { shape, .. }
        | Int8Step::Dequantize { shape, .. }
        | Int8Step::GlobalAvgPool { shape, .. } => CONVERT * shape.len() as f64,
        Int8Step::Prelude { shape, padding, .. } => COPY * shape.padded(padding).len() as f64,
        Int8Step::Zero { shape, .. } => COPY * shape.len() as f64,
    }
}

fn window(shape: DenseShape) -> usize {
    shape.kernel_height * shape.kernel_width * shape.input.channels
}

fn prepare(rows: usize, channels: usize) -> f64 {
    channels.div_ceil(LANES) as f64 * (PREPARE * rows.div_ceil(GROUP) as f64 + PREPARE_CHANNELS)
}

fn dense(shape: DenseShape) -> f64 {
    let (window, channels) = (window(shape), shape.output_channels.div_ceil(LANES));
    shape.output().pixels() as f64 * (DENSE * (window.div_ceil(GROUP) * channels) as f64 + DENSE_WINDOW * window as f64)
}

fn written(shape: DenseShape, blocks: usize) -> f64 {
    let outputs = DENSE_OUTPUT * shape.output_channels.div_ceil(4) as f64
        + DENSE_OUTPUTS * shape.output_channels.div_ceil(LANES) as f64;
    shape.output().pixels() as f64 * outputs + DENSE_BLOCK * blocks as f64
}

fn depthwise(shape: SeparableShape) -> f64 {
    let (output, channels) = (shape.output(), shape.input.channels);
    let SeparableShape { kernel, stride, dilation, .. } = shape;
    let (border, extent, taps) = (shape.padding().left, (kernel - 1) * dilation, kernel * kernel);
    // Windows along a line that are inside of the image.
    let inside = |outputs: usize, pixels: usize| {
        (0..outputs)
            .filter(|at| (border..border + pixels).contains(&(at * stride)) && at * stride + extent < border + pixels)
            .count()
    };
    let outside = output.pixels() - inside(output.height, shape.input.height) * inside(output.width, shape.input.width);
    let groups = (taps.div_ceil(GROUP) * channels.div_ceil(LANES)) as f64;
    output.pixels() as f64 * (DEPTHWISE * groups + DEPTHWISE_OUTPUT * channels.div_ceil(4) as f64)
        + DEPTHWISE_ROW * output.height as f64
        + DEPTHWISE_BORDER * (outside * taps) as f64
}
