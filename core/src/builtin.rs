//! Published cells by name.

use crate::genotype::{CellGenotype, Genotype};
use crate::primitive::Primitive::{
    self, AvgPool3x3 as AVG, Conv7x1_1x7 as CONV7, DilConv3x3 as DIL3, MaxPool3x3 as MAX, SepConv3x3 as SEP3,
    SepConv5x5 as SEP5, SepConv7x7 as SEP7, SkipConnect as SKIP,
};

/// The names that [`Genotype::builtin`] knows. `DARTS` is another name of `DARTS_V2`.
pub const BUILTIN_NAMES: [&str; 5] = ["DARTS_V1", "DARTS_V2", "DARTS", "NASNet", "AmoebaNet"];

struct Cell {
    edges: &'static [(Primitive, u8)],
    concat: &'static [u8],
}

/// First-order search on CIFAR-10 (arXiv 1806.09055).
const DARTS_V1: [Cell; 2] = [
    Cell {
        edges: &[(SEP3, 1), (SEP3, 0), (SKIP, 0), (SEP3, 1), (SKIP, 0), (SEP3, 1), (SEP3, 0), (SKIP, 2)],
        concat: &[2, 3, 4, 5],
    },
    Cell {
        edges: &[(MAX, 0), (MAX, 1), (SKIP, 2), (MAX, 0), (MAX, 0), (SKIP, 2), (SKIP, 2), (AVG, 0)],
        concat: &[2, 3, 4, 5],
    },
];

/// Second-order search on CIFAR-10 (arXiv 1806.09055).
const DARTS_V2: [Cell; 2] = [
    Cell {
        edges: &[(SEP3, 0), (SEP3, 1), (SEP3, 0), (SEP3, 1), (SEP3, 1), (SKIP, 0), (SKIP, 0), (DIL3, 2)],
        concat: &[2, 3, 4, 5],
    },
    Cell {
        edges: &[(MAX, 0), (MAX, 1), (SKIP, 2), (MAX, 1), (MAX, 0), (SKIP, 2), (SKIP, 2), (MAX, 1)],
        concat: &[2, 3, 4, 5],
    },
];

/// NASNet-A (arXiv 1707.07012).
const NASNET: [Cell; 2] = [
    Cell {
        edges: &[
            (SEP5, 1),
            (SEP3, 0),
            (SEP5, 0),
            (SEP3, 0),
            (AVG, 1),
            (SKIP, 0),
            (AVG, 0),
            (AVG, 0),
            (SEP3, 1),
            (SKIP, 1),
        ],
        concat: &[2, 3, 4, 5, 6],
    },
    Cell {
        edges: &[
            (SEP5, 1),
            (SEP7, 0),
            (MAX, 1),
            (SEP7, 0),
            (AVG, 1),
            (SEP5, 0),
            (SKIP, 3),
            (AVG, 2),
            (SEP3, 2),
            (MAX, 1),
        ],
        concat: &[4, 5, 6],
    },
];

/// AmoebaNet-A (arXiv 1802.01548).
const AMOEBANET: [Cell; 2] = [
    Cell {
        edges: &[
            (AVG, 0),
            (MAX, 1),
            (SEP3, 0),
            (SEP5, 2),
            (SEP3, 0),
            (AVG, 3),
            (SEP3, 1),
            (SKIP, 1),
            (SKIP, 0),
            (AVG, 1),
        ],
        concat: &[4, 5, 6],
    },
    Cell {
        edges: &[
            (AVG, 0),
            (SEP3, 1),
            (MAX, 0),
            (SEP7, 2),
            (SEP7, 0),
            (AVG, 1),
            (MAX, 0),
            (MAX, 1),
            (CONV7, 0),
            (SEP3, 5),
        ],
        concat: &[3, 4, 6],
    },
];

impl Genotype {
    /// A published genotype by its name, one of [`BUILTIN_NAMES`].
    pub fn builtin(name: &str) -> Option<Self> {
        let [normal, reduce] = match name {
            "DARTS_V1" => &DARTS_V1,
            "DARTS_V2" | "DARTS" => &DARTS_V2,
            "NASNet" => &NASNET,
            "AmoebaNet" => &AMOEBANET,
            _ => return None,
        };
        Self::new(
            CellGenotype::new(normal.edges, normal.concat).ok()?,
            CellGenotype::new(reduce.edges, reduce.concat).ok()?,
        )
        .ok()
    }
}
