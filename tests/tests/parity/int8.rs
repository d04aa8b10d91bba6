//! Models on 8-bit integers: every logit is that of the reference, and near that of the model in `f32`.

use darts_core::{Int8Step, Kernels, ModelError, Network, Operand, Place, STEP_BYTES, Section, Step, StepError};
use darts_host::data::Dataset;
use darts_host::export::{Calibration, Precision, export_int8};
use darts_host::model_file::ModelFile;
use darts_kernels_simd::{ChannelFactors, Int8Part, Int8Separable, Int8Target, SeparableShape, reference};
use darts_tests::{AlignedBytes, Random, fix_checksum, kernels};

use darts_tests::networks::{CASES, core_logits, model, network, relative_error};

/// Random images, smooth enough to be told apart after pooling.
fn images(network: &Network, count: usize) -> Dataset {
    let mut random = Random::new(5);
    let shape = network.input_shape();
    let bytes = (0..count).flat_map(|_| {
        let level = random.indices(1, 200)[0];
        random.indices(shape.len(), 56).into_iter().map(move |value| (level + value) as u8).collect::<Vec<_>>()
    });
    let names = (0..network.classes()).map(|class| format!("class {class}")).collect();
    Dataset::new(shape, bytes.collect(), vec![0; count], names)
}

fn quantized(case: usize, calibration: Calibration) -> (ModelFile, ModelFile, Vec<f32>) {
    let trained = network(case);
    let real = model(&trained, Precision::F32);
    let core = real.network().unwrap();
    let data = images(&core, 12);
    let bytes = export_int8(&trained, &data, calibration, Kernels::detect()).unwrap();
    let mut inputs = vec![0.0; data.len() * core.input_len()];
    for (index, input) in inputs.chunks_exact_mut(core.input_len()).enumerate() {
        core.normalize(data.image(index), input).unwrap();
    }
    (ModelFile::new(&bytes, "a model on integers".as_ref()), real, inputs)
}

/// Runs a plan step by step with the kernels of the reference, in a workspace of its own.
struct Interpreter<'a> {
    weights: &'a [u8],
    workspace: Vec<i8>,
}

impl Interpreter<'_> {
    fn read(&self, place: Place, len: usize) -> Vec<i8> {
        let Place::Workspace(start) = place else { panic!("outside of the workspace") };
        self.workspace[start as usize..][..len].to_vec()
    }

    fn write(&mut self, place: Place, values: &[i8]) {
        let Place::Workspace(start) = place else { panic!("outside of the workspace") };
        self.workspace[start as usize..][..values.len()].copy_from_slice(values);
    }

    fn bytes(&self, offset: usize, len: usize) -> Vec<i8> {
        self.weights[offset..][..len].iter().map(|&byte| byte as i8).collect()
    }

    fn words(&self, offset: usize, len: usize) -> Vec<i32> {
        self.weights[offset..][..4 * len].as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect()
    }

    fn separable(&self, x: &[i8], y: &mut [i8], step: &Int8Step) {
        let Int8Step::Separable { shape, input, middle_zero, zero, weights, accumulate, .. } = *step else {
            unreachable!()
        };
        let SeparableShape { input: image, output_channels, .. } = shape;
        let (first, second) = (shape.depthwise().weights(), shape.pointwise().weights());
        let start = weights as usize;
        let mut at = start + (first + second).next_multiple_of(4);
        let mut words = |len: usize| {
            let words = self.words(at, len);
            at += 4 * len;
            words
        };
        let (middle, bias, multiplier) = (words(image.channels), words(output_channels), words(output_channels));
        let shifts = &self.weights[at..];
        let (depthwise, pointwise) = (self.bytes(start, first), self.bytes(start + first, second));
        let weights = Int8Separable {
            depthwise: &depthwise,
            middle: ChannelFactors { bias: &[], multiplier: &middle, shift: &shifts[..image.channels] },
            middle_zero,
            pointwise: &pointwise,
            factors: ChannelFactors {
                bias: &bias,
                multiplier: &multiplier,
                shift: &shifts[image.channels..][..output_channels],
            },
        };
        let mut padded = vec![0; shape.depthwise().input.len()];
        let mut between = vec![0; shape.depthwise().output().len()];
        reference::int8_separable(x, shape, input, weights, y, zero, accumulate, &mut padded, &mut between);
    }

    /// Returns the logits if the step writes them.
    fn dense(&mut self, parts: &[Int8Step]) -> Option<Vec<f32>> {
        let Int8Step::Dense { target, shape, input, zero, accumulate, .. } = parts[0] else { unreachable!() };
        let images: Vec<_> = parts
            .iter()
            .map(|part| {
                let Int8Step::Dense { source, weights, .. } = *part else { unreachable!() };
                (self.read(source, shape.input.len()), self.bytes(weights as usize, shape.weights()), weights as usize)
            })
            .collect();
        let all: Vec<_> = images.iter().map(|(x, w, _)| Int8Part { x, w }).collect();
        let channels = shape.output_channels;
        let numbers = images[images.len() - 1].2 + shape.weights().next_multiple_of(4);
        let (bias, multiplier) = (self.words(numbers, channels), self.words(numbers + 4 * channels, channels));
        if target == Place::External {
            let scale: Vec<f32> = multiplier.iter().map(|&word| f32::from_bits(word as u32)).collect();
            let mut y = vec![0.0; shape.output_len()];
            reference::int8_dense(&all, input, Int8Target::F32 { y: &mut y, bias: &bias, scale: &scale }, shape);
            return Some(y);
        }
        let shift = &self.weights[numbers + 8 * channels..][..channels];
        let factors = ChannelFactors { bias: &bias, multiplier: &multiplier, shift };
        let mut y = self.read(target, shape.output_len());
        reference::int8_dense(&all, input, Int8Target::Int8 { y: &mut y, factors, zero, accumulate }, shape);
        self.write(target, &y);
        None
    }

    fn step(&mut self, step: &Int8Step, image: &[f32]) {
        let x = match step.source() {
            Some(place @ Place::Workspace(_)) => self.read(place, source_len(step)),
            _ => Vec::new(),
        };
        let mut y = self.read(step.target(), target_len(step));
        match *step {
            Int8Step::Quantize { inverse_scale, zero, .. } => {
                for (y, value) in y.iter_mut().zip(image) {
                    let value = f64::from(value * inverse_scale);
                    // Rust's `round` takes halves away from zero.
                    *y = (value.round() + f64::from(zero)).clamp(-128.0, 127.0) as i8;
                }
            }
            Int8Step::Prelude { shape, padding, input, .. } => {
                reference::int8_prelude(&x, shape, padding, input, &mut y);
            }
            Int8Step::Separable { .. } => self.separable(&x, &mut y, step),
            Int8Step::Dense { .. } => unreachable!(),
            Int8Step::MaxPool { shape, rescale, .. } => reference::int8_max_pool(&x, &mut y, shape, rescale),
            Int8Step::AvgPool { shape, rescale, .. } => reference::int8_avg_pool(&x, &mut y, shape, rescale),
            Int8Step::GlobalAvgPool { shape, rescale, .. } => {
                reference::int8_global_avg_pool(&x, shape, &mut y, rescale);
            }
            Int8Step::Rescale { rescale, accumulate, .. } => {
                reference::int8_rescale(&x, &mut y, rescale, accumulate);
            }
            Int8Step::Zero { zero, .. } => y.fill(zero),
        }
        self.write(step.target(), &y);
    }
}

