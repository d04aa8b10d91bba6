//! `darts run`: the whole pipeline.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use darts_host::atomic;
use darts_host::checkpoint::Policy;
use darts_host::data::DataSource;
use darts_host::draw::Drawing;
use darts_host::export::Precision;
use darts_host::graph::count::totals;
use darts_host::interrupt;
use darts_host::model_file::accuracy;
use darts_host::run_directory::{self, RunDirectory};
use darts_host::search::settings::{SearchSettings, search_graph};
use darts_host::train::TrainSettings;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use super::common::{FileError, Machine, Session, print_json};
use super::resume::{Previous, Run};
use super::search::Order;
use super::table::Table;
use super::training::{DataArguments, Images, one_or_more, seed, set};
use super::{Failure, Outcome, export, search, train};

/// Run the whole pipeline: search, derive, train, export, and evaluate on the core (what `darts` alone does)
///
/// Takes the quick presets, which are for a first look at a few thousand small images. For more, run the steps by
/// themselves: each has all its options.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    darts run\n  \
    darts run --data data/cifar10 --limit 5000 --train-epochs 30 --json\n  \
    darts run --resume runs/run-1")]
pub struct Arguments {
    /// How α's gradient sees the weights [default: first].
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,

    /// Epochs of the search [default: 3].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    search_epochs: Option<usize>,

    /// Epochs of the training [default: 12].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    train_epochs: Option<usize>,

    /// Seed of everything that is drawn [default: 2].
    #[arg(long, value_name = "N", value_parser = seed())]
    seed: Option<u64>,

    /// Run directory, new or empty [default: runs/run-N].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Go on with the pipeline in this folder, from the last checkpoint of its search or training. Settings and data
    /// are those of the folder; options that say otherwise are refused.
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    resume: Option<PathBuf>,

    /// Print one JSON object at the end and no progress.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    machine: Machine,
}

/// What decides a pipeline.
#[derive(Clone, Serialize, Deserialize)]
struct RunSettings {
    search: SearchSettings,
    train: TrainSettings,
}

impl Arguments {
    /// What is not given is as in `previous`, if there is that.
    fn settings(&self, source: &DataSource, previous: Option<&RunSettings>) -> Result<RunSettings, Failure> {
        let mut settings = previous.cloned().unwrap_or_else(|| RunSettings {
            search: SearchSettings::QUICK,
            train: TrainSettings {
                seed: SearchSettings::QUICK.seed,
                held_out: Some(TrainSettings::QUICK.held_out(&source.train)),
                ..TrainSettings::QUICK
            },
        });
        let RunSettings { search, train } = &mut settings;
        set(&mut search.order, self.order.map(Into::into));
        set(&mut search.epochs, self.search_epochs);
        set(&mut train.epochs, self.train_epochs);
        set(&mut search.seed, self.seed);
        set(&mut train.seed, self.seed);
        if let Some(normalization) = self.data.normalization(source)? {
            search.normalization = Some(normalization.clone());
            train.normalization = Some(normalization);
        }
        Ok(settings)
    }
}

#[derive(Serialize)]
struct Report {
    genotype: String,
    parameters: usize,
    multiply_adds: usize,
    accuracy: Accuracy,
    model_bytes: usize,
    model_bytes_f16: usize,
    workspace_bytes: usize,
    files: Vec<PathBuf>,
    seconds: f64,
}

#[derive(Serialize)]
struct Accuracy {
    host: f64,
    core_f32: f64,
    core_f16: f64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let started = Instant::now();
    let session = Session::start(&arguments.machine, arguments.json)?;
    let previous = arguments.resume.as_ref().map(|path| Previous::<RunSettings>::open(path, "run")).transpose()?;
    let Images { source, config: data } =
        arguments.data.load(&session, previous.as_ref().map(|run| &run.config.data))?;
    let settings = arguments.settings(&source, previous.as_ref().map(|run| &run.config.settings))?;
    // The larger one of the two networks.
    let graph = search_graph(&settings.search, &source.train)?;
    session.check_memory(&graph, settings.search.batch_size.min(source.train.len()), settings.search.saved)?;
    drop(graph);
    let config = session.config("run", None, data, settings);
    let directory = match previous {
        Some(previous) => {
            previous.check(&config)?;
            previous.into_directory()
        }
        None => {
            let directory = RunDirectory::create(arguments.out.as_deref(), "run")?;
            config.write(&directory.file(run_directory::CONFIG))?;
            directory
        }
    };
    interrupt::install()?;
    let next = format!("; go on with darts run --resume {}", directory.path().display());

