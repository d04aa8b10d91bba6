//! Budgets of a search: what its derived networks may cost at most, and penalties in the loss of α for what they are
//! expected to cost. All is off by default, and a search without them takes the same steps to the same bits.
//!
//! Costs are those of a network of the size that will be trained, and come from where `darts inspect` has them:
//! [`totals`](crate::graph::count::totals) of its graph, and the [`plan`](crate::export::plan) of its export.

mod costs;
mod limits;
mod penalty;
mod settings;

use darts_core::Genotype;
use serde::{Deserialize, Serialize};

use super::derivation::Derivation;
use crate::graph::derived::DerivedConfig;
pub use costs::{Costs, Planner};
pub use limits::Limits;
pub use penalty::{Linear, Penalties, Penalty};
pub use settings::{BudgetError, BudgetSettings, ModelForm, Resource};

/// What the networks of an epoch cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// Parameters that a derived network is expected to have under α.
    pub expected_params: f64,
    /// Multiply-adds.
    pub expected_macs: f64,
    /// Bytes of the workspace, where they are penalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_ram: Option<f64>,
    /// Parameters of the network of the epoch's genotype.
    pub params: u64,
    /// Multiply-adds.
    pub macs: u64,
    /// Bytes of the workspace, where they are limited or penalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<u64>,
}

/// The budgets of a search.
#[derive(Debug)]
pub struct Budgets {
    settings: BudgetSettings,
    derivation: Derivation,
    limits: Limits,
    /// The workspace of derived networks, as it was last [`refresh`](Self::refresh)ed.
    workspace: Option<Linear>,
}

impl Budgets {
    /// Budgets of networks of size `config`, but for the channels and layers that `settings` has. Looks for cells that
    /// keep within the limits.
    ///
    /// # Errors
    /// If a penalty has no target, there is no such network, or no cells keep within the limits.
    pub fn new(settings: BudgetSettings, derivation: Derivation, config: DerivedConfig) -> Result<Self, BudgetError> {
        settings.validate()?;
        let config = DerivedConfig {
            channels: settings.budget_channels.unwrap_or(config.channels),
            layers: settings.budget_layers.unwrap_or(config.layers),
            ..config
        };
        let costs = Costs::new(&derivation, &config)?;
        let planner = Planner::new(config, settings.ram_precision);
        let limits = Limits::new(derivation, Resource::ALL.map(|resource| settings.limit(resource)), costs, planner)?;
        Ok(Self { settings, derivation, limits, workspace: None })
    }

    /// The cells that α stands for: those of largest weights within the limits, see [`Limits::within`].
    ///
    /// # Panics
    /// If α does not have two matrices for cells of the derivation.
    pub fn genotype(&self, alpha: &[f32]) -> Genotype {
        self.limits.within(self.derivation.genotype(alpha), &self.derivation.strengths(alpha))
    }

    /// Has the expected workspace follow from the plans of networks that differ from `genotype` in one edge, if it is
    /// penalized.
    ///
    /// # Errors
    /// If a network is beyond what a model file holds.
    pub fn refresh(&mut self, genotype: &Genotype) -> Result<(), BudgetError> {
        if self.settings.ram_penalty > 0.0 {
            let planner = self.limits.planner();
            let base = planner.bytes(genotype)? as f64;
            self.workspace = Some(Linear { base, added: planner.changes(&self.derivation, genotype)? });
        }
        Ok(())
    }

    /// What is added to the loss of α.
    pub fn penalties(&self) -> Penalties {
        let penalty = |resource: Resource| {
            let (weight, target) = (self.settings.penalty(resource), self.settings.target(resource)?);
            let cost = self.expectation(resource).filter(|_| weight > 0.0)?;
            Some(Penalty { cost, weight, target: target as f64 })
        };
        let Derivation { nodes, space, .. } = self.derivation;
        Penalties { each: Resource::ALL.into_iter().filter_map(penalty).collect(), nodes, space }
    }

    /// What networks cost under α, and that of `genotype`.
    ///
    /// # Errors
    /// If the network is beyond what a model file holds.
    pub fn record(&self, alpha: &[f32], genotype: &Genotype) -> Result<BudgetRecord, BudgetError> {
        let Derivation { nodes, space, .. } = self.derivation;
        let expected = |resource| self.expectation(resource).map(|cost| cost.expected(alpha, nodes, space));
        let [params, macs] = self.limits.counts(genotype);
        let planned = self.settings.counts_workspace().then(|| self.limits.planner().bytes(genotype));
        Ok(BudgetRecord {
            expected_params: expected(Resource::Parameters).unwrap_or_default(),
            expected_macs: expected(Resource::MultiplyAdds).unwrap_or_default(),
            expected_ram: expected(Resource::Workspace),
            params,
            macs,
            ram: planned.transpose()?,
        })
    }

    fn expectation(&self, resource: Resource) -> Option<Linear> {
        match resource {
            Resource::Parameters => Some(self.limits.costs().linear(0)),
            Resource::MultiplyAdds => Some(self.limits.costs().linear(1)),
            Resource::Workspace => self.workspace.clone(),
        }
    }
}
