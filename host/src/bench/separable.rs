//! Separable stages: prelude, depthwise and pointwise convolution and moments in one pass, and both gradients in
//! another.

use std::array;

use darts_kernels_simd::{
    ImageShape, Kernels, Moments, NormSums, OutputGradient, Prelude, SeparableInput, SeparableInputGradient,
    SeparableScratch, SeparableShape, SeparableWeightGradient, SeparableWeights,
};

use super::buffer::{Values, buffer, floats, name_of, values};
use super::case::{Case, Direction, Work, image, text, window};
use super::convolutions::WINDOWS;
use crate::engine::Saved;
use crate::engine::aligned::AlignedBuffer;

/// Channels and extent of the images of the search at C = 16 and C = 8 and of derived networks at C = 36.
const SIZES: [(usize, usize); 9] =
    [(16, 32), (32, 16), (64, 8), (8, 28), (16, 14), (32, 7), (36, 32), (72, 16), (144, 8)];

/// Images that are worked through in turn where they are not to be in the first caches.
const IMAGES: usize = 64;

/// All of them: on the same image again and again, and on one image after another.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kernel, dilation) in WINDOWS {
        for size in SIZES {
            let input = image(size);
            let shape = |stride| SeparableShape { input, kernel, stride, dilation, output_channels: input.channels };
            cases.extend(stage(shape(1), 1, Saved::F32));
            cases.extend(stage(shape(1), IMAGES, Saved::F32));
            cases.extend(stage(shape(1), IMAGES, Saved::F16));
            cases.extend(stage(shape(2), 1, Saved::F32));
        }
    }
    cases
}

fn buffers(shape: ImageShape, count: usize) -> Vec<AlignedBuffer> {
    (0..count).map(|_| buffer(shape.len())).collect()
}

fn images(shape: ImageShape, count: usize, saved: Saved, kernels: Kernels) -> Vec<Values> {
    (0..count).map(|_| values(shape.len(), saved, kernels)).collect()
}

/// `saved`: how what a network keeps is stored, the input and the output.
fn stage(shape: SeparableShape, count: usize, saved: Saved) -> [Case; 2] {
    let window = window(shape.kernel, shape.stride, shape.dilation);
    let turns = if count > 1 { format!(", {count} images") } else { String::new() };
    let (name, size) = (name_of(&format!("separable stage {window}"), saved), format!("{}{turns}", text(shape.input)));
    let (input, output) = (shape.input.len(), shape.output().len());
    let kept = floats(input, saved) + floats(output, saved);
    let weights = shape.depthwise().weights() + shape.pointwise().weights();
    let flops = 2 * (shape.depthwise().output().len() * shape.kernel * shape.kernel)
        + 2 * shape.output().pixels() * shape.pointwise().weights();
    let work = |flops, floats, weights| {
        let one = Work::new(flops, floats + weights);
        Work { touched: Some((count * floats + weights) * size_of::<f32>()), ..one }
    };
    let case = |direction, work, body| Case::kernel((&name, &size), direction, work, (shape, count, saved), body);
    [
        case(Direction::Forward, work(flops, kept, weights), |&(shape, count, saved), kernels, timer| {
            let x = images(shape.input, count, saved, kernels);
            let mut z = images(shape.output(), count, saved, kernels);
            let (depthwise, pointwise) = (buffer(shape.depthwise().weights()), buffer(shape.pointwise().weights()));
            let [scale, shift] = array::from_fn(|_| buffer(shape.input.channels));
            let [mut sum, mut sum_of_squares] = array::from_fn(|_| vec![0.0; shape.output_channels]);
            let (mut scratch, mut turn) = (buffer(shape.streaming_scratch()), 0);
            let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
            timer(&mut || {
                let (x, z) = (x[turn % count].stored(), z[turn % count].stored_mut());
                let moments = Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares };
                let (weights, moments) = ((&depthwise, &pointwise), Some(moments));
                let scratch = SeparableScratch { elements: &mut scratch, reused: turn > 0 };
                kernels.separable_stored(
                    SeparableInput::new(x, prelude),
                    shape,
                    weights.0,
                    weights.1,
                    z,
                    moments,
                    scratch,
                );
                turn += 1;
            });
        }),
        case(
            Direction::Gradients,
            work(2 * flops, kept + input + output, 2 * weights),
            |&(shape, count, saved), kernels, timer| {
                let (x, mut dx) = (images(shape.input, count, saved, kernels), buffers(shape.input, count));
                let (z, dy) = (images(shape.output(), count, saved, kernels), buffers(shape.output(), count));
                let [depthwise, mut d_depthwise] = array::from_fn(|_| buffer(shape.depthwise().weights()));
                let [pointwise, mut d_pointwise] = array::from_fn(|_| buffer(shape.pointwise().weights()));
                let weights = SeparableWeights { depthwise: &depthwise, pointwise_transposed: &pointwise };
                let [scale, shift] = array::from_fn(|_| buffer(shape.input.channels));
                let [p, q] = array::from_fn(|_| buffer(shape.output_channels));
                let [mut sum, mut dot] = array::from_fn(|_| vec![0.0; shape.input.channels]);
                let (mut scratch, mut turn) = (buffer(shape.backward_scratch()), 0);
                let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
                timer(&mut || {
                    let (x, z) = (x[turn % count].stored(), z[turn % count].stored());
                    let (dx, dy) = (&mut dx[turn % count], &dy[turn % count]);
                    let sums = NormSums { mean: &shift, scale: 1.0, sum: &mut sum, dot: &mut dot };
                    let dx = SeparableInputGradient { dx, accumulate: false, sums: Some(sums) };
                    let dw = SeparableWeightGradient { depthwise: &mut d_depthwise, pointwise: &mut d_pointwise };
                    let dz = OutputGradient::Norm { dy, z, mean: &q, p: &p, q: &q, r: &q, scale: 1.0 };
                    let scratch = SeparableScratch { elements: &mut scratch, reused: turn > 0 };
                    kernels.separable_backward(
                        SeparableInput::new(x, prelude),
                        shape,
                        weights,
                        dz,
                        Some(dx),
                        Some(dw),
                        scratch,
                    );
                    turn += 1;
                });
            },
        ),
    ]
}
