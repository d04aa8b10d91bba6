//! Model files: written, read back and run; the workspace is exactly as large as stated.

use darts_core::{
    Metadata, ModelError, Network, NetworkKind, Operand, Place, RunError, STEP_BYTES, Step, StepError, Storage,
    Weights, WriteError, include_model,
};
use darts_kernels_simd::{
    DenseShape, DepthwiseShape, ImageShape, Kernels, Padding, PoolShape, Prelude, SeparableShape, reference,
};
use darts_tests::{Filter, Random, SampleModel, kernels};

/// The sample model as plain loops, straight down.
fn reference_logits(model: &SampleModel, input: &[f32]) -> Vec<f32> {
    let stem = ImageShape::new(5, 4, 4);
    let small = ImageShape::new(3, 2, 4);
    let [first, depthwise, pointwise, even, odd, left, right, separable, linear] = &model.filters[..] else {
        panic!("nine filters")
    };
    let prelude = |x: &[f32], shape: ImageShape, padding: Padding, prelude| {
        let mut y = vec![f32::NAN; shape.padded(padding).len()];
        reference::prelude(x, shape, padding, prelude, &mut y);
        y
    };
    let dense = |x: &[f32], filter: &Filter, shape: DenseShape, y: &mut [f32], accumulate| {
        reference::dense(x, &filter.weights, filter.bias.as_deref(), y, shape, accumulate);
    };
    let padded = prelude(input, model.input, Padding::symmetric(1, 1), Prelude::Copy);
    let mut state = vec![f32::NAN; stem.len()];
    dense(&padded, first, DenseShape::square(ImageShape::new(7, 6, 2), 4, 3, 1), &mut state, false);

    let padded = prelude(&state, stem, Padding::symmetric(2, 2), Prelude::Relu);
    let mut filtered = vec![f32::NAN; small.len()];
    let shape = DepthwiseShape { input: ImageShape::new(9, 8, 4), kernel: 3, stride: 2, dilation: 2 };
    reference::depthwise(&padded, &depthwise.weights, &mut filtered, shape);
    let mut node = vec![f32::NAN; small.len()];
    dense(&filtered, pointwise, DenseShape::pointwise(small, 4), &mut node, false);
    let shape = PoolShape { input: stem, kernel: 3, stride: 2, padding: 1 };
    let (mut largest, mut mean) = (vec![f32::NAN; small.len()], vec![f32::NAN; small.len()]);
    reference::max_pool(&state, &mut largest, shape);
    reference::avg_pool(&state, &mut mean, shape);
    for (node, (largest, mean)) in node.iter_mut().zip(largest.iter().zip(mean)) {
        *node += largest + mean;
    }

    let padded = prelude(&state, stem, Padding { bottom: 1, ..Padding::NONE }, Prelude::Relu);
    let mut reduced = vec![f32::NAN; small.len()];
    let mut shape = DenseShape::square(ImageShape::new(6, 4, 4), 2, 1, 2);
    shape.output_pixel_stride = 4;
    dense(&padded, even, shape, &mut reduced, false);
    (shape.offset_height, shape.offset_width) = (1, 1);
    dense(&padded, odd, shape, &mut reduced[2..], false);

    let mut sum = vec![0.0; small.len()];
    let relu = |x: &[f32], padding| prelude(x, small, padding, Prelude::Relu);
    dense(&relu(&node, Padding::NONE), left, DenseShape::pointwise(small, 4), &mut sum, true);
    dense(&relu(&reduced, Padding::NONE), right, DenseShape::pointwise(small, 4), &mut sum, true);
    let padded = relu(&reduced, Padding::symmetric(2, 2));
    let shape = DepthwiseShape { input: ImageShape::new(7, 6, 4), kernel: 3, stride: 1, dilation: 2 };
    let (taps, matrix) = separable.weights.split_at(shape.weights());
    reference::depthwise(&padded, taps, &mut filtered, shape);
    let matrix = Filter { weights: matrix.to_vec(), bias: separable.bias.clone() };
    dense(&filtered, &matrix, DenseShape::pointwise(small, 4), &mut sum, true);

    let mut features = vec![f32::NAN; 12];
    for (source, target) in [node, reduced, sum].iter().zip(features.chunks_exact_mut(4)) {
        reference::global_avg_pool(source, small, target);
    }
    let mut logits = vec![f32::NAN; 3];
    dense(&features, linear, DenseShape::pointwise(ImageShape::new(1, 1, 12), 3), &mut logits, false);
    logits
}

