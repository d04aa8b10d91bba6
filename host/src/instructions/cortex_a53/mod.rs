//! A Cortex-A53: NEON, without the instruction for sums of products of 8-bit integers.
//!
//! The numbers below are fitted to those of DARTS_V1, DARTS_V2, NASNet and AmoebaNet at 4 to 36 channels with 4 to 8
//! cells on 1×28×28 images, function by function (`scripts/neon-instructions --functions MODEL`, 2026-11-24). Of a
//! whole network the estimate is within 5 %.

mod int8;

use darts_core::{Step, Storage};
use darts_kernels_simd::DenseShape;

use super::weights;

/// Numbers of a register.
const LANES: usize = 4;

/// For each multiply-add of four output channels in a dense or 1×1 convolution, and for each element of a window in
/// each strip of them: of four registers, and of two and of one for what is left.
const DENSE: f64 = 1.14;
const DENSE_STRIP: f64 = 1.53;
/// For each four of its outputs, and each pixel.
const DENSE_OUTPUT: f64 = 2.3;
const DENSE_PIXEL: f64 = 9.2;
/// For each multiply-add of four channels in a depthwise convolution, each four outputs, and each row.
const DEPTHWISE: f64 = 2.52;
const DEPTHWISE_OUTPUT: f64 = 4.9;
const DEPTHWISE_ROW: f64 = 356.0;
/// For each element of the source of a separable convolution, to pad and rectify it.
const SEPARABLE: f64 = 2.2;
/// For four elements of the windows of a pool.
const MAX_POOL: f64 = 4.2;
const AVG_POOL: f64 = 2.9;
/// For each element that is added, and for each that is copied.
const ADD: f64 = 5.2;
const COPY: f64 = 1.0;
/// For each weight in half precision.
const WIDEN: f64 = 5.3;
/// For each step: to read its record and find its regions.
const STEP: f64 = 300.0;

/// Instructions of one inference.
pub fn instructions(steps: &[Step]) -> u64 {
    let of_step = |step: &Step| match step {
        Step::Int8(step) => int8::work(step),
        _ => STEP + work(step),
    };
    steps.iter().map(of_step).sum::<f64>() as u64
}

fn work(step: &Step) -> f64 {
    let half = step.weights().is_some_and(|weights| weights.storage == Storage::F16);
    let widening = if half { WIDEN * weights(step) as f64 } else { 0.0 };
    let quads = |channels: usize| channels.div_ceil(LANES) as f64;
    widening
        + match *step {
            Step::Dense { shape, .. } => dense(shape),
            Step::Depthwise { shape, .. } => {
                let output = shape.output();
                let taps = (shape.kernel * shape.kernel) as f64;
                output.pixels() as f64 * quads(shape.input.channels) * (DEPTHWISE * taps + DEPTHWISE_OUTPUT)
                    + DEPTHWISE_ROW * output.height as f64
            }
            Step::Separable { shape, .. } => {
                let output = shape.output();
                let taps = (shape.kernel * shape.kernel) as f64;
                output.pixels() as f64 * quads(shape.input.channels) * (DEPTHWISE * taps + DEPTHWISE_OUTPUT)
                    + DEPTHWISE_ROW * output.height as f64
                    + SEPARABLE * shape.input.len() as f64
                    + dense(shape.pointwise())
            }
            Step::MaxPool { shape, .. } | Step::AvgPool { shape, .. } => {
                let elements = (shape.output().pixels() * shape.kernel * shape.kernel) as f64;
                let each = if matches!(step, Step::MaxPool { .. }) { MAX_POOL } else { AVG_POOL };
                each * elements * quads(shape.input.channels)
            }
            Step::GlobalAvgPool { shape, .. } | Step::Add { shape, .. } => ADD * shape.len() as f64,
            Step::Prelude { shape, padding, .. } => COPY * shape.padded(padding).len() as f64,
            Step::Zero { shape, .. } => COPY * shape.len() as f64,
            Step::Int8(ref step) => int8::work(step),
        }
}

fn dense(shape: DenseShape) -> f64 {
    let quads = shape.output_channels.div_ceil(LANES);
    let strips = quads / 4 + quads % 4 / 2 + quads % 2;
    let window = (shape.kernel_height * shape.kernel_width * shape.input.channels) as f64;
    shape.output().pixels() as f64
        * (window * (DENSE * quads as f64 + DENSE_STRIP * strips as f64) + DENSE_OUTPUT * quads as f64 + DENSE_PIXEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::tests::{int8_steps, steps};

    /// As `scripts/neon-instructions` counted them, on integers and in `f32`.
    #[test]
    fn estimates_are_near_what_was_counted() {
        let counted = [
            ("AmoebaNet", 4, 5, 11_708_378.0, 2_540_526.0),
            ("AmoebaNet", 16, 5, 33_323_932.0, 15_307_471.0),
            ("DARTS_V1", 8, 5, 9_469_404.0, 3_501_443.0),
            ("DARTS_V1", 24, 8, 59_263_938.0, 32_076_869.0),
            ("DARTS_V2", 4, 5, 6_495_604.0, 1_682_939.0),
            ("DARTS_V2", 8, 5, 9_724_205.0, 3_595_018.0),
            ("DARTS_V2", 12, 4, 12_472_320.0, 5_042_983.0),
            ("DARTS_V2", 36, 5, 63_726_443.0, 39_222_726.0),
            ("NASNet", 8, 5, 18_062_762.0, 5_872_640.0),
        ];
        for (name, channels, layers, int8, float) in counted {
            let ratio = |steps: &[Step], counted: f64| instructions(steps) as f64 / counted;
            let (int8, float) =
                (ratio(&int8_steps(name, channels, layers), int8), ratio(&steps(name, channels, layers), float));
            assert!((0.95..=1.05).contains(&int8), "{name}, C={channels}, on integers: {int8:.3}");
            assert!((0.95..=1.05).contains(&float), "{name}, C={channels}: {float:.3}");
        }
    }
}
