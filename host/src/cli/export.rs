//! `darts export`: a model file, and Rust constants, for a device.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use darts_host::atomic;
use darts_host::export::{Precision, export};
use darts_host::model_file::{ModelFile, rust_source};
use darts_host::run_directory;
use darts_host::weights::TrainedNetwork;
use indicatif::HumanCount;
use serde::Serialize;

use super::common::print_json;
use super::{Failure, Outcome};

/// Write the model file of a trained network, and a Rust source with its constants
///
/// Batch norms are folded into the convolutions. The Rust source lies beside the model file, includes it, and states the
/// exact sizes of the buffers that darts-core needs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts export runs/train-1\n  \
    darts export runs/train-1 --f16\n  \
    darts export runs/train-1/weights.safetensors --out firmware/model/model.darts\n\
    Then: darts eval runs/train-1/model.darts")]
pub struct Arguments {
    /// The run directory of a training, or a weights file of one.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,

    /// Store weights in half precision: half the size.
    #[arg(long)]
    f16: bool,

    /// The model file [default: model.darts or model-f16.darts beside the weights]; the Rust source is beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Print one JSON object: model, rust, model_bytes, weight_bytes, workspace_bytes.
    #[arg(long)]
    json: bool,
}

/// What an export came to.
#[derive(Serialize)]
pub struct Exported {
    pub model: PathBuf,
    pub rust: PathBuf,
    pub model_bytes: usize,
    pub weight_bytes: usize,
    pub workspace_bytes: usize,
    #[serde(skip)]
    pub file: ModelFile,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let network = TrainedNetwork::load(&arguments.weights)?;
    let precision = if arguments.f16 { Precision::F16 } else { Precision::F32 };
    let folder = if arguments.weights.is_dir() {
        arguments.weights.as_path()
    } else {
        arguments.weights.parent().unwrap_or(Path::new(""))
    };
    let out = arguments.out.clone().unwrap_or_else(|| folder.join(file_name(precision)));
    let input = if arguments.weights.is_dir() { &folder.join(run_directory::WEIGHTS) } else { &arguments.weights };
    check_output(&out, input)?;
    let exported = perform(&network, precision, out)?;
    if arguments.json {
        print_json(&exported)?;
    } else {
        let mut output = io::stdout().lock();
        writeln!(output, "model file       {} bytes", HumanCount(exported.model_bytes as u64))?;
        writeln!(output, "weights          {} bytes, {precision}", HumanCount(exported.weight_bytes as u64))?;
        writeln!(output, "peak workspace   {} bytes", HumanCount(exported.workspace_bytes as u64))?;
        writeln!(output, "wrote {} and {}", exported.model.display(), exported.rust.display())?;
    }
    Ok(())
}

/// An export writes `out` and its Rust source, and must overwrite neither the one by the other nor its input.
fn check_output(out: &Path, input: &Path) -> Result<(), Failure> {
    if out.extension().is_some_and(|extension| extension == "rs") {
        return Err(format!(
            "{} is the name of the Rust source beside the model file: give --out another extension, such as .darts",
            out.display()
        )
        .into());
    }
    let input = fs::canonicalize(input).ok();
    let same = |path: &Path| fs::canonicalize(path).is_ok_and(|path| Some(path) == input);
    if same(out) || same(&out.with_extension("rs")) {
        return Err(format!("writing {} would overwrite the weights: choose another --out", out.display()).into());
    }
    Ok(())
}

/// The name that a model file has if the user does not give one.
pub fn file_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => run_directory::MODEL,
        Precision::F16 => "model-f16.darts",
    }
}

/// Writes the model file `out`, and the Rust source beside it.
pub fn perform(network: &TrainedNetwork, precision: Precision, out: PathBuf) -> Result<Exported, Failure> {
    let bytes = export(network, precision);
    let file =
        ModelFile::new(&bytes.map_err(|error| format!("cannot make the model {}: {error}", out.display()))?, &out);
    let model = file.network()?;
    let name = out.file_name().ok_or("the model file needs a name: give one with --out")?.to_string_lossy();
    let source = rust_source(&file, &model, &name, &network.class_names);
    let rust = out.with_extension("rs");
    atomic::write(&out, file.bytes())?;
    atomic::write(&rust, source.as_bytes())?;
    let (weight_bytes, workspace_bytes) = (model.weight_bytes(), model.required_bytes());
    Ok(Exported { model: out, rust, model_bytes: file.bytes().len(), weight_bytes, workspace_bytes, file })
}
