//! The fused separable stage on every instruction set against the composition of the reference's operations in `f64`.

use darts_kernels_simd::{
    ImageShape, Kernels, Moments, NormSums, OutputGradient, Padding, Prelude, Preluded, SeparableInput,
    SeparableInputGradient, SeparableScratch, SeparableShape, SeparableWeightGradient, SeparableWeights, Stored,
    StoredMut, reference,
};
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

    /// The image after the prelude, with a border that is wide enough, and how wide.
    fn preluded(&self, kernels: Kernels) -> (Guarded, usize) {
        let (input, border) = (self.shape.input, self.shape.padding().left + self.kind % 3);
        let padding = Padding { left: border, right: border, ..Padding::NONE };
        let mut values = Guarded::unwritten(input.padded(padding).len());
        kernels.prelude(&self.x, input, padding, self.prelude(), &mut values);
        (values, border)
    }

    /// Values that differ from those of the image, of which the prelude lets the same through.
    fn x_with_the_same_mask(&self) -> Vec<f32> {
        let channels = self.shape.input.channels;
        let twice = |(index, &x): (usize, &f32)| match self.prelude() {
            Prelude::Copy | Prelude::Affine { .. } => f32::NAN,
            Prelude::Relu => 2.0 * x,
            // As far from where the prelude is 0 again.
            Prelude::AffineRelu { scale, shift } => 2.0 * x + shift[index % channels] / scale[index % channels],
        };
        self.x.iter().enumerate().map(twice).collect()
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
        let other = guarded(&random.values(shape.input.len()));
        for (bias, accumulate, moments) in
            [(None, false, true), (Some(&bias[..]), false, false), (Some(&bias[..]), true, true)]
        {
            let context =
                format!("{} {shape:?}, {:?}, {}, {accumulate}", kernels.isa(), self.prelude(), bias.is_some());
            // With moments there are two ways to the output.
            let streaming = moments && self.kind.is_multiple_of(2);
            let scratch = if streaming { shape.streaming_scratch() } else { shape.forward_scratch() };
            let mut elements = Guarded::unwritten(scratch);
            let mut run = |x: &[f32], reused| {
                let mut z = if accumulate { guarded(&before) } else { Guarded::unwritten(before.len()) };
                let (mut sum, mut sum_of_squares) = (vec![1.0; outputs], vec![2.0; outputs]);
                kernels.separable(
                    x,
                    shape,
                    self.prelude(),
                    &self.depthwise,
                    &self.pointwise,
                    bias,
                    &mut z,
                    accumulate,
                    moments.then_some(Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares }),
                    SeparableScratch { elements: &mut elements, reused },
                );
                (z.to_vec(), sum, sum_of_squares)
            };
            let (z, sum, squares) = run(&self.x, false);
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
            run(&other, true);
            assert_eq!(run(&self.x, true), (z, sum, squares), "another call gave other bits: {context}");
        }
    }
}

/// The gradient of the output, given or through a batch normalisation.
struct Above {
    norm: bool,
    dy: Guarded,
    z: Guarded,
    per_channel: [Vec<f32>; 4],
}

impl Above {
    const SCALE: f32 = 1.5;

    fn new(shape: SeparableShape, norm: bool, random: &mut Random) -> Self {
        let len = shape.output().len();
        Self {
            norm,
            dy: guarded(&random.values(len)),
            z: guarded(&random.values(len)),
            per_channel: [(); 4].map(|()| random.values(shape.output_channels)),
        }
    }

    fn source(&self) -> OutputGradient<'_> {
        let [mean, p, q, r] = &self.per_channel;
        if self.norm {
            OutputGradient::Norm { dy: &self.dy, z: Stored::F32(&self.z), mean, p, q, r, scale: Self::SCALE }
        } else {
            OutputGradient::Ready(&self.dy)
        }
    }

    fn value(&self) -> Value {
        let mut dz = Value::of(&self.dy);
        if self.norm {
            let (dy, z) = (Value::of(&self.dy), Value::of(&self.z));
            let [mean, p, q, r] = self.per_channel.each_ref().map(|values| Value::of(values));
            let scale = f64::from(Self::SCALE);
            let (exact, size) = (&mut dz.exact, &mut dz.size);
            reference::norm_backward_apply(
                &dy.exact,
                &z.exact,
                &mean.exact,
                &p.exact,
                &q.exact,
                &r.exact,
                scale,
                exact,
            );
            let minus_mean: Vec<f64> = mean.size.iter().map(|mean| -mean).collect();
            reference::norm_backward_apply(&dy.size, &z.size, &minus_mean, &p.size, &q.size, &r.size, scale, size);
        }
        dz
    }
}