fn input(model: &SampleModel) -> Vec<f32> {
    Random::new(11).values(model.input.len())
}

#[test]
fn the_plan_computes_what_plain_loops_do() {
    for half in [false, true] {
        let model = SampleModel::new(half);
        let file = model.file().unwrap();
        let network = Network::parse(file.get()).unwrap();
        let input = input(&model);
        let expected = reference_logits(&model, &input);
        assert!(expected.iter().all(|logit| logit.is_finite() && logit.abs() > 1e-3), "{expected:?}");
        for kernels in kernels() {
            let mut workspace = vec![f32::NAN; network.required_bytes() / 4];
            let mut logits = [f32::NAN; 3];
            network.run(kernels, &input, &mut workspace, &mut logits).unwrap();
            for (logit, expected) in logits.iter().zip(&expected) {
                assert!(
                    (logit - expected).abs() <= 1e-5,
                    "{kernels:?}, half {half}: {logits:?}, expected {expected:?}"
                );
            }
        }
    }
}

#[test]
fn required_bytes_are_exact() {
    for half in [false, true] {
        let model = SampleModel::new(half);
        let file = model.file().unwrap();
        let network = Network::parse(file.get()).unwrap();
        let required = network.required_bytes();
        assert_eq!(required, model.workspace_bytes());
        assert_eq!(required, model.parts().workspace_bytes().unwrap() as usize);
        let input = input(&model);
        // A larger workspace is left alone behind the bytes required, all of which are used: the last is written to.
        let mut workspace = vec![1.25e30; required / 4 + 5];
        let mut logits = [0.0; 3];
        network.run(Kernels::detect(), &input, &mut workspace, &mut logits).unwrap();
        assert!(workspace[required / 4..].iter().all(|&value| value == 1.25e30));
        assert_ne!(workspace[required / 4 - 1], 1.25e30);

        let mut exact = [0.0; 3];
        network.run(Kernels::detect(), &input, &mut workspace[..required / 4], &mut exact).unwrap();
        assert_eq!(exact, logits);
        let mut untouched = [f32::MAX; 3];
        let error = network.run(Kernels::detect(), &input, &mut workspace[..required / 4 - 1], &mut untouched);
        assert_eq!(error, Err(RunError::Workspace { required, found: required - 4 }));
        assert_eq!(untouched, [f32::MAX; 3]);
    }
}

#[test]
fn lengths_of_the_caller_are_checked() {
    let model = SampleModel::new(false);
    let file = model.file().unwrap();
    let network = Network::parse(file.get()).unwrap();
    let mut workspace = vec![0.0; network.required_bytes() / 4];
    let mut run = |input: usize, output: usize| {
        network.run(Kernels::detect(), &vec![0.0; input], &mut workspace, &mut vec![0.0; output])
    };
    assert_eq!(run(40, 3), Ok(()));
    assert_eq!(run(39, 3), Err(RunError::InputLength { expected: 40, found: 39 }));
    assert_eq!(run(41, 3), Err(RunError::InputLength { expected: 40, found: 41 }));
    assert_eq!(run(40, 4), Err(RunError::OutputLength { expected: 3, found: 4 }));
    let mut workspace = vec![0.0; network.required_bytes() / 4];
    let mut run = |pixels: usize, room: usize| {
        network.run_pixels(Kernels::detect(), &vec![0; pixels], &mut vec![0.0; room], &mut workspace, &mut [0.0; 3])
    };
    assert_eq!(network.input_buffer_len(), 40);
    assert_eq!(run(40, 40), Ok(()));
    assert_eq!(run(39, 40), Err(RunError::InputLength { expected: 40, found: 39 }));
    assert_eq!(run(40, 0), Err(RunError::InputLength { expected: 40, found: 0 }));
    let mut input = vec![0.0; 40];
    assert_eq!(network.normalize(&[0; 39], &mut input), Err(RunError::InputLength { expected: 40, found: 39 }));
    assert_eq!(network.normalize(&[0; 40], &mut input[1..]), Err(RunError::InputLength { expected: 40, found: 39 }));
}

