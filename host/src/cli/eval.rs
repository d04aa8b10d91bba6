//! `darts eval`: a model file on a test set.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use darts_host::data::{self, LoadOptions};
use darts_host::model_file::{ModelFile, predictions};
use serde::Serialize;

use super::Outcome;
use super::common::{Machine, Session, print_json};

/// Run a model file on the test images of a data set, with the code that runs on a device
///
/// Images are normalised as in training: the model holds the constants.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts eval runs/train-1/model.darts\n  \
    darts eval model.darts --data data/cifar10 --json")]
pub struct Arguments {
    /// The model file, or the run directory that holds it.
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// `embedded` (a subset of Fashion-MNIST), or a folder with a data set, of which the test images are used.
    #[arg(long, value_name = "PATH|embedded", default_value = "embedded")]
    data: String,

    /// Print one JSON object: images, correct, accuracy, agreement.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    correct: usize,
    accuracy: f64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::start(&arguments.machine, arguments.json)?;
    let model = ModelFile::read(&arguments.model)?;
    model.network()?;
    let options = LoadOptions { progress: session.progress.clone(), ..LoadOptions::default() };
    let test = session.workers.pool().install(|| data::load(&arguments.data, &options))?.test;
    let logits = session.workers.pool().install(|| model.logits(session.kernels, &test))?;
    let predictions = predictions(&logits, test.classes());
    let right = predictions.iter().zip(test.labels()).filter(|&(&class, &label)| class == usize::from(label));
    let correct = right.count();
    let report = Report { images: test.len(), correct, accuracy: correct as f64 / test.len() as f64 };
    if arguments.json {
        print_json(&report)?;
    } else {
        let mut output = io::stdout().lock();
        writeln!(output, "images     {}", report.images)?;
        writeln!(output, "correct    {}", report.correct)?;
        writeln!(output, "accuracy   {:.2} %", 100.0 * report.accuracy)?;
    }
    Ok(())
}
