//! `darts accuracy`: what a network loses in half precision and on 8-bit integers, and where.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use darts_host::data::{self, DataSource, Dataset, LoadOptions};
use darts_host::export::{Precision, Quantization, export, signal_to_noise};
use darts_host::interrupt;
use darts_host::model_file::{ModelFile, accuracy, correct, predictions};
use darts_host::weights::TrainedNetwork;
use indicatif::HumanCount;
use serde::Serialize;

use super::common::{Machine, Session, print_json};
use super::quantization::{CalibrationArgument, Mixed, calibrated, spread, stopped};
use super::table::Table;
use super::training::one_or_more;
use super::{Failure, Outcome, import};

/// Compare a network in f32, in f16 and on 8-bit integers on the test images of a data set, and say which layers lose
/// how much
///
/// Of each layer: the signal to quantization noise of its output in the network on integers, with all that comes before
/// it, and of the logits when this layer alone is on integers. The least of the latter is the layer to keep in floating
/// point (--mixed, here to see what that brings, and of `darts export` to have it). Ratios are 10 log10 of the powers,
/// in dB: the more the better, 6 dB are a bit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts accuracy runs/train-1 --data data/cifar10\n  \
    darts accuracy runs/train-1 --data data/cifar10 --mixed stem=f32,cells.7=f16\n\
    Then: darts export runs/train-1 --int8 --calibrate data/cifar10 --mixed stem=f32")]
pub struct Arguments {
    /// The run directory of a training, or a weights file of one.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,

    /// `embedded` (a subset of Fashion-MNIST), or the folder of the data set that the network was trained on: training
    /// images calibrate, test images compare.
    #[arg(long, value_name = "PATH|embedded", default_value = "embedded", value_parser = NonEmptyStringValueParser::new())]
    data: String,

    /// How training images decide the scales of the images inside the network.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    calibration: CalibrationArgument,

    /// How many images, spread evenly over the training set; all where there are fewer.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = one_or_more())]
    calibration_images: usize,

    /// Add a network on integers with these layers in floating point; NAME as in the table, or what several begin with.
    #[arg(long, value_name = "NAME=f32|f16,…", value_delimiter = ',')]
    mixed: Vec<Mixed>,

    /// How many test images, spread evenly, the errors of layers are measured on; 0 for no table of layers.
    #[arg(long, value_name = "N", default_value_t = 128)]
    layer_images: usize,

    /// Print one JSON object: images, models, layers, worst.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    import: import::Options,

    #[command(flatten)]
    machine: Machine,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    models: Vec<ModelRow>,
    layers: Vec<LayerRow>,
    /// The layer with the least signal to noise when it alone is on integers.
    worst: Option<String>,
}

#[derive(Serialize)]
struct ModelRow {
    model: &'static str,
    correct: usize,
    accuracy: f64,
    /// Share of images that are told the same class as in f32.
    agreement: f64,
    /// Of the logits, in dB; infinite (null) where they are those in f32.
    sqnr: f64,
    model_bytes: usize,
    workspace_bytes: usize,
}

#[derive(Serialize)]
struct LayerRow {
    layer: String,
    /// Of its output in the network on integers.
    sqnr: f64,
    /// Of its output in the mixed network.
    mixed_sqnr: Option<f64>,
    /// Of the logits, when it alone is on integers.
    alone_sqnr: f64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::start(&arguments.machine, arguments.json)?;
    let network = arguments.import.load(&arguments.weights)?;
    let options = LoadOptions { progress: session.progress.clone(), ..LoadOptions::default() };
    let DataSource { train, test, .. } = session.workers.pool().install(|| data::load(&arguments.data, &options))?;
    let how = (arguments.calibration, arguments.calibration_images);
    let quantization =
        session.workers.pool().install(|| calibrated(&network, (&arguments.data, &train), how, session.kernels))?;
    let models = models(arguments, &session, &network, &quantization, &test)?;
    let layers = layers(arguments, &session, &quantization, &test)?;
    let least = layers.iter().min_by(|a, b| a.alone_sqnr.total_cmp(&b.alone_sqnr));
    let worst = least.map(|row| row.layer.clone());
    let report = Report { images: test.len(), models, layers, worst };
    if arguments.json {
        print_json(&report)?
    } else {
        print(&report)?
    }
    Ok(())
}