fn source_len(step: &Int8Step) -> usize {
    Step::Int8(*step).sizes().unwrap().source as usize
}

fn target_len(step: &Int8Step) -> usize {
    Step::Int8(*step).sizes().unwrap().target as usize
}

/// The logits of one image by the reference.
fn reference_logits(file: &ModelFile, image: &[f32]) -> Vec<f32> {
    let network = file.network().unwrap();
    let (start, len) = section(file.bytes(), Section::Weights);
    let weights = &file.bytes()[start..start + len];
    let mut interpreter = Interpreter { weights, workspace: vec![99; network.required_bytes()] };
    let mut parts = Vec::new();
    for step in network.steps() {
        let Step::Int8(step) = step else { panic!("a step on {}", step.name()) };
        let Int8Step::Dense { more, .. } = step else {
            interpreter.step(&step, image);
            continue;
        };
        parts.push(step);
        if !more && let Some(logits) = interpreter.dense(&std::mem::take(&mut parts)) {
            return logits;
        }
    }
    panic!("the plan writes no logits")
}

fn section(file: &[u8], section: Section) -> (usize, usize) {
    let entry = 64 + 16 * (section as usize - 1);
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    (word(entry + 4), word(entry + 8))
}

#[test]
fn every_logit_is_that_of_the_reference() {
    for (case, name) in CASES.iter().enumerate() {
        let (file, _, inputs) = quantized(case, Calibration::MinMax);
        let network = file.network().unwrap();
        let inputs = &inputs[..2 * network.input_len()];
        let expected: Vec<f32> =
            inputs.chunks_exact(network.input_len()).flat_map(|image| reference_logits(&file, image)).collect();
        for kernels in kernels() {
            assert_eq!(core_logits(&network, kernels, inputs), expected, "{name:?} {:?}", kernels.isa());
        }
    }
}

#[test]
fn logits_are_near_those_in_f32() {
    for (case, name) in CASES.iter().enumerate() {
        for calibration in [Calibration::MinMax, Calibration::Percentile, Calibration::Mse] {
            let (file, real, inputs) = quantized(case, calibration);
            let (network, real) = (file.network().unwrap(), real.network().unwrap());
            let expected = core_logits(&real, Kernels::detect(), &inputs);
            let found = core_logits(&network, Kernels::detect(), &inputs);
            let error = relative_error(&found, &expected);
            println!("{name:?} {calibration:?}: {error}");
            assert!(error < 0.2, "{name:?} {calibration:?}: {error}");
        }
    }
}

