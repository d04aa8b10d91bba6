//! Weights files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use darts_host::export::{Precision, export};
use darts_host::graph::derived::{DerivedConfig, NetworkKind};
use darts_host::weights::{Problem, TrainedNetwork, WeightsError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use darts_tests::networks::trained;

fn network() -> TrainedNetwork {
    let config = DerivedConfig {
        kind: NetworkKind::Cifar,
        input: [3, 24, 24],
        classes: 5,
        channels: 4,
        layers: 3,
        auxiliary: true,
    };
    trained(config, "DARTS_V2")
}

fn saved(network: &TrainedNetwork, folder: &Path) -> Vec<u8> {
    let path = folder.join("weights.safetensors");
    network.save(&path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let network = network();
    let bytes = saved(&network, folder.path());
    let loaded = TrainedNetwork::load(&folder.path().join("weights.safetensors")).unwrap();
    assert_eq!(loaded, network);
    // The folder that holds it will do, and the same network gives the same bytes.
    assert_eq!(TrainedNetwork::load(folder.path()).unwrap(), network);
    assert_eq!(saved(&loaded, folder.path()), bytes);
    assert_eq!(export(&loaded, Precision::F32).unwrap(), export(&network, Precision::F32).unwrap());
}

#[test]
fn names_and_layouts_are_those_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let network = network();
    let bytes = saved(&network, folder.path());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("stem.0.weight"), [12, 3, 3, 3]);
    assert_eq!(shape("stem.1.running_var"), [12]);
    assert_eq!(shape("cells.0.preprocess0.op.1.weight"), [4, 12, 1, 1]);
    assert_eq!(shape("cells.0._ops.0.op.1.weight"), [4, 1, 3, 3]);
    assert_eq!(shape("auxiliary_head.features.5.weight"), [768, 128, 2, 2]);
    assert_eq!(shape("classifier.weight"), [5, 64]);
    // [C_out, C_in, kh, kw] in the file, [kh, kw, C_in, C_out] in memory.
    let [output, input, row, column] = [7, 2, 1, 0];
    let index = ((output * 3 + input) * 3 + row) * 3 + column;
    let stem = tensors.tensor("stem.0.weight").unwrap();
    let value = f32::from_le_bytes(stem.data()[4 * index..][..4].try_into().unwrap());
    assert_eq!(value, network.weights[((row * 3 + column) * 3 + input) * 12 + output]);
}

/// The error of a file with the network's tensors after `change`.
fn error_after(change: impl FnOnce(&mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> WeightsError {
    let folder = tempfile::tempdir().unwrap();
    let bytes = saved(&network(), folder.path());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<_, _> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let path = folder.path().join("changed.safetensors");
    fs::write(&path, safetensors::serialize(views, metadata.metadata().clone()).unwrap()).unwrap();
    let Err(error) = TrainedNetwork::load(&path) else { panic!("the file is loaded") };
    assert!(error.to_string().contains("changed.safetensors"), "{error}");
    error
}

#[test]
fn wrong_tensors_are_named() {
    let name = "cells.1.preprocess0.op.2.running_var";
    let problem = |error| match error {
        WeightsError::Content { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let missing = problem(error_after(|tensors| drop(tensors.remove(name))));
    assert!(matches!(missing, Problem::Missing(ref missing) if missing == name), "{missing}");
    let unknown = problem(error_after(|tensors| {
        let tensor = tensors[name].clone();
        tensors.insert("extra".into(), tensor);
    }));
    assert!(matches!(unknown, Problem::Unknown(ref unknown) if unknown == "extra"), "{unknown}");
    let shape = problem(error_after(|tensors| tensors.get_mut(name).unwrap().1.push(1)));
    assert!(
        matches!(shape, Problem::Shape { ref expected, ref found, .. } if *expected == [8] && *found == [8, 1]),
        "{shape}"
    );
    let dtype = problem(error_after(|tensors| tensors.get_mut(name).unwrap().0 = Dtype::I32));
    assert!(matches!(dtype, Problem::Shape { found_type: Dtype::I32, .. }), "{dtype}");
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let wrong = problem(error_after(|tensors| {
            tensors.get_mut(name).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes());
        }));
        assert!(matches!(wrong, Problem::Value { name: ref wrong, index: 2, .. } if wrong == name), "{wrong}");
    }
}

#[test]
fn files_that_are_no_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    assert!(matches!(TrainedNetwork::load(&path), Err(WeightsError::Io { .. })));
    let bytes = saved(&network(), folder.path());
    for len in [0, 7, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(matches!(TrainedNetwork::load(&path), Err(WeightsError::Format { .. })), "{len} bytes");
    }
    fs::write(&path, safetensors::serialize::<&str, TensorView, _>([], None).unwrap()).unwrap();
    let error = TrainedNetwork::load(&path).unwrap_err();
    assert!(matches!(error, WeightsError::Content { problem: Problem::NoDescription, .. }), "{error}");
}
