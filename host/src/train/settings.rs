//! Hyper-parameters of training.

use serde::{Deserialize, Serialize};

use crate::data::{Augment, Dataset, Normalization};
use crate::engine::Saved;
use crate::graph::derived::{DerivedConfig, NetworkKind};
use crate::search::optimizer::{SgdSettings, cosine};
use crate::search::settings::SearchSettings;

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Cosine from the learning rate to the least one.
    Cosine,
    /// Times `factor` after every `epochs` epochs (0.97 after each for ImageNet).
    Step {
        /// Epochs between two steps.
        epochs: usize,
        /// Factor of each step.
        factor: f64,
    },
}

/// Everything that decides a training, apart from genotype and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Stem and head.
    pub network: NetworkKind,
    /// Channels of the first cell.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// How the weights learn.
    #[serde(flatten)]
    pub sgd: SgdSettings,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Weight of the auxiliary head's loss; 0 leaves the head out.
    pub auxiliary_weight: f64,
    /// Probability of drop-path at the last epoch, to which it rises linearly.
    pub drop_path: f64,
    /// Probability mass that label smoothing spreads over all classes.
    pub label_smoothing: f64,
    /// Augmentation.
    pub augment: Augment,
    /// Scale of the pixels; computed from the training set where absent.
    pub normalization: Option<Normalization>,
    /// Training images held out for validation; 0 trains on all, `None` on nine in ten.
    pub held_out: Option<usize>,
    /// How stage outputs are kept between the passes.
    pub saved: Saved,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

impl TrainSettings {
    /// The paper's hyper-parameters for CIFAR-10 (section A.2.1).
    pub const CIFAR: Self = Self {
        network: NetworkKind::Cifar,
        channels: 36,
        layers: 20,
        epochs: 600,
        batch_size: 96,
        sgd: SgdSettings { learning_rate_min: 0.0, ..SearchSettings::PAPER.sgd },
        schedule: Schedule::Cosine,
        auxiliary_weight: 0.4,
        drop_path: 0.2,
        label_smoothing: 0.0,
        augment: Augment { cutout: Some(16), ..Augment::STANDARD },
        normalization: None,
        held_out: None,
        saved: Saved::F32,
        seed: 0,
    };

    /// The paper's hyper-parameters for ImageNet (section A.3).
    pub const IMAGENET: Self = Self {
        network: NetworkKind::ImageNet,
        channels: 48,
        layers: 14,
        epochs: 250,
        batch_size: 128,
        sgd: SgdSettings { learning_rate: 0.1, weight_decay: 3e-5, ..Self::CIFAR.sgd },
        schedule: Schedule::Step { epochs: 1, factor: 0.97 },
        drop_path: 0.0,
        label_smoothing: 0.1,
        augment: Augment { cutout: None, ..Augment::STANDARD },
        ..Self::CIFAR
    };

    /// A small network trained for a minute or so on a small data set.
    pub const QUICK: Self = Self {
        channels: 8,
        layers: 5,
        epochs: 12,
        batch_size: 64,
        sgd: SgdSettings { learning_rate: 0.1, ..Self::CIFAR.sgd },
        auxiliary_weight: 0.0,
        drop_path: 0.0,
        augment: Augment { cutout: None, ..Augment::STANDARD },
        ..Self::CIFAR
    };

    /// Size of the network for images of `data`.
    pub fn config(&self, data: &Dataset) -> DerivedConfig {
        let shape = data.shape();
        DerivedConfig {
            kind: self.network,
            input: [shape.channels, shape.height, shape.width],
            classes: data.classes(),
            channels: self.channels,
            layers: self.layers,
            auxiliary: self.auxiliary_weight > 0.0,
        }
    }

    /// How many images of `data` are held out.
    pub fn held_out(&self, data: &Dataset) -> usize {
        self.held_out.unwrap_or(data.len() / 10)
    }

    /// Learning rate of epoch `epoch`.
    pub fn learning_rate(&self, epoch: usize) -> f64 {
        match self.schedule {
            Schedule::Cosine => cosine(self.sgd.learning_rate, self.sgd.learning_rate_min, epoch, self.epochs),
            Schedule::Step { epochs, factor } => self.sgd.learning_rate * factor.powi((epoch / epochs.max(1)) as i32),
        }
    }

    /// Drop-path probability of epoch `epoch`.
    pub fn drop_path(&self, epoch: usize) -> f64 {
        self.drop_path * epoch as f64 / self.epochs as f64
    }
}
