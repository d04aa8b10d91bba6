//! What a comparison came to.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use darts_host::run_directory::SUMMARY;
use darts_host::statistics::{Difference, DifferenceOfMeans, Statistics};
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use super::super::Failure;
use super::super::common::FileError;
use super::super::table::Table;
use super::sub_run::damaged;

/// The summary of the comparison in `folder`.
pub fn read(folder: &Path) -> Result<Summary, Failure> {
    let path = folder.join(SUMMARY);
    let text = fs::read_to_string(&path).map_err(FileError::new("read the summary of a finished comparison", &path))?;
    Ok(serde_json::from_str(&text).map_err(|error| damaged(&path, &error))?)
}

/// Where a cell comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A search, or whatever is compared with random cells.
    Searched,
    /// The generator.
    Random,
}

/// A cell and its training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellResult {
    /// Its folder in that of the comparison.
    pub name: String,
    pub origin: Origin,
    pub genotype: String,
    /// Of the network that was trained.
    pub parameters: usize,
    pub valid_accuracy: f64,
    /// Of the compared cells, measured at the very end.
    pub test_accuracy: Option<f64>,
    /// Seconds of all epochs.
    pub search_seconds: Option<f64>,
    pub train_seconds: f64,
    /// The run directory of the training.
    pub out: PathBuf,
}

/// The training of a chosen cell at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinalResult {
    pub name: String,
    pub epochs: usize,
    pub valid_accuracy: f64,
    /// Measured at the very end.
    pub test_accuracy: Option<f64>,
    pub train_seconds: f64,
    pub out: PathBuf,
}

/// Mean and spread of the cells of one origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupResult {
    /// The cell with the best validation accuracy, the first of equals.
    pub best: String,
    pub valid_accuracy: Statistics,
    pub test_accuracy: Option<Statistics>,
}

/// The chosen cell against the random ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgainstRandom {
    /// The chosen cell less each random one.
    pub valid_accuracy: Difference,
    pub test_accuracy: Difference,
    /// The mean of the searched cells less that of the random ones, without any choice.
    pub mean_valid_accuracy: DifferenceOfMeans,
    pub mean_test_accuracy: DifferenceOfMeans,
}

/// All of it, as `summary.json` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The cell with the best validation accuracy: of the searched ones, if there are any.
    pub chosen: String,
    pub epochs: usize,
    pub cells: Vec<CellResult>,
    pub searched: Option<GroupResult>,
    pub random: Option<GroupResult>,
    pub against_random: Option<AgainstRandom>,
    pub finals: Vec<FinalResult>,
    pub out: PathBuf,
}

/// The cell of `origin` with the best validation accuracy, the first of equals.
pub fn best(cells: &[CellResult], origin: Origin) -> Option<&CellResult> {
    let better = |best: &CellResult, cell: &CellResult| cell.valid_accuracy > best.valid_accuracy;
    of(cells, origin).reduce(|best, cell| if better(best, cell) { cell } else { best })
}

fn of(cells: &[CellResult], origin: Origin) -> impl Iterator<Item = &CellResult> {
    cells.iter().filter(move |cell| cell.origin == origin)
}

fn valid(cells: &[CellResult], origin: Origin) -> Vec<f64> {
    of(cells, origin).map(|cell| cell.valid_accuracy).collect()
}

/// The accuracies on the test set of those that were measured there.
fn test(cells: &[CellResult], origin: Origin) -> Vec<f64> {
    of(cells, origin).filter_map(|cell| cell.test_accuracy).collect()
}

impl GroupResult {
    fn of(cells: &[CellResult], origin: Origin) -> Option<Self> {
        // A part of the group that was tested is no group.
        let tested = of(cells, origin).all(|cell| cell.test_accuracy.is_some());
        Some(Self {
            best: best(cells, origin)?.name.clone(),
            valid_accuracy: Statistics::of(&valid(cells, origin))?,
            test_accuracy: if tested { Statistics::of(&test(cells, origin)) } else { None },
        })
    }
}

impl AgainstRandom {
    fn of(cells: &[CellResult], searched: &GroupResult, random: &GroupResult) -> Option<Self> {
        let chosen = best(cells, Origin::Searched)?;
        Some(Self {
            valid_accuracy: Difference::of(chosen.valid_accuracy, &valid(cells, Origin::Random))?,
            test_accuracy: Difference::of(chosen.test_accuracy?, &test(cells, Origin::Random))?,
            mean_valid_accuracy: DifferenceOfMeans::of(&searched.valid_accuracy, &random.valid_accuracy),
            mean_test_accuracy: DifferenceOfMeans::of(&searched.test_accuracy?, &random.test_accuracy?),
        })
    }
}

