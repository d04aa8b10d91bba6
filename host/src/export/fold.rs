//! The weights of a model file: batch norms folded into the convolutions before them, in double precision, rounded
//! once.

use darts_core::{Step, Storage};
use darts_kernels_simd::NORM_EPSILON;
use half::f16;

use super::lower::{Bias, Folded};
use super::{ExportError, Plan, Precision};
use crate::graph::{Graph, NormId, Op};
use crate::weights::TrainedNetwork;

/// The weights section of `plan`, which is that of `network`'s graph.
///
/// # Errors
/// If a folded weight is no finite number in the precision of the plan.
pub(super) fn weights_section(network: &TrainedNetwork, graph: &Graph, plan: &Plan) -> Result<Vec<u8>, ExportError> {
    for stage in graph.stages.iter().filter(|stage| !stage.norms.is_empty()) {
        let last = stage.ops.last();
        let folds = matches!(last, Some(Op::Dense { .. } | Op::FactorizedReduce { .. }));
        assert!(folds, "{}: a batch norm behind {last:?} cannot be folded", stage.name);
    }
    let mut section = Vec::with_capacity(plan.weight_bytes);
    for (step, folded) in plan.steps.iter().zip(&plan.folded) {
        if let Some(folded) = folded {
            append(network, graph, step, folded, &mut section)?;
        }
    }
    assert_eq!(section.len(), plan.weight_bytes, "bytes of weights");
    Ok(section)
}

/// Appends the bytes of the weights and the bias of a step on floating point to `section`, at a multiple of 4.
///
/// # Errors
/// As [`weights_section`].
pub(super) fn append(
    network: &TrainedNetwork,
    graph: &Graph,
    step: &Step,
    folded: &Folded,
    section: &mut Vec<u8>,
) -> Result<(), ExportError> {
    let Some(weights) = step.weights() else { return Ok(()) };
    let precision = match weights.storage {
        Storage::F32 => Precision::F32,
        Storage::F16 => Precision::F16,
    };
    Folder { network, graph, precision, section }.step(step, folded)
}

struct Folder<'a> {
    network: &'a TrainedNetwork,
    graph: &'a Graph,
    precision: Precision,
    section: &'a mut Vec<u8>,
}

impl Folder<'_> {
    fn step(&mut self, step: &Step, folded: &Folded) -> Result<(), ExportError> {
        let columns = match step {
            Step::Dense { shape, .. } => shape.output_channels,
            Step::Separable { shape, .. } => shape.output_channels,
            Step::Depthwise { shape, .. } => shape.input.channels,
            _ => return Ok(()),
        };
        let (scale, shift): (Vec<f64>, Vec<f64>) = match folded.norm {
            Some((norm, first)) => {
                (first..first + columns).map(|channel| scale_and_shift(self.network, self.graph, norm, channel)).unzip()
            }
            None => (vec![1.0; columns], Vec::new()),
        };
        for &weight in folded.depthwise.iter().flat_map(|range| &self.network.weights[range.clone()]) {
            self.push(weight.into(), self.precision)?;
        }
        let weights = &self.network.weights[folded.weight.clone()];
        for row in weights.chunks_exact(columns) {
            for (&weight, scale) in row.iter().zip(&scale) {
                self.push(f64::from(weight) * scale, self.precision)?;
            }
        }
        self.section.resize(self.section.len().next_multiple_of(4), 0);
        match &folded.bias {
            Bias::None => {}
            Bias::Shift => shift.into_iter().try_for_each(|value| self.push(value, Precision::F32))?,
            Bias::Parameter(range) => {
                let bias = &self.network.weights[range.clone()];
                bias.iter().try_for_each(|&value| self.push(value.into(), Precision::F32))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, value: f64, precision: Precision) -> Result<(), ExportError> {
        let finite = match precision {
            Precision::F32 => {
                let rounded = value as f32;
                self.section.extend(rounded.to_le_bytes());
                rounded.is_finite()
            }
            Precision::F16 => {
                let rounded = f16::from_f64(value);
                self.section.extend(rounded.to_le_bytes());
                rounded.is_finite()
            }
        };
        if finite { Ok(()) } else { Err(ExportError::Value { value, precision }) }
    }
}

/// Scale and shift of a channel of a batch norm: `γ / √(σ² + ε)` and `β − scale · μ`.
pub(super) fn scale_and_shift(network: &TrainedNetwork, graph: &Graph, norm: NormId, channel: usize) -> (f64, f64) {
    let norm = &graph.norms[norm];
    let affine = norm.affine.as_ref();
    let affine = affine.map(|ranges| ranges.each_ref().map(|range| f64::from(network.weights[range.start + channel])));
    let [gamma, beta] = affine.unwrap_or([1.0, 0.0]);
    let mean = f64::from(network.statistics.mean[norm.range.start + channel]);
    let variance = f64::from(network.statistics.variance[norm.range.start + channel]);
    let scale = gamma / (variance + NORM_EPSILON).sqrt();
    (scale, beta - scale * mean)
}
