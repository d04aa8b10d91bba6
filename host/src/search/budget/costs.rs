//! What each operation on each edge adds to a derived network.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use darts_core::{CellGenotype, Edge, Genotype, Primitive};
use rayon::prelude::*;

use super::super::alpha::{COLUMNS, cell_of, row};
use super::super::derivation::Derivation;
use super::penalty::Linear;
use super::settings::{BudgetError, ModelForm};
use crate::export::{ExportError, Precision, int8_workspace_bytes, plan};
use crate::graph::count::totals;
use crate::graph::derived::{DerivedConfig, derived};

/// Parameters and multiply-adds of every network that a search may derive: what they have in common, and what each
/// operation adds.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Of the network without any operation on its edges: stem, preprocessing, classifier.
    pub base: [u64; 2],
    /// What an operation adds, in the order of α's matrices.
    pub added: Vec<[u64; 2]>,
}

impl Costs {
    /// Counts networks of size `config`, each operation in a network that has no other, in all cells of its kind.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn new(derivation: &Derivation, config: &DerivedConfig) -> Result<Self, BudgetError> {
        let nodes = derivation.nodes;
        let without: Vec<(Primitive, u8)> =
            (0..nodes).flat_map(|_| [(Primitive::None, 0), (Primitive::None, 1)]).collect();
        let cell = |edges: &[(Primitive, u8)]| cell_of(edges, nodes, derivation.multiplier);
        let empty = [cell(&without), cell(&without)];
        let count = |[normal, reduce]: [CellGenotype; 2]| {
            let totals = totals(&derived(&Genotype { normal, reduce }, config)?);
            Ok::<_, BudgetError>([totals.parameters as u64, totals.multiply_adds as u64])
        };
        let base = count(empty.clone())?;
        let edges = row(nodes, 0);
        let mut added = vec![[0; 2]; 2 * edges * COLUMNS];
        for kind in 0..2 {
            for (column, &primitive) in Primitive::SEARCH.iter().enumerate() {
                if !derivation.space.contains(primitive) || primitive == Primitive::None {
                    continue;
                }
                // The edges from a cell's inputs differ from the others in a reduction cell only.
                let mut counted = [None; 2];
                for (node, source) in edges_of(nodes) {
                    let at = &mut counted[usize::from(source >= 2)];
                    if at.is_none() {
                        let mut edges = without.clone();
                        edges[2 * node] = (primitive, source as u8);
                        let mut cells = empty.clone();
                        cells[kind] = cell(&edges);
                        let [parameters, multiply_adds] = count(cells)?;
                        *at = Some([parameters - base[0], multiply_adds - base[1]]);
                    }
                    added[(kind * edges + row(node, source)) * COLUMNS + column] = at.unwrap_or_default();
                }
            }
        }
        Ok(Self { base, added })
    }

    /// Parameters (0) or multiply-adds (1) alone.
    pub(super) fn linear(&self, resource: usize) -> Linear {
        let added = self.added.iter().map(|added| added[resource] as f64).collect();
        Linear { base: self.base[resource] as f64, added }
    }
}

/// The edges of a cell: node and state.
fn edges_of(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(|node| (0..node + 2).map(move |source| (node, source)))
}

/// Plans the inference of derived networks, each once.
#[derive(Debug)]
pub struct Planner {
    config: DerivedConfig,
    form: ModelForm,
    known: Mutex<HashMap<String, u64>>,
}

impl Planner {
    /// For networks of size `config` in model files of this form.
    pub fn new(config: DerivedConfig, form: ModelForm) -> Self {
        Self { config, form, known: Mutex::default() }
    }

    /// Channels and cells of the networks.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.config.channels, self.config.layers)
    }

    /// Bytes of the workspace in the plan of an export of a network of `genotype`.
    ///
    /// # Errors
    /// If a size is beyond what a model file holds.
    pub fn bytes(&self, genotype: &Genotype) -> Result<u64, ExportError> {
        let key = genotype.to_string();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&bytes) = known().get(&key) {
            return Ok(bytes);
        }
        let float = |precision| Ok(plan(&derived(genotype, &self.config)?, precision)?.workspace_bytes);
        let bytes = match self.form {
            ModelForm::F32 => float(Precision::F32),
            ModelForm::F16 => float(Precision::F16),
            ModelForm::Int8 => int8_workspace_bytes(genotype, &self.config),
        }? as u64;
        known().insert(key, bytes);
        Ok(bytes)
    }

    /// How the workspace of `genotype` changes with each operation on each edge, in the order of α's matrices: with
    /// another operation on an edge that its node has, or with the edge in the place of the second one that it has, the
    /// weaker one in cells that α alone decided.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn changes(&self, derivation: &Derivation, genotype: &Genotype) -> Result<Vec<f64>, ExportError> {
        let nodes = derivation.nodes;
        let places: Vec<(usize, usize, usize, usize)> = (0..2)
            .flat_map(|kind| edges_of(nodes).map(move |(node, source)| (kind, node, source)))
            .flat_map(|(kind, node, source)| (0..COLUMNS).map(move |column| (kind, node, source, column)))
            .collect();
        let bytes = self.bytes(genotype)? as f64;
        let change = |(kind, node, source, column): (usize, usize, usize, usize)| {
            let primitive = Primitive::SEARCH[column];
            if !derivation.space.contains(primitive) || primitive == Primitive::None {
                return Ok(0.0);
            }
            let mut changed = genotype.clone();
            let cell = if kind == 0 { &mut changed.normal } else { &mut changed.reduce };
            let kept = &mut cell.edges[2 * node..2 * node + 2];
            let place = usize::from(usize::from(kept[0].source) != source);
            kept[place] = Edge { primitive, source: source as u8 };
            Ok(self.bytes(&changed)? as f64 - bytes)
        };
        places.into_par_iter().map(change).collect()
    }
}
