//! A Cortex-M4F or M7.
//!
//! The numbers below are those of the firmware example under emulation (`scripts/firmware-measure MODEL --functions`,
//! 2026-11-24), divided by the work: DARTS_V2 at C=8 with 5 and at C=16 with 8 cells, on 1×28×28, weights in `f32`. For
//! these two, and for DARTS_V1 at C=4 and C=8, the estimate is within 2 % of what the kernels took.

mod int8;

use darts_core::{Step, Storage};

use super::weights;

/// For each multiply-add of a dense or 1×1 convolution.
const DENSE: f64 = 2.12;
/// For each of its outputs; where several add up a concatenation, for the outputs of one.
const DENSE_OUTPUT: f64 = 10.9;
/// For each multiply-add of a depthwise convolution.
const DEPTHWISE: f64 = 9.97;
/// For each output of the depthwise part of a separable convolution, to pad and rectify its source.
const SEPARABLE: f64 = 8.1;
/// For each element of the windows of a pool.
const MAX_POOL: f64 = 7.1;
const AVG_POOL: f64 = 8.7;
/// For each element of an image that is pooled as a whole.
const GLOBAL_POOL: f64 = 9.4;
/// For each element that is added, and for each that is copied.
const ADD: f64 = 5.3;
const COPY: f64 = 5.0;
/// For each weight in half precision.
const WIDEN: f64 = 18.6;
/// For each step: to read its record and find its regions.
const STEP: f64 = 1000.0;

/// Instructions of one inference; steps on 8-bit integers take the kernels for the DSP extension.
pub fn instructions(steps: &[Step]) -> u64 {
    steps.iter().map(|step| STEP + work(step) + widening(step)).sum::<f64>() as u64
}

fn widening(step: &Step) -> f64 {
    let half = step.weights().is_some_and(|weights| weights.storage == Storage::F16);
    if half { WIDEN * weights(step) as f64 } else { 0.0 }
}

fn work(step: &Step) -> f64 {
    match *step {
        Step::Dense { shape, weights, accumulate, .. } => {
            let output = shape.output();
            let pixels = (output.height * output.width) as f64;
            // Half precision is not added up at once.
            let outputs = if accumulate && weights.storage == Storage::F32 { 0.0 } else { DENSE_OUTPUT };
            pixels * (DENSE * shape.weights() as f64 + outputs * shape.output_channels as f64)
        }
        Step::Depthwise { shape, .. } => {
            let output = shape.output();
            (output.height * output.width * shape.weights()) as f64 * DEPTHWISE
        }
        Step::Separable { shape, .. } => {
            let output = shape.output();
            let (depthwise, pointwise) = (shape.depthwise().weights(), shape.pointwise().weights());
            let pixel = DEPTHWISE * depthwise as f64
                + DENSE * pointwise as f64
                + DENSE_OUTPUT * shape.output_channels as f64
                + SEPARABLE * shape.input.channels as f64;
            (output.height * output.width) as f64 * pixel
        }
        Step::MaxPool { shape, .. } => MAX_POOL * (shape.output().len() * shape.kernel * shape.kernel) as f64,
        Step::AvgPool { shape, .. } => AVG_POOL * (shape.output().len() * shape.kernel * shape.kernel) as f64,
        Step::GlobalAvgPool { shape, .. } => GLOBAL_POOL * shape.len() as f64,
        Step::Add { shape, .. } => ADD * shape.len() as f64,
        Step::Prelude { shape, padding, .. } => COPY * shape.padded(padding).len() as f64,
        Step::Zero { shape, .. } => shape.len() as f64,
        Step::Int8(ref step) => int8::work(step),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::steps;
    use super::*;

    /// Functions of kernels, as `scripts/firmware-measure --functions` printed them; it prints the largest only.
    fn is_counted(step: &Step) -> bool {
        !matches!(step, Step::Prelude { .. } | Step::GlobalAvgPool { .. })
    }

    #[test]
    fn estimates_are_near_what_was_counted() {
        let counted = [
            ("DARTS_V2", 8, 5, [11_204_607, 10_833_760, 975_140, 604_292, 156_639]),
            ("DARTS_V1", 4, 5, [3_280_455, 4_964_960, 488_290, 303_908 + 184_431, 136_185]),
            ("DARTS_V1", 8, 5, [10_777_015, 9_882_880, 886_170, 604_292 + 366_655, 272_013]),
            ("DARTS_V2", 16, 8, [67_477_849, 43_231_552, 3_700_952, 1_205_060, 428_358]),
        ];
        for (name, channels, layers, counts) in counted {
            let kernels: Vec<Step> = steps(name, channels, layers).into_iter().filter(is_counted).collect();
            let estimate = instructions(&kernels) as f64 - STEP * kernels.len() as f64;
            let counted: u64 = counts.iter().sum();
            let ratio = estimate / counted as f64;
            assert!((0.98..=1.02).contains(&ratio), "{name}, C={channels}: {ratio:.3}");
        }
    }
}
