//! How much work a step is.

use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, PoolShape, SeparableShape};

use super::{Int8Step, Step, Storage};

impl Step {
    /// Operations of the step, to say before it runs how long it can take: its multiply-adds, comparisons or additions,
    /// and the elements of every image that it reads or writes otherwise. `u64::MAX` stands for more than that.
    pub fn operations(&self) -> u64 {
        match *self {
            Self::Prelude { shape, padding, .. } => elements(shape.padded(padding)),
            Self::Depthwise { shape, weights, .. } => {
                let widened = if weights.storage == Storage::F16 { product([shape.weights()]) } else { 0 };
                depthwise(shape).saturating_add(widened)
            }
            Self::Separable { shape, weights, .. } => {
                let count = shape.depthwise().weights().saturating_add(shape.pointwise().weights());
                let widened = if weights.storage == Storage::F16 { product([count]) } else { 0 };
                separable(shape).saturating_add(widened)
            }
            Self::Dense { shape, weights, .. } => {
                let widened = if weights.storage == Storage::F16 { product([shape.weights()]) } else { 0 };
                dense(shape).saturating_add(widened)
            }
            Self::MaxPool { shape, .. } | Self::AvgPool { shape, .. } => pool(shape),
            Self::GlobalAvgPool { shape, .. } | Self::Add { shape, .. } | Self::Zero { shape, .. } => elements(shape),
            Self::Int8(ref step) => int8(step),
        }
    }
}

fn int8(step: &Int8Step) -> u64 {
    match *step {
        Int8Step::Quantize { shape, .. }
        | Int8Step::Dequantize { shape, .. }
        | Int8Step::GlobalAvgPool { shape, .. }
        | Int8Step::Rescale { shape, .. }
        | Int8Step::Zero { shape, .. } => elements(shape),
        Int8Step::Prelude { shape, padding, .. } => elements(shape.padded(padding)),
        Int8Step::Separable { shape, .. } => separable(shape),
        Int8Step::Dense { shape, .. } => dense(shape),
        Int8Step::MaxPool { shape, .. } | Int8Step::AvgPool { shape, .. } => pool(shape),
    }
}

fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
}

fn elements(shape: ImageShape) -> u64 {
    product([shape.height, shape.width, shape.channels])
}

fn depthwise(shape: DepthwiseShape) -> u64 {
    elements(shape.output()).saturating_mul(product([shape.kernel, shape.kernel]))
}

fn dense(shape: DenseShape) -> u64 {
    let taps = product([shape.kernel_height, shape.kernel_width, shape.input.channels]);
    elements(shape.output()).saturating_mul(taps)
}

/// With the padded image, of which more can lie beside the windows than in them.
fn separable(shape: SeparableShape) -> u64 {
    let padded = elements(shape.input.padded(shape.padding()));
    padded.saturating_add(depthwise(shape.depthwise())).saturating_add(dense(shape.pointwise()))
}

fn pool(shape: PoolShape) -> u64 {
    elements(shape.output()).saturating_mul(product([shape.kernel, shape.kernel]))
}
