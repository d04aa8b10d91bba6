//! How many instructions an inference takes on a device, estimated from the work of each step. Instructions are not
//! cycles.

pub mod cortex_a53;
pub mod cortex_m;
#[cfg(test)]
pub(crate) mod tests;

use darts_core::Step;
use darts_kernels_simd::DenseShape;

/// Weights of a step in floating point.
fn weights(step: &Step) -> usize {
    match *step {
        Step::Depthwise { shape, .. } => shape.weights(),
        Step::Separable { shape, .. } => shape.depthwise().weights() + shape.pointwise().weights(),
        Step::Dense { shape, .. } => shape.weights(),
        _ => 0,
    }
}

/// Whether the windows of a dense convolution are the pixels of the image, one by one.
fn is_pointwise(shape: DenseShape) -> bool {
    [shape.kernel_height, shape.kernel_width, shape.stride_height, shape.stride_width] == [1; 4]
        && [shape.offset_height, shape.offset_width] == [0; 2]
}
