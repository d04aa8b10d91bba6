//! A number of inferences of the core and little else, for tools that count what a program executes:
//!
//! ```sh
//! DARTS_ISA=avx2 cargo run --release -p darts-benches --example inferences -- NETWORK INFERENCES
//! ```
//!
//! NETWORK is an index of `SIZES`, or a model file. Prints the name of the network.

use std::env;
use std::path::Path;

use darts_benches::{SIZES, buffer};
use darts_host::export::{Precision, export};
use darts_host::isa;
use darts_host::model_file::ModelFile;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [network, inferences] = &arguments[..] else {
        panic!("two arguments: an index of SIZES or a model file, and a number of inferences");
    };
    let inferences: usize = inferences.parse().expect("a number of inferences");
    let (name, file) = match network.parse::<usize>() {
        Ok(index) => {
            let bytes = export(&SIZES[index].untrained().0, Precision::F32).expect("weights in range");
            (SIZES[index].to_string(), ModelFile::new(&bytes, "a model".as_ref()))
        }
        Err(_) => {
            let path = Path::new(network);
            let name = path.file_name().expect("the name of a file").to_string_lossy();
            (name.into_owned(), ModelFile::read(path).expect("a model file"))
        }
    };
    let kernels = isa::kernels().expect("an instruction set of this machine");
    let model = file.network().expect("a valid model");
    let (image, mut logits) = (buffer(model.input_len()), vec![0.0; model.classes()]);
    let mut workspace = vec![0.0; model.required_bytes() / size_of::<f32>()];
    for _ in 0..inferences {
        model.run(kernels, &image, &mut workspace, &mut logits).expect("buffers of the right sizes");
    }
    println!("{name}");
}
