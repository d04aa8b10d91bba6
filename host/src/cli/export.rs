//! `darts export`: a model file, and a Rust module that runs it, for a device.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use darts_host::atomic;
use darts_host::data::{self, LoadOptions};
use darts_host::export::onnx::{onnx, onnx_int8};
use darts_host::export::{Precision, Quantization, export, rust_module};
use darts_host::isa;
use darts_host::model_file::ModelFile;
use darts_host::progress::Progress;
use darts_host::run_directory;
use darts_host::weights::TrainedNetwork;
use indicatif::HumanCount;
use serde::Serialize;

use super::common::print_json;
use super::quantization::{CalibrationArgument, Mixed, calibrated};
use super::training::one_or_more;
use super::{Failure, Outcome, import};

/// Write the model file of a trained network, and a Rust module that classifies with it; or the network for other
/// programs
///
/// Batch norms are folded into the convolutions. The Rust module lies beside the model file and includes it: constants,
/// static memory of the exact size, and a classifier from pixels to scores that needs nothing but darts-core. With
/// --onnx or --safetensors that is written instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts export runs/train-1\n  \
    darts export runs/train-1 --f16\n  \
    darts export runs/train-1 --int8 --calibrate data/cifar10\n  \
    darts export runs/train-1 --f16 --rust firmware/src/classifier\n  \
    darts export runs/train-1 --int8 --calibrate data/cifar10 --mixed stem=f32,cells.7=f16\n  \
    darts export runs/train-1/weights.safetensors --out firmware/model/model.darts\n  \
    darts export runs/train-1 --onnx model.onnx\n  \
    darts export runs/train-1 --int8 --calibrate data/cifar10 --onnx model-int8.onnx\n  \
    darts export cifar10.safetensors --genotype DARTS_V2 --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616 \
    --safetensors weights.safetensors\n\
    Then: darts eval runs/train-1/model.darts")]
pub struct Arguments {
    /// The run directory of a training, or a weights file of one.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,

    /// Store weights in half precision: half the size.
    #[arg(long)]
    f16: bool,

    /// Compute on 8-bit integers: a quarter of the size, and what a microcontroller can do best. Needs --calibrate.
    #[arg(long, conflicts_with = "f16", requires = "calibrate")]
    int8: bool,

    /// Whose training images decide the scales of the images inside the network: `embedded` (a subset of
    /// Fashion-MNIST), or the folder of the data set that the network was trained on.
    #[arg(long, value_name = "PATH|NAME|embedded", requires = "int8", value_parser = NonEmptyStringValueParser::new())]
    calibrate: Option<String>,

    /// How they do.
    #[arg(long, value_name = "HOW", value_enum, default_value_t, requires = "int8")]
    calibration: CalibrationArgument,

    /// How many images, spread evenly over the data set; all where there are fewer.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = one_or_more(), requires = "int8")]
    calibration_images: usize,

    /// Keep layers in floating point, with weights in f32 or f16; NAME as `darts accuracy` shows it, or what several
    /// begin with, such as cells.3.
    #[arg(long, value_name = "NAME=f32|f16,…", value_delimiter = ',', requires = "int8")]
    mixed: Vec<Mixed>,

    /// The model file [default: model.darts, model-f16.darts or model-int8.darts beside the weights]; the Rust module
    /// is beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write both as a module of a Rust crate, DIR/mod.rs and DIR/model.darts; DIR is a folder `src/NAME` and the
    /// module `mod NAME;`.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    rust: Option<PathBuf>,

    /// Write an ONNX model (opset 17) to FILE instead: `images` [batch, C, H, W], normalised, to `logits` [batch,
    /// classes]; in f32, or with --int8 on 8-bit integers, in QuantizeLinear and DequantizeLinear.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["f16", "mixed", "out", "rust"])]
    onnx: Option<PathBuf>,

    /// Write the weights to FILE instead, under the names and in the layouts of the original's state dict.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["f16", "int8", "out", "rust", "onnx"])]
    safetensors: Option<PathBuf>,

