//! A network on 8-bit integers: what its images hold on calibration data decides their scales.

mod draft;
mod form;
mod layers;
mod ranges;
mod scales;

use std::ops::Range;
use std::path::Path;

use darts_core::Genotype;
use darts_kernels_simd::Kernels;
pub use form::FloatLayers;
use form::Form;
pub use layers::{LayerError, signal_to_noise};
pub use ranges::Calibration;

use super::lower::{BufferId, Draft};
use super::plan::{Plan, arrange, planned};
use super::sequence::Sequence;
use super::{ExportError, Precision, fold, model};
use crate::data::{Dataset, Normalization};
use crate::engine::RunningStatistics;
use crate::graph::Graph;
use crate::graph::derived::{DerivedConfig, derived};
use crate::model_file::ModelFile;
use crate::weights::TrainedNetwork;
use draft::{Int8Drafts, Real};
use ranges::Ranges;
pub(super) use scales::Scale;
use scales::Scales;

/// A network with the scales that calibration data have decided, from which models on 8-bit integers are made.
pub struct Quantization<'a> {
    network: &'a TrainedNetwork,
    graph: Graph,
    sequence: Sequence,
    plan: Plan,
    weights: Vec<f32>,
    scales: Scales,
    /// In `f32`.
    file: ModelFile,
}

impl<'a> Quantization<'a> {
    /// Decides the scales by what the images of `data` make of each image of `network`.
    ///
    /// # Errors
    /// As [`export`](super::export), and if the values on the data are no numbers.
    ///
    /// # Panics
    /// If the images of `data` have not the network's shape, or there are none.
    pub fn new(
        network: &'a TrainedNetwork,
        data: &Dataset,
        calibration: Calibration,
        kernels: Kernels,
    ) -> Result<Self, ExportError> {
        let graph = network.graph()?;
        assert!(data.shape() == graph.input && !data.is_empty(), "images to calibrate with of {:?}", data.shape());
        let (plan, sequence) = planned(&graph, Precision::F32)?;
        let section = fold::weights_section(network, &graph, &plan)?;
        // Such as a device gets: its bytes are aligned.
        let file = ModelFile::new(&model(network, &graph, &plan, &section)?, Path::new("the model in f32"));
        let weights: Vec<f32> = bytemuck::pod_collect_to_vec(&section);
        let ranges = ranges::measure(&file, &sequence, &plan, &weights, data, calibration, kernels)?;
        let scales = Scales::new(&sequence, &ranges);
        Ok(Self { network, graph, sequence, plan, weights, scales, file })
    }

    /// The bytes of the model file: weights symmetric with a scale for each output channel, images with a scale and a
    /// zero each. The layers of `float` are kept in floating point, with steps at their borders that bring images from
    /// one form to the other; images that only such layers write are kept in `f32`.
    ///
    /// # Errors
    /// If there is no layer of a name, or a size or a scale is beyond the core's limits.
    pub fn model(&self, float: &[FloatLayers]) -> Result<Vec<u8>, ExportError> {
        self.file_of(self.drafts(float)?)
    }

    /// The model in `f32` that errors are measured against.
    pub fn real(&self) -> &ModelFile {
        &self.file
    }

