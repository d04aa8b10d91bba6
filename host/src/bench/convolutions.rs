//! Dense and depthwise convolutions.

use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Kernels, Padding};

use super::buffer::buffer;
use super::case::{Case, Direction, SIZES, Timer, Work, image, text, window};
use crate::engine::aligned::AlignedBuffer;

/// Kernel and dilation of the depthwise convolutions of DARTS.
pub(super) const WINDOWS: [(usize, usize); 5] = [(3, 1), (5, 1), (7, 1), (3, 2), (5, 2)];

/// All of them, in all three directions.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        let input = image(size);
        let shape = DenseShape::pointwise(input, input.channels);
        cases.extend(dense("pointwise", input, vec![shape]));
    }
    for (channels, extent) in [(16, 32), (32, 16), (64, 8), (36, 32)] {
        let input = image((4 * channels, extent));
        cases.extend(dense("pointwise of a concatenation", input, vec![DenseShape::pointwise(input, channels)]));
    }
    for channels in [48, 108] {
        let input = image((3, 32));
        let shape = DenseShape::square(input.padded(Padding::symmetric(1, 1)), channels, 3, 1);
        cases.extend(dense("stem 3x3", input, vec![shape]));
    }
    for (channels, extent) in [(16, 32), (32, 16), (36, 32)] {
        cases.extend(factorized_reduce(image((channels, extent)), channels));
        cases.extend(factorized_reduce(image((4 * channels, extent)), 2 * channels));
    }
    for (kernel, dilation) in WINDOWS {
        for stride in [1, 2] {
            cases.extend(SIZES.into_iter().flat_map(|size| depthwise(image(size), kernel, stride, dilation)));
        }
    }
    cases
}

fn factorized_reduce(input: ImageShape, channels: usize) -> [Case; 3] {
    let half = |offset| DenseShape {
        offset_height: offset,
        offset_width: offset,
        output_pixel_stride: channels,
        ..DenseShape::square(input, channels / 2, 1, 2)
    };
    dense("factorized reduce", input, vec![half(0), half(1)])
}

/// Convolutions of one image whose outputs are groups of channels of another.
struct Dense {
    shapes: Vec<DenseShape>,
    x: AlignedBuffer,
    w: Vec<AlignedBuffer>,
    y: AlignedBuffer,
}

impl Dense {
    fn new(shapes: &[DenseShape]) -> Self {
        let output = shapes.iter().map(|shape| shape.output().len()).sum();
        Self {
            x: buffer(shapes[0].input.len()),
            w: shapes.iter().map(|shape| buffer(shape.weights())).collect(),
            y: buffer(output),
            shapes: shapes.to_vec(),
        }
    }

    fn forward(shapes: &[DenseShape], kernels: Kernels, timer: &mut Timer) {
        let Self { shapes, x, w, mut y } = Self::new(shapes);
        timer(&mut || {
            for (index, (&shape, w)) in shapes.iter().zip(&w).enumerate() {
                kernels.dense(&x, w, None, &mut y[index * shape.output_channels..], shape, false);
            }
        });
    }

    fn input_gradient(shapes: &[DenseShape], kernels: Kernels, timer: &mut Timer) {
        let Self { shapes, x: mut dx, w, y: dy } = Self::new(shapes);
        timer(&mut || {
            for (index, (&shape, w)) in shapes.iter().zip(&w).enumerate() {
                kernels.dense_backward_input(&dy[index * shape.output_channels..], w, &mut dx, shape, index > 0);
            }
        });
    }

    fn weight_gradient(shapes: &[DenseShape], kernels: Kernels, timer: &mut Timer) {
        let Self { shapes, x, w: mut dw, y: dy } = Self::new(shapes);
        timer(&mut || {
            for (index, (&shape, dw)) in shapes.iter().zip(&mut dw).enumerate() {
                kernels.dense_backward_weight(&x, &dy[index * shape.output_channels..], dw, shape);
            }
        });
    }
}

fn dense(name: &str, input: ImageShape, shapes: Vec<DenseShape>) -> [Case; 3] {
    let output: usize = shapes.iter().map(|shape| shape.output_channels).sum();
    let size = format!("{}->{output}", text(input));
    let flops = shapes.iter().map(|shape| 2 * shape.output().pixels() * shape.weights()).sum();
    let floats: usize = shapes.iter().map(|shape| shape.weights() + shape.output().len()).sum();
    let work = Work::new(flops, floats + shapes[0].input.len());
    [
        Case::kernel((name, &size), Direction::Forward, work, shapes.clone(), |shapes, kernels, timer| {
            Dense::forward(shapes, kernels, timer)
        }),
        Case::kernel((name, &size), Direction::InputGradient, work, shapes.clone(), |shapes, kernels, timer| {
            Dense::input_gradient(shapes, kernels, timer)
        }),
        Case::kernel((name, &size), Direction::WeightGradient, work, shapes, |shapes, kernels, timer| {
            Dense::weight_gradient(shapes, kernels, timer)
        }),
    ]
}

fn depthwise(input: ImageShape, kernel: usize, stride: usize, dilation: usize) -> [Case; 3] {
    let border = dilation * (kernel - 1) / 2;
    let padding = Padding::symmetric(border, border);
    let shape = DepthwiseShape { input: input.padded(padding), kernel, stride, dilation };
    let (name, size) = (format!("depthwise {}", window(kernel, stride, dilation)), text(input));
    let flops = 2 * shape.output().len() * kernel * kernel;
    let work = Work::new(flops, shape.input.len() + shape.weights() + shape.output().len());
    let case = |direction, body| Case::kernel((&name, &size), direction, work, (shape, padding), body);
    [
        case(Direction::Forward, |&(shape, _), kernels, timer| {
            let (x, w, mut y) = (buffer(shape.input.len()), buffer(shape.weights()), buffer(shape.output().len()));
            timer(&mut || kernels.depthwise(&x, &w, &mut y, shape));
        }),
        case(Direction::InputGradient, |&(shape, padding), kernels, timer| {
            let (dy, w, mut dx) = (buffer(shape.output().len()), buffer(shape.weights()), buffer(shape.input.len()));
            let mut scratch = buffer(shape.backward_scratch());
            timer(&mut || kernels.depthwise_backward_input(&dy, &w, &mut dx, shape, padding, &mut scratch));
        }),
        case(Direction::WeightGradient, |&(shape, _), kernels, timer| {
            let (x, dy, mut dw) = (buffer(shape.input.len()), buffer(shape.output().len()), buffer(shape.weights()));
            timer(&mut || kernels.depthwise_backward_weight(&x, &dy, &mut dw, shape));
        }),
    ]
}