    /// Print one JSON object: model, rust, model_bytes, weight_bytes, workspace_bytes; or onnx, onnx_bytes; or
    /// safetensors, safetensors_bytes.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    import: import::Options,
}

/// What a model computes on.
pub enum Form<'a> {
    Float(Precision),
    /// 8-bit integers, calibrated with this data set.
    Int8(&'a str),
}

impl Form<'_> {
    /// The name that a model file has if the user does not give one.
    pub fn file_name(&self) -> &'static str {
        match self {
            Self::Float(Precision::F32) => run_directory::MODEL,
            Self::Float(Precision::F16) => "model-f16.darts",
            Self::Int8(_) => "model-int8.darts",
        }
    }
}

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(precision) => precision.fmt(f),
            Self::Int8(_) => f.write_str("int8"),
        }
    }
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

impl Arguments {
    /// The weights file that is read.
    fn input(&self) -> PathBuf {
        if self.weights.is_dir() { self.weights.join(run_directory::WEIGHTS) } else { self.weights.clone() }
    }
}

pub fn run(arguments: &Arguments) -> Outcome {
    let network = arguments.import.load(&arguments.weights)?;
    let exchange = [(Exchange::Onnx, &arguments.onnx), (Exchange::SafeTensors, &arguments.safetensors)];
    if let Some((exchange, out)) = exchange.iter().find_map(|(exchange, out)| Some((exchange, out.as_ref()?))) {
        return exchange.write(&network, out, arguments);
    }
    let form = match &arguments.calibrate {
        Some(data) => Form::Int8(data),
        None if arguments.f16 => Form::Float(Precision::F16),
        None => Form::Float(Precision::F32),
    };
    let folder = if arguments.weights.is_dir() {
        arguments.weights.as_path()
    } else {
        arguments.weights.parent().unwrap_or(Path::new(""))
    };
    let place = match &arguments.rust {
        Some(module) => Place::module(module)?,
        None => Place::beside(arguments.out.clone().unwrap_or_else(|| folder.join(form.file_name()))),
    };
    check_output(&place, &arguments.input())?;
    let bytes = match form {
        Form::Float(precision) => float(&network, precision, &place.model)?,
        Form::Int8(data) => quantization(&network, arguments, data)?.model(&Mixed::all(&arguments.mixed))?,
    };
    let exported = write(&network, &bytes, place)?;
    if arguments.json {
        print_json(&exported)?;
    } else {
        let mut output = io::stdout().lock();
        writeln!(output, "model file       {} bytes", HumanCount(exported.model_bytes as u64))?;
        writeln!(output, "weights          {} bytes, {form}", HumanCount(exported.weight_bytes as u64))?;
        writeln!(output, "peak workspace   {} bytes", HumanCount(exported.workspace_bytes as u64))?;
        writeln!(output, "wrote {} and {}", exported.model.display(), exported.rust.display())?;
    }
    Ok(())
}

/// Where an export goes.
struct Place {
    model: PathBuf,
    rust: PathBuf,
    /// The option that says so.
    option: &'static str,
}

impl Place {
    /// The model file `model`, and its Rust module beside it.
    fn beside(model: PathBuf) -> Self {
        Self { rust: model.with_extension("rs"), model, option: "--out" }
    }

    /// The folder of a Rust module, which is made if it is missing.
    fn module(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
        Ok(Self { model: folder.join(run_directory::MODEL), rust: folder.join("mod.rs"), option: "--rust" })
    }

    /// The line of Rust that makes the module part of a crate. Names such as `model-int8` are none of a module.
    fn declaration(&self) -> String {
        let (named, file) = match self.rust.parent() {
            Some(folder) if self.rust.ends_with("mod.rs") => (folder, "/mod.rs"),
            _ => (self.rust.as_path(), ""),
        };
        let path = named.file_name().unwrap_or_default().to_string_lossy();
        let name = path.strip_suffix(".rs").unwrap_or(&path);
        let letters = |text: &str| text.replace(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric(), "_");
        let module = match name.chars().next() {
            Some(first) if first.is_ascii_digit() => format!("_{}", letters(name)),
            _ => letters(name),
        };
        if module == name {
            format!("pub mod {module};")
        } else {
            format!("#[path = \"{path}{file}\"] pub mod {module};")
        }
    }
}