    /// All of it on 8-bit integers, as steps over buffers.
    pub(super) fn int8(&self) -> Result<Int8Network<'_>, ExportError> {
        let Int8Drafts { drafts, buffers, weights, origins } = self.drafts(&[])?;
        let Self { network, graph, sequence, scales, .. } = self;
        Ok(Int8Network { network, graph, drafts, buffers: buffers.len(), weights, sequence, scales, origins })
    }

    fn drafts(&self, float: &[FloatLayers]) -> Result<Int8Drafts, ExportError> {
        self.drafts_of(&form::forms(&self.graph, &self.sequence, float)?)
    }

    fn drafts_of(&self, forms: &[Form]) -> Result<Int8Drafts, ExportError> {
        let Self { network, graph, sequence, plan, weights, scales, .. } = self;
        draft::quantized(Real { network, graph, sequence, plan, weights }, scales, forms)
    }

    fn file_of(&self, drafts: Int8Drafts) -> Result<Vec<u8>, ExportError> {
        let Int8Drafts { drafts, buffers, weights, .. } = drafts;
        let plan = arrange(Sequence { drafts, buffers })?;
        let mut section = vec![0; plan.weight_bytes];
        for (step, bytes) in plan.steps.iter().zip(&weights) {
            if let Some(offset) = step.weights_offset() {
                section[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        model(self.network, &self.graph, &plan, &section)
    }
}

/// A network all of whose steps are on 8-bit integers, in no places yet.
pub(super) struct Int8Network<'a> {
    pub network: &'a TrainedNetwork,
    pub graph: &'a Graph,
    pub drafts: Vec<Draft>,
    /// Number of buffers.
    pub buffers: usize,
    /// The bytes of each step's weights.
    pub weights: Vec<Vec<u8>>,
    sequence: &'a Sequence,
    scales: &'a Scales,
    origins: Vec<Option<usize>>,
}

impl Int8Network<'_> {
    /// The name of the layer of a step.
    pub fn layer(&self, step: usize) -> &str {
        self.drafts[step].layer.name(self.graph)
    }

    /// The scale of a buffer.
    pub fn scale(&self, buffer: BufferId) -> Scale {
        // The one that is added holds the input.
        self.scales.buffers.get(buffer).copied().unwrap_or(self.scales.input)
    }

    /// The scale between the convolutions of a separable step.
    pub fn middle(&self, step: usize) -> Scale {
        self.scales.middles[self.origins[step].expect("a separable step stands for one on f32")]
    }

    /// Names of the parameters of the depthwise part of a step and of its weights; both are the latter where there is
    /// no such part.
    pub fn parameters(&self, step: usize) -> [String; 2] {
        let origin = self.origins[step].expect("a step with weights stands for one on f32");
        let folded = self.sequence.drafts[origin].weights.as_ref().expect("a step with weights");
        let name = |range: &Range<usize>| {
            let parameter = self.graph.parameters.iter().find(|parameter| parameter.range.contains(&range.start));
            let parameter = parameter.expect("weights are parameters");
            // A convolution of a concatenation has its weights part by part.
            match range.start - parameter.range.start {
                0 => parameter.name.clone(),
                first => format!("{} from {first}", parameter.name),
            }
        };
        [name(folded.depthwise.as_ref().unwrap_or(&folded.weight)), name(&folded.weight)]
    }
}

/// The bytes of the model file of `network` on 8-bit integers, all of it, calibrated with the images of `data`.
///
/// # Errors
/// As [`Quantization::new`] and [`Quantization::model`].
///
/// # Panics
/// As [`Quantization::new`].
pub fn export_int8(
    network: &TrainedNetwork,
    data: &Dataset,
    calibration: Calibration,
    kernels: Kernels,
) -> Result<Vec<u8>, ExportError> {
    Quantization::new(network, data, calibration, kernels)?.model(&[])
}

/// Bytes of the workspace of the model on 8-bit integers, all of it, of a network of `genotype`: neither its weights
/// nor the calibration change them.
///
/// # Errors
/// If there is no such network, or a size is beyond the core's limits.
pub fn int8_workspace_bytes(genotype: &Genotype, config: &DerivedConfig) -> Result<usize, ExportError> {
    let graph = derived(genotype, config)?;
    let (plan, sequence) = planned(&graph, Precision::F32)?;
    let channels = graph.input.channels;
    let network = TrainedNetwork {
        config: config.clone(),
        genotype: genotype.clone(),
        weights: vec![0.0; graph.weights()],
        statistics: RunningStatistics::new(&graph),
        normalization: Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] },
        class_names: Vec::new(),
    };
    let range = (0.0, 1.0);
    let ranges = Ranges {
        input: range,
        buffers: vec![range; sequence.buffers.len()],
        middles: vec![range; sequence.drafts.len()],
    };
    let scales = Scales::new(&sequence, &ranges);
    let weights = vec![0.0; plan.weight_bytes / size_of::<f32>()];
    let real = Real { network: &network, graph: &graph, sequence: &sequence, plan: &plan, weights: &weights };
    let forms = form::forms(&graph, &sequence, &[])?;
    let Int8Drafts { drafts, buffers, .. } = draft::quantized(real, &scales, &forms)?;
    Ok(arrange(Sequence { drafts, buffers })?.workspace_bytes)
}
