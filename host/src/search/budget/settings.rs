//! What a derived network may cost, and how much of that is asked of α while it learns. All of it is off by default.

use serde::{Deserialize, Serialize};

use crate::export::ExportError;
use crate::graph::supernet::ConfigError;

/// What a network costs where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Weights, auxiliary head excluded ([`Totals`](crate::graph::count::Totals)).
    Parameters,
    /// Multiply-adds for one image (the same).
    MultiplyAdds,
    /// Bytes of the workspace of an inference, as the plan of an export has them.
    Workspace,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Parameters, Self::MultiplyAdds, Self::Workspace];

    /// What is counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::MultiplyAdds => "multiply-adds",
            Self::Workspace => "bytes of workspace",
        }
    }

    /// What its options are called after.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Parameters => "params",
            Self::MultiplyAdds => "macs",
            Self::Workspace => "ram",
        }
    }
}

/// Limits and penalties of a search. Settings that are off are not written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetSettings {
    /// Most parameters of a derived network.
    #[serde(skip_serializing_if = "is_default")]
    pub max_params: Option<u64>,
    /// Most multiply-adds.
    #[serde(skip_serializing_if = "is_default")]
    pub max_macs: Option<u64>,
    /// Most bytes of the workspace.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ram: Option<u64>,
    /// Weight of the expected parameters in α's loss, λ: 0 is off.
    #[serde(skip_serializing_if = "is_default")]
    pub params_penalty: f64,
    /// Weight of the expected multiply-adds.
    #[serde(skip_serializing_if = "is_default")]
    pub macs_penalty: f64,
    /// Weight of the expected bytes of the workspace.
    #[serde(skip_serializing_if = "is_default")]
    pub ram_penalty: f64,
    /// Parameters from which on there is a penalty, if not the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub params_target: Option<u64>,
    /// Multiply-adds from which on there is a penalty.
    #[serde(skip_serializing_if = "is_default")]
    pub macs_target: Option<u64>,
    /// Bytes from which on there is a penalty.
    #[serde(skip_serializing_if = "is_default")]
    pub ram_target: Option<u64>,
    /// Channels of the network that is counted, if not those of the supernet.
    #[serde(skip_serializing_if = "is_default")]
    pub budget_channels: Option<usize>,
    /// Its cells.
    #[serde(skip_serializing_if = "is_default")]
    pub budget_layers: Option<usize>,
    /// Form of the model whose workspace is counted.
    #[serde(skip_serializing_if = "is_default")]
    pub ram_precision: ModelForm,
}

/// In which form a network is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelForm {
    /// Weights and images in single precision.
    #[default]
    F32,
    /// Weights in half precision.
    F16,
    /// All of it on 8-bit integers.
    Int8,
}

/// Budgets that cannot be kept, or counted.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// A penalty begins nowhere.
    #[error("--{0}-penalty needs --{0}-target or --max-{0}, from which on there is a penalty", resource.option())]
    NoTarget {
        /// What is penalized.
        resource: Resource,
    },
    /// Perturbations do not look at what a cell costs.
    #[error("limits of the network have no meaning where perturbations select the cells: leave out one of the two")]
    Selection,
    /// No cell of the search costs so little.
    #[error(
        "no cell of this search space keeps within --max-{}: with {channels} channels and {layers} cells the least is \
         {least} {}, {} more than {limit}",
        resource.option(),
        resource.name(),
        least - limit
    )]
    Infeasible {
        /// What there is too much of.
        resource: Resource,
        /// Channels of the network that is counted.
        channels: usize,
        /// Its cells.
        layers: usize,
        /// The least that a cell costs; of the workspace, the least that was found.
        least: u64,
        /// The limit.
        limit: u64,
    },
    /// Each limit can be kept, but no cell was found that keeps them all.
    #[error("no cell was found that keeps within all limits at once: the nearest has {}", list(nearest))]
    Together {
        /// What the nearest costs, as far as that is limited.
        nearest: Vec<(Resource, u64)>,
    },
    /// There is no such network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network has no plan.
    #[error(transparent)]
    Plan(#[from] ExportError),
}

fn list(costs: &[(Resource, u64)]) -> String {
    costs.iter().map(|(resource, cost)| format!("{cost} {}", resource.name())).collect::<Vec<_>>().join(", ")
}

impl BudgetSettings {
    /// Nothing is limited and nothing penalized.
    pub const NONE: Self = Self {
        max_params: None,
        max_macs: None,
        max_ram: None,
        params_penalty: 0.0,
        macs_penalty: 0.0,
        ram_penalty: 0.0,
        params_target: None,
        macs_target: None,
        ram_target: None,
        budget_channels: None,
        budget_layers: None,
        ram_precision: ModelForm::F32,
    };

    /// Whether anything is limited or penalized.
    pub fn is_on(&self) -> bool {
        Resource::ALL.into_iter().any(|resource| self.limit(resource).is_some() || self.penalty(resource) > 0.0)
    }

    /// Most that a derived network may have.
    pub fn limit(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Parameters => self.max_params,
            Resource::MultiplyAdds => self.max_macs,
            Resource::Workspace => self.max_ram,
        }
    }

    /// Weight in α's loss.
    pub fn penalty(&self, resource: Resource) -> f64 {
        match resource {
            Resource::Parameters => self.params_penalty,
            Resource::MultiplyAdds => self.macs_penalty,
            Resource::Workspace => self.ram_penalty,
        }
    }

    /// From where on there is a penalty: the target, or else the limit.
    pub fn target(&self, resource: Resource) -> Option<u64> {
        let target = match resource {
            Resource::Parameters => self.params_target,
            Resource::MultiplyAdds => self.macs_target,
            Resource::Workspace => self.ram_target,
        };
        target.or(self.limit(resource))
    }

    /// Whether the workspace is limited or penalized.
    pub(super) fn counts_workspace(&self) -> bool {
        self.max_ram.is_some() || self.ram_penalty > 0.0
    }

    /// Checks that every penalty has a target.
    ///
    /// # Errors
    /// The first that has none.
    pub fn validate(&self) -> Result<(), BudgetError> {
        let without = |resource: &Resource| self.penalty(*resource) > 0.0 && self.target(*resource).is_none();
        match Resource::ALL.into_iter().find(without) {
            Some(resource) => Err(BudgetError::NoTarget { resource }),
            None => Ok(()),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_not_written_down() {
        assert_eq!(toml::to_string(&BudgetSettings::NONE).expect("TOML"), "");
        assert_eq!(toml::from_str::<BudgetSettings>("").expect("all of it has defaults"), BudgetSettings::NONE);
        assert_eq!(BudgetSettings::default(), BudgetSettings::NONE);
        assert!(!BudgetSettings { params_target: Some(3), budget_layers: Some(2), ..BudgetSettings::NONE }.is_on());
    }

    #[test]
    fn a_penalty_begins_at_the_target_or_at_the_limit() {
        let none = BudgetSettings { macs_penalty: 0.1, ..BudgetSettings::NONE };
        let error = none.validate().expect_err("there is no target").to_string();
        assert!(error.contains("--macs-penalty") && error.contains("--macs-target or --max-macs"), "{error}");
        let limited = BudgetSettings { max_macs: Some(7), ..none };
        assert!(limited.validate().is_ok());
        assert_eq!(limited.target(Resource::MultiplyAdds), Some(7));
        let target = BudgetSettings { macs_target: Some(5), ..limited };
        assert_eq!(target.target(Resource::MultiplyAdds), Some(5));
    }
}
