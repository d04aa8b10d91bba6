//! The Rust module that `darts export --rust` writes, in a crate of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use darts_core::Kernels;
use darts_host::data::{self, LoadOptions};
use darts_host::model_file::{ModelFile, correct};

use super::{USAGE, contains, darts, failure, json, read, run};

/// A crate whose tests classify the images of `images.bin` and compare the logits with those of a file, in every bit.
const LIB: &str = r#"//! Networks in modules of their own.
#![no_std]
#![deny(warnings)]

pub mod float;
pub mod half;
pub mod integers;

#[cfg(test)]
extern crate std;

#[cfg(test)]
macro_rules! classifies_as_the_host_does {
    ($model:ident) => {
        #[test]
        fn $model() {
            use crate::$model::*;
            static MEMORY: std::sync::Mutex<Memory> = std::sync::Mutex::new(Memory::new());
            let mut memory = MEMORY.lock().unwrap();
            let mut classifier = Classifier::new(&mut memory).unwrap();
            let images = std::fs::read("images.bin").unwrap();
            let expected = std::fs::read(std::concat!(stringify!($model), ".bin")).unwrap();
            let (images, expected) = (images.as_chunks().0, expected.chunks_exact(4 * CLASSES));
            assert_eq!(images.len(), expected.len());
            for (image, expected) in images.iter().zip(expected) {
                let scores = classifier.classify(image).unwrap();
                let logits = scores.logits().map(f32::to_le_bytes);
                assert_eq!(logits.as_flattened(), expected);
                let largest = scores.logits().iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(scores.logits()[scores.class()], largest);
                assert_eq!(scores.class_name(), CLASS_NAMES[scores.class()]);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    classifies_as_the_host_does!(float);
    classifies_as_the_host_does!(half);
    classifies_as_the_host_does!(integers);
}
"#;

/// Not optimised: the kernels take minutes to compile for speed, and the images are few.
fn manifest(core: &Path) -> String {
    format!(
        "[package]\nname = \"embedding\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\ndarts-core = {{ path = {core:?} }}\n\n\
         [profile.test]\ndebug = false\n\n[profile.dev]\ndebug = false\n"
    )
}

#[test]
fn an_exported_module_classifies_in_a_crate_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let train = ["train", "--preset", "quick", "--genotype", "DARTS_V2", "--limit", "20", "--epochs", "1", "--out"];
    json(darts(&train).arg(&out).args(["--batch", "9", "--channels", "4", "--layers", "3", "--json"]));

    let crate_folder = folder.path().join("crate");
    let test = data::load("embedded", &LoadOptions::default()).expect("it is part of the program").test;
    let calibrated = ["--int8", "--calibrate", "embedded", "--calibration-images", "50"];
    for (module, form) in [("float", &[][..]), ("half", &["--f16"]), ("integers", &calibrated)] {
        let place = crate_folder.join("src").join(module);
        let exported = json(darts(&["export", "--json", "--rust"]).arg(&place).args(form).arg(&out));
        assert_eq!(exported["model"], place.join("model.darts").to_string_lossy().as_ref());
        assert_eq!(exported["rust"], place.join("mod.rs").to_string_lossy().as_ref());
        let source = read(&place.join("mod.rs"));
        contains(&source, &[&format!("WORKSPACE_BYTES: usize = {};", exported["workspace_bytes"]), "Ankle boot"]);
        contains(&source, &[&format!("mod {module};")]);
        assert_eq!(source.contains("INPUT_ZERO_POINT"), module == "integers");
        assert_eq!(source.contains("INPUT_BUFFER_LEN: usize = 0;"), module == "integers");

        let model = ModelFile::read(&place.join("model.darts")).expect("readable");
        let logits = model.logits(Kernels::detect(), &test, || Ok(())).expect("it runs");
        let evaluated = json(darts(&["eval", "--json"]).arg(place.join("model.darts")));
        assert_eq!(evaluated["correct"], correct(&logits, &test));
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        fs::write(crate_folder.join(module).with_extension("bin"), bytes).expect("writable");
    }
    fs::write(crate_folder.join("images.bin"), test.images()).expect("writable");
    fs::write(crate_folder.join("src/lib.rs"), LIB).expect("writable");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    fs::write(crate_folder.join("Cargo.toml"), manifest(&root.join("core"))).expect("writable");
    // The versions that are there already.
    fs::copy(root.join("Cargo.lock"), crate_folder.join("Cargo.lock")).expect("copied");

    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&crate_folder).args(["test", "--offline", "--target-dir"]);
    let output = run(cargo.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("embedding")));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    // The three tests, and the example in each module's documentation.
    assert_eq!(said.matches("test result: ok. 3 passed").count(), 2, "{said}");
}

#[test]
fn a_module_is_instead_of_a_file_of_a_name() {
    for other in ["--out", "--onnx", "--safetensors"] {
        assert_eq!(run(&mut darts(&["export", "run", "--rust", "module", other, "file"])).status.code(), Some(USAGE));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("writable");
    let out = folder.path().join("run");
    let train = ["train", "--preset", "quick", "--genotype", "DARTS_V1", "--limit", "20", "--epochs", "1", "--out"];
    json(darts(&train).arg(&out).args(["--batch", "9", "--channels", "2", "--layers", "3", "--json"]));
    contains(&failure(darts(&["export", "--rust"]).arg(file.join("module")).arg(&out)), &["cannot make", "module"]);
}
