//! `darts eval`: a model file on a test set.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use darts_core::Network;
use darts_host::data::{self, LoadOptions};
use darts_host::model_file::{ModelFile, accuracy, correct, predictions};
use darts_host::run_directory;
use darts_host::weights::TrainedNetwork;
use serde::Serialize;

use super::common::{Machine, Session, print_json};
use super::{Failure, Outcome};

/// Run a model file on the test images of a data set, with the code that runs on a device
///
/// Images are normalised as in training: the model holds the constants. Where the weights that the model was made from
/// are at hand, the host computes the same from them, and the agreement is the share of images of which both say the
/// same class.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts eval runs/train-1/model.darts\n  \
    darts eval model.darts --data data/cifar10 --json")]
pub struct Arguments {
    /// The model file, or the run directory that holds it.
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// `embedded` (a subset of Fashion-MNIST), the name of a fetched set, or a folder with a data set; its test images
    /// are used.
    #[arg(long, value_name = "PATH|NAME|embedded", default_value = "embedded", value_parser = NonEmptyStringValueParser::new())]
    data: String,

    /// The weights file or run directory of the training, to compare with the host's own results [default:
    /// weights.safetensors beside the model, if it is there].
    #[arg(long, value_name = "RUN|WEIGHTS")]
    weights: Option<PathBuf>,

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
    agreement: Option<f64>,
}

impl Arguments {
    /// The trained network to compare `model` with, if there is one.
    fn reference(&self, model: &Network) -> Result<Option<TrainedNetwork>, Failure> {
        let folder = if self.model.is_dir() { Some(self.model.as_path()) } else { self.model.parent() };
        let beside = folder.map(|folder| folder.join(run_directory::WEIGHTS)).filter(|path| path.exists());
        let Some(path) = self.weights.as_ref().or(beside.as_ref()) else { return Ok(None) };
        let network = TrainedNetwork::load(path)?;
        let (config, shape, metadata) = (&network.config, model.input_shape(), model.metadata());
        let same = config.input == [shape.channels, shape.height, shape.width]
            && (config.classes, config.channels, config.layers)
                == (model.classes(), metadata.channels, metadata.layers)
            && network.genotype == *model.genotype();
        if !same {
            let (weights, model) = (path.display(), self.model.display());
            return Err(format!(
                "the weights {weights} and the model {model} are of different networks (input, classes, size or \
                 genotype): give those that the model was exported from with --weights"
            )
            .into());
        }
        Ok(Some(network))
    }
}

pub fn run(arguments: &Arguments) -> Outcome {
    let session = Session::start(&arguments.machine, arguments.json)?;
    let model = ModelFile::read(&arguments.model)?;
    let reference = arguments.reference(&model.network()?)?;
    let options = LoadOptions { progress: session.progress.clone(), ..LoadOptions::default() };
    let test = session.workers.pool().install(|| data::load(&arguments.data, &options))?.test;
    let logits = session.run_model("core", &model, &test)?;
    let agreement = match reference {
        Some(network) => {
            let host = session.evaluate("host", &network, &test)?;
            let pairs = predictions(&host.logits, test.classes()).into_iter().zip(predictions(&logits, test.classes()));
            Some(pairs.filter(|(host, core)| host == core).count() as f64 / test.len() as f64)
        }
        None => None,
    };
    let correct = correct(&logits, &test);
    let report = Report { images: test.len(), correct, accuracy: accuracy(&logits, &test), agreement };
    if arguments.json {
        print_json(&report)?;
    } else {
        let mut output = io::stdout().lock();
        writeln!(output, "images     {}", report.images)?;
        writeln!(output, "correct    {}", report.correct)?;
        writeln!(output, "accuracy   {:.2} %", 100.0 * report.accuracy)?;
        if let Some(agreement) = report.agreement {
            writeln!(output, "agreement  {:.2} % with the host", 100.0 * agreement)?;
        }
    }
    Ok(())
}
