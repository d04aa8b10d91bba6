//! From a trained network to a model file for the core.

mod fit;
mod fold;
mod int8;
mod lower;
mod needed;
pub mod onnx;
mod order;
mod plan;
mod rust;
mod sequence;
mod slots;

use std::fmt;

use darts_core::{Genotype, Metadata, ModelError, ModelParts, StepError, WriteError};

use crate::graph::Graph;
use crate::graph::derived::NetworkKind;
use crate::graph::supernet::ConfigError;
use crate::interrupt::Interrupted;
use crate::weights::TrainedNetwork;

pub use int8::{
    Calibration, FloatLayers, LayerError, Quantization, export_int8, int8_workspace_bytes, signal_to_noise,
};
pub use plan::{Plan, plan};
pub use rust::rust_module;

/// How weights are stored in a model file. Images, sums and biases are `f32` in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As trained, but for the folded batch norms.
    F32,
    /// In half the bytes.
    F16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// A network that cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no such network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A size is beyond what a model file holds.
    #[error("{0}")]
    Model(WriteError),
    /// A weight, batch norm folded, is out of range.
    #[error("a weight of {value} with its batch norm folded in has no {precision}: train again{}", hint(*precision))]
    Value {
        /// The weight.
        value: f64,
        /// The precision asked for.
        precision: Precision,
    },
    /// The network's values on the calibration data are no numbers.
    #[error("an image of the network holds values from {low} to {high} on the calibration data: train again")]
    Calibration {
        /// The least.
        low: f32,
        /// The greatest.
        high: f32,
    },
    /// Two scales of 8-bit integers are too far apart.
    #[error(
        "the scales of two images differ by a factor of {value:e}, which no fixed-point number holds: calibrate with other \
         data, or train again"
    )]
    Factor {
        /// One by the other.
        value: f64,
    },
    /// No layer has a name that was given.
    #[error("no layer of the network is called {name:?}, and no name begins so: `darts accuracy` lists them")]
    Layer {
        /// The name.
        name: String,
    },
    /// The work was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// An ONNX model would be too large.
    #[error(
        "the ONNX model would have {bytes} bytes, and files of this kind have less than 2 GiB: make the network smaller"
    )]
    OnnxSize {
        /// Its bytes.
        bytes: usize,
    },
}

fn hint(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "",
        Precision::F16 => ", or export in f32",
    }
}

/// The bytes of the model file of `network`.
///
/// # Errors
/// If a size is beyond the core's limits or a folded weight is not finite in the precision.
pub fn export(network: &TrainedNetwork, precision: Precision) -> Result<Vec<u8>, ExportError> {
    let graph = network.graph()?;
    let plan = plan(&graph, precision)?;
    let weights = fold::weights_section(network, &graph, &plan)?;
    model(network, &graph, &plan, &weights)
}

/// The bytes of a model file with a plan for `graph` and its weights section.
fn model(network: &TrainedNetwork, graph: &Graph, plan: &Plan, weights: &[u8]) -> Result<Vec<u8>, ExportError> {
    let config = &network.config;
    let parts = ModelParts {
        metadata: Metadata {
            input: graph.input,
            classes: graph.classes,
            layers: config.layers,
            channels: config.channels,
            kind: match config.kind {
                NetworkKind::Cifar => darts_core::NetworkKind::Cifar,
                NetworkKind::ImageNet => darts_core::NetworkKind::ImageNet,
            },
            mean: &network.normalization.mean,
            deviation: &network.normalization.std,
        },
        genotype: &network.genotype,
        steps: &plan.steps,
        weights,
    };
    let mut file = vec![0; parts.encoded_len()];
    parts.write(&mut file).map_err(ExportError::Model)?;
    Ok(file)
}

/// Bytes of the model file of a network of `genotype` whose `graph` was planned as `plan`, before it is trained.
pub fn model_bytes(graph: &Graph, genotype: &Genotype, plan: &Plan) -> usize {
    let scale = vec![1.0; graph.input.channels];
    // What is not known here has the same length for every network.
    let metadata = Metadata {
        input: graph.input,
        classes: graph.classes,
        layers: 1,
        channels: 1,
        kind: darts_core::NetworkKind::Cifar,
        mean: &scale,
        deviation: &scale,
    };
    // The weights are the last section.
    ModelParts { metadata, genotype, steps: &plan.steps, weights: &[] }.encoded_len() + plan.weight_bytes
}

/// Bytes of the workspace in which `graph` computes the logits of one image in `f32`. For a supernet, which has no
/// model file, the same count: every edge's operations are terms of its state.
///
/// # Errors
/// If a size is beyond the core's limits.
pub fn workspace_bytes(graph: &Graph) -> Result<usize, ExportError> {
    plan(graph, Precision::F32).map(|plan| plan.workspace_bytes)
}

/// The error of a step that the core does not take.
fn unsound(step: usize) -> impl Fn(StepError) -> ExportError {
    move |error| ExportError::Model(WriteError::Invalid(ModelError::Step { step, error }))
}
