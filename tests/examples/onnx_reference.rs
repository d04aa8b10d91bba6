//! What an ONNX model has to compute: writes `NAME.onnx`, and as `NAME.safetensors` images `[N, C, H, W]` as they go in, and the logits
//! `[N, classes]` of the core. Without RUN: for networks of every kind with random weights, on random images; with it: for the
//! weights of that training, on the test images of DATA.
//!
//! `cargo run --release -p darts-tests --example onnx_reference -- FOLDER [RUN DATA]`

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use darts_host::data::{self, LoadOptions};
use darts_host::export::onnx::{IMAGES, LOGITS, onnx};
use darts_host::export::{Precision, export};
use darts_host::model_file::ModelFile;
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::{ImageShape, Kernels};
use darts_tests::networks::{CASES, core_logits, network};
use darts_tests::{Random, networks};
use safetensors::tensor::{Dtype, View};

const RANDOM_IMAGES: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [folder] => random_networks(folder.as_ref()),
        [folder, run, data] => trained_network(folder.as_ref(), run.as_ref(), data),
        _ => Err("usage: onnx_reference FOLDER [RUN DATA]".into()),
    }
}

fn random_networks(folder: &Path) -> Result<(), Box<dyn Error>> {
    for case in 0..CASES.len() {
        let network = network(case);
        let [channels, height, width] = network.config.input;
        let mut images = Random::new(11).values(RANDOM_IMAGES * channels * height * width);
        images.iter_mut().for_each(|value| *value *= 2.0);
        let model = networks::model(&network, Precision::F32);
        let logits = core_logits(&model.network()?, Kernels::detect(), &images);
        let reference = Reference { shape: ImageShape::new(height, width, channels), images, logits };
        write(folder, &format!("random-{case}"), &network, reference)?;
    }
    Ok(())
}

fn trained_network(folder: &Path, run: &Path, data: &str) -> Result<(), Box<dyn Error>> {
    let network = TrainedNetwork::load(run)?;
    let test = data::load(data, &LoadOptions::default())?.test;
    let model = ModelFile::new(&export(&network, Precision::F32)?, run);
    let logits = model.logits(Kernels::detect(), &test, || Ok(()))?;
    let core = model.network()?;
    let mut images = vec![0.0; test.len() * core.input_len()];
    for (index, image) in images.chunks_exact_mut(core.input_len()).enumerate() {
        core.normalize(test.image(index), image).map_err(|error| error.to_string())?;
    }
    write(folder, "trained", &network, Reference { shape: test.shape(), images, logits })
}

struct Reference {
    shape: ImageShape,
    /// `[N, H, W, C]`.
    images: Vec<f32>,
    logits: Vec<f32>,
}

fn write(folder: &Path, name: &str, network: &TrainedNetwork, reference: Reference) -> Result<(), Box<dyn Error>> {
    let Reference { shape: ImageShape { height, width, channels }, images, logits } = reference;
    let count = images.len() / (height * width * channels);
    let mut planes = Vec::with_capacity(images.len());
    for image in images.chunks_exact(height * width * channels) {
        planes.extend((0..channels).flat_map(|channel| image.iter().skip(channel).step_by(channels)));
    }
    let tensors = [
        (IMAGES, Tensor { shape: vec![count, channels, height, width], values: planes }),
        (LOGITS, Tensor { shape: vec![count, network.config.classes], values: logits }),
    ];
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.onnx")), onnx(network)?)?;
    fs::write(folder.join(format!("{name}.safetensors")), safetensors::serialize(tensors, None)?)?;
    Ok(())
}

struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values.as_slice())
    }
}