#[test]
fn steps_are_read_back_as_they_were_written() {
    for case in 0..CASES.len() {
        let (file, ..) = quantized(case, Calibration::MinMax);
        let (start, len) = section(file.bytes(), Section::Plan);
        let records = file.bytes()[start..start + len].as_chunks::<STEP_BYTES>().0;
        for record in records {
            assert_eq!(Step::from_bytes(record).unwrap().to_bytes().unwrap(), *record);
        }
        assert_eq!(records.len(), file.network().unwrap().steps().count());
    }
}

#[test]
fn a_workspace_of_one_byte_fewer_is_an_error() {
    let (file, _, inputs) = quantized(0, Calibration::MinMax);
    let network = file.network().unwrap();
    let mut workspace = vec![0.0; network.required_bytes() / 4 - 1];
    let mut logits = vec![0.0; network.classes()];
    let image = &inputs[..network.input_len()];
    assert!(network.run(Kernels::detect(), image, &mut workspace, &mut logits).is_err());
}

/// The error of a model whose step `index` is spoilt.
fn step_error(file: &ModelFile, index: usize, spoil: impl Fn(&mut Int8Step)) -> ModelError {
    let mut bytes = AlignedBytes::new(file.bytes(), 0);
    let at = section(file.bytes(), Section::Plan).0 + index * STEP_BYTES;
    let mut step = file.network().unwrap().steps().nth(index).unwrap();
    let Step::Int8(inner) = &mut step else { panic!("a step on {}", step.name()) };
    spoil(inner);
    bytes.get_mut()[at..at + STEP_BYTES].copy_from_slice(&step.to_bytes().unwrap());
    fix_checksum(bytes.get_mut());
    Network::parse(bytes.get()).map(|_| ()).expect_err("the step is not sound")
}

#[test]
fn steps_that_are_not_sound_are_errors() {
    let (file, ..) = quantized(0, Calibration::MinMax);
    let steps: Vec<_> = file.network().unwrap().steps().collect();
    let find = |name: &str| steps.iter().position(|step| step.name() == name).unwrap();
    let failed = |step: usize, error| ModelError::Step { step, error };

    let last = steps.len() - 1;
    let spoilt = step_error(&file, last, |step| {
        if let Int8Step::Dense { more, .. } = step {
            *more = true;
        }
    });
    assert!(matches!(spoilt, ModelError::Step { error: StepError::Parameter { .. }, .. }), "{spoilt}");

    let open = steps.iter().position(|step| matches!(step, Step::Int8(Int8Step::Dense { more: true, .. }))).unwrap();
    let spoilt = step_error(&file, open + 1, |step| {
        if let Int8Step::Dense { zero, .. } = step {
            *zero = zero.wrapping_add(1);
        }
    });
    assert_eq!(spoilt, failed(open + 1, StepError::Unfinished));

    let quantize = find("int8_quantize");
    let spoilt = step_error(&file, quantize, |step| {
        if let Int8Step::Quantize { source, .. } = step {
            *source = Place::Workspace(0);
        }
    });
    assert_eq!(spoilt, failed(quantize, StepError::External(Operand::Source)));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let spoilt = step_error(&file, quantize, |step| {
            if let Int8Step::Quantize { inverse_scale, .. } = step {
                *inverse_scale = scale;
            }
        });
        assert!(matches!(spoilt, ModelError::Step { error: StepError::Parameter { name: "scale", .. }, .. }));
    }

    let separable = find("int8_separable");
    for (place, error) in [(true, Operand::Source), (false, Operand::Target)] {
        let spoilt = step_error(&file, separable, |step| {
            let (source, target) = step.places_mut();
            *(if place { source.unwrap() } else { target }) = Place::External;
        });
        assert_eq!(spoilt, failed(separable, StepError::External(error)));
    }

    let pool = find("int8_global_avg_pool");
    let spoilt = step_error(&file, pool, |step| {
        if let Int8Step::GlobalAvgPool { rescale, .. } = step {
            rescale.factor.shift = 63;
        }
    });
    assert_eq!(spoilt, failed(pool, StepError::Parameter { name: "shift", value: 63 }));
}

#[test]
fn bytes_changed_at_random_are_an_error_or_harmless() {
    // The smallest network: what can be parsed is run.
    let (file, _, inputs) = quantized(6, Calibration::MinMax);
    let (start, len) = section(file.bytes(), Section::Plan);
    let mut random = Random::new(9);
    let mut ran = 0;
    for _ in 0..20_000 {
        let mut bytes = AlignedBytes::new(file.bytes(), 0);
        let changes = random.indices(1, 3)[0] as usize + 1;
        for (at, value) in random.indices(changes, len as u32).into_iter().zip(random.indices(changes, 256)) {
            bytes.get_mut()[start + at as usize] = value as u8;
        }
        fix_checksum(bytes.get_mut());
        let Ok(network) = Network::parse(bytes.get()) else { continue };
        let mut workspace = vec![f32::NAN; network.required_bytes() / 4];
        let mut logits = vec![0.0; network.classes()];
        let image = &inputs[..network.input_len()];
        network.run(Kernels::detect(), image, &mut workspace, &mut logits).expect("a parsed network runs");
        ran += 1;
    }
    assert!(ran > 100, "{ran}");
}