/// An export must overwrite neither its one file by the other nor its input.
fn check_output(place: &Place, input: &Path) -> Result<(), Failure> {
    if place.model.extension().is_some_and(|extension| extension == "rs") {
        return Err(format!(
            "{} is the name of the Rust module beside the model file: give --out another extension, such as .darts",
            place.model.display()
        )
        .into());
    }
    if same_file(&place.model, input) || same_file(&place.rust, input) {
        return Err(overwrites(&place.model, place.option));
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn overwrites(out: &Path, option: &str) -> Failure {
    format!("writing {} would overwrite the weights: choose another {option}", out.display()).into()
}

/// What is written instead of a model file.
#[derive(Clone, Copy)]
enum Exchange {
    Onnx,
    SafeTensors,
}

impl Exchange {
    fn write(self, network: &TrainedNetwork, out: &Path, arguments: &Arguments) -> Outcome {
        let (key, what) = match self {
            Self::Onnx => ("onnx", "ONNX model"),
            Self::SafeTensors => ("safetensors", "weights"),
        };
        if same_file(out, &arguments.input()) {
            return Err(overwrites(out, &format!("--{key}")));
        }
        match self {
            Self::Onnx => {
                let bytes = match &arguments.calibrate {
                    Some(data) => onnx_int8(&quantization(network, arguments, data)?),
                    None => onnx(network),
                };
                atomic::write(out, &bytes.map_err(|error| format!("cannot make {}: {error}", out.display()))?)?;
            }
            Self::SafeTensors => network.save(out)?,
        }
        let bytes = fs::metadata(out).map_or(0, |metadata| metadata.len());
        if arguments.json {
            print_json(&serde_json::json!({ key: out, format!("{key}_bytes"): bytes }))?;
        } else {
            let mut output = io::stdout().lock();
            writeln!(output, "{what:<17}{} bytes", HumanCount(bytes))?;
            writeln!(output, "wrote {}", out.display())?;
        }
        Ok(())
    }
}

/// Writes the model file `out`, and the Rust module beside it.
pub fn perform(network: &TrainedNetwork, precision: Precision, out: PathBuf) -> Result<Exported, Failure> {
    write(network, &float(network, precision, &out)?, Place::beside(out))
}

/// The model file on `f32`, which will be `out`.
fn float(network: &TrainedNetwork, precision: Precision, out: &Path) -> Result<Vec<u8>, Failure> {
    Ok(export(network, precision).map_err(|error| format!("cannot make the model {}: {error}", out.display()))?)
}

/// The network with the scales of 8-bit integers.
fn quantization<'a>(
    network: &'a TrainedNetwork,
    arguments: &Arguments,
    data: &str,
) -> Result<Quantization<'a>, Failure> {
    let progress = Progress::new(arguments.json);
    let train = data::load(data, &LoadOptions { progress, ..LoadOptions::default() })?.train;
    let how = (arguments.calibration, arguments.calibration_images);
    calibrated(network, (data, &train), how, isa::kernels()?)
}

/// Writes the bytes of a model, and its Rust module.
fn write(network: &TrainedNetwork, bytes: &[u8], place: Place) -> Result<Exported, Failure> {
    let file = ModelFile::new(bytes, &place.model);
    let model = file.network()?;
    let name = place.model.file_name().ok_or("the model file needs a name: give one with --out")?.to_string_lossy();
    let module = rust_module(&model, bytes.len(), &place.declaration(), &name, &network.class_names);
    atomic::write(&place.model, file.bytes())?;
    atomic::write(&place.rust, module.as_bytes())?;
    let (weight_bytes, workspace_bytes) = (model.weight_bytes(), model.required_bytes());
    let Place { model, rust, .. } = place;
    Ok(Exported { model, rust, model_bytes: file.bytes().len(), weight_bytes, workspace_bytes, file })
}