/// The expected gradients.
struct Gradients {
    dx: Value,
    depthwise: Value,
    pointwise: Value,
}

/// What one call computes.
#[derive(Clone)]
struct Computed {
    dx: Vec<f32>,
    sum: Vec<f64>,
    dot: Vec<f64>,
    depthwise: Vec<f32>,
    pointwise: Vec<f32>,
}

impl Case {
    /// The gradients, added to `before`.
    fn gradients(&self, dz: &Value, before: [&[f32]; 3]) -> Gradients {
        let Self { shape, x, .. } = self;
        let (padded, middle, [mut dx, mut depthwise, mut pointwise]) =
            (self.padded(), self.middle(), before.map(Value::of));
        let mut transposed = vec![0.0; self.pointwise.len()];
        reference::transpose(&self.pointwise, &mut transposed, 1, shape.input.channels, shape.output_channels);
        let (w, transposed) = (Value::of(&self.depthwise), Value::of(&transposed));
        for exact in [true, false] {
            let of = |value: &Value| if exact { value.exact.clone() } else { value.size.clone() };
            let target = |value: &mut Value| std::mem::take(if exact { &mut value.exact } else { &mut value.size });
            let (mut d_dx, mut d_depthwise, mut d_pointwise) =
                (target(&mut dx), target(&mut depthwise), target(&mut pointwise));
            reference::dense_backward_weight(&of(&middle), &of(dz), &mut d_pointwise, shape.pointwise());
            let mut d_middle = vec![0.0; middle.exact.len()];
            reference::dense_backward_input(&of(dz), &of(&transposed), &mut d_middle, shape.pointwise(), false);
            reference::depthwise_backward_weight(&of(&padded), &d_middle, &mut d_depthwise, shape.depthwise());
            let mut d_padded = vec![0.0; padded.exact.len()];
            reference::depthwise_backward_input(&d_middle, &of(&w), &mut d_padded, shape.depthwise());
            let (padding, prelude) = (shape.padding(), self.prelude());
            reference::prelude_backward(&wide(x), shape.input, padding, prelude, &d_padded, &mut d_dx, true);
            let put = |value: &mut Value, result| *(if exact { &mut value.exact } else { &mut value.size }) = result;
            put(&mut dx, d_dx);
            put(&mut depthwise, d_depthwise);
            put(&mut pointwise, d_pointwise);
        }
        Gradients { dx, depthwise, pointwise }
    }

