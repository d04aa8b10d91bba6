//! Separable stages: prelude, depthwise and pointwise convolution and moments in one pass, and both gradients in another.

use std::array;

use darts_kernels_simd::{
    ImageShape, Moments, NormSums, OutputGradient, Prelude, SeparableInputGradient, SeparableScratch, SeparableShape,
    SeparableWeightGradient, SeparableWeights, Stored,
};

use super::buffer::{Buffer, buffer};
use super::case::{Case, Direction, Work, image, text, window};
use super::convolutions::WINDOWS;

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
            cases.extend(stage(shape(1), 1));
            cases.extend(stage(shape(1), IMAGES));
            cases.extend(stage(shape(2), 1));
        }
    }
    cases
}

/// Values of one channel each.
struct Channels {
    scale: Buffer,
    shift: Buffer,
    sums: [Vec<f64>; 2],
}

impl Channels {
    fn new(channels: usize) -> Self {
        let sums = array::from_fn(|_| vec![0.0; channels]);
        Self { scale: buffer(channels), shift: buffer(channels), sums }
    }
}

fn buffers(shape: ImageShape, count: usize) -> Vec<Buffer> {
    (0..count).map(|_| buffer(shape.len())).collect()
}

fn stage(shape: SeparableShape, count: usize) -> [Case; 2] {
    let window = window(shape.kernel, shape.stride, shape.dilation);
    let images = if count > 1 { format!(", {count} images") } else { String::new() };
    let (name, size) = (format!("separable stage {window}"), format!("{}{images}", text(shape.input)));
    let (input, output) = (shape.input.len(), shape.output().len());
    let weights = shape.depthwise().weights() + shape.pointwise().weights();
    let flops = 2 * (shape.depthwise().output().len() * shape.kernel * shape.kernel)
        + 2 * shape.output().pixels() * shape.pointwise().weights();
    let work = |flops, floats, weights| {
        let one = Work::new(flops, floats + weights);
        Work { touched: Some((count * floats + weights) * size_of::<f32>()), ..one }
    };
    let case = |direction, work, body| Case::kernel((&name, &size), direction, work, (shape, count), body);
    [
        case(Direction::Forward, work(flops, input + output, weights), |&(shape, count), kernels, timer| {
            let (x, mut z) = (buffers(shape.input, count), buffers(shape.output(), count));
            let (depthwise, pointwise) = (buffer(shape.depthwise().weights()), buffer(shape.pointwise().weights()));
            let Channels { scale, shift, .. } = Channels::new(shape.input.channels);
            let Channels { sums: [mut sum, mut sum_of_squares], .. } = Channels::new(shape.output_channels);
            let (mut scratch, mut turn) = (buffer(shape.streaming_scratch()), 0);
            let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
            timer(&mut || {
                let (x, z) = (&x[turn % count], &mut z[turn % count]);
                let moments = Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares };
                let (weights, moments) = ((&depthwise, &pointwise), Some(moments));
                let scratch = SeparableScratch { elements: &mut scratch, reused: turn > 0 };
                kernels.separable(x, shape, prelude, weights.0, weights.1, None, z, false, moments, scratch);
                turn += 1;
            });
        }),
        case(
            Direction::Gradients,
            work(2 * flops, 2 * input + 2 * output, 2 * weights),
            |&(shape, count), kernels, timer| {
                let (x, mut dx) = (buffers(shape.input, count), buffers(shape.input, count));
                let (z, dy) = (buffers(shape.output(), count), buffers(shape.output(), count));
                let [depthwise, mut d_depthwise] = array::from_fn(|_| buffer(shape.depthwise().weights()));
                let [pointwise, mut d_pointwise] = array::from_fn(|_| buffer(shape.pointwise().weights()));
                let weights = SeparableWeights { depthwise: &depthwise, pointwise_transposed: &pointwise };
                let Channels { scale, shift, sums: [mut sum, mut dot] } = Channels::new(shape.input.channels);
                let Channels { scale: p, shift: q, .. } = Channels::new(shape.output_channels);
                let (mut scratch, mut turn) = (buffer(shape.backward_scratch()), 0);
                let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
                timer(&mut || {
                    let (x, dx, z, dy) = (&x[turn % count], &mut dx[turn % count], &z[turn % count], &dy[turn % count]);
                    let sums = NormSums { mean: &shift, scale: 1.0, sum: &mut sum, dot: &mut dot };
                    let dx = SeparableInputGradient { dx, accumulate: false, sums: Some(sums) };
                    let dw = SeparableWeightGradient { depthwise: &mut d_depthwise, pointwise: &mut d_pointwise };
                    let dz = OutputGradient::Norm { dy, z: Stored::F32(z), mean: &q, p: &p, q: &q, r: &q, scale: 1.0 };
                    let scratch = SeparableScratch { elements: &mut scratch, reused: turn > 0 };
                    kernels.separable_backward(
                        Stored::F32(x),
                        shape,
                        prelude,
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
