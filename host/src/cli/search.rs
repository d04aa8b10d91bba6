//! `darts search`: the bilevel search for a cell.

use std::io::{self, Write};
use std::time::Instant;

use clap::{Args, ValueEnum};
use darts_host::data::DataSource;
use darts_host::interrupt;
use darts_host::report::{self, RunRecord};
use darts_host::run_directory;
use darts_host::search::run::{SearchOutcome, search};
use darts_host::search::settings::{SearchSettings, search_graph};
use darts_host::search::{alpha, bilevel};
use serde::{Deserialize, Serialize};

use super::collapse::CollapseArguments;
use super::common::{Machine, Session, print_json};
use super::limits::LimitArguments;
use super::resume::Run;
use super::supernet::SupernetArguments;
use super::training::{
    AugmentArguments, DataArguments, Images, Preset, PresetOptions, RunArguments, SgdArguments, augment_options,
    non_negative, preset_table, set, sgd_options,
};
use super::watch::Watch;
use super::{Failure, Outcome};

/// Search a normal and a reduction cell on a data set
///
/// Trains a supernet whose edges carry all operations, weighted by the softmax of α: the weights learn on one half of
/// the training images, α on the other. Each epoch prints the genotype that α stands for; the run directory holds it,
/// the last α (alpha.json), the configuration, and losses, accuracies, α and its entropy for every epoch
/// (metrics.jsonl). Ctrl-C ends the search after the current step with what is done saved; --resume goes on from there,
/// and from the last checkpoint of a search that was killed, to the same result.
#[derive(Debug, Args)]
#[command(after_long_help = long_help(), after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    run: RunArguments,

    /// How α's gradient sees the weights.
    #[arg(long, value_name = "ORDER")]
    order: Option<Order>,

    #[command(flatten)]
    network: Network,
    #[command(flatten, next_help_heading = "Weights (SGD with momentum, cosine schedule)")]
    weights: SgdArguments,
    #[command(flatten)]
    architecture: ArchitectureOptimizer,
    #[command(flatten)]
    collapse: CollapseArguments,
    #[command(flatten)]
    supernet_guards: SupernetArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    augment: AugmentArguments,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "Examples:\n  \
    darts search --preset quick\n  \
    darts search --order first --seed 3 --data data/cifar10\n  \
    darts search --preset quick --data /usr/share/datasets/fashion-mnist --channels 8 --layers 5 --epochs 20 --out runs/fashion\n  \
    darts search --channels 8 --layers 5 --max-params 40K --params-penalty 0.5 --max-ram 64K\n  \
    darts search --resume runs/fashion\n\
    Then: darts train --genotype runs/fashion";

/// How α's gradient sees the weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Order {
    /// As they are.
    First,
    /// One step ahead, as a function of α (unrolled); about three times the work.
    Second,
}

