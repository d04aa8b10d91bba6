//! What the firmware has to print: puts a model and a test image into a folder for `firmware/`, and prints the logits of that image
//! as the device does, computed by the core with portable kernels.
//!
//! `cargo run --release -p darts-tests --example firmware_reference -- MODEL FOLDER`

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use darts_core::{Kernels, Network};
use darts_host::data;
use darts_kernels_simd::Isa;
use darts_tests::AlignedBytes;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [model, folder] = arguments.as_slice() else {
        return Err("usage: firmware_reference MODEL FOLDER".into());
    };
    let folder = Path::new(folder);
    let bytes = fs::read(model).map_err(|error| format!("{}: {error}", Path::new(model).display()))?;
    let bytes = AlignedBytes::new(&bytes, 0);
    let network = Network::parse(bytes.get())?;
    let images = data::load("embedded", &data::LoadOptions::default())?.test;
    if images.shape() != network.input_shape() {
        return Err(format!("the model takes {:?}, the images are {:?}", network.input_shape(), images.shape()).into());
    }

    let pixels = images.image(0);
    let mut input = vec![0.0; network.input_len()];
    let mut workspace = vec![0.0; network.required_bytes() / size_of::<f32>()];
    let mut logits = vec![0.0; network.classes()];
    network.normalize(pixels, &mut input)?;
    network.run(Kernels::with_isa(Isa::Scalar)?, &input, &mut workspace, &mut logits)?;

    fs::create_dir_all(folder)?;
    fs::write(folder.join("network.darts"), bytes.get())?;
    fs::write(folder.join("image.bin"), pixels)?;
    for (class, logit) in logits.iter().enumerate() {
        println!("logit {class}: {:#010x} {logit:.6}", logit.to_bits());
    }
    Ok(())
}
