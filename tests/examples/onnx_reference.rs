//! What an ONNX model has to compute: writes `NAME.onnx`, and as `NAME.safetensors` images `[N, C, H, W]` as they go
//! in, and the logits `[N, classes]` of the core. Without RUN: for networks of every kind with random weights, on
//! random images; with it: for the weights of that training, on the test images of DATA. Each in `f32`, and as
//! `NAME-int8` on 8-bit integers.
//!
//! `cargo run --release -p darts-tests --example onnx_reference -- FOLDER [RUN DATA]`

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use darts_host::data::{self, DataSource, Dataset, LoadOptions};
use darts_host::export::onnx::{IMAGES, LOGITS, onnx, onnx_int8};
use darts_host::export::{Calibration, Precision, Quantization, export};
use darts_host::model_file::ModelFile;
use darts_host::weights::TrainedNetwork;
use darts_kernels_simd::{ImageShape, Kernels};
use darts_tests::Random;
use darts_tests::networks::{CASES, network};
use safetensors::tensor::{Dtype, View};

const RANDOM_IMAGES: usize = 24;
/// Training images that decide the scales of a trained network on integers: as many as `darts export` takes.
const CALIBRATION_IMAGES: usize = 512;

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
        let mut random = Random::new(11);
        let pixels = random.indices(RANDOM_IMAGES * channels * height * width, 256);
        let pixels = pixels.into_iter().map(|pixel| pixel as u8).collect();
        let shape = ImageShape::new(height, width, channels);
        let images = Dataset::new(shape, pixels, vec![0; RANDOM_IMAGES], network.class_names.clone());
        compare(folder, &format!("random-{case}"), &network, &images, &images)?;
    }
    Ok(())
}

fn trained_network(folder: &Path, run: &Path, data: &str) -> Result<(), Box<dyn Error>> {
    let network = TrainedNetwork::load(run)?;
    let DataSource { train, test, .. } = data::load(data, &LoadOptions::default())?;
    let count = CALIBRATION_IMAGES.min(train.len());
    let spread: Vec<usize> = (0..count).map(|index| index * train.len() / count).collect();
    compare(folder, "trained", &network, &train.subset(&spread), &test)
}

/// Both models of a network on `images`.
fn compare(
    folder: &Path,
    name: &str,
    network: &TrainedNetwork,
    calibration: &Dataset,
    images: &Dataset,
) -> Result<(), Box<dyn Error>> {
    let kernels = Kernels::detect();
    let quantization = Quantization::new(network, calibration, Calibration::Mse, kernels)?;
    let models = [
        (name.to_owned(), export(network, Precision::F32)?, onnx(network)?),
        (format!("{name}-int8"), quantization.model(&[])?, onnx_int8(&quantization)?),
    ];
    for (name, bytes, onnx) in models {
        let model = ModelFile::new(&bytes, name.as_ref());
        let logits = model.logits(kernels, images, || Ok(()))?;
        let core = model.network()?;
        let mut inputs = vec![0.0; images.len() * core.input_len()];
        for (index, input) in inputs.chunks_exact_mut(core.input_len()).enumerate() {
            core.normalize(images.image(index), input).map_err(|error| error.to_string())?;
        }
        write(folder, &name, &onnx, Reference { shape: images.shape(), images: inputs, logits })?;
    }
    Ok(())
}

struct Reference {
    shape: ImageShape,
    /// `[N, H, W, C]`.
    images: Vec<f32>,
    logits: Vec<f32>,
}

fn write(folder: &Path, name: &str, onnx: &[u8], reference: Reference) -> Result<(), Box<dyn Error>> {
    let Reference { shape: ImageShape { height, width, channels }, images, logits } = reference;
    let count = images.len() / (height * width * channels);
    let classes = logits.len() / count;
    let mut planes = Vec::with_capacity(images.len());
    for image in images.chunks_exact(height * width * channels) {
        planes.extend((0..channels).flat_map(|channel| image.iter().skip(channel).step_by(channels)));
    }
    let tensors = [
        (IMAGES, Tensor { shape: vec![count, channels, height, width], values: planes }),
        (LOGITS, Tensor { shape: vec![count, classes], values: logits }),
    ];
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{name}.onnx")), onnx)?;
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
