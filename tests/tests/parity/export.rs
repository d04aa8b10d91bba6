//! Logits of exported networks.

use darts_core::Kernels;
use darts_host::export::{ExportError, Precision, export};
use darts_host::model_file::predictions;
use darts_tests::{Random, kernels};

use darts_tests::networks::{CASES, core_logits, host_logits, model, network, relative_error};

const IMAGES: usize = 4;

/// Images, and the host's logits, which depend on the image.
fn images_and_logits(case: usize) -> (Vec<f32>, Vec<f32>) {
    let network = network(case);
    let mut images = Random::new(11).values(IMAGES * network.config.input.iter().product::<usize>());
    images.iter_mut().for_each(|value| *value *= 2.0);
    let logits = host_logits(&network, &images);
    let (first, others) = logits.split_at(network.config.classes);
    let differs = relative_error(&others[..first.len()], first);
    assert!(differs > 0.02, "case {case}: the logits hardly depend on the image ({differs})");
    (images, logits)
}

#[test]
fn the_core_agrees_with_the_host_on_every_instruction_set() {
    for case in 0..CASES.len() {
        let network = network(case);
        let (images, expected) = images_and_logits(case);
        let file = model(&network, Precision::F32);
        for kernels in kernels() {
            let logits = core_logits(&file.network().unwrap(), kernels, &images);
            let error = relative_error(&logits, &expected);
            println!("case {case}, {}: error {error:.1e}", kernels.isa());
            assert!(error <= 1e-4, "case {case} on {}: relative error {error}", kernels.isa());
        }
    }
}

#[test]
fn half_precision_is_close_and_chooses_the_same_classes() {
    let (mut same, mut all) = (0, 0);
    for case in 0..CASES.len() {
        let network = network(case);
        let (images, expected) = images_and_logits(case);
        let file = model(&network, Precision::F16);
        let logits = core_logits(&file.network().unwrap(), Kernels::detect(), &images);
        let error = relative_error(&logits, &expected);
        println!("case {case}: error {error:.1e}");
        assert!(error <= 1e-2, "case {case}: relative error {error}");
        let classes = network.config.classes;
        let pairs = predictions(&logits, classes).into_iter().zip(predictions(&expected, classes));
        same += pairs.filter(|(actual, expected)| actual == expected).count();
        all += IMAGES;
    }
    assert!(same * 10 >= all * 9, "{same} of {all} images");
}

#[test]
fn a_model_says_what_it_was_made_from() {
    let network = network(2);
    let file = model(&network, Precision::F16);
    let parsed = file.network().unwrap();
    assert_eq!(parsed.genotype(), &network.genotype);
    let metadata = parsed.metadata();
    let shape = metadata.input;
    assert_eq!([shape.channels, shape.height, shape.width], network.config.input);
    assert_eq!((metadata.layers, metadata.channels, metadata.classes), (3, 7, 10));
    assert_eq!(metadata.kind, darts_core::NetworkKind::Cifar);
    assert_eq!((metadata.mean, metadata.deviation), (&[0.5; 3][..], &[0.25; 3][..]));
    let full = model(&network, Precision::F32);
    assert!(parsed.weight_bytes() < full.network().unwrap().weight_bytes() * 6 / 10);
}

#[test]
fn weights_that_the_precision_does_not_hold_are_refused() {
    let mut network = network(0);
    network.weights[0] = 1e6;
    assert!(export(&network, Precision::F32).is_ok());
    let error = export(&network, Precision::F16).unwrap_err();
    assert!(matches!(error, ExportError::Value { precision: Precision::F16, .. }), "{error}");
    assert!(error.to_string().ends_with("or export in f32"), "{error}");
    network.weights[0] = f32::NAN;
    assert!(matches!(export(&network, Precision::F32), Err(ExportError::Value { .. })));
}
