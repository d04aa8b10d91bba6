//! Brings the model, the test image and the exact sizes of the static buffers into the image.
//!
//! `DARTS_FIRMWARE_MODEL` names the folder with `network.darts` and `image.bin`; without it, it is `model` beside this file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use darts_core::{Network, SECTION_ALIGNMENT};

fn main() {
    let folder = env::var_os("DARTS_FIRMWARE_MODEL").map_or_else(|| manifest_folder().join("model"), PathBuf::from);
    println!("cargo::rerun-if-env-changed=DARTS_FIRMWARE_MODEL");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", manifest_folder().display());
    if let Err(error) = generate(&folder) {
        println!("cargo::error={error}; README.md tells how the folder is filled");
    }
}

fn manifest_folder() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

/// Writes `network.rs`: the model and the image as bytes, and the sizes of the buffers, taken from the model itself.
fn generate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let model = read(&folder.join("network.darts"))?;
    let image = read(&folder.join("image.bin"))?;
    let mut aligned = vec![0; model.len() + SECTION_ALIGNMENT];
    let start = aligned.as_ptr().align_offset(SECTION_ALIGNMENT);
    let aligned = &mut aligned[start..start + model.len()];
    aligned.copy_from_slice(&model);
    let network = Network::parse(aligned).map_err(|error| format!("{}/network.darts: {error}", folder.display()))?;
    if image.len() != network.input_len() {
        let expected = network.input_len();
        return Err(format!("{}/image.bin has {} bytes, not {expected}", folder.display(), image.len()).into());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("network.darts"), &model)?;
    fs::write(out.join("image.bin"), &image)?;
    let source = format!(
        "/// The model file.\n\
         pub static MODEL: &[u8] = darts_core::include_model!(concat!(env!(\"OUT_DIR\"), \"/network.darts\"));\n\
         /// Pixels of the test image, `[H, W, C]`.\n\
         pub static IMAGE: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/image.bin\"));\n\
         /// Elements of the input.\n\
         pub const INPUT_LEN: usize = {};\n\
         /// Number of logits.\n\
         pub const CLASSES: usize = {};\n\
         /// Elements of the workspace.\n\
         pub const WORKSPACE_LEN: usize = {};\n",
        network.input_len(),
        network.classes(),
        network.required_bytes() / size_of::<f32>(),
    );
    Ok(fs::write(out.join("network.rs"), source)?)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
