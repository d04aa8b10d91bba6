//! The cells of largest softmax weights among those that keep within limits.

use darts_core::{CellGenotype, Genotype, Primitive};
use rayon::prelude::*;

use super::super::alpha::{COLUMNS, cell_of, columns, row};
use super::super::derivation::Derivation;
use super::costs::{Costs, Planner};
use super::settings::{BudgetError, Resource};
use crate::export::ExportError;

/// Column of `skip_connect`.
const SKIP: usize = Primitive::SkipConnect as usize;

/// An edge that a node keeps: the state that it reads, and its operation as a column of α.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    source: usize,
    column: usize,
}

/// Both cells: two edges for each node, of the normal, then of the reduction cell.
type Cells = Vec<Kept>;

/// What derived networks may cost, and what they do.
#[derive(Debug)]
pub struct Limits {
    derivation: Derivation,
    /// Of parameters and multiply-adds.
    counts: [Option<u64>; 2],
    workspace: Option<u64>,
    costs: Costs,
    planner: Planner,
    /// Cells that keep within all limits, to which a derivation comes that finds no others.
    anchor: Cells,
}

/// By how much a cost is above its limit, in units of the limit.
fn excess(cost: u64, limit: u64) -> f64 {
    cost.saturating_sub(limit) as f64 / limit.max(1) as f64
}

impl Limits {
    /// Looks for cells that keep within the limits (of parameters, multiply-adds and bytes of the workspace).
    ///
    /// # Errors
    /// If there are none, or none were found: with what is nearest.
    pub fn new(
        derivation: Derivation,
        limits: [Option<u64>; 3],
        costs: Costs,
        planner: Planner,
    ) -> Result<Self, BudgetError> {
        let [parameters, multiply_adds, workspace] = limits;
        let counts = [parameters, multiply_adds];
        let mut found = Self { derivation, counts, workspace, costs, planner, anchor: Vec::new() };
        if limits.iter().any(Option::is_some) {
            found.anchor = found.find()?;
        }
        Ok(found)
    }

    /// `derived` if it keeps within the limits, and otherwise the cells that are got from it like this.
    ///
    /// As long as it is over, one edge is replaced (another operation, another state, or both): of all such changes
    /// that bring the sum of the excesses down, each in units of its limit, the one that loses least strength by what
    /// it brings. Where none does, all edges become those of cells that are known to keep within the limits. Then, as
    /// long as there is such a change, one edge is replaced that gains most strength without leaving the limits. Cells
    /// that were changed have of each node the edge from the earlier state first.
    ///
    /// `strengths` are those of the derivation, `[edges][operations]` of the normal, then of the reduction cell.
    pub fn within(&self, derived: Genotype, strengths: &[f32]) -> Genotype {
        let mut cells = kept(&derived);
        // As it stands: which edge of a node comes first may change the plan.
        if self.over(&cells) == 0.0 && self.derived_fits(&derived) {
            return derived;
        }
        while !self.is_within(&cells) {
            cells = self.cheaper(&cells, strengths).unwrap_or_else(|| self.anchor.clone());
        }
        while let Some(stronger) = self.stronger(&cells, strengths) {
            cells = stronger;
        }
        self.genotype(&cells)
    }

    /// What a network of `genotype` costs: parameters and multiply-adds.
    pub fn counts(&self, genotype: &Genotype) -> [u64; 2] {
        self.counted(&kept(genotype))
    }

    /// What is counted.
    pub(super) fn costs(&self) -> &Costs {
        &self.costs
    }

    /// What is planned.
    pub(super) fn planner(&self) -> &Planner {
        &self.planner
    }

    fn nodes(&self) -> usize {
        self.derivation.nodes
    }

    fn is_within(&self, cells: &Cells) -> bool {
        self.over(cells) == 0.0 && self.workspace_over(cells) == 0.0
    }

    fn counted(&self, cells: &Cells) -> [u64; 2] {
        let mut counts = self.costs.base;
        for (index, &kept) in cells.iter().enumerate() {
            let added = self.costs.added[self.index(index, kept)];
            counts.iter_mut().zip(added).for_each(|(count, added)| *count += added);
        }
        counts
    }

    /// Place of what an edge keeps among strengths and costs; `index` is that of the edge in the cells.
    fn index(&self, index: usize, Kept { source, column }: Kept) -> usize {
        let (kind, node) = (index / (2 * self.nodes()), index / 2 % self.nodes());
        (kind * row(self.nodes(), 0) + row(node, source)) * COLUMNS + column
    }

