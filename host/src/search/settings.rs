//! What decides a search.

use serde::{Deserialize, Serialize};

use super::bilevel::Order;
use super::budget::{BudgetError, BudgetSettings, Budgets};
use super::derivation::Derivation;
use super::guard::{GuardError, GuardSettings};
use super::optimizer::SgdSettings;
use super::selection::Select;
use super::supernet_guards::SupernetGuards;
use crate::data::{Augment, Dataset, Normalization};
use crate::engine::Saved;
use crate::graph::Graph;
use crate::graph::derived::{DerivedConfig, NetworkKind};
use crate::graph::supernet::{ConfigError, SupernetConfig, supernet_of};
use crate::graph::variant::Variant;

/// Everything that decides a search, apart from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSettings {
    /// Channels of the supernet's first cell.
    pub channels: usize,
    /// Cells of the supernet.
    pub layers: usize,
    /// Nodes of a cell.
    pub nodes: usize,
    /// States that are concatenated to a cell's output.
    pub multiplier: usize,
    /// First or second order.
    pub order: Order,
    /// Passes over the half of the data that the weights learn on.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// How the weights learn, with a cosine schedule.
    #[serde(flatten)]
    pub sgd: SgdSettings,
    /// Learning rate of α.
    pub arch_learning_rate: f64,
    /// Weight decay of α.
    pub arch_weight_decay: f64,
    /// Whether α starts at zeros, as the paper has it, and not at `1e-3 · N(0, 1)`, as the original code has it.
    pub zero_alpha: bool,
    /// Whether each epoch's evaluation uses the statistics of the batch at hand, as the paper has it, and not the
    /// running ones, as the original code has it.
    pub batch_statistics: bool,
    /// The space, and what is done against a collapse.
    #[serde(flatten)]
    pub guards: GuardSettings,
    /// Guards against collapse that change the supernet.
    #[serde(flatten)]
    pub supernet_guards: SupernetGuards,
    /// What derived networks may cost, and are made to.
    #[serde(flatten)]
    pub budgets: BudgetSettings,
    /// Augmentation of both halves.
    pub augment: Augment,
    /// Scale of the pixels; computed from the training set where absent.
    pub normalization: Option<Normalization>,
    /// How stage outputs are kept between the passes.
    pub saved: Saved,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

impl SearchSettings {
    /// The paper's hyper-parameters (section A.1.1) as the original code has them.
    pub const PAPER: Self = Self {
        channels: 16,
        layers: 8,
        nodes: 4,
        multiplier: 4,
        order: Order::Second,
        epochs: 50,
        batch_size: 64,
        sgd: SgdSettings {
            learning_rate: 0.025,
            learning_rate_min: 0.001,
            momentum: 0.9,
            weight_decay: 3e-4,
            grad_clip: 5.0,
        },
        arch_learning_rate: 3e-4,
        arch_weight_decay: 1e-3,
        zero_alpha: false,
        batch_statistics: false,
        guards: GuardSettings::OFF,
        supernet_guards: SupernetGuards::NONE,
        budgets: BudgetSettings::NONE,
        augment: Augment::STANDARD,
        normalization: None,
        saved: Saved::F32,
        seed: 2,
    };

    /// A search of a minute or so on a small data set: a small supernet, first order, and a faster α for the few steps.
    pub const QUICK: Self = Self {
        channels: 4,
        layers: 4,
        order: Order::First,
        epochs: 3,
        sgd: SgdSettings { learning_rate: 0.05, ..Self::PAPER.sgd },
        arch_learning_rate: 6e-3,
        ..Self::PAPER
    };

    /// Checks that the guards against a collapse go together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_guards(&self) -> Result<(), GuardError> {
        self.guards.validate(self.epochs)?;
        let of_operations = [
            ("smoothing", self.guards.smooth.is_some()),
            ("a selection by perturbation", self.guards.select == Select::Perturbation),
        ];
        match of_operations.into_iter().find(|&(_, on)| on && self.supernet_guards.partial > 1) {
            Some((what, _)) => Err(GuardError::Partial(what)),
            None => Ok(()),
        }
    }

    /// What the supernet is made of.
    pub fn variant(&self) -> Variant {
        Variant { space: self.guards.space, ..self.supernet_guards.variant() }
    }

    /// How a genotype is read off α.
    pub fn derivation(&self) -> Derivation {
        let GuardSettings { space, max_skips, .. } = self.guards;
        Derivation { nodes: self.nodes, multiplier: self.multiplier, space, max_skips }
    }

    /// What networks that are derived of a search on images of `data` may cost, and are made to, if anything is said of
    /// that.
    ///
    /// # Errors
    /// If there are no such networks, or none keep within the limits.
    pub fn budgets(&self, data: &Dataset) -> Result<Option<Budgets>, BudgetError> {
        if !self.budgets.is_on() {
            return Ok(None);
        }
        if self.guards.select == Select::Perturbation {
            return Err(BudgetError::Selection);
        }
        let SupernetConfig { input, classes, channels, layers, .. } = network(self, data);
        let kind = NetworkKind::Cifar;
        let config = DerivedConfig { kind, input, classes, channels, layers, auxiliary: false };
        Budgets::new(self.budgets, self.derivation(), config).map(Some)
    }
}

/// The supernet that is searched with `settings` on images of `data`.
///
/// # Errors
/// If a size is out of range.
pub fn search_graph(settings: &SearchSettings, data: &Dataset) -> Result<Graph, ConfigError> {
    supernet_of(&network(settings, data), settings.variant())
}

/// Size of the supernet for images of `data`.
fn network(settings: &SearchSettings, data: &Dataset) -> SupernetConfig {
    let shape = data.shape();
    SupernetConfig {
        input: [shape.channels, shape.height, shape.width],
        classes: data.classes(),
        channels: settings.channels,
        layers: settings.layers,
        nodes: settings.nodes,
        multiplier: settings.multiplier,
    }
}