impl From<Order> for bilevel::Order {
    fn from(order: Order) -> Self {
        match order {
            Order::First => Self::First,
            Order::Second => Self::Second,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Supernet")]
struct Network {
    /// Channels of the first cell.
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
    /// Number of cells.
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Nodes of a cell.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// How many of the last states make a cell's output.
    #[arg(long, value_name = "N")]
    multiplier: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Architecture (Adam)")]
struct ArchitectureOptimizer {
    /// Learning rate of α.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    arch_learning_rate: Option<f64>,
    /// Weight decay of α.
    #[arg(long, value_name = "X", value_parser = non_negative)]
    arch_weight_decay: Option<f64>,
    /// Start α at zeros, as the paper has it, and not near them at random, as the original code has it.
    #[arg(long)]
    zero_alpha: bool,
    /// Evaluate each epoch with the statistics of each batch, as the paper has it, and not with the running ones.
    #[arg(long)]
    batch_statistics: bool,
}

impl Arguments {
    /// What is not given is as in `previous`, if there is that and no preset is given.
    pub fn settings(
        &self,
        source: &DataSource,
        previous: Option<&SearchSettings>,
    ) -> Result<SearchSettings, darts_host::data::DataError> {
        let mut settings = match (self.run.preset, previous) {
            (None, Some(previous)) => previous.clone(),
            (None | Some(Preset::Paper), _) => SearchSettings::PAPER,
            (Some(Preset::Quick), _) => SearchSettings::QUICK,
        };
        set(&mut settings.order, self.order.map(Into::into));
        set(&mut settings.epochs, self.run.epochs);
        set(&mut settings.batch_size, self.run.batch);
        set(&mut settings.seed, self.run.seed);
        set(&mut settings.saved, self.run.saved.map(Into::into));
        set(&mut settings.channels, self.network.channels);
        set(&mut settings.layers, self.network.layers);
        set(&mut settings.nodes, self.network.nodes);
        set(&mut settings.multiplier, self.network.multiplier);
        self.weights.apply(&mut settings.sgd);
        set(&mut settings.arch_learning_rate, self.architecture.arch_learning_rate);
        set(&mut settings.arch_weight_decay, self.architecture.arch_weight_decay);
        settings.zero_alpha |= self.architecture.zero_alpha;
        settings.batch_statistics |= self.architecture.batch_statistics;
        self.collapse.apply(&mut settings.guards);
        self.supernet_guards.apply(&mut settings.supernet_guards);
        self.limits.apply(&mut settings.budgets);
        self.augment.apply(&mut settings.augment);
        if let Some(normalization) = self.data.normalization(source)? {
            settings.normalization = Some(normalization);
        }
        Ok(settings)
    }
}

/// The examples, and what the presets stand for.
fn long_help() -> String {
    let presets = [SearchSettings::PAPER, SearchSettings::QUICK].map(|settings| preset_options(&settings));
    format!("{}\n{EXAMPLES}", preset_table(&["paper", "quick"], &presets))
}

fn preset_options(settings: &SearchSettings) -> PresetOptions {
    let mut options = vec![
        ("order", format!("{:?}", settings.order).to_lowercase()),
        ("epochs", settings.epochs.to_string()),
        ("batch", settings.batch_size.to_string()),
        ("channels", settings.channels.to_string()),
        ("layers", settings.layers.to_string()),
        ("nodes", settings.nodes.to_string()),
        ("multiplier", settings.multiplier.to_string()),
    ];
    options.extend(sgd_options(&settings.sgd));
    options.push(("arch-learning-rate", settings.arch_learning_rate.to_string()));
    options.push(("arch-weight-decay", settings.arch_weight_decay.to_string()));
    options.extend(augment_options(&settings.augment));
    options.push(("seed", settings.seed.to_string()));
    options
}

#[derive(Serialize)]
struct Report<'a> {
    genotype: String,
    epochs: usize,
    valid_accuracy: Option<f64>,
    seconds: f64,
    out: &'a std::path::Path,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let started = Instant::now();
    let session = Session::start(&arguments.machine, arguments.run.json)?;
    let previous = arguments.run.previous::<SearchSettings>("search")?;
    let Images { source, config } = arguments.data.load(&session, previous.as_ref().map(|run| &run.config.data))?;
    let settings = arguments.settings(&source, previous.as_ref().map(|run| &run.config.settings))?;
    settings.check_guards()?;
    let graph = search_graph(&settings, &source.train)?;
    session.check_memory(&graph, settings.batch_size.min(source.train.len()), settings.saved)?;
    drop(graph);
    let config = session.config("search", None, config, settings);
    let run = arguments.run.open("search", previous, &config)?;
    let outcome = perform(&config.settings, &source, &session, &run)?;
    if interrupt::requested() {
        return session.interrupted(&run.directory, &run.next());
    }
    let report = Report {
        genotype: outcome.genotype.to_string(),
        epochs: outcome.epochs.len(),
        valid_accuracy: outcome.epochs.last().map(|epoch| epoch.valid_accuracy),
        seconds: started.elapsed().as_secs_f64(),
        out: run.directory.path(),
    };
    if arguments.run.json {
        print_json(&report)?;
    } else {
        let mut output = io::stdout().lock();
        let folder = run.directory.path().display();
        writeln!(output, "{}\nwrote {folder}; next: darts train --genotype {folder}", report.genotype)?;
    }
    Ok(())
}

/// α of normal and of reduction cells, `[edges][operations]`.
#[derive(Serialize, Deserialize)]
pub struct AlphaRecord {
    pub complete_epochs: usize,
    /// Whether the search came to its end, and with it the genotype beside this; false where Ctrl-C stopped it, and in
    /// records of older versions.
    #[serde(default)]
    pub finished: bool,
    normal: Vec<Vec<f32>>,
    reduce: Vec<Vec<f32>>,
    /// β of normal, then of reduction cells, where edges are weighted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beta: Vec<f32>,
}

impl From<&SearchOutcome> for AlphaRecord {
    fn from(outcome: &SearchOutcome) -> Self {
        let [normal, reduce] = alpha::rows(&outcome.alpha);
        let complete_epochs = outcome.went_back_to.map_or(outcome.epochs.len(), |epoch| epoch + 1);
        Self { complete_epochs, finished: !outcome.interrupted, normal, reduce, beta: outcome.beta.clone() }
    }
}

/// Searches, and leaves metrics, checkpoints, genotype and α in the folder of `run`, also when it is interrupted.
pub fn perform(
    settings: &SearchSettings,
    source: &DataSource,
    session: &Session,
    run: &Run,
) -> Result<SearchOutcome, Failure> {
    let mut watch = Watch::new(settings.epochs, &session.progress, run);
    let outcome = search(settings, &source.train, session.kernels, session.workers.clone(), &mut watch);
    let outcome = watch.finish(outcome)?;
    if let Some(epoch) = outcome.went_back_to {
        let stopped = outcome.epochs.len();
        let line =
            format!("stopped behind epoch {stopped}: the eigenvalue grew; the cells are those of epoch {}", epoch + 1);
        session.progress.line(&line);
    }
    run.directory.write_text(run_directory::GENOTYPE, &outcome.genotype.to_string())?;
    run.directory.write_json(run_directory::ALPHA, &AlphaRecord::from(&outcome))?;
    // The cells may be others than those of the last epoch.
    report::write(&RunRecord::read(run.directory.path())?)?;
    Ok(outcome)
}