#[test]
fn pixels_are_normalised_by_channel() {
    let model = SampleModel::new(false);
    let file = model.file().unwrap();
    let network = Network::parse(file.get()).unwrap();
    let pixels: Vec<u8> = (0..40).map(|i| i * 6).collect();
    let mut input = vec![f32::NAN; 40];
    network.normalize(&pixels, &mut input).unwrap();
    for (i, &value) in input.iter().enumerate() {
        let (mean, deviation) = ([0.25, 0.5][i % 2], [0.5, 0.25][i % 2]);
        let expected = (f64::from(pixels[i]) / 255.0 - mean) / deviation;
        assert!((f64::from(value) - expected).abs() < 1e-6, "{i}: {value}, expected {expected}");
    }
}

#[test]
fn everything_comes_back_from_the_file() {
    let mut model = SampleModel::new(true);
    for (kind, genotype) in [(NetworkKind::Cifar, "DARTS_V1"), (NetworkKind::ImageNet, "AmoebaNet")] {
        model.genotype = darts_core::Genotype::builtin(genotype).unwrap();
        let mut parts = model.parts();
        parts.metadata = Metadata { kind, layers: 20, channels: 36, ..parts.metadata };
        let mut file = darts_tests::AlignedBytes::new(&vec![0; parts.encoded_len()], 0);
        parts.write(file.get_mut()).unwrap();
        let network = Network::parse(file.get()).unwrap();
        assert_eq!(*network.metadata(), parts.metadata);
        assert_eq!(network.genotype(), &model.genotype);
        assert_eq!(network.steps().collect::<Vec<_>>(), model.steps);
        assert_eq!((network.input_shape(), network.input_len(), network.classes()), (model.input, 40, 3));
        assert_eq!(network.weight_bytes(), model.weights.len());
        assert!(file.get().ends_with(&model.weights));
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let model = SampleModel::new(false);
    let parts = model.parts();
    let expected = parts.encoded_len();
    for found in [0, expected - 1, expected + 1] {
        assert_eq!(parts.write(&mut vec![0; found]), Err(WriteError::Buffer { expected, found }));
    }
    let refused = |spoil: &dyn Fn(&mut SampleModel)| {
        let mut model = SampleModel::new(false);
        spoil(&mut model);
        match model.file().map(|_| ()) {
            Err(WriteError::Invalid(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|model| model.classes = 0), ModelError::Metadata { field: "number of classes" });
    assert_eq!(refused(&|model| model.input.height = 0x10000), ModelError::Metadata { field: "input height" });
    let huge = ImageShape::new(0xffff, 0xffff, 2);
    assert_eq!(refused(&|model| model.input = huge), ModelError::Metadata { field: "input size" });
    assert_eq!(refused(&|model| model.mean[1] = f32::NAN), ModelError::Metadata { field: "mean" });
    assert_eq!(refused(&|model| model.mean.push(0.0)), ModelError::Metadata { field: "mean" });
    for deviation in [0.0, -1.0, f32::INFINITY, f32::NAN, 1e-40] {
        let error = refused(&|model| model.deviation[0] = deviation);
        assert_eq!(error, ModelError::Metadata { field: "standard deviation" });
    }
    assert!(matches!(refused(&|model| model.genotype.reduce.concat.clear()), ModelError::Genotype(_)));
    assert_eq!(refused(&|model| model.steps.clear()), ModelError::Output { step: 0 });
    let length = SampleModel::new(false).weights.len() as u64;
    let outside = StepError::Outside { operand: Operand::Weights, end: length, limit: length - 4 };
    let last = model.steps.len() - 1;
    let error = refused(&|model| model.weights.truncate(model.weights.len() - 4));
    assert_eq!(error, ModelError::Step { step: last, error: outside });
}

#[test]
fn every_step_fits_its_record() {
    for step in SampleModel::new(false).steps.into_iter().chain(SampleModel::new(true).steps) {
        assert_eq!(Step::from_bytes(&step.to_bytes().unwrap()), Ok(step));
    }
}

#[test]
fn the_record_is_as_documented() {
    let step = Step::Dense {
        source: Place::Workspace(0x01020304),
        target: Place::External,
        shape: DenseShape {
            input: ImageShape::new(0x0a0b, 0x0c0d, 0x0e0f),
            output_channels: 0x1011,
            kernel_height: 1,
            kernel_width: 7,
            stride_height: 2,
            stride_width: 3,
            offset_height: 4,
            offset_width: 5,
            output_pixel_stride: 0x1213,
        },
        relu: true,
        weights: Weights { offset: 0x21222324, storage: Storage::F16 },
        bias: true,
        accumulate: true,
        scratch: 0x31323334,
        block: 0x1415,
    };
    let expected: [u8; STEP_BYTES] = [
        3, 7, 1, 7, 2, 3, 0, 2, 4, 5, 0, 0, 0x0b, 0x0a, 0x0d, 0x0c, 0x0f, 0x0e, 0x11, 0x10, 0x13, 0x12, 0x15, 0x14,
        0x04, 0x03, 0x02, 0x01, 0xff, 0xff, 0xff, 0xff, 0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31,
    ];
    assert_eq!(step.to_bytes(), Ok(expected));
    let step = Step::Separable {
        source: Place::External,
        target: Place::Workspace(4),
        shape: SeparableShape {
            input: ImageShape::new(5, 6, 7),
            kernel: 3,
            stride: 2,
            dilation: 4,
            output_channels: 8,
        },
        relu: true,
        weights: Weights { offset: 12, storage: Storage::F32 },
        bias: false,
        accumulate: true,
        scratch: 16,
    };
    let bytes = step.to_bytes().unwrap();
    assert_eq!(bytes[..24], [9, 3, 3, 3, 2, 2, 4, 1, 0, 0, 0, 0, 5, 0, 6, 0, 7, 0, 8, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[24..], [255, 255, 255, 255, 4, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0]);
    let padding = Padding { top: 1, bottom: 2, left: 3, right: 4 };
    let shape = ImageShape::new(5, 6, 7);
    let step = Step::Prelude { source: Place::External, target: Place::Workspace(8), shape, padding, relu: true };
    let bytes = step.to_bytes().unwrap();
    assert_eq!(bytes[..18], [1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 6, 0, 7, 0]);
    assert_eq!(bytes[18..], [0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_scratch_of_a_separable_convolution_is_as_documented() {
    for (height, width, stride, dilation) in [(32, 32, 1, 1), (8, 8, 1, 1), (5, 3, 2, 2), (40, 70, 1, 2)] {
        let input = ImageShape::new(height, width, 9);
        let shape = SeparableShape { input, kernel: 5, stride, dilation, output_channels: 7 };
        let line = |len: usize| len.next_multiple_of(16);
        let (output, padded) = (shape.output(), width + 4 * dilation);
        let rows = 64usize.div_ceil(output.width).min(output.height);
        let ring = dilation * 4 + 1 + (rows - 1) * stride;
        let expected = 15 + ring * line(padded * 9) + line(rows * output.width * 9) + 2 * 7;
        assert_eq!(shape.forward_scratch(), expected, "files state it: a change needs a new version of the format");
    }
}

#[test]
fn a_step_too_large_for_its_record_is_not_stored() {
    let step = |channels, top| Step::Prelude {
        source: Place::External,
        target: Place::Workspace(0),
        shape: ImageShape::new(1, 1, channels),
        padding: Padding { top, ..Padding::NONE },
        relu: false,
    };
    assert!(step(0xffff, 255).to_bytes().is_ok());
    assert_eq!(step(0x10000, 0).to_bytes(), Err(StepError::Parameter { name: "channels", value: 0x10000 }));
    assert_eq!(step(1, 256).to_bytes(), Err(StepError::Parameter { name: "padding", value: 256 }));
}

#[test]
fn an_included_file_is_aligned() {
    let included: &'static [u8] = include_model!("model_file.rs");
    assert_eq!(included, include_bytes!("model_file.rs"));
    assert!(included.as_ptr().addr().is_multiple_of(64));
    assert_eq!(Network::parse(included).map(|_| ()), Err(ModelError::Magic));
}
