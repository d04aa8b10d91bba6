//! `darts train`: a derived network from scratch.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use clap::{Args, ValueEnum};
use darts_core::Genotype;
use darts_host::data::{DataError, DataSource};
use darts_host::evaluate::Evaluation;
use darts_host::graph::derived::derived;
use darts_host::interrupt;
use darts_host::run_directory;
use darts_host::train::{Schedule, TrainOutcome, TrainSettings, train};
use serde::Serialize;

use super::common::{Machine, Network, Session, print_json};
use super::genotype::resolve;
use super::resume::{CannotResume, Run};
use super::training::{
    AugmentArguments, DataArguments, Images, Preset, PresetOptions, RunArguments, SgdArguments, augment_options,
    non_negative, one_or_more, preset_table, probability, set, sgd_options,
};
use super::watch::Watch;
use super::{Failure, Outcome};

/// Train the network of a genotype and measure it on the test set
///
/// The genotype is a name (DARTS_V1, DARTS_V2, NASNet, AmoebaNet), a file, the text itself, or the run directory of a
/// search. The test set is used once, at the end. The run directory holds the weights (weights.safetensors),
/// configuration, genotype and the measurements of every epoch (metrics.jsonl); the weights are saved after every
/// epoch. Ctrl-C ends the training after the current step with what is done saved; --resume goes on from there, and
/// from the last checkpoint of a training that was killed, to the same result.
#[derive(Debug, Args)]
#[command(after_long_help = long_help(), after_help = EXAMPLES)]
pub struct Arguments {
    /// The cells: name, file, text or run directory.
    #[arg(long, value_name = "NAME|FILE|TEXT|RUN", required_unless_present = "resume")]
    genotype: Option<String>,

    #[command(flatten)]
    run: RunArguments,

    /// Hold out so many training images, as many of each class, and measure on them after every epoch; 0 trains on all
    /// [default: a tenth].
    #[arg(long, value_name = "N")]
    validation: Option<usize>,