    fn check_backward(&self, kernels: Kernels, random: &mut Random) {
        let Self { shape, .. } = *self;
        let channels = shape.input.channels;
        let before = [shape.input.len(), self.depthwise.len(), self.pointwise.len()].map(|len| random.values(len));
        let mean = random.values(channels);
        let (other, mut transposed) = (random.values(shape.input.len()), Guarded::unwritten(self.pointwise.len()));
        reference::transpose(&self.pointwise, &mut transposed, 1, channels, shape.output_channels);
        for (norm, accumulate, sums, want_dx, want_dw) in [
            (true, false, true, true, true),
            (false, true, self.kind.is_multiple_of(3), true, false),
            (true, false, false, false, true),
            (false, false, false, true, true),
            (true, true, true, true, true),
            (true, true, false, true, true),
        ] {
            let above = Above::new(shape, norm, random);
            let mut elements = Guarded::unwritten(shape.backward_scratch());
            let mut run = |x: &[f32], preluded, reused, want_dw: bool| {
                let mut dx = if accumulate { guarded(&before[0]) } else { Guarded::unwritten(before[0].len()) };
                let (mut sum, mut dot) = (vec![1.0; channels], vec![2.0; channels]);
                let (mut depthwise, mut pointwise) = (guarded(&before[1]), guarded(&before[2]));
                let sums = sums.then_some(NormSums { mean: &mean, scale: 0.5, sum: &mut sum, dot: &mut dot });
                kernels.separable_backward(
                    SeparableInput { preluded, ..SeparableInput::new(x, self.prelude()) },
                    shape,
                    SeparableWeights { depthwise: &self.depthwise, pointwise_transposed: &transposed },
                    above.source(),
                    want_dx.then_some(SeparableInputGradient { dx: &mut dx, accumulate, sums }),
                    want_dw.then_some(SeparableWeightGradient { depthwise: &mut depthwise, pointwise: &mut pointwise }),
                    SeparableScratch { elements: &mut elements, reused },
                );
                Computed { dx: dx.to_vec(), sum, dot, depthwise: depthwise.to_vec(), pointwise: pointwise.to_vec() }
            };
            let actual = run(&self.x, None, false, want_dw);
            run(&other, None, true, want_dw);
            let again = run(&self.x, None, true, want_dw);
            assert_eq!(bits(&again), bits(&actual), "another call gave other bits: {shape:?}");
            let alone = run(&self.x, None, true, false);
            let of_input = |computed: &Computed| {
                let Computed { dx, sum, dot, .. } = computed.clone();
                bits(&Computed { dx, sum, dot, depthwise: vec![], pointwise: vec![] })
            };
            assert_eq!(of_input(&alone), of_input(&actual), "without gradients of weights: {shape:?}");
            // The prelude is not run again: but for sums over it, all that is read of `x` is where a ReLU lets it
            // through.
            let (values, border) = self.preluded(kernels);
            let other = if sums { self.x.to_vec() } else { self.x_with_the_same_mask() };
            for reused in [false, true] {
                let computed = run(&other, Some(Preluded { values: &values, border }), reused, want_dw);
                assert_eq!(bits(&computed), bits(&actual), "preluded: {shape:?}");
            }
            let context =
                format!("{} {shape:?}, {:?}, {:?}", kernels.isa(), self.prelude(), (norm, accumulate, sums, want_dw));
            let zeros = vec![0.0; before[0].len()];
            let start = if accumulate { &before[0] } else { &zeros };
            let expected = self.gradients(&above.value(), [start, &before[1], &before[2]]);
            if want_dx {
                assert_close(("dx", &context), &wide(&actual.dx), &expected.dx.exact, &expected.dx.size);
                self.check_sums(&context, &actual, &mean, sums);
            }
            for (name, values, expected, before) in [
                ("depthwise", &actual.depthwise, &expected.depthwise, &before[1]),
                ("pointwise", &actual.pointwise, &expected.pointwise, &before[2]),
            ] {
                if want_dw {
                    assert_close((name, &context), &wide(values), &expected.exact, &expected.size);
                } else {
                    assert_eq!(values, before, "{name} was written: {context}");
                }
            }
        }
    }

    fn check_sums(&self, context: &str, actual: &Computed, mean: &[f32], wanted: bool) {
        let channels = mean.len();
        let (mut sum, mut dot) = (vec![1.0; channels], vec![2.0; channels]);
        let (mut size, mut size_dot) = (vec![1.0; channels], vec![2.0; channels]);
        if wanted {
            reference::norm_backward_reduce(&actual.dx, &self.x, mean, 0.5, &mut sum, &mut dot);
            let minus_mean: Vec<f32> = mean.iter().map(|mean| -mean.abs()).collect();
            let (dx, x) = (absolute(&actual.dx), absolute(&self.x));
            reference::norm_backward_reduce(&dx, &x, &minus_mean, 0.5, &mut size, &mut size_dot);
        }
        assert_close(("sum", context), &actual.sum, &sum, &size);
        assert_close(("dot", context), &actual.dot, &dot, &size_dot);
    }
}

/// All that was computed, as bits.
fn bits(computed: &Computed) -> Vec<u64> {
    let Computed { dx, sum, dot, depthwise, pointwise } = computed;
    let single = [dx, depthwise, pointwise].into_iter().flatten().map(|value| u64::from(value.to_bits()));
    single.chain([sum, dot].into_iter().flatten().map(|value| value.to_bits())).collect()
}

