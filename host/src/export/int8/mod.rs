//! A network on 8-bit integers: what its images hold on calibration data decides their scales.

mod draft;
mod ranges;
mod scales;

use std::path::Path;

use darts_kernels_simd::Kernels;
pub use ranges::Calibration;

use super::plan::{arrange, planned};
use super::sequence::Sequence;
use super::{ExportError, Precision, fold, model};
use crate::data::Dataset;
use crate::model_file::ModelFile;
use crate::weights::TrainedNetwork;
use draft::Int8Drafts;
use scales::Scales;

/// The bytes of the model file of `network` on 8-bit integers: weights symmetric with a scale for each output channel, images
/// with a scale and a zero each, which the images of `data` decide by `calibration`.
///
/// # Errors
/// As [`export`](super::export), and if the values on the data are no numbers.
///
/// # Panics
/// If the images of `data` have not the network's shape, or there are none.
pub fn export_int8(
    network: &TrainedNetwork,
    data: &Dataset,
    calibration: Calibration,
    kernels: Kernels,
) -> Result<Vec<u8>, ExportError> {
    let graph = network.graph()?;
    assert!(data.shape() == graph.input && !data.is_empty(), "images to calibrate with of {:?}", data.shape());
    let (real, sequence) = planned(&graph, Precision::F32)?;
    let section = fold::weights_section(network, &graph, &real)?;
    // Such as a device gets: its bytes are aligned.
    let file = ModelFile::new(&model(network, &graph, &real, &section)?, Path::new("the model in f32"));
    let reals: Vec<f32> = bytemuck::pod_collect_to_vec(&section);
    let ranges = ranges::measure(&file, &sequence, &real, &reals, data, calibration, kernels)?;
    let scales = Scales::new(&sequence, &ranges);
    let Int8Drafts { drafts, buffers, weights } = draft::quantized(&graph, &sequence, &real, &reals, &scales)?;
    let plan = arrange(Sequence { drafts, buffers })?;
    let mut section = vec![0; plan.weight_bytes];
    for (step, bytes) in plan.steps.iter().zip(&weights) {
        if let Some(offset) = step.weights_offset() {
            section[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    model(network, &graph, &plan, &section)
}
