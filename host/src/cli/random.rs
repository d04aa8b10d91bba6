//! `darts random`: random cells, the baseline of a search.

use clap::Args;
use darts_host::config::RunConfig;
use darts_host::graph::space::Space;
use darts_host::train::TrainSettings;

use super::common::WrongUsage;
use super::comparison::{
    self, Against, ComparisonArguments, ComparisonSettings, TrainingArguments, number_of_cells, percentage,
    searched_space, training, training_config,
};
use super::genotype::resolve;
use super::training::{DataArguments, seed};
use super::{Failure, Outcome};

/// Train random cells from scratch, alone or against a searched one
///
/// The baseline that the paper reports: cells drawn at random (every node adds up two different states before it, each
/// through an operation other than none, all equally likely), all trained with the same settings, seed and images. With
/// --against a searched cell is compared with them under the same training. The test images are used in one place,
/// after all training, for all cells that are compared, in one go. Each training is a process of its own; Ctrl-C stops
/// them with what is done saved, and --resume goes on with what is left.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    comparison: ComparisonArguments,
    #[command(flatten)]
    cells: Cells,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    data: DataArguments,
}

const EXAMPLES: &str = "Examples:\n  \
    darts random --cells 8 --preset quick\n  \
    darts random --cells 8 --against runs/train-1\n  \
    darts random --cells 8 --against DARTS_V2 --params-within 20% --short-epochs 20 --data data/cifar10\n  \
    darts random --resume runs/random-1";

#[derive(Debug, Args)]
#[group(id = "protocol")]
#[command(next_help_heading = "Cells")]
struct Cells {
    /// Number of random cells, all different.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = number_of_cells(1))]
    cells: usize,

    /// Seed of the cells; the first of 8 are those of fewer.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed())]
    seed: u64,

    /// Compare with this cell. The run of a finished training, or of `darts seeds`, is taken as it is, and its settings
    /// and data are those of the random ones; the run of a search, and a genotype (name, file, text), is trained as
    /// they are.
    #[arg(long, value_name = "RUN|NAME|FILE|TEXT")]
    against: Option<String>,

    /// Draw from these operations, as the search did [default: those of the search whose run is compared with, or all
    /// of DARTS].
    #[arg(long, value_name = "OPERATION,…")]
    primitives: Option<Space>,

    /// Take only cells whose networks have as many parameters as that of the cell they are compared with, to within so
    /// much. The paper's are plainly random.
    #[arg(long, value_name = "P%", value_parser = percentage, requires = "against")]
    params_within: Option<f64>,
}

impl Cells {
    /// What is compared with, and the configuration of its training if that is there.
    fn against(&self) -> Result<(Option<Against>, Option<RunConfig<TrainSettings>>), Failure> {
        let Some(argument) = &self.against else { return Ok((None, None)) };
        Ok(match training(argument)? {
            Some(folder) => {
                let config = training_config(&folder)?;
                (Some(Against::Training(folder)), Some(config))
            }
            None => (Some(Against::Genotype(resolve(argument)?.to_string())), None),
        })
    }
}

pub fn run(arguments: &Arguments) -> Outcome {
    let Arguments { comparison, cells, training, data } = arguments;
    let (against, trained) = cells.against()?;
    if let (Some(option), true) = (training.given(), trained.is_some()) {
        return Err(WrongUsage { option, subject: "a comparison with a training, whose settings it takes" }.into());
    }
    let against_space = cells.against.as_deref().map_or(Ok(None), searched_space)?;
    let space = cells.primitives.or(against_space).unwrap_or_default();
    let known = trained.as_ref().map(|config| &config.data);
    comparison::run("random", comparison, data, known, |source| {
        Ok(ComparisonSettings {
            seeds: 0,
            random: cells.cells,
            seed: cells.seed,
            space,
            params_within: cells.params_within,
            final_epochs: training.final_epochs,
            against: against.clone(),
            search: None,
            train: match &trained {
                Some(config) => config.settings.clone(),
                None => training.settings(source, data)?,
            },
        })
    })
}