/// Every kernel, stride and dilation with every pair of extents and all counts of channels around the registers, though
/// not all of them together.
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
    // Rows in which blocks of pixels overlap or fill them, of channels that fill half a register, one, and more.
    let lanes = kernels.isa().lanes();
    for (channels, outputs) in [(lanes.div_ceil(2), 8), (lanes, 16), (lanes + 1, 3), (2 * lanes, 5)] {
        let filters =
            [(3, 1, 1), (3, 1, 2), (3, 2, 1), (3, 2, 2), (5, 1, 1), (5, 1, 2), (5, 2, 1), (5, 2, 2), (7, 1, 1)];
        for (kernel, stride, dilation) in filters {
            for (kind, width) in [4, 12, 14, 16, 19, 28, 29, 32].into_iter().enumerate() {
                let input = ImageShape::new(4, width, channels);
                let shape = SeparableShape { input, kernel, stride, dilation, output_channels: outputs };
                // Any prelude, and one with a ReLU.
                cases.extend([kind + channels, kind % 2].map(|kind| Case::new(shape, kind, random)));
            }
        }
    }
    // Whole blocks, and more strips than the rings have room for.
    for (kernel, dilation) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        let sizes = [
            (13, 32, 16),
            (27, 32, 8),
            (37, 14, 8),
            (21, 28, 24),
            (19, 16, 36),
            (42, 28, 16),
            (26, 32, 48),
            (43, 16, 16),
        ];
        for (height, width, channels) in sizes {
            let input = ImageShape::new(height, width, channels);
            for stride in [1, 2] {
                let shape = SeparableShape { input, kernel, stride, dilation, output_channels: channels };
                cases.push(Case::new(shape, 0, random));
            }
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
fn backward() {
    let mut random = Random::new(2);
    for kernels in kernels() {
        for case in cases(kernels, &mut random) {
            case.check_backward(kernels, &mut random);
        }
    }
}

#[test]
fn the_gradient_of_the_input_has_the_same_bits_wherever_it_starts() {
    let mut random = Random::new(4);
    for kernels in kernels() {
        for (kernel, width, channels) in
            [(3, 14, 8), (3, 16, 8), (5, 28, 8), (3, 7, 16), (3, 16, 16), (3, 8, 24), (5, 12, 40)]
        {
            let input = ImageShape::new(9, width, channels);
            let shape = SeparableShape { input, kernel, stride: 1, dilation: 1, output_channels: channels };
            let case = Case::new(shape, 0, &mut random);
            let (mean, above) = (random.values(channels), Above::new(shape, true, &mut random));
            let mut transposed = vec![0.0; case.pointwise.len()];
            reference::transpose(&case.pointwise, &mut transposed, 1, channels, channels);
            let (mut elements, mut memory) = (vec![0.0; shape.backward_scratch()], vec![0.0; input.len() + 64]);
            let line = memory.as_ptr().align_offset(64);
            let mut run = |offset: usize, want_dw: bool| {
                let dx = &mut memory[line + offset..][..input.len()];
                let (mut sum, mut dot) = (vec![0.0; channels], vec![0.0; channels]);
                let (mut depthwise, mut pointwise) = (vec![0.0; case.depthwise.len()], vec![0.0; transposed.len()]);
                let sums = Some(NormSums { mean: &mean, scale: 1.0, sum: &mut sum, dot: &mut dot });
                kernels.separable_backward(
                    SeparableInput::new(&case.x[..], case.prelude()),
                    shape,
                    SeparableWeights { depthwise: &case.depthwise, pointwise_transposed: &transposed },
                    above.source(),
                    Some(SeparableInputGradient { dx, accumulate: false, sums }),
                    want_dw.then_some(SeparableWeightGradient { depthwise: &mut depthwise, pointwise: &mut pointwise }),
                    SeparableScratch::new(&mut elements),
                );
                bits(&Computed { dx: dx.to_vec(), sum, dot, depthwise: vec![], pointwise: vec![] })
            };
            let expected = run(0, true);
            for offset in [0, 1, 8, 16] {
                for want_dw in [true, false] {
                    let context = (kernels, shape, offset, want_dw);
                    assert_eq!(run(offset, want_dw), expected, "{context:?}");
                }
            }
        }
    }
}

#[test]
fn forward_preluded() {
    let mut random = Random::new(3);
    for kernels in kernels() {
        for case in cases(kernels, &mut random) {
            let (shape, outputs) = (case.shape, case.shape.output_channels);
            let (values, border) = case.preluded(kernels);
            let mut scratch = Guarded::unwritten(shape.streaming_scratch());
            let mut run = |x: &[f32], preluded, reused| {
                let mut z = Guarded::unwritten(shape.output().len());
                let (mut sum, mut sum_of_squares) = (vec![1.0; outputs], vec![2.0; outputs]);
                kernels.separable_stored(
                    SeparableInput { preluded, ..SeparableInput::new(x, case.prelude()) },
                    shape,
                    &case.depthwise,
                    &case.pointwise,
                    StoredMut::F32(&mut z),
                    Some(Moments { sum: &mut sum, sum_of_squares: &mut sum_of_squares }),
                    SeparableScratch { elements: &mut scratch, reused },
                );
                (z.to_vec(), sum, sum_of_squares)
            };
            let expected = run(&case.x, None, false);
            // Nothing is read of an image whose prelude is there.
            let unread = vec![f32::NAN; case.x.len()];
            for reused in [false, true] {
                let computed = run(&unread, Some(Preluded { values: &values, border }), reused);
                assert_eq!(computed, expected, "{} {shape:?}", kernels.isa());
            }
        }
    }
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_preluded_image_whose_border_cannot_be_counted_is_refused() {
    preluded_by(1 << (usize::BITS - 1), 4);
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_preluded_image_with_too_narrow_a_border_is_refused() {
    preluded_by(1, 8);
}

/// A window of 5×5 on an image of 2×2 that claims such a border in so many values.
fn preluded_by(border: usize, len: usize) {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 5, stride: 1, dilation: 1, output_channels: 1 };
    let (x, values, mut z) = ([0.0; 4], vec![0.0; len], [0.0; 4]);
    let preluded = Some(Preluded { values: &values, border });
    let input = SeparableInput { preluded, ..SeparableInput::new(&x[..], Prelude::Copy) };
    let mut scratch = vec![0.0; shape.streaming_scratch()];
    let (z, scratch) = (StoredMut::F32(&mut z), SeparableScratch::new(&mut scratch));
    Kernels::detect().separable_stored(input, shape, &[0.0; 25], &[0.0], z, None, scratch);
}

#[test]
fn an_image_without_pixels_has_an_output_without_pixels() {
    for (height, width) in [(0, 4), (4, 0)] {
        let input = ImageShape::new(height, width, 2);
        let shape = SeparableShape { input, kernel: 3, stride: 1, dilation: 1, output_channels: 1 };
        let mut scratch = vec![0.0; shape.forward_scratch()];
        let (w, p, scratch) = ([1.0; 18], [1.0; 2], SeparableScratch::new(&mut scratch));
        Kernels::detect().separable(&[], shape, Prelude::Copy, &w, &p, None, &mut [], false, None, scratch);
    }
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_wrong_length_panics_with_the_shape() {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 3, stride: 1, dilation: 1, output_channels: 1 };
    separable_of(shape, &mut vec![0.0; shape.forward_scratch() - 1]);
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_kernel_that_no_padding_centres_is_refused() {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 2, stride: 1, dilation: 1, output_channels: 1 };
    separable_of(shape, &mut [0.0; 1000]);
}

#[test]
#[should_panic(expected = "do not fit SeparableShape")]
fn a_scratch_that_cannot_be_counted_is_refused() {
    // 2³² rows of 2³² − 1 pixels with their padding, on 64 bits, which can be counted, but not if a row is whole lines.
    let (input, dilation) = (ImageShape::new(2, 1, 1), (1 << (usize::BITS / 2 - 1)) - 1);
    let shape = SeparableShape { input, kernel: 3, stride: 1, dilation, output_channels: 1 };
    separable_of(shape, &mut [0.0; 1000]);
}

/// A separable convolution without weights that differ.
fn separable_of(shape: SeparableShape, scratch: &mut [f32]) {
    let (x, w) = (vec![0.0; shape.input.len()], vec![0.0; shape.kernel * shape.kernel]);
    let (mut z, scratch) = (x.clone(), SeparableScratch::new(scratch));
    Kernels::detect().separable(&x, shape, Prelude::Copy, &w, &[0.0], None, &mut z, false, None, scratch);
}
