//! A model as a module of a Rust crate.

use std::fmt::Write as _;

use darts_core::{Int8Step, Network, Place, Step};

/// The module with its values left open, each as `@NAME@`.
const TEMPLATE: &str = include_str!("module.rs.in");

/// A Rust module that includes the model file `file_name`, which must lie beside it: constants, static memory, and a
/// classifier that runs the core. `declaration` is the line that makes it part of a crate, for its documentation,
/// `model_bytes` the length of the file.
pub fn rust_module(
    network: &Network,
    model_bytes: usize,
    declaration: &str,
    file_name: &str,
    class_names: &[String],
) -> String {
    let (shape, metadata) = (network.input_shape(), network.metadata());
    let integers = network.steps().all(|step| matches!(step, Step::Int8(_)));
    let features = if integers { ", which needs no\n//! features (`default-features = false`)" } else { "" };
    let mut text = TEMPLATE.to_owned();
    let mut set =
        |name: &str, value: &dyn std::fmt::Display| text = text.replace(&format!("@{name}@"), &value.to_string());
    set("DECLARATION", &declaration);
    set("FEATURES", &features);
    set("FILE", &format_args!("{file_name:?}"));
    set("MODEL_BYTES", &model_bytes);
    set("WORKSPACE_BYTES", &network.required_bytes());
    set("WORKSPACE_LEN", &(network.required_bytes() / size_of::<f32>()));
    set("HEIGHT", &shape.height);
    set("WIDTH", &shape.width);
    set("CHANNELS", &shape.channels);
    set("INPUT_LEN", &shape.len());
    set("INPUT_BUFFER_LEN", &network.input_buffer_len());
    set("CLASSES", &network.classes());
    set("MEAN", &format_args!("{:?}", metadata.mean));
    set("DEVIATION", &format_args!("{:?}", metadata.deviation));
    set("INPUT", &quantization(network));
    set("GENOTYPE", network.genotype());
    // Last, since a name can be anything.
    set("CLASS_NAMES", &format_args!("{class_names:?}"));
    text
}

/// The constants of a network that quantizes its input.
fn quantization(network: &Network) -> String {
    let mut text = String::new();
    let quantize = network.steps().find_map(|step| match step {
        Step::Int8(Int8Step::Quantize { source: Place::External, inverse_scale, zero, .. }) => {
            Some((inverse_scale, zero))
        }
        _ => None,
    });
    if let Some((inverse_scale, zero)) = quantize {
        write!(
            text,
            "/// Scale of the quantized image: what is read as `x` is the nearest integer to `x / INPUT_SCALE + INPUT_ZERO_POINT`.\n\
             pub const INPUT_SCALE: f32 = {:?};\n\
             /// What stands for 0 in the quantized image.\n\
             pub const INPUT_ZERO_POINT: i8 = {zero};\n",
            1.0 / inverse_scale
        )
        .expect("writing to a string does not fail");
    }
    text
}