    let search_config = session.config("search", None, config.data.clone(), config.settings.search);
    let run = Run::at("search", &directory.file("search"), &search_config, Policy::default())?;
    let found = search::perform(&search_config.settings, &source, &session, &run);
    if found.is_err() && !run.directory.file(run_directory::CONFIG).exists() {
        // The search left nothing behind, and so does the pipeline.
        directory.discard();
    }
    let found = found?;
    if interrupt::requested() {
        return session.interrupted(&directory, &next);
    }

    let train_config = session.config("train", Some(&found.genotype), config.data, config.settings.train);
    let run = Run::at("train", &directory.file("train"), &train_config, Policy::default())?;
    let trained = train::perform(&found.genotype, &train_config.settings, &source, &session, &run)?;
    if interrupt::requested() {
        return session.interrupted(&directory, &next);
    }

    let network = &trained.network;
    let exported = |precision| {
        let out = directory.file(export::Form::Float(precision).file_name());
        export::perform(network, precision, out)
    };
    let (f32, f16) = (exported(Precision::F32)?, exported(Precision::F16)?);
    let core = |model: &export::Exported| {
        let logits = session.run_model(&model.model.display().to_string(), &model.file, &source.test)?;
        Ok::<_, Failure>(accuracy(&logits, &source.test))
    };
    let totals = totals(&network.graph()?);
    let accuracy = Accuracy {
        host: session.evaluate("host", network, &source.test)?.accuracy(),
        core_f32: core(&f32)?,
        core_f16: core(&f16)?,
    };
    for (name, cell) in run_directory::DRAWINGS.into_iter().zip([&found.genotype.normal, &found.genotype.reduce]) {
        atomic::write(&directory.file(name), Drawing::from(cell).svg().as_bytes())?;
    }
    let report = Report {
        genotype: found.genotype.to_string(),
        parameters: totals.parameters,
        multiply_adds: totals.multiply_adds,
        accuracy,
        model_bytes: f32.model_bytes,
        model_bytes_f16: f16.model_bytes,
        workspace_bytes: f32.workspace_bytes,
        files: directory.files().map_err(FileError::new("list the folder", directory.path()))?,
        seconds: started.elapsed().as_secs_f64(),
    };
    if arguments.json {
        print_json(&report)?
    } else {
        print(&report, directory.path())?
    }
    Ok(())
}

fn print(report: &Report, directory: &Path) -> io::Result<()> {
    let percent = |accuracy: f64| format!("{:.2} %", 100.0 * accuracy);
    let count = |number: usize| HumanCount(number as u64).to_string();
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("parameters", count(report.parameters));
    row("multiply-adds", count(report.multiply_adds));
    row("test accuracy, host", percent(report.accuracy.host));
    row("test accuracy, core f32", percent(report.accuracy.core_f32));
    row("test accuracy, core f16", percent(report.accuracy.core_f16));
    row("model bytes, f32", count(report.model_bytes));
    row("model bytes, f16", count(report.model_bytes_f16));
    row("workspace bytes", count(report.workspace_bytes));
    row("seconds", format!("{:.1}", report.seconds));
    let mut output = io::stdout().lock();
    writeln!(output, "\n{}\n{table}\nfiles in {}", report.genotype, directory.display())?;
    for file in &report.files {
        writeln!(output, "  {}", file.strip_prefix(directory).unwrap_or(file).display())?;
    }
    Ok(())
}
