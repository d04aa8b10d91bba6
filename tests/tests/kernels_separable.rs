//! The fused separable stage on every instruction set against the composition of the reference's operations in `f64`.

use darts_kernels_simd::{ImageShape, Kernels, Moments, Prelude, SeparableShape, reference};
use darts_tests::{Guarded, Random, absolute, assert_close, channel_counts, guarded, kernels};

const EXTENTS: [usize; 5] = [1, 2, 3, 7, 8];

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// One call: the shape, its operands, and for each rounding-free intermediate the size of what was added up.
struct Case {
    shape: SeparableShape,
    x: Guarded,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// Which prelude.
    kind: usize,
    depthwise: Guarded,
    pointwise: Guarded,
}

/// An image in double precision, and the same operation on absolute values.
struct Value {
    exact: Vec<f64>,
    size: Vec<f64>,
}

impl Value {
    fn of(values: &[f32]) -> Self {
        Self { exact: wide(values), size: wide(&absolute(values)) }
    }
}

impl Case {
    fn new(shape: SeparableShape, kind: usize, random: &mut Random) -> Self {
        let channels = shape.input.channels;
        Self {
            shape,
            x: guarded(&random.values(shape.input.len())),
            scale: random.values(channels),
            shift: random.values(channels),
            kind,
            depthwise: guarded(&random.values(shape.depthwise().weights())),
            pointwise: guarded(&random.values(shape.pointwise().weights())),
        }
    }

    fn prelude(&self) -> Prelude<'_> {
        let (scale, shift) = (&self.scale[..], &self.shift[..]);
        match self.kind % 4 {
            0 => Prelude::AffineRelu { scale, shift },
            1 => Prelude::Relu,
            2 => Prelude::Affine { scale, shift },
            _ => Prelude::Copy,
        }
    }

    /// The padded image.
    fn padded(&self) -> Value {
        let Self { shape, x, .. } = self;
        let mut exact = vec![0.0; shape.depthwise().input.len()];
        reference::prelude(&wide(x), shape.input, shape.padding(), self.prelude(), &mut exact);
        let mut size = exact.clone();
        let (scale, shift) = (&absolute(&self.scale)[..], &absolute(&self.shift)[..]);
        let affine = if self.kind.is_multiple_of(2) { Prelude::Affine { scale, shift } } else { Prelude::Copy };
        reference::prelude(&wide(&absolute(x)), shape.input, shape.padding(), affine, &mut size);
        Value { exact, size }
    }

    /// The output of the depthwise convolution.
    fn middle(&self) -> Value {
        let (padded, w, shape) = (self.padded(), Value::of(&self.depthwise), self.shape.depthwise());
        let (mut exact, mut size) = (vec![0.0; shape.output().len()], vec![0.0; shape.output().len()]);
        reference::depthwise(&padded.exact, &w.exact, &mut exact, shape);
        reference::depthwise(&padded.size, &w.size, &mut size, shape);
        Value { exact, size }
    }

    fn output(&self, bias: Option<&[f32]>, before: Option<&[f32]>) -> Value {
        let (middle, w, shape) = (self.middle(), Value::of(&self.pointwise), self.shape.pointwise());
        let (bias, accumulate) = (bias.map(Value::of), before.is_some());
        let mut z = before.map_or_else(|| Value::of(&vec![0.0; shape.output().len()]), Value::of);
        let of = |bias: &Option<Value>, exact: bool| {
            bias.as_ref().map(|bias| if exact { bias.exact.clone() } else { bias.size.clone() })
        };
        reference::dense(&middle.exact, &w.exact, of(&bias, true).as_deref(), &mut z.exact, shape, accumulate);
        reference::dense(&middle.size, &w.size, of(&bias, false).as_deref(), &mut z.size, shape, accumulate);
        z
    }

    fn check_forward(&self, kernels: Kernels, random: &mut Random) {
        let Self { shape, .. } = *self;
        let outputs = shape.output_channels;
        let (bias, before) = (guarded(&random.values(outputs)), random.values(shape.output().len()));
        for (bias, accumulate, moments) in
            [(None, false, true), (Some(&bias[..]), false, false), (Some(&bias[..]), true, true)]
        {
            let context =
                format!("{} {shape:?}, {:?}, {}, {accumulate}", kernels.isa(), self.prelude(), bias.is_some());
            let run = || {
                let mut z = if accumulate { guarded(&before) } else { Guarded::unwritten(before.len()) };
                let (mut sum, mut sum_of_squares) = (vec![1.0; outputs], vec![2.0; outputs]);
                kernels.separable(
                    &self.x,
                    shape,
                    self.prelude(),
                    &self.depthwise,
                    &self.pointwise,
                    bias,
                    &mut z,
                    accumulate,
                    moments.then_some(Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares }),
                    &mut Guarded::unwritten(shape.forward_scratch()),
                );
                (z.to_vec(), sum, sum_of_squares)
            };
            let (z, sum, squares) = run();
            let expected = self.output(bias, accumulate.then_some(&before));
            assert_close(("z", &context), &wide(&z), &expected.exact, &expected.size);
            let (mut expected_sum, mut expected_squares) = (vec![1.0; outputs], vec![2.0; outputs]);
            let (mut size, mut size_squares) = (vec![1.0; outputs], vec![2.0; outputs]);
            if moments {
                reference::channel_moments(&z, outputs, &mut expected_sum, &mut expected_squares);
                reference::channel_moments(&absolute(&z), outputs, &mut size, &mut size_squares);
            }
            assert_close(("sum", &context), &sum, &expected_sum, &size);
            assert_close(("sum of squares", &context), &squares, &expected_squares, &size_squares);
            assert_eq!(run(), (z, sum, squares), "another call gave other bits: {context}");
        }
    }
}