impl Summary {
    /// Of these cells, which were trained for `epochs` epochs each, and the final trainings; `None` without cells.
    pub fn new(epochs: usize, cells: Vec<CellResult>, finals: Vec<FinalResult>, out: PathBuf) -> Option<Self> {
        let [searched, random] = [Origin::Searched, Origin::Random].map(|origin| GroupResult::of(&cells, origin));
        let against_random = searched.as_ref().zip(random.as_ref());
        let against_random = against_random.and_then(|(searched, random)| AgainstRandom::of(&cells, searched, random));
        let chosen = searched.as_ref().or(random.as_ref())?.best.clone();
        Some(Self { chosen, epochs, cells, searched, random, against_random, finals, out })
    }

    /// Prints tables of the cells, the groups and the comparison.
    pub fn print(&self, output: &mut impl Write) -> io::Result<()> {
        writeln!(output, "{} epochs of training for each cell\n\n{}", self.epochs, self.cells_table())?;
        write!(output, "{}", self.groups_table())?;
        if let Some(against) = &self.against_random {
            let Difference { better_than, of, .. } = against.test_accuracy;
            writeln!(output, "\nin points of accuracy, ± one standard error\n\n{}", self.differences_table(against))?;
            writeln!(output, "{} is better on the test set than {better_than} of {of} random cells", self.chosen)?;
        }
        for last in &self.finals {
            writeln!(
                output,
                "\n{} after {} epochs: validation accuracy {}, test accuracy {}",
                last.name,
                last.epochs,
                percent(last.valid_accuracy),
                last.test_accuracy.map_or("not measured".into(), percent)
            )?;
        }
        let chosen = self.cells.iter().find(|cell| cell.name == self.chosen);
        if let Some(CellResult { name, genotype, .. }) = chosen {
            writeln!(output, "\nchosen on the validation images: {name}\n{genotype}")?;
        }
        Ok(())
    }

    fn cells_table(&self) -> Table {
        let chosen = self.cells.iter().find(|cell| cell.name == self.chosen);
        let chosen = chosen.filter(|_| self.against_random.is_some());
        let less =
            |chosen: Option<f64>, cell: Option<f64>| chosen.zip(cell).map(|(chosen, cell)| points(chosen - cell));
        let mut titles = vec!["cell", "parameters", "valid accuracy", "test accuracy"];
        if chosen.is_some() {
            titles.extend(["chosen less this: valid", "test"]);
        }
        let mut table = Table::new(&titles);
        for cell in &self.cells {
            let mut row = vec![
                cell.name.clone(),
                HumanCount(cell.parameters as u64).to_string(),
                percent(cell.valid_accuracy),
                cell.test_accuracy.map_or(String::new(), percent),
            ];
            if let Some(chosen) = chosen.filter(|_| cell.origin == Origin::Random) {
                row.push(points(chosen.valid_accuracy - cell.valid_accuracy));
                row.extend(less(chosen.test_accuracy, cell.test_accuracy));
            }
            table.row(row);
        }
        table
    }

    fn groups_table(&self) -> Table {
        let mut table = Table::new(&["group", "cells", "mean", "deviation", "standard error"]);
        for (name, group) in [("searched", &self.searched), ("random", &self.random)] {
            let Some(GroupResult { valid_accuracy, test_accuracy, .. }) = group else { continue };
            for (set, statistics) in [("valid", Some(valid_accuracy)), ("test", test_accuracy.as_ref())] {
                let Some(Statistics { count, mean, deviation, standard_error }) = statistics else { continue };
                let spread = |value: &Option<f64>| value.map_or(String::new(), percent);
                let row = [count.to_string(), percent(*mean), spread(deviation), spread(standard_error)];
                table.row([format!("{name}, {set}")].into_iter().chain(row));
            }
        }
        table
    }

    fn differences_table(&self, against: &AgainstRandom) -> Table {
        let mut table = Table::new(&["", "valid", "test"]);
        let cell = |difference: f64, error: Option<f64>| {
            let error = error.map_or(String::new(), |error| format!(" ± {:.2}", 100.0 * error));
            format!("{}{error}", points(difference))
        };
        let one = |of: &Difference| cell(of.difference, of.standard_error);
        let [valid, test] = [&against.valid_accuracy, &against.test_accuracy].map(one);
        table.row([format!("{} less the mean of random", self.chosen), valid, test]);
        let means = |of: &DifferenceOfMeans| cell(of.difference, of.standard_error);
        let [valid, test] = [&against.mean_valid_accuracy, &against.mean_test_accuracy].map(means);
        table.row(["mean of searched less mean of random".to_owned(), valid, test]);
        table
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn points(difference: f64) -> String {
    let text = format!("{:+.2}", 100.0 * difference);
    // What rounds to nothing has no sign worth showing.
    if text == "-0.00" { "+0.00".into() } else { text }
}
