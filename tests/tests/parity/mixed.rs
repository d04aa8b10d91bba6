//! Models on 8-bit integers with layers in floating point: the integers are those of the reference, the rest is as in
//! floating point.

use darts_core::{Elements, Int8Step, Kernels, Observed, Place, Section, Step};
use darts_host::data::Dataset;
use darts_host::export::{Calibration, ExportError, FloatLayers, Precision, Quantization, signal_to_noise};
use darts_host::model_file::ModelFile;
use darts_host::weights::TrainedNetwork;
use darts_tests::networks::{core_logits, model, network};

use super::interpreter::{BEFORE, Interpreter, images, integers, section, target_len};

/// Of the networks that all tests share the smaller ones, of both kinds: each is calibrated by every test, which takes
/// its time under emulation.
const NETWORKS: [usize; 6] = [2, 3, 4, 5, 6, 11];

struct Case {
    trained: TrainedNetwork,
    data: Dataset,
    /// Normalised.
    inputs: Vec<f32>,
}

impl Case {
    fn new(index: usize) -> Self {
        let trained = network(index);
        let real = model(&trained, Precision::F32);
        let core = real.network().unwrap();
        let data = images(&core, 12);
        let mut inputs = vec![0.0; data.len() * core.input_len()];
        for (index, input) in inputs.chunks_exact_mut(core.input_len()).enumerate() {
            core.normalize(data.image(index), input).unwrap();
        }
        Self { trained, data, inputs }
    }

    fn quantization(&self) -> Quantization<'_> {
        Quantization::new(&self.trained, &self.data, Calibration::MinMax, Kernels::detect()).unwrap()
    }
}

fn float(names: &[&str], precision: Precision) -> Vec<FloatLayers> {
    names.iter().map(|&name| FloatLayers { name: name.to_owned(), precision }).collect()
}

fn mixed(quantization: &Quantization, layers: &[FloatLayers]) -> ModelFile {
    ModelFile::new(&quantization.model(layers).unwrap(), "a mixed model".as_ref())
}

/// What is kept in floating point: every third layer, a cell, either end, what touches integers on both sides.
fn choices(quantization: &Quantization) -> Vec<Vec<FloatLayers>> {
    let layers = quantization.layers();
    let every = |start: usize| layers.iter().copied().skip(start).step_by(3).collect::<Vec<_>>();
    let mut choices = vec![float(&["classifier"], Precision::F16), float(&["cells.0"], Precision::F32)];
    choices.extend((0..3).map(|start| float(&every(start), [Precision::F16, Precision::F32][start % 2])));
    choices.push([float(&["cells"], Precision::F16), float(&[layers[0]], Precision::F32)].concat());
    choices
}

/// What a step has written of its target: a dense convolution perhaps only some channels.
fn written<'a, T>(step: &Step, target: &'a [T]) -> impl Iterator<Item = &'a T> {
    let (distance, channels) = match *step {
        Step::Dense { shape, .. } | Step::Int8(Int8Step::Dense { shape, .. }) => {
            (shape.output_pixel_stride, shape.output_channels)
        }
        _ => (1, 1),
    };
    target.chunks(distance).flat_map(move |pixel| &pixel[..channels])
}

/// Runs one image and, at each step on integers, the reference in the same workspace.
fn check_integers(file: &ModelFile, image: &[f32]) {
    let network = file.network().unwrap();
    let steps: Vec<Step> = network.steps().collect();
    let (start, len) = section(file.bytes(), Section::Weights);
    let mut interpreter = Interpreter::new(&file.bytes()[start..start + len], network.required_bytes());
    let mut workspace = vec![f32::from_le_bytes([BEFORE as u8; 4]); network.required_bytes() / 4];
    let mut logits = vec![0.0; network.classes()];
    let observe = |index: usize, observed: Observed| {
        let Step::Int8(step) = steps[index] else {
            if steps[index].target() != Place::External {
                let Elements::F32(values) = observed.target else { panic!("a step on f32") };
                interpreter.write(steps[index].target(), &integers(values));
            }
            return;
        };
        if let Int8Step::Dense { .. } = step {
            let open = |step: &&Step| matches!(step, Step::Int8(Int8Step::Dense { more: true, .. }));
            let count = 1 + steps[index..].iter().take_while(open).count();
            let parts: Vec<Int8Step> = steps[index..index + count]
                .iter()
                .map(|step| if let Step::Int8(step) = step { *step } else { panic!("{}", step.name()) })
                .collect();
            if let Some(expected) = interpreter.dense(&parts) {
                assert_eq!(observed.target, Elements::F32(&expected));
                return;
            }
        } else {
            interpreter.step(&step, image);
        }
        let expected = interpreter.read(step.target(), target_len(&step));
        match observed.target {
            Elements::Int8(found) => {
                let step = Step::Int8(step);
                assert!(written(&step, found).eq(written(&step, &expected)), "step {index}, {}", step.name());
            }
            Elements::F32(found) => {
                assert_eq!(integers(found), expected, "step {index}, {}", step.name());
            }
        }
    };
    network.run_observed(Kernels::detect(), image, &mut workspace, &mut logits, observe).unwrap();
}

#[test]
fn integers_are_those_of_the_reference() {
    for index in NETWORKS {
        let case = Case::new(index);
        let quantization = case.quantization();
        for layers in choices(&quantization) {
            let file = mixed(&quantization, &layers);
            let network = file.network().unwrap();
            check_integers(&file, &case.inputs[..network.input_len()]);
            // In a workspace of exactly the bytes that the planner counted.
            core_logits(&network, Kernels::detect(), &case.inputs[..network.input_len()]);
            let kinds: Vec<_> = network.steps().map(|step| step.name()).collect();
            assert!(kinds.contains(&"int8_quantize"), "{layers:?}");
            assert!(kinds.iter().any(|kind| !kind.starts_with("int8")), "{layers:?}");
        }
    }
}

