//! Operations and edges by what the supernet loses without them, and not by the size of α (DARTS-PT, arXiv 2108.04392).

use std::cmp::Ordering;

use darts_core::{CellGenotype, Genotype, Primitive};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::alpha::{COLUMNS, cell_of, columns, row};
use super::derivation::Derivation;
use crate::data::draw::shuffle;

/// What decides which operations and edges a derived cell has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// The size of softmax(α), as in DARTS.
    #[default]
    Alpha,
    /// The accuracy on α's half of the images that the supernet loses without it.
    Perturbation,
}

/// How well the supernet does on α's half of the images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Correct predictions.
    pub correct: usize,
    /// Mean loss.
    pub loss: f64,
}

impl Score {
    /// By correct predictions, and where they are as many, by the loss: `Less` is the worse one.
    fn order(&self, other: &Self) -> Ordering {
        self.correct.cmp(&other.correct).then_with(|| other.loss.total_cmp(&self.loss))
    }
}

/// A supernet that can be tried with other mixing weights.
pub trait Trial {
    /// Why a trial may end early.
    type Error;

    /// How well it does with these mixing weights.
    ///
    /// # Errors
    /// If the selection is to end.
    fn score(&mut self, mix_weights: &[f32]) -> Result<Score, Self::Error>;

    /// Lets its weights learn under these mixing weights.
    ///
    /// # Errors
    /// If the selection is to end.
    fn tune(&mut self, mix_weights: &[f32]) -> Result<(), Self::Error>;
}

/// How often a selection in cells of `derivation` calls [`Trial::score`].
pub fn scores(derivation: &Derivation) -> usize {
    let candidates = columns(derivation.space).count();
    let operations = if candidates > 1 { candidates * edges(derivation.nodes) } else { 0 };
    let edges: usize = (1..derivation.nodes).map(|node| (3..=node + 2).sum::<usize>()).sum();
    2 * (operations + edges)
}

/// How often it calls [`Trial::tune`]: after every decision but the last, those for the normal and for the reduction
/// cell counting as one.
pub fn tunings(derivation: &Derivation) -> usize {
    (edges(derivation.nodes) + derivation.nodes - 1).saturating_sub(1)
}

/// Edges of a cell.
fn edges(nodes: usize) -> usize {
    row(nodes, 0)
}

/// Selects a genotype: for one edge after the other, drawn by `rng`, takes away each operation in turn, and keeps the
/// one without which the supernet does worst as the only one; then, for each node, takes away each of its edges in
/// turn, and gives up the one without which it does best, until two are left. Normal and reduction cell take turns, and
/// the weights are tuned between the turns.
///
/// `mix_weights` are those of α; an operation that is taken away has the weight 0 and leaves the others theirs, the one
/// that is kept has 1.
///
/// # Errors
/// The first of `trial`.
pub fn select<T: Trial>(
    derivation: &Derivation,
    mix_weights: Vec<f32>,
    rng: &mut impl Rng,
    trial: &mut T,
) -> Result<Genotype, T::Error> {
    let (nodes, edges) = (derivation.nodes, edges(derivation.nodes));
    let mut selection = Selection {
        trial,
        mix_weights,
        candidates: columns(derivation.space).collect(),
        kept: vec![Primitive::None; 2 * edges],
        sources: vec![Vec::new(); 2 * nodes],
    };
    let mut order = |count: usize, first: usize| {
        let mut cells = [0, 1].map(|_| (first..first + count).collect::<Vec<_>>());
        cells.iter_mut().for_each(|order| shuffle(rng, order));
        cells
    };
    let mut turns = tunings(derivation);
    let [normal, reduce] = order(edges, 0);
    for (normal, reduce) in normal.into_iter().zip(reduce) {
        selection.operation(normal)?;
        selection.operation(edges + reduce)?;
        selection.tune(&mut turns)?;
    }
    for cell in 0..2 {
        selection.sources[cell * nodes] = vec![0, 1];
    }
    let [normal, reduce] = order(nodes - 1, 1);
    for (normal, reduce) in normal.into_iter().zip(reduce) {
        for (cell, node) in [(0, normal), (1, reduce)] {
            selection.sources[cell * nodes + node] = selection.edges(cell * edges + row(node, 0), node)?;
        }
        selection.tune(&mut turns)?;
    }
    let [normal, reduce] = [0, 1].map(|cell| selection.cell(cell, derivation));
    Ok(Genotype { normal, reduce })
}

