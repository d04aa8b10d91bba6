//! Models on 8-bit integers: every logit is that of the reference, and near that of the model in `f32`.

use darts_core::{Int8Step, Kernels, ModelError, Network, Operand, Place, STEP_BYTES, Section, Step, StepError};
use darts_host::export::{Calibration, Precision, export_int8, int8_workspace_bytes};
use darts_host::model_file::ModelFile;
use darts_tests::networks::{CASES, core_logits, model, network, relative_error};
use darts_tests::{AlignedBytes, Random, fix_checksum, int8_kernels};

use super::interpreter::{Interpreter, images, section};

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

/// The logits of one image by the reference.
fn reference_logits(file: &ModelFile, image: &[f32]) -> Vec<f32> {
    let network = file.network().unwrap();
    let (start, len) = section(file.bytes(), Section::Weights);
    let mut interpreter = Interpreter::new(&file.bytes()[start..start + len], network.required_bytes());
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

#[test]
fn every_logit_is_that_of_the_reference() {
    for (case, name) in CASES.iter().enumerate() {
        let (file, _, inputs) = quantized(case, Calibration::MinMax);
        let network = file.network().unwrap();
        let inputs = &inputs[..2 * network.input_len()];
        let expected: Vec<f32> =
            inputs.chunks_exact(network.input_len()).flat_map(|image| reference_logits(&file, image)).collect();
        for kernels in int8_kernels() {
            assert_eq!(core_logits(&network, kernels, inputs), expected, "{name:?} {kernels:?}");
        }
    }
}

#[test]
fn the_workspace_is_known_without_weights_and_data() {
    for (case, name) in CASES.iter().enumerate() {
        let trained = network(case);
        let known = int8_workspace_bytes(&trained.genotype, &trained.config).unwrap();
        for calibration in [Calibration::MinMax, Calibration::Mse] {
            assert_eq!(quantized(case, calibration).0.network().unwrap().required_bytes(), known, "{name:?}");
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
            *source = Place::Workspace(2);
        }
    });
    assert_eq!(spoilt, failed(quantize, StepError::Unaligned { operand: Operand::Source, start: 2 }));
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