    /// The sum of the excesses of parameters, multiply-adds and skip connections.
    fn over(&self, cells: &Cells) -> f64 {
        let counts = self.counted(cells).into_iter().zip(self.counts);
        let counts: f64 = counts.filter_map(|(count, limit)| Some(excess(count, limit?))).sum();
        let skips = |cell: &[Kept]| cell.iter().filter(|kept| kept.column == SKIP).count() as u64;
        let skips = self.derivation.max_skips.map_or(0.0, |limit| {
            cells.chunks(2 * self.nodes()).map(|cell| excess(skips(cell), limit as u64)).sum::<f64>()
        });
        counts + skips
    }

    fn workspace_over(&self, cells: &Cells) -> f64 {
        if self.workspace.is_some() { self.excess_of(self.workspace(cells)) } else { 0.0 }
    }

    fn derived_fits(&self, derived: &Genotype) -> bool {
        self.workspace.is_none() || self.excess_of(self.planner.bytes(derived)) == 0.0
    }

    /// The excess of a workspace; one that no model file holds is above every limit.
    fn excess_of(&self, workspace: Result<u64, ExportError>) -> f64 {
        self.workspace.map_or(0.0, |limit| excess(workspace.unwrap_or(u64::MAX), limit))
    }

    fn workspace(&self, cells: &Cells) -> Result<u64, ExportError> {
        self.planner.bytes(&self.genotype(cells))
    }

    /// All cells that differ in one edge, and the place of that.
    fn changes(&self, cells: &Cells) -> impl Iterator<Item = (usize, Cells)> {
        let (nodes, space) = (self.nodes(), self.derivation.space);
        (0..cells.len()).flat_map(move |index| {
            let other = cells[index ^ 1].source;
            let sources = (0..index / 2 % nodes + 2).filter(move |&source| source != other);
            let changes = sources.flat_map(move |source| columns(space).map(move |column| Kept { source, column }));
            changes.filter(move |&change| change != cells[index]).map(move |change| {
                let mut changed = cells.clone();
                changed[index] = change;
                (index, changed)
            })
        })
    }

    fn strength(&self, strengths: &[f32], index: usize, cells: &Cells) -> f64 {
        f64::from(strengths[self.index(index, cells[index])])
    }

    /// The change that brings the excess down at the least loss of strength. One that brings nothing but the counts
    /// down must not bring the workspace over its limit.
    fn cheaper(&self, cells: &Cells, strengths: &[f32]) -> Option<Cells> {
        let (over, workspace_over) = (self.over(cells), self.workspace_over(cells));
        let changes: Vec<(usize, Cells)> = self.changes(cells).collect();
        let saving = |(index, changed): (usize, Cells)| {
            let mut saving = over - self.over(&changed);
            if workspace_over > 0.0 {
                saving += workspace_over - self.workspace_over(&changed);
            }
            let loss = self.strength(strengths, index, cells) - self.strength(strengths, index, &changed);
            (saving > 0.0).then(|| (loss / saving, changed))
        };
        let mut changes: Vec<(f64, Cells)> = changes.into_par_iter().filter_map(saving).collect();
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut cells = changes.into_iter().map(|(_, changed)| changed);
        cells.find(|changed| workspace_over > 0.0 || self.workspace_over(changed) == 0.0)
    }

    /// The change that gains most strength within the limits.
    fn stronger(&self, cells: &Cells, strengths: &[f32]) -> Option<Cells> {
        let gains = self.changes(cells).map(|(index, changed)| {
            (self.strength(strengths, index, &changed) - self.strength(strengths, index, cells), changed)
        });
        let mut gains: Vec<(f64, Cells)> = gains.filter(|&(gain, _)| gain > 0.0).collect();
        gains.sort_by(|a, b| b.0.total_cmp(&a.0));
        gains.into_iter().map(|(_, changed)| changed).find(|changed| self.is_within(changed))
    }

    /// As a genotype, of each node the edge from the earlier state first.
    fn genotype(&self, cells: &Cells) -> Genotype {
        let mut cells = cells.clone();
        cells.chunks_exact_mut(2).for_each(|edges| edges.sort_by_key(|kept| kept.source));
        let edges = |cells: &[Kept]| {
            let edge = |kept: &Kept| (Primitive::SEARCH[kept.column], kept.source as u8);
            cell_of(&cells.iter().map(edge).collect::<Vec<_>>(), self.nodes(), self.derivation.multiplier)
        };
        let (normal, reduce) = cells.split_at(2 * self.nodes());
        Genotype { normal: edges(normal), reduce: edges(reduce) }
    }

