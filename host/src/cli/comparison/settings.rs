//! What decides a comparison, and the cells that it compares.

use std::path::{Path, PathBuf};

use darts_core::{Genotype, Primitive};
use darts_host::config::{self, RunConfig};
use darts_host::data::DataSource;
use darts_host::engine::{Engine, Options, Saved};
use darts_host::graph::Graph;
use darts_host::graph::count::totals;
use darts_host::graph::derived::derived;
use darts_host::graph::space::Space;
use darts_host::graph::supernet::ConfigError;
use darts_host::run_directory;
use darts_host::search::random::{CellShape, distinct, genotypes};
use darts_host::search::settings::{SearchSettings, search_graph};
use darts_host::train::TrainSettings;
use serde::{Deserialize, Serialize};

use super::super::Failure;
use super::super::genotype::resolve;

/// Everything that decides a comparison, apart from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSettings {
    /// Searches.
    pub seeds: usize,
    /// Random cells.
    pub random: usize,
    /// Seed of the first search, from which the others count up, and of the random cells.
    pub seed: u64,
    /// The operations of random cells.
    #[serde(skip_serializing_if = "Space::is_darts", default)]
    pub space: Space,
    /// How far the parameters of a random cell's network may be from those of the searched one's, as a share of them.
    pub params_within: Option<f64>,
    /// Epochs of the training of the chosen cell at the end.
    pub final_epochs: Option<usize>,
    /// What the random cells are compared with, where that is no search of this comparison.
    pub against: Option<Against>,
    /// How searches are done, but for their seeds.
    pub search: Option<SearchSettings>,
    /// How every cell is trained.
    pub train: TrainSettings,
}

/// A cell that was there before the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// It is trained as the random ones are.
    Genotype(String),
    /// It was trained as the random ones will be, in this folder.
    Training(PathBuf),
}

/// A cell of a comparison.
#[derive(Debug)]
pub struct Cell {
    /// Its folder in that of the comparison.
    pub name: String,
    pub source: Source,
}

/// How a cell and its training are come by.
#[derive(Debug)]
pub enum Source {
    Search(Box<SearchSettings>),
    Genotype(Genotype),
    Training(PathBuf),
}

/// The nodes of the paper's cells, all of which are in the output.
const NODES: usize = 4;

impl ComparisonSettings {
    /// The cells that the random ones are compared with, or are chosen from.
    pub fn searched(&self) -> Result<Vec<Cell>, Failure> {
        if let Some(search) = &self.search {
            let seeds = self.seed..self.seed + self.seeds as u64;
            let cell = |seed| Cell {
                name: format!("seed-{seed}"),
                source: Source::Search(Box::new(SearchSettings { seed, ..search.clone() })),
            };
            return Ok(seeds.map(cell).collect());
        }
        let source = match &self.against {
            Some(Against::Genotype(text)) => Source::Genotype(resolve(text)?),
            Some(Against::Training(folder)) => Source::Training(folder.clone()),
            None => return Ok(Vec::new()),
        };
        Ok(vec![Cell { name: "searched".into(), source }])
    }

    /// The random cells; with a tolerance of parameters, about as many as `parameters`.
    pub fn random(&self, source: &DataSource, parameters: Option<usize>) -> Result<Vec<Cell>, Failure> {
        let range = self.params_within.zip(parameters).map(|(share, parameters)| {
            let parameters = parameters as f64;
            parameters * (1.0 - share)..=parameters * (1.0 + share)
        });
        let fits = |genotype: &Genotype| {
            let Some(range) = &range else { return true };
            self.parameters(genotype, source).is_ok_and(|parameters| range.contains(&(parameters as f64)))
        };
        let drawn = distinct(self.random, genotypes(self.shapes()?, self.space, self.seed), fits)?;
        let cell = |(number, genotype)| Cell { name: format!("random-{number}"), source: Source::Genotype(genotype) };
        Ok((1..).zip(drawn).map(cell).collect())
    }

    /// Weights of the network of `genotype` as it is trained.
    pub fn parameters(&self, genotype: &Genotype, source: &DataSource) -> Result<usize, ConfigError> {
        Ok(totals(&derived(genotype, &self.train.config(&source.train))?).parameters)
    }

    /// What cells have in common with those that they are compared with.
    fn shapes(&self) -> Result<[CellShape; 2], Failure> {
        let like = match (&self.search, &self.against) {
            (Some(search), _) => return Ok([(); 2].map(|()| CellShape::last(search.nodes, search.multiplier))),
            (None, None) => return Ok([(); 2].map(|()| CellShape::last(NODES, NODES))),
            (None, Some(Against::Genotype(text))) => resolve(text)?,
            (None, Some(Against::Training(folder))) => resolve(&folder.to_string_lossy())?,
        };
        Ok([&like.normal, &like.reduce].map(CellShape::from))
    }

    /// Bytes that the largest of the processes takes, with its images. Where cells are not known yet it is about that.
    pub fn bytes_needed(&self, source: &DataSource) -> Result<u64, Failure> {
        let images = |graph: &Graph, batch: usize, saved: Saved| {
            let batch = batch.min(source.train.len());
            Engine::bytes_needed(graph, batch, Options { saved, ..Options::default() }) as u64
        };
        let config = self.train.config(&source.train);
        let [normal, reduce] = self.shapes()?;
        let heaviest = Genotype::new(heaviest(&normal)?, heaviest(&reduce)?)?;
        let mut needed = images(&derived(&heaviest, &config)?, self.train.batch_size, self.train.saved);
        if let Some(search) = &self.search {
            let graph = search_graph(search, &source.train)?;
            needed = needed.max(images(&graph, search.batch_size, search.saved));
        }
        let data = source.train.images().len() + source.test.images().len();
        Ok(needed.saturating_add(data as u64))
    }
}

/// The cell of this shape that takes the most memory: separable convolutions keep the most values.
fn heaviest(shape: &CellShape) -> Result<darts_core::CellGenotype, darts_core::CellError> {
    let edges = [(Primitive::SepConv5x5, 0), (Primitive::SepConv5x5, 1)].repeat(shape.nodes);
    darts_core::CellGenotype::new(&edges, &shape.concat)
}

/// The run directory of the training that `argument` names, of itself or by the comparison that chose it; `None` of a
/// cell.
pub fn training(argument: &str) -> Result<Option<PathBuf>, Failure> {
    let folder = Path::new(argument);
    let file = folder.join(run_directory::CONFIG);
    if !file.exists() {
        return Ok(None);
    }
    match config::command(&file)?.as_str() {
        "train" => Ok(Some(std::path::absolute(folder)?)),
        "seeds" => {
            let summary = super::summary::read(folder)?;
            let chosen = summary.cells.into_iter().find(|cell| cell.name == summary.chosen);
            chosen
                .map(|cell| std::path::absolute(folder.join(cell.name).join(super::TRAIN)))
                .transpose()
                .map_err(Into::into)
        }
        _ => Ok(None),
    }
}

/// The operations from which the search in the run directory `argument` chose, if that is one.
pub fn searched_space(argument: &str) -> Result<Option<Space>, Failure> {
    let file = Path::new(argument).join(run_directory::CONFIG);
    if !file.exists() || config::command(&file)? != "search" {
        return Ok(None);
    }
    Ok(Some(RunConfig::<SearchSettings>::read(&file)?.settings.guards.space))
}

/// The configuration of the training in `folder`.
pub fn training_config(folder: &Path) -> Result<RunConfig<TrainSettings>, Failure> {
    Ok(RunConfig::read(&folder.join(run_directory::CONFIG))?)
}