#[test]
fn a_network_that_is_all_in_floating_point_is_that_of_floating_point() {
    for index in NETWORKS {
        let case = Case::new(index);
        let quantization = case.quantization();
        let layers = quantization.layers();
        for precision in [Precision::F32, Precision::F16] {
            let (file, real) = (mixed(&quantization, &float(&layers, precision)), model(&case.trained, precision));
            let (network, real) = (file.network().unwrap(), real.network().unwrap());
            let expected = core_logits(&real, Kernels::detect(), &case.inputs);
            assert_eq!(core_logits(&network, Kernels::detect(), &case.inputs), expected, "{index} {precision}");
            assert!(network.steps().all(|step| !matches!(step, Step::Int8(_))));
        }
    }
}

/// Whether a step is on integers or of the classifier.
fn left_out(step: &Step) -> bool {
    matches!(step, Step::Int8(_) | Step::GlobalAvgPool { .. }) || step.target() == Place::External
}

/// What each step on `f32` writes to the workspace, but for those of the classifier.
fn float_images(file: &ModelFile, image: &[f32]) -> Vec<Vec<f32>> {
    let network = file.network().unwrap();
    let steps: Vec<Step> = network.steps().collect();
    let mut images = Vec::new();
    let observe = |index: usize, observed: Observed| {
        if let (Elements::F32(values), false) = (observed.target, left_out(&steps[index])) {
            images.push(written(&steps[index], values).copied().collect());
        }
    };
    let mut workspace = vec![f32::NAN; network.required_bytes() / 4];
    let mut logits = vec![0.0; network.classes()];
    network.run_observed(Kernels::detect(), image, &mut workspace, &mut logits, observe).unwrap();
    images
}

#[test]
fn layers_in_floating_point_behind_none_on_integers_write_what_they_write_there() {
    for index in NETWORKS {
        let case = Case::new(index);
        let quantization = case.quantization();
        let mut layers = quantization.layers();
        layers.retain(|&layer| layer != "classifier");
        let image = &case.inputs[..case.inputs.len() / case.data.len()];
        let found = float_images(&mixed(&quantization, &float(&layers, Precision::F32)), image);
        let expected = float_images(quantization.real(), image);
        assert!(!found.is_empty() && found == expected, "{index}");
        // The classifier, in the end, has its averages and its weights rounded.
        let file = mixed(&quantization, &float(&layers, Precision::F32));
        let network = file.network().unwrap();
        assert!(matches!(network.steps().last(), Some(Step::Int8(Int8Step::Dense { .. }))), "{index}");
        let errors =
            quantization.layer_errors(&float(&layers, Precision::F32), &case.data, Kernels::detect(), || Ok(()));
        for error in errors.unwrap() {
            assert_eq!(error.sqnr.is_infinite(), error.name != "classifier", "{index} {error:?}");
        }
    }
}

#[test]
fn layers_in_floating_point_make_the_noise_less() {
    for index in NETWORKS {
        let case = Case::new(index);
        let quantization = case.quantization();
        let logits = |file: &ModelFile| core_logits(&file.network().unwrap(), Kernels::detect(), &case.inputs);
        let expected = logits(quantization.real());
        let sqnr = |layers: &[FloatLayers]| signal_to_noise(&expected, &logits(&mixed(&quantization, layers)));
        let (all, none) = (quantization.layers(), sqnr(&[]));
        let [half, most] = [all.len() / 2, all.len() - 1].map(|count| sqnr(&float(&all[..count], Precision::F32)));
        println!("{index}: {none:.1} dB, half of the layers in f32 {half:.1} dB, all but one {most:.1} dB");
        assert!(none < most && none <= half + 1.0, "{index}");
    }
}

#[test]
fn errors_of_layers_are_those_of_the_logits_in_the_end() {
    for index in [4, 6] {
        let case = Case::new(index);
        let quantization = case.quantization();
        let layers = quantization.layers();
        let errors = quantization.layer_errors(&[], &case.data, Kernels::detect(), || Ok(())).unwrap();
        assert!(errors.iter().map(|error| error.name.as_str()).eq(layers.iter().copied()));
        let logits = |file: &ModelFile| core_logits(&file.network().unwrap(), Kernels::detect(), &case.inputs);
        let found = signal_to_noise(&logits(quantization.real()), &logits(&mixed(&quantization, &[])));
        let last = errors.last().unwrap();
        assert!(last.name == "classifier" && (last.sqnr - found).abs() < 1e-6, "{last:?} {found}");
        assert!(errors.iter().all(|error| error.sqnr > 0.0), "{errors:?}");
        // One layer alone makes less noise than all.
        for layer in layers {
            let alone = ModelFile::new(&quantization.model_of_one(layer).unwrap(), layer.as_ref());
            let alone = signal_to_noise(&logits(quantization.real()), &logits(&alone));
            assert!(alone > found - 1.0, "{layer}: {alone} dB, all {found} dB");
        }
    }
}

#[test]
fn a_layer_that_is_not_there_is_an_error() {
    let case = Case::new(6);
    let result = case.quantization().model(&float(&["cells.0", "cells.77"], Precision::F32));
    assert!(matches!(result, Err(ExportError::Layer { name }) if name == "cells.77"));
}
