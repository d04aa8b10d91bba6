//! Random cells: the baseline that the paper compares its searched ones with (section 3.3).

use darts_core::{CellGenotype, Genotype, Primitive};

use super::alpha::last_states;
use crate::data::draw::{Purpose, Sampler, below, generator};
use crate::graph::space::Space;

/// Draws after which [`distinct`] gives up. Cells within a few percent of a number of parameters are one in some
/// hundred.
const MOST_DRAWS: usize = 20_000;

/// What all cells of a comparison have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellShape {
    /// Nodes.
    pub nodes: usize,
    /// The states whose concatenation is the output.
    pub concat: Vec<u8>,
}

impl CellShape {
    /// `nodes` nodes, the last `multiplier` of the states concatenated, as a search derives them.
    pub fn last(nodes: usize, multiplier: usize) -> Self {
        Self { nodes, concat: last_states(nodes, multiplier) }
    }
}

impl From<&CellGenotype> for CellShape {
    fn from(cell: &CellGenotype) -> Self {
        Self { nodes: cell.nodes(), concat: cell.concat.to_vec() }
    }
}

/// A sequence of genotypes drawn by `seed`, in which one may come again: for each node two different states before it
/// and an operation of `space` other than `none` for each of them, all equally likely.
///
/// # Panics
/// If there is no cell of these shapes (`normal`, `reduce`).
pub fn genotypes([normal, reduce]: [CellShape; 2], space: Space, seed: u64) -> impl Iterator<Item = Genotype> {
    let operations: Vec<Primitive> = space.primitives().filter(|&primitive| primitive != Primitive::None).collect();
    (0..).map(move |index| {
        let mut rng = generator(seed, Purpose::Genotype, index, 0);
        let mut cell = |shape: &CellShape| {
            let mut edges = Vec::with_capacity(2 * shape.nodes);
            for node in 0..shape.nodes {
                let mut sources: Vec<usize> = Sampler::default().draw(&mut rng, node + 2, 2).collect();
                sources.sort_unstable();
                for source in sources {
                    edges.push((operations[below(&mut rng, operations.len())], source as u8));
                }
            }
            CellGenotype::new(&edges, &shape.concat).expect("the shape is one of a cell")
        };
        Genotype::new(cell(&normal), cell(&reduce)).expect("the shapes are those of two cells")
    })
}

/// There are not so many cells as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "of {draws} random cells only {found} are different and fit, not {count}: ask for fewer, or allow a wider range of parameters"
)]
pub struct TooFew {
    draws: usize,
    found: usize,
    count: usize,
}

/// The first `count` of `genotypes` that `fits` accepts and that differ from each other.
///
/// # Errors
/// If there are not so many among the first [`MOST_DRAWS`].
pub fn distinct(
    count: usize,
    genotypes: impl Iterator<Item = Genotype>,
    mut fits: impl FnMut(&Genotype) -> bool,
) -> Result<Vec<Genotype>, TooFew> {
    let mut chosen: Vec<Genotype> = Vec::new();
    for genotype in genotypes.take(MOST_DRAWS) {
        if chosen.len() == count {
            break;
        }
        if !chosen.contains(&genotype) && fits(&genotype) {
            chosen.push(genotype);
        }
    }
    let found = chosen.len();
    if found == count { Ok(chosen) } else { Err(TooFew { draws: MOST_DRAWS, found, count }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(nodes: usize, multiplier: usize) -> [CellShape; 2] {
        [CellShape::last(nodes, multiplier), CellShape::last(nodes, multiplier)]
    }

    #[test]
    fn cells_are_valid_and_a_function_of_the_seed() {
        let draw = |seed| genotypes(shapes(4, 4), Space::DARTS, seed).take(300).collect::<Vec<_>>();
        let drawn = draw(1);
        for genotype in &drawn {
            assert_eq!(genotype.validate(), Ok(()));
            for cell in [&genotype.normal, &genotype.reduce] {
                assert_eq!((cell.nodes(), &cell.concat[..]), (4, &[2, 3, 4, 5][..]));
                assert!(cell.edges.chunks(2).all(|edges| edges[0].source < edges[1].source));
                assert!(cell.edges.iter().all(|edge| edge.primitive != Primitive::None));
            }
        }
        assert_eq!(drawn, draw(1));
        assert!(drawn.iter().zip(draw(2)).all(|(one, other)| *one != other));
    }

    #[test]
    fn operations_and_predecessors_are_equally_likely() {
        let (mut operations, mut sources) = ([0; Primitive::SEARCH.len()], [0; 5]);
        for genotype in genotypes(shapes(4, 4), Space::DARTS, 3).take(1000) {
            genotype.normal.edges.iter().for_each(|edge| operations[edge.primitive as usize] += 1);
            genotype.normal.edges[6..].iter().for_each(|edge| sources[usize::from(edge.source)] += 1);
        }
        // Expected 8000 / 7 = 1143 each, standard deviation 31; 2 · 1000 / 5 = 400 each, standard deviation 15.
        assert!(operations[1..].iter().all(|count| (1000..1290).contains(count)), "{operations:?}");
        assert_eq!(operations[0], 0);
        assert!(sources.iter().all(|count| (330..470).contains(count)), "{sources:?}");
    }

    #[test]
    fn a_reduced_space_is_kept() {
        let drawn: Vec<Genotype> = genotypes(shapes(4, 4), Space::S3, 1).take(20).collect();
        let edges = || drawn.iter().flat_map(|genotype| &genotype.normal.edges);
        assert!(edges().all(|edge| [Primitive::SkipConnect, Primitive::SepConv3x3].contains(&edge.primitive)));
        assert!(edges().any(|edge| edge.primitive == Primitive::SkipConnect));
    }

    #[test]
    fn shapes_are_those_of_a_cell() {
        let nasnet = Genotype::builtin("NASNet").expect("it is built in");
        let like = [&nasnet.normal, &nasnet.reduce].map(CellShape::from);
        let drawn = genotypes(like, Space::DARTS, 1).next().expect("it does not end");
        assert_eq!((drawn.normal.nodes(), &drawn.normal.concat), (5, &nasnet.normal.concat));
        assert_eq!(drawn.reduce.concat, nasnet.reduce.concat);
        assert_eq!(CellShape::last(4, 2).concat, [4, 5]);
    }

    #[test]
    fn there_are_as_many_different_cells_as_there_are() {
        let all = 7 * 7 * 7 * 7;
        let draws = || genotypes(shapes(1, 1), Space::DARTS, 5);
        let ten = distinct(10, draws(), |_| true).expect("there are more");
        assert_eq!(ten[..4], distinct(4, draws(), |_| true).expect("there are more"));
        let found = distinct(all, draws(), |_| true).map(|cells| cells.len());
        assert!(matches!(found, Ok(_) | Err(TooFew { found: 2000.., .. })), "{found:?}");
        assert_eq!(distinct(all + 1, draws(), |_| true).map_err(|error| error.count), Err(all + 1));
        assert_eq!(distinct(1, draws(), |_| false), Err(TooFew { draws: MOST_DRAWS, found: 0, count: 1 }));
    }
}
