//! `darts seeds`: several searches, of which validation images choose.

use clap::Args;

use super::Outcome;
use super::comparison::{
    self, ComparisonArguments, ComparisonSettings, TrainingArguments, number_of_cells, percentage, search_settings,
};
use super::training::{DataArguments, one_or_more, seed};

/// Search several times, train each cell from scratch for a short time, and choose on validation images
///
/// What the paper does: a search depends on its seed, so several are made (seed-1, seed-2, …), every cell is trained
/// from scratch with the same settings, seed and images, and the one with the best accuracy on the images held out is
/// taken. The test images are used in one place, after all training: for the chosen cell or, with --random, for all
/// cells that are compared, in one go. Each run is a process of its own; Ctrl-C stops them with what is done saved, and
/// --resume goes on with what is left.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    comparison: ComparisonArguments,
    #[command(flatten)]
    searches: Searches,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    data: DataArguments,
}

const EXAMPLES: &str = "Examples:\n  \
    darts seeds --seeds 4 --preset quick\n  \
    darts seeds --seeds 4 --short-epochs 10 --random 8 --preset quick --train-options \"--channels 16 --layers 8\" --data data/cifar10\n  \
    darts seeds --seeds 4 --final-epochs 600 --search-options \"--order first\" --data data/cifar10 --jobs 2 --threads 8\n  \
    darts seeds --resume runs/seeds-1\n\
    Then: darts export runs/seeds-1/seed-3/train";

#[derive(Debug, Args)]
#[group(id = "protocol")]
#[command(next_help_heading = "Searches and random cells")]
struct Searches {
    /// Number of searches.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number_of_cells(1))]
    seeds: usize,

    /// Seed of the first search, from which the others count up; and of the random cells.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed())]
    seed: u64,

    /// Epochs of each search [default: that of the preset].
    #[arg(long, value_name = "N", value_parser = one_or_more())]
    search_epochs: Option<usize>,

    /// Other options of `darts search`, in one argument: "--order first --channels 8".
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, default_value = "", hide_default_value = true)]
    search_options: String,

    /// Train so many random cells in the same way, and compare.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number_of_cells(0))]
    random: usize,

    /// Take only random cells whose networks have as many parameters as the chosen one's, to within so much. The
    /// paper's are plainly random.
    #[arg(long, value_name = "P%", value_parser = percentage, requires = "random")]
    params_within: Option<f64>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let Arguments { comparison, searches, training, data } = arguments;
    comparison::run("seeds", comparison, data, None, |source| {
        let options = &searches.search_options;
        let search = search_settings(options, training.preset, searches.search_epochs, source, data)?;
        Ok(ComparisonSettings {
            seeds: searches.seeds,
            random: searches.random,
            seed: searches.seed,
            space: search.guards.space,
            params_within: searches.params_within,
            final_epochs: training.final_epochs,
            against: None,
            search: Some(search),
            train: training.settings(source, data)?,
        })
    })
}
