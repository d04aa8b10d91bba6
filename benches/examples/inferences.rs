//! A number of inferences of the core and little else, for tools that count what a program executes:
//!
//! ```sh
//! DARTS_ISA=avx2 cargo run --release -p darts-benches --example inferences -- NETWORK INFERENCES
//! ```
//!
//! NETWORK is an index of `SIZES`. Prints the name of the network.

use std::env;

use darts_benches::{SIZES, buffer};
use darts_host::export::{Precision, export};
use darts_host::isa;
use darts_host::model_file::ModelFile;

fn main() {
    let mut numbers = env::args().skip(1).map(|argument| argument.parse::<usize>().expect("a number"));
    let (Some(network), Some(inferences)) = (numbers.next(), numbers.next()) else {
        panic!("two arguments: an index of SIZES and a number of inferences");
    };
    let size = SIZES[network];
    let kernels = isa::kernels().expect("an instruction set of this machine");
    let bytes = export(&size.untrained().0, Precision::F32).expect("weights in range");
    let file = ModelFile::new(&bytes, "a model".as_ref());
    let model = file.network().expect("a valid model");
    let (image, mut logits) = (buffer(model.input_len()), vec![0.0; model.classes()]);
    let mut workspace = vec![0.0; model.required_bytes() / size_of::<f32>()];
    for _ in 0..inferences {
        model.run(kernels, &image, &mut workspace, &mut logits).expect("buffers of the right sizes");
    }
    println!("{size}");
}