/// A selection under way. Edges of both cells are counted together, normal cells first.
struct Selection<'a, T> {
    trial: &'a mut T,
    mix_weights: Vec<f32>,
    /// Columns that an edge may keep.
    candidates: Vec<usize>,
    /// The operation that each edge keeps.
    kept: Vec<Primitive>,
    /// The states that each node of each cell reads.
    sources: Vec<Vec<usize>>,
}

impl<T: Trial> Selection<'_, T> {
    fn weights(&mut self, edge: usize) -> &mut [f32] {
        &mut self.mix_weights[edge * COLUMNS..(edge + 1) * COLUMNS]
    }

    /// Keeps the operation of `edge` that is missed most, the first of equals.
    fn operation(&mut self, edge: usize) -> Result<(), T::Error> {
        let mut most_missed: Option<(Score, usize)> = None;
        if let [only] = self.candidates[..] {
            most_missed = Some((Score { correct: 0, loss: 0.0 }, only));
        } else {
            for column in self.candidates.clone() {
                let weight = std::mem::take(&mut self.weights(edge)[column]);
                let score = self.trial.score(&self.mix_weights);
                self.weights(edge)[column] = weight;
                let score = score?;
                if most_missed.is_none_or(|(worst, _)| score.order(&worst) == Ordering::Less) {
                    most_missed = Some((score, column));
                }
            }
        }
        let (_, column) = most_missed.expect("a space has an operation other than none");
        self.weights(edge).fill(0.0);
        self.weights(edge)[column] = 1.0;
        self.kept[edge] = Primitive::SEARCH[column];
        Ok(())
    }

    /// The two states that `node`, whose edges begin at `first`, is to read: gives up the edge that is missed least,
    /// the first of equals, until two are left.
    fn edges(&mut self, first: usize, node: usize) -> Result<Vec<usize>, T::Error> {
        let mut sources: Vec<usize> = (0..node + 2).collect();
        while sources.len() > 2 {
            let mut least_missed: Option<(Score, usize)> = None;
            for (place, &source) in sources.iter().enumerate() {
                let edge = first + source;
                let weights = self.weights(edge).to_vec();
                self.weights(edge).fill(0.0);
                let score = self.trial.score(&self.mix_weights);
                self.weights(edge).copy_from_slice(&weights);
                let score = score?;
                if least_missed.is_none_or(|(best, _)| score.order(&best) == Ordering::Greater) {
                    least_missed = Some((score, place));
                }
            }
            let (_, place) = least_missed.expect("there are edges");
            let source = sources.remove(place);
            self.weights(first + source).fill(0.0);
        }
        Ok(sources)
    }

    fn tune(&mut self, turns: &mut usize) -> Result<(), T::Error> {
        if *turns == 0 {
            return Ok(());
        }
        *turns -= 1;
        self.trial.tune(&self.mix_weights)
    }

    fn cell(&self, cell: usize, derivation: &Derivation) -> CellGenotype {
        let Derivation { nodes, multiplier, .. } = *derivation;
        let first = cell * edges(nodes);
        let edges = (0..nodes).flat_map(|node| {
            let sources = self.sources[cell * nodes + node].iter();
            sources.map(move |&source| (self.kept[first + row(node, source)], source as u8))
        });
        let edges: Vec<(Primitive, u8)> = edges.collect();
        cell_of(&edges, nodes, multiplier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::draw::{Purpose, generator};
    use crate::graph::space::Space;

    const NODES: usize = 3;

    /// Every operation of every edge is worth something, and the score is what all are worth together.
    struct Worth {
        worth: Vec<usize>,
        scores: usize,
        tuned: Vec<Vec<f32>>,
    }

    impl Trial for Worth {
        type Error = std::convert::Infallible;

        fn score(&mut self, mix_weights: &[f32]) -> Result<Score, Self::Error> {
            self.scores += 1;
            let present = self.worth.iter().zip(mix_weights).filter(|&(_, &weight)| weight > 0.0);
            Ok(Score { correct: present.map(|(worth, _)| worth).sum(), loss: 0.0 })
        }

        fn tune(&mut self, mix_weights: &[f32]) -> Result<(), Self::Error> {
            self.tuned.push(mix_weights.to_vec());
            Ok(())
        }
    }

    fn selected(space: Space) -> (Genotype, Worth) {
        // Of edge e of both cells, operation 1 + (e mod 7) is worth most; edges are worth the more the later their
        // source.
        let worth = (0..2 * edges(NODES) * COLUMNS).map(|index| {
            let (edge, column) = (index / COLUMNS % edges(NODES), index % COLUMNS);
            10 * edge + if column == 1 + edge % 7 { 5 } else { column % 2 }
        });
        let mut trial = Worth { worth: worth.collect(), scores: 0, tuned: Vec::new() };
        let derivation = Derivation { nodes: NODES, multiplier: 2, space, max_skips: None };
        let mix_weights = super::super::alpha::softmax_rows_of(&vec![0.0; trial.worth.len()], space);
        let mut rng = generator(1, Purpose::Select, 0, 0);
        let Ok(genotype) = select(&derivation, mix_weights, &mut rng, &mut trial);
        assert_eq!((trial.scores, trial.tuned.len()), (scores(&derivation), tunings(&derivation)));
        (genotype, trial)
    }

    #[test]
    fn what_is_missed_most_is_kept() {
        let (genotype, trial) = selected(Space::DARTS);
        assert_eq!((trial.scores, trial.tuned.len()), (2 * (9 * 7 + 3 + 4 + 3), 10));
        let sources = [0, 1, 1, 2, 2, 3];
        let first = [0, 0, 2, 2, 5, 5];
        for cell in [&genotype.normal, &genotype.reduce] {
            assert_eq!(cell.concat[..], [3, 4]);
            for ((edge, source), first) in cell.edges.iter().zip(sources).zip(first) {
                assert_eq!(edge.primitive, Primitive::SEARCH[1 + (first + source) % 7]);
                assert_eq!(usize::from(edge.source), source);
            }
        }
        // One edge of each cell is decided at each turn, and has one operation from there on.
        for (turn, mix_weights) in trial.tuned[..9].iter().enumerate() {
            let decided = mix_weights.chunks_exact(COLUMNS).filter(|row| row.contains(&1.0)).count();
            assert_eq!(decided, 2 * (turn + 1));
        }
    }

    #[test]
    fn a_single_operation_needs_no_trial() {
        let (genotype, trial) = selected(Space::new(&[Primitive::None, Primitive::DilConv3x3]).expect("a space"));
        assert_eq!(trial.scores, 2 * (3 + 4 + 3));
        assert!(genotype.normal.edges.iter().all(|edge| edge.primitive == Primitive::DilConv3x3));
    }

    #[test]
    fn of_scores_with_as_many_correct_the_larger_loss_is_the_worse() {
        let score = |correct, loss| Score { correct, loss };
        assert_eq!(score(3, 1.0).order(&score(3, 2.0)), Ordering::Greater);
        assert_eq!(score(2, 0.1).order(&score(3, 2.0)), Ordering::Less);
        assert_eq!(score(2, 0.1).order(&score(2, 0.1)), Ordering::Equal);
    }
}
