//! What the firmware has to print: puts a model and a test image where `firmware/` expects them, and prints the logits of that
//! image as the device does, computed by the core with portable kernels.
//!
//! `cargo run --release -p darts-tests --example firmware_reference -- MODEL FOLDER`

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use darts_host::data::{self, LoadOptions};
use darts_host::export::rust_module;
use darts_host::model_file::ModelFile;
use darts_kernels_simd::{Isa, Kernels};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [model, folder] = arguments.as_slice() else {
        return Err("usage: firmware_reference MODEL FOLDER".into());
    };
    let (model, folder) = (ModelFile::read(Path::new(model))?, Path::new(folder));
    let network = model.network()?;
    let image = data::load("embedded", &LoadOptions::default())?.test.subset(&[0]);
    let logits = model.logits(Kernels::with_isa(Isa::Scalar)?, &image, || Ok(()))?;

    fs::create_dir_all(folder)?;
    fs::write(folder.join("model.darts"), model.bytes())?;
    let module = rust_module(&network, model.bytes().len(), "model", "model.darts", image.class_names());
    fs::write(folder.join("mod.rs"), module)?;
    fs::write(folder.join("image.bin"), image.images())?;
    for (class, logit) in logits.iter().enumerate() {
        println!("logit {class}: {:#010x} {} / 1000000", logit.to_bits(), (logit * 1e6) as i32);
    }
    Ok(())
}