/// Each model on all test images.
fn models(
    arguments: &Arguments,
    session: &Session,
    network: &TrainedNetwork,
    quantization: &Quantization,
    test: &Dataset,
) -> Result<Vec<ModelRow>, Failure> {
    let mut models = vec![
        ("f32", export(network, Precision::F32)?),
        ("f16", export(network, Precision::F16)?),
        ("int8", quantization.model(&[])?),
    ];
    if !arguments.mixed.is_empty() {
        models.push(("mixed", quantization.model(&Mixed::all(&arguments.mixed))?));
    }
    let mut reference = None;
    let mut rows = Vec::new();
    for (model, bytes) in models {
        let file = ModelFile::new(&bytes, Path::new(model));
        let logits = session.run_model(model, &file, test)?;
        let reference = reference.get_or_insert_with(|| logits.clone());
        let expected = predictions(reference, test.classes());
        let same = expected.iter().zip(predictions(&logits, test.classes())).filter(|(a, b)| *a == b).count();
        rows.push(ModelRow {
            model,
            correct: correct(&logits, test),
            accuracy: accuracy(&logits, test),
            agreement: same as f64 / test.len().max(1) as f64,
            sqnr: signal_to_noise(reference, &logits),
            model_bytes: bytes.len(),
            workspace_bytes: file.network()?.required_bytes(),
        });
    }
    Ok(rows)
}

/// The errors of each layer on some test images.
fn layers(
    arguments: &Arguments,
    session: &Session,
    quantization: &Quantization,
    test: &Dataset,
) -> Result<Vec<LayerRow>, Failure> {
    if arguments.layer_images == 0 || test.is_empty() {
        return Ok(Vec::new());
    }
    let images = spread(test, arguments.layer_images);
    let errors = |float: &[_]| {
        let measure = || quantization.layer_errors(float, &images, session.kernels, interrupt::check);
        session.workers.pool().install(measure).map_err(stopped)
    };
    let whole = errors(&[])?;
    let mixed = Mixed::all(&arguments.mixed);
    let mixed = if mixed.is_empty() { None } else { Some(errors(&mixed)?) };
    let expected = quantization.real().logits(session.kernels, &images, interrupt::check)?;
    let task = session.progress.task("layers", whole.len() as u64);
    let mut rows = Vec::new();
    for (index, error) in whole.into_iter().enumerate() {
        let alone = ModelFile::new(&quantization.model_of_one(&error.name)?, Path::new(&error.name));
        let logits = session.workers.pool().install(|| alone.logits(session.kernels, &images, interrupt::check))?;
        task.advance(1);
        rows.push(LayerRow {
            layer: error.name,
            sqnr: error.sqnr,
            mixed_sqnr: mixed.as_ref().map(|mixed| mixed[index].sqnr),
            alone_sqnr: signal_to_noise(&expected, &logits),
        });
    }
    Ok(rows)
}

fn decibels(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "exact".to_owned() }
}

fn print(report: &Report) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let count = |value: usize| HumanCount(value as u64).to_string();
    let mut table =
        Table::new(&["model", "correct", "accuracy", "same class", "logits dB", "file bytes", "workspace bytes"]);
    for row in &report.models {
        table.row([
            row.model.to_owned(),
            count(row.correct),
            format!("{:.2} %", 100.0 * row.accuracy),
            format!("{:.2} %", 100.0 * row.agreement),
            decibels(row.sqnr),
            count(row.model_bytes),
            count(row.workspace_bytes),
        ]);
    }
    writeln!(output, "{} test images; same class as in f32", count(report.images))?;
    write!(output, "{table}")?;
    if report.layers.is_empty() {
        return Ok(());
    }
    let mixed = report.layers.iter().any(|row| row.mixed_sqnr.is_some());
    let titles = ["layer", "output dB", "mixed dB", "logits dB, alone", ""];
    let shown = |cells: [String; 5]| {
        let keep = move |index: usize| mixed || index != 2;
        cells.into_iter().enumerate().filter(move |(index, _)| keep(*index)).map(|(_, cell)| cell)
    };
    let titles: Vec<String> = shown(titles.map(str::to_owned)).collect();
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &report.layers {
        let worst = report.worst.as_ref() == Some(&row.layer);
        table.row(shown([
            row.layer.clone(),
            decibels(row.sqnr),
            row.mixed_sqnr.map_or(String::new(), decibels),
            decibels(row.alone_sqnr),
            (if worst { "worst" } else { "" }).to_owned(),
        ]));
    }
    writeln!(output, "\nlayers on integers, signal to quantization noise")?;
    write!(output, "{table}")?;
    if let Some(worst) = &report.worst {
        writeln!(output, "\n{worst} costs the most; --mixed {worst}=f32 keeps it in floating point")?;
    }
    Ok(())
}
