//! Exports for other programs, and weights that other programs have written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use darts_core::Genotype;
use darts_host::data::Normalization;
use darts_host::engine::RunningStatistics;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};
use darts_host::weights::TrainedNetwork;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{USAGE, contains, darts, failure, json, run, success};

/// A network with weights that are all different, saved as `weights.safetensors` in `folder`.
fn saved(folder: &Path) -> (TrainedNetwork, PathBuf) {
    let genotype = Genotype::builtin("DARTS_V2").expect("it is known");
    let config = DerivedConfig {
        kind: NetworkKind::Cifar,
        input: [3, 16, 16],
        classes: 4,
        channels: 4,
        layers: 3,
        auxiliary: false,
    };
    let graph = derived(&genotype, &config).expect("a network");
    let statistics = |phase: f32| (0..graph.statistics()).map(|index| 1.5 + (index as f32 + phase).sin()).collect();
    let network = TrainedNetwork {
        weights: (0..graph.weights()).map(|index| (index as f32).sin() / 3.0).collect(),
        statistics: RunningStatistics { mean: statistics(0.0), variance: statistics(0.5) },
        normalization: Normalization { mean: vec![0.25, 0.5, 0.75], std: vec![0.2, 0.3, 0.4] },
        class_names: ["0", "1", "2", "3"].map(str::to_owned).into(),
        genotype,
        config,
    };
    let path = folder.join("weights.safetensors");
    network.save(&path).expect("written");
    (network, path)
}

/// A tensor of a file: type, shape, bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// The tensors of the file `from` after `change`, as another program would write them to `to`: without a description.
fn foreign(from: &Path, to: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let bytes = fs::read(from).expect("readable");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = |view: &TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut tensors = tensors.iter().map(|(name, view)| (name.to_owned(), tensor(&view))).collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).expect("the shape has these bytes"))
    });
    fs::write(to, safetensors::serialize(views, None).expect("serializable")).expect("written");
}

const IMPORT: [&str; 8] =
    ["--genotype", "DARTS_V2", "--input", "3x16x16", "--mean", "0.25,0.5,0.75", "--std", "0.2,0.3,0.4"];

#[test]
fn an_onnx_model_is_written_instead_of_a_model_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (network, weights) = saved(folder.path());
    let out = folder.path().join("network.onnx");
    let report = json(darts(&["export", "--json", "--onnx"]).arg(&out).arg(&weights));
    let bytes = fs::read(&out).expect("readable");
    assert_eq!(bytes, darts_host::export::onnx::onnx(&network).expect("a model"));
    assert_eq!(report["onnx"], out.to_string_lossy().as_ref());
    assert_eq!(report["onnx_bytes"], bytes.len());
    assert!(!folder.path().join("model.darts").exists());
    contains(&success(darts(&["export", "--onnx"]).arg(&out).arg(folder.path())), &["ONNX model", "network.onnx"]);

    contains(&failure(darts(&["export", "--onnx"]).arg(&weights).arg(&weights)), &["overwrite", "--onnx"]);
    let nowhere = folder.path().join("no/such/folder.onnx");
    contains(&failure(darts(&["export", "--onnx"]).arg(nowhere).arg(&weights)), &["folder.onnx", "cannot write"]);
    let both = run(darts(&["export", "--f16", "--onnx"]).arg(&out).arg(&weights));
    assert_eq!(both.status.code(), Some(USAGE));
}

#[test]
fn weights_go_out_and_come_in_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (network, weights) = saved(folder.path());
    let copy = folder.path().join("copy.safetensors");
    let report = json(darts(&["export", "--json", "--safetensors"]).arg(&copy).arg(&weights));
    assert_eq!(fs::read(&copy).expect("readable"), fs::read(&weights).expect("readable"));
    assert_eq!(report["safetensors_bytes"], fs::metadata(&copy).expect("it is there").len());
    contains(&failure(darts(&["export", "--safetensors"]).arg(&weights).arg(&weights)), &["overwrite", "weights"]);

    // As another program would write them, counters of batches among them.
    let other = folder.path().join("other.safetensors");
    foreign(&weights, &other, |tensors| {
        tensors.insert("stem.1.num_batches_tracked".into(), (Dtype::I64, Vec::new(), vec![7, 0, 0, 0, 0, 0, 0, 0]));
    });
    contains(&failure(darts(&["export"]).arg(&other)), &["other.safetensors", "no entry \"darts\"", "--genotype"]);
    success(darts(&["export"]).args(IMPORT).arg("--safetensors").arg(&copy).arg(&other));
    assert_eq!(TrainedNetwork::load(&copy).expect("our own"), network);
    let names = ["--class-names", "a,b,c,d"];
    success(darts(&["export"]).args(IMPORT).args(names).arg("--safetensors").arg(&copy).arg(&other));
    assert_eq!(TrainedNetwork::load(&copy).expect("our own").class_names, ["a", "b", "c", "d"]);

    // A model file without a detour.
    let [direct, ours] = ["direct.darts", "ours.darts"].map(|name| folder.path().join(name));
    success(darts(&["export"]).args(IMPORT).arg("--out").arg(&direct).arg(&other));
    success(darts(&["export", "--out"]).arg(&ours).arg(&weights));
    assert_eq!(fs::read(direct).expect("readable"), fs::read(ours).expect("readable"));
}

#[test]
fn what_is_wrong_with_the_weights_of_another_program_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, weights) = saved(folder.path());
    let other = folder.path().join("other.safetensors");
    let told = |parts: &[&str]| {
        contains(&failure(darts(&["export"]).args(IMPORT).arg(&other)), parts);
    };
    foreign(&weights, &other, |tensors| drop(tensors.remove("classifier.bias")));
    told(&["other.safetensors", "classifier.bias", "missing"]);
    foreign(&weights, &other, |tensors| drop(tensors.remove("stem.0.weight")));
    told(&["stem.0.weight", "missing"]);
    foreign(&weights, &other, |tensors| tensors.get_mut("stem.0.weight").expect("a stem").1 = vec![324]);
    told(&["stem.0.weight", "[324]"]);
    foreign(&weights, &other, |tensors| tensors.get_mut("classifier.weight").expect("it is there").1.swap(0, 1));
    told(&["classifier.", "must be"]);
    foreign(&weights, &other, |tensors| {
        let (dtype, _, data) = tensors.get_mut("stem.1.weight").expect("it is there");
        (*dtype, *data) = (Dtype::F16, data[..data.len() / 2].to_vec());
    });
    told(&["stem.1.weight", "F16", "F32"]);
    foreign(&weights, &other, |tensors| {
        let tensor = tensors["classifier.bias"].clone();
        tensors.insert("module.classifier.bias".into(), tensor);
    });
    told(&["no tensor module.classifier.bias"]);

    // Another genotype has other tensors; a mean for each channel there must be.
    foreign(&weights, &other, |_| ());
    let genotype = ["--genotype", "DARTS_V1", "--input", "3x16x16", "--mean", "0,0,0", "--std", "1,1,1"];
    contains(&failure(darts(&["export"]).args(genotype).arg(&other)), &["other.safetensors", "the tensor", "genotype"]);
    let mean = ["--genotype", "DARTS_V2", "--mean", "0", "--std", "1"];
    contains(&failure(darts(&["export"]).args(mean).arg(&other)), &["1 means"]);
    assert_eq!(run(darts(&["export", "--genotype", "DARTS_V2"]).arg(&other)).status.code(), Some(USAGE));
    let bytes = fs::read(&other).expect("readable");
    fs::write(&other, &bytes[..bytes.len() / 2]).expect("written");
    told(&["other.safetensors", "cut off"]);
}