    /// Leave the test images alone, for trainings that are yet to be chosen from.
    #[arg(long)]
    no_test: bool,

    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    optimizer: Optimizer,
    #[command(flatten)]
    regularization: Regularization,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    augment: AugmentArguments,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "Examples:\n  \
    darts train --preset quick --genotype runs/search-1\n  \
    darts train --genotype runs/search-1 --channels 16 --layers 8 --epochs 20 --data data/cifar10\n  \
    darts train --genotype DARTS_V2 --data data/cifar10 --validation 5000\n  \
    darts train --genotype cell.txt --network imagenet --data data/imagenet\n  \
    darts train --resume runs/train-1\n\
    Then: darts export runs/train-1";

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct Size {
    /// Stem and head [default: cifar].
    #[arg(long, value_name = "KIND")]
    network: Option<Network>,
    /// Channels of the first cell.
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Number of cells.
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Optimiser (SGD with momentum)")]
struct Optimizer {
    /// How the learning rate falls.
    #[arg(long, value_name = "NAME")]
    schedule: Option<ScheduleName>,
    /// Epochs between two steps of the step schedule [default: 1].
    #[arg(long, value_name = "N", value_parser = one_or_more(), requires = "schedule")]
    step_epochs: Option<usize>,
    /// Factor of each step of the step schedule [default: 0.97].
    #[arg(long, value_name = "X", value_parser = non_negative, requires = "schedule")]
    step_factor: Option<f64>,
    #[command(flatten)]
    sgd: SgdArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleName {
    /// Half a cosine.
    Cosine,
    /// Times a factor every few epochs.
    Step,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Regularisation")]
struct Regularization {
    /// Weight of the auxiliary head's loss; 0 for no auxiliary head.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    auxiliary: Option<f64>,
    /// Probability to drop an operation for an image, to which it rises over the epochs.
    #[arg(long, value_name = "P", value_parser = probability)]
    drop_path: Option<f64>,
    /// Part of the probability that is spread over all classes.
    #[arg(long, value_name = "P", value_parser = probability)]
    label_smoothing: Option<f64>,
}

impl Arguments {
    /// The preset, if one is given.
    pub fn preset(&self) -> Option<Preset> {
        self.run.preset
    }

    /// What is not given is as in `previous`, if there is that and no preset is given.
    pub fn settings(&self, source: &DataSource, previous: Option<&TrainSettings>) -> Result<TrainSettings, DataError> {
        let mut settings = match (self.run.preset, self.size.network, previous) {
            (None, _, Some(previous)) => previous.clone(),
            (Some(Preset::Quick), ..) => TrainSettings::QUICK,
            (None | Some(Preset::Paper), Some(Network::Imagenet), _) => TrainSettings::IMAGENET,
            (None | Some(Preset::Paper), ..) => TrainSettings::CIFAR,
        };
        set(&mut settings.network, self.size.network.map(Into::into));
        set(&mut settings.channels, self.size.channels);
        set(&mut settings.layers, self.size.layers);
        set(&mut settings.epochs, self.run.epochs);
        set(&mut settings.batch_size, self.run.batch);
        settings.held_out = Some(self.validation.unwrap_or_else(|| settings.held_out(&source.train)));
        set(&mut settings.seed, self.run.seed);
        set(&mut settings.saved, self.run.saved.map(Into::into));
        set(&mut settings.schedule, self.optimizer.schedule());
        self.optimizer.sgd.apply(&mut settings.sgd);
        set(&mut settings.auxiliary_weight, self.regularization.auxiliary);
        set(&mut settings.drop_path, self.regularization.drop_path);
        set(&mut settings.label_smoothing, self.regularization.label_smoothing);
        self.augment.apply(&mut settings.augment);
        if let Some(normalization) = self.data.normalization(source)? {
            settings.normalization = Some(normalization);
        }
        Ok(settings)
    }
}

impl Optimizer {
    fn schedule(&self) -> Option<Schedule> {
        self.schedule.map(|name| match name {
            ScheduleName::Cosine => Schedule::Cosine,
            ScheduleName::Step => {
                Schedule::Step { epochs: self.step_epochs.unwrap_or(1), factor: self.step_factor.unwrap_or(0.97) }
            }
        })
    }
}

/// The examples, and what the presets stand for.
fn long_help() -> String {
    let presets = [TrainSettings::CIFAR, TrainSettings::IMAGENET, TrainSettings::QUICK];
    let presets = presets.map(|settings| preset_options(&settings));
    format!("{}\n{EXAMPLES}", preset_table(&["paper", "paper, imagenet", "quick"], &presets))
}

fn preset_options(settings: &TrainSettings) -> PresetOptions {
    let schedule = match settings.schedule {
        Schedule::Cosine => "cosine",
        Schedule::Step { .. } => "step",
    };
    let held_out = settings.held_out.map_or("a tenth".to_owned(), |images| images.to_string());
    let mut options = vec![
        ("channels", settings.channels.to_string()),
        ("layers", settings.layers.to_string()),
        ("epochs", settings.epochs.to_string()),
        ("batch", settings.batch_size.to_string()),
        ("validation", held_out),
        ("schedule", schedule.to_owned()),
    ];
    options.extend(sgd_options(&settings.sgd));
    options.push(("auxiliary", settings.auxiliary_weight.to_string()));
    options.push(("drop-path", settings.drop_path.to_string()));
    options.push(("label-smoothing", settings.label_smoothing.to_string()));
    options.extend(augment_options(&settings.augment));
    options.push(("seed", settings.seed.to_string()));
    options
}

#[derive(Serialize)]
struct Report<'a> {
    genotype: String,
    epochs: usize,
    valid_accuracy: Option<f64>,
    test_accuracy: Option<f64>,
    test_loss: Option<f64>,
    seconds: f64,
    out: &'a Path,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let started = Instant::now();
    let session = Session::start(&arguments.machine, arguments.run.json)?;
    let previous = arguments.run.previous::<TrainSettings>("train")?;
    let known = previous.as_ref().and_then(|run| run.config.genotype.as_deref());
    let genotype = match (arguments.genotype.as_deref().or(known), &arguments.run.resume) {
        (None, Some(folder)) => return Err(CannotResume::NoCells(folder.clone()).into()),
        (genotype, _) => resolve(genotype.unwrap_or_default())?,
    };
    let Images { source, config } = arguments.data.load(&session, previous.as_ref().map(|run| &run.config.data))?;
    let settings = arguments.settings(&source, previous.as_ref().map(|run| &run.config.settings))?;
    let graph = derived(&genotype, &settings.config(&source.train))?;
    session.check_memory(&graph, settings.batch_size.min(source.train.len()), settings.saved)?;
    drop(graph);
    let config = session.config("train", Some(&genotype), config, settings);
    let run = arguments.run.open("train", previous, &config)?;
    let outcome = perform(&genotype, &config.settings, &source, &session, &run)?;
    if interrupt::requested() {
        return session.interrupted(&run.directory, &run.next());
    }
    let test = if arguments.no_test { None } else { Some(session.evaluate("test", &outcome.network, &source.test)?) };
    let report = Report {
        genotype: genotype.to_string(),
        epochs: outcome.epochs.len(),
        valid_accuracy: outcome.epochs.last().and_then(|epoch| epoch.valid_accuracy),
        test_accuracy: test.as_ref().map(Evaluation::accuracy),
        test_loss: test.as_ref().map(|test| test.loss),
        seconds: started.elapsed().as_secs_f64(),
        out: run.directory.path(),
    };
    if arguments.run.json {
        print_json(&report)?;
    } else {
        let mut output = io::stdout().lock();
        if let Some(test) = test {
            writeln!(output, "test accuracy {:.2} %, loss {:.4}", 100.0 * test.accuracy(), test.loss)?;
        }
        writeln!(output, "wrote {0}; next: darts export {0}", report.out.display())?;
    }
    Ok(())
}

/// Trains, and leaves metrics, checkpoints, genotype and weights in the folder of `run`, also when it is interrupted.
pub fn perform(
    genotype: &Genotype,
    settings: &TrainSettings,
    source: &DataSource,
    session: &Session,
    run: &Run,
) -> Result<TrainOutcome, Failure> {
    let mut watch = Watch::new(settings.epochs, &session.progress, run);
    run.directory.write_text(run_directory::GENOTYPE, &genotype.to_string())?;
    let outcome = train(genotype, settings, &source.train, session.kernels, session.workers.clone(), &mut watch);
    let outcome = watch.finish(outcome)?;
    // Complete epochs have been saved.
    if outcome.interrupted {
        outcome.network.save(&run.directory.file(run_directory::WEIGHTS))?;
    }
    Ok(outcome)
}