    /// Cells that keep within the limits: of those that are cheap in one way the nearest, and from there on with the
    /// changes that bring the excess down.
    fn find(&self) -> Result<Cells, BudgetError> {
        let mut candidates: Vec<Cells> = (0..2).map(|resource| self.least(resource)).collect();
        if self.workspace.is_some() {
            candidates.extend(self.uniform());
        }
        let (mut nearest, mut least, mut least_bytes) = (Vec::new(), f64::INFINITY, u64::MAX);
        for cells in candidates {
            let bytes = if self.workspace.is_some() { self.workspace(&cells)? } else { 0 };
            least_bytes = least_bytes.min(bytes);
            let over = self.over(&cells) + self.workspace_over(&cells);
            if over == 0.0 {
                return Ok(cells);
            }
            if over < least {
                (nearest, least) = (cells, over);
            }
        }
        self.check_each(least_bytes)?;
        // Whatever is lost: there are no strengths yet.
        let equal = vec![0.0; self.costs.added.len()];
        while !self.is_within(&nearest) {
            let Some(cheaper) = self.cheaper(&nearest, &equal) else { return Err(self.together(&nearest)) };
            nearest = cheaper;
        }
        Ok(nearest)
    }

    /// The cells that cost least of parameters (0) or multiply-adds (1): no others have fewer.
    fn least(&self, resource: usize) -> Cells {
        let nodes = self.nodes();
        let from = |source: usize| columns(self.derivation.space).map(move |column| Kept { source, column });
        let mut cells = Vec::new();
        for index in (0..4 * nodes).step_by(2) {
            let cost = |kept: &Kept| {
                let added = self.costs.added[self.index(index, *kept)];
                [added[resource], added[1 - resource]]
            };
            let sources = 0..index / 2 % nodes + 2;
            let mut edges: Vec<Kept> = sources.filter_map(|source| from(source).min_by_key(cost)).collect();
            edges.sort_by_key(cost);
            cells.extend_from_slice(&edges[..2]);
        }
        cells
    }

    /// Cells of one operation whose nodes read the states at the same places, for each operation and pair of places:
    /// what needs little workspace is among them, as far as that depends on the cells.
    fn uniform(&self) -> Vec<Cells> {
        let places: [fn(usize) -> [usize; 2]; 4] = [
            |_| [0, 1],
            |node| [node, node + 1],
            |node| [0, node + 1],
            |node| [1, if node == 0 { 0 } else { node + 1 }],
        ];
        let nodes = self.nodes();
        let mut cells = Vec::new();
        for column in columns(self.derivation.space) {
            for normal in places {
                for reduce in places {
                    let kinds = [normal, reduce].into_iter();
                    let sources = kinds.flat_map(|place| (0..nodes).flat_map(place));
                    cells.push(sources.map(|source| Kept { source, column }).collect());
                }
            }
        }
        cells
    }

    /// Checks that each limit can be kept by itself.
    fn check_each(&self, least_bytes: u64) -> Result<(), BudgetError> {
        let [parameters, multiply_adds] = [0, 1].map(|resource| self.counted(&self.least(resource))[resource]);
        let limits = [
            (Resource::Parameters, parameters, self.counts[0]),
            (Resource::MultiplyAdds, multiply_adds, self.counts[1]),
            (Resource::Workspace, least_bytes, self.workspace),
        ];
        for (resource, least, limit) in limits {
            if let Some(limit) = limit.filter(|&limit| least > limit) {
                let (channels, layers) = self.planner.size();
                return Err(BudgetError::Infeasible { resource, channels, layers, least, limit });
            }
        }
        Ok(())
    }

    fn together(&self, cells: &Cells) -> BudgetError {
        let [parameters, multiply_adds] = self.counted(cells);
        let workspace = self.workspace.and_then(|limit| Some((self.workspace(cells).ok()?, limit)));
        let counts = [
            (Resource::Parameters, parameters, self.counts[0]),
            (Resource::MultiplyAdds, multiply_adds, self.counts[1]),
        ];
        let mut nearest: Vec<(Resource, u64)> =
            counts.into_iter().filter_map(|(resource, count, limit)| limit.map(|_| (resource, count))).collect();
        nearest.extend(workspace.map(|(bytes, _)| (Resource::Workspace, bytes)));
        BudgetError::Together { nearest }
    }
}

fn kept(genotype: &Genotype) -> Cells {
    let edges = |cell: &CellGenotype| cell.edges.clone();
    let edges = edges(&genotype.normal).into_iter().chain(edges(&genotype.reduce));
    edges.map(|edge| Kept { source: edge.source.into(), column: edge.primitive as usize }).collect()
}
