//! What the firmware has to print: puts a model and test images where `firmware/` expects them, and prints the logits
//! of these images as the device does, computed by the core with portable kernels.
//!
//! `cargo run --release -p darts-tests --example firmware_reference -- MODEL FOLDER IMAGES`

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use darts_host::data::{self, LoadOptions};
use darts_host::export::rust_module;
use darts_host::model_file::ModelFile;
use darts_kernels_simd::{Isa, Kernels};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [model, folder, count] = arguments.as_slice() else {
        return Err("usage: firmware_reference MODEL FOLDER IMAGES".into());
    };
    let count: usize = count.to_str().ok_or("a number of images")?.parse()?;
    let (model, folder) = (ModelFile::read(Path::new(model))?, Path::new(folder));
    let network = model.network()?;
    let images = data::load("embedded", &LoadOptions::default())?.test.subset(&(0..count).collect::<Vec<_>>());
    let logits = model.logits(Kernels::with_isa(Isa::Scalar)?, &images, || Ok(()))?;

    fs::create_dir_all(folder)?;
    fs::write(folder.join("model.darts"), model.bytes())?;
    let module = rust_module(&network, model.bytes().len(), "mod model;", "model.darts", images.class_names());
    fs::write(folder.join("mod.rs"), module)?;
    fs::write(folder.join("images.bin"), images.images())?;
    for (class, logit) in logits.chunks_exact(network.classes()).flat_map(|logits| logits.iter().enumerate()) {
        println!("logit {class}: {:#010x} {} / 1000000", logit.to_bits(), (logit * 1e6) as i32);
    }
    Ok(())
}