/// Every kernel, stride and dilation with every pair of extents and all counts of channels around the registers, though not
/// all of them together.
fn cases(kernels: Kernels, random: &mut Random) -> Vec<Case> {
    let (channels, mut cases) = (channel_counts(kernels), Vec::new());
    for kernel in [3, 5, 7] {
        for (stride, dilation) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            for (i, height) in EXTENTS.into_iter().enumerate() {
                for (j, width) in EXTENTS.into_iter().enumerate() {
                    for n in 0..channels.len().div_ceil(3) {
                        let pick = |step| channels[(n * 3 + i * step + j + kernel + stride) % channels.len()];
                        let input = ImageShape::new(height, width, pick(1));
                        let shape = SeparableShape { input, kernel, stride, dilation, output_channels: pick(2) };
                        cases.push(Case::new(shape, i + j + n, random));
                    }
                }
            }
        }
    }
    for channels in 1..=2 * kernels.isa().lanes() + 1 {
        for (outputs, stride) in [(channels, 1), (5, 2), (2 * channels, 1)] {
            let input = ImageShape::new(5, 9, channels);
            let shape = SeparableShape { input, kernel: 3, stride, dilation: 1, output_channels: outputs };
            cases.push(Case::new(shape, channels, random));
        }
    }
    for (height, width) in [(40, 33), (3, 70), (70, 3)] {
        for (kernel, stride, dilation) in [(3, 1, 1), (5, 1, 2), (5, 2, 1)] {
            let input = ImageShape::new(height, width, 18);
            let shape = SeparableShape { input, kernel, stride, dilation, output_channels: 7 };
            cases.push(Case::new(shape, 0, random));
        }
    }
    cases
}

#[test]
fn forward() {
    let mut random = Random::new(1);
    for kernels in kernels() {
        for case in cases(kernels, &mut random) {
            case.check_forward(kernels, &mut random);
        }
    }
}

#[test]
fn an_image_without_pixels_has_an_output_without_pixels() {
    for (height, width) in [(0, 4), (4, 0)] {
        let input = ImageShape::new(height, width, 2);
        let shape = SeparableShape { input, kernel: 3, stride: 1, dilation: 1, output_channels: 1 };
        let mut scratch = vec![0.0; shape.forward_scratch()];
        let (w, p) = ([1.0; 18], [1.0; 2]);
        Kernels::detect().separable(&[], shape, Prelude::Copy, &w, &p, None, &mut [], false, None, &mut scratch);
    }
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_wrong_length_panics_with_the_shape() {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 3, stride: 1, dilation: 1, output_channels: 1 };
    let mut scratch = vec![0.0; shape.forward_scratch() - 1];
    let (x, w, mut z) = ([0.0; 4], [0.0; 9], [0.0; 4]);
    Kernels::detect().separable(&x, shape, Prelude::Copy, &w, &[0.0], None, &mut z, false, None, &mut scratch);
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_kernel_that_no_padding_centres_is_refused() {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 2, stride: 1, dilation: 1, output_channels: 1 };
    let (x, w, mut z) = ([0.0; 4], [0.0; 4], [0.0; 4]);
    Kernels::detect().separable(&x, shape, Prelude::Copy, &w, &[0.0], None, &mut z, false, None, &mut [0.0; 1000]);
}
