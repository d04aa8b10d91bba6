//! A small model with every kind of step.

use darts_core::{Genotype, Metadata, ModelParts, NetworkKind, Place, Step, Storage, Weights, WriteError};
use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, SeparableShape};

use crate::Random;

/// Bytes at an address that is a multiple of 64, plus `shift`.
pub struct AlignedBytes {
    buffer: Vec<u8>,
    start: usize,
}

impl AlignedBytes {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8], shift: usize) -> Self {
        let mut buffer = vec![0; bytes.len() + 64 + shift];
        let start = buffer.as_ptr().align_offset(64) + shift;
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        buffer.truncate(start + bytes.len());
        Self { buffer, start }
    }

    /// The bytes.
    pub fn get(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The bytes, to be changed.
    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }
}

/// What a model is made of, with room to spoil it.
pub struct SampleModel {
    /// One image.
    pub input: ImageShape,
    /// Number of logits.
    pub classes: usize,
    /// Mean of each input channel.
    pub mean: Vec<f32>,
    /// Deviation of each input channel.
    pub deviation: Vec<f32>,
    /// The cells.
    pub genotype: Genotype,
    /// The plan.
    pub steps: Vec<Step>,
    /// The weights section.
    pub weights: Vec<u8>,
    /// The weights of each convolution, in the order of the plan, as the model sees them.
    pub filters: Vec<Filter>,
    half: bool,
    workspace_end: u32,
    random: Random,
}

/// Weights of one convolution.
pub struct Filter {
    /// In the layout of the kernels.
    pub weights: Vec<f32>,
    /// If any.
    pub bias: Option<Vec<f32>>,
}

impl SampleModel {
    /// The model with `f32` weights, or with the same rounded to half precision and stored so.
    pub fn new(half: bool) -> Self {
        let input = ImageShape::new(5, 4, 2);
        let mut model = Self {
            input,
            classes: 3,
            mean: vec![0.25, 0.5],
            deviation: vec![0.5, 0.25],
            genotype: Genotype::builtin("NASNet").expect("a builtin"),
            steps: Vec::new(),
            weights: Vec::new(),
            filters: Vec::new(),
            half,
            workspace_end: 0,
            random: Random::new(7),
        };
        model.build();
        model
    }

    fn build(&mut self) {
        let stem = ImageShape::new(5, 4, 4);
        let small = ImageShape::new(3, 2, 4);
        let padded = self.prelude(Place::External, self.input, Padding::symmetric(1, 1), false);
        let state = self.place(stem);
        self.dense(padded, state, DenseShape::square(ImageShape::new(7, 6, 2), 4, 3, 1), true, false);

        // A dilated separable convolution at stride 2, and both poolings added to it.
        let padded = self.prelude(state, stem, Padding::symmetric(2, 2), true);
        let shape = DepthwiseShape { input: ImageShape::new(9, 8, 4), kernel: 3, stride: 2, dilation: 2 };
        let depthwise = self.place(small);
        let weights = self.weights(9 * 4, None);
        let scratch = self.scratch(9 * 4);
        self.steps.push(Step::Depthwise { source: padded, target: depthwise, shape, weights, scratch });
        let node = self.place(small);
        self.dense(depthwise, node, DenseShape::pointwise(small, 4), true, false);
        let shape = PoolShape { input: stem, kernel: 3, stride: 2, padding: 1 };
        let pooled = self.place(small);
        self.steps.push(Step::MaxPool { source: state, target: pooled, shape });
        self.steps.push(Step::Add { source: pooled, target: node, shape: small });
        self.steps.push(Step::AvgPool { source: state, target: pooled, shape });
        self.steps.push(Step::Add { source: pooled, target: node, shape: small });

        // A factorized reduction of an image of odd height.
        let padded = self.prelude(state, stem, Padding { bottom: 1, ..Padding::NONE }, true);
        let Place::Workspace(reduced) = self.place(small) else { unreachable!() };
        let mut shape = DenseShape::square(ImageShape::new(6, 4, 4), 2, 1, 2);
        shape.output_pixel_stride = 4;
        self.dense(padded, Place::Workspace(reduced), shape, true, false);
        (shape.offset_height, shape.offset_width) = (1, 1);
        self.dense(padded, Place::Workspace(reduced + 8), shape, false, false);

        // A sum that starts from nothing: a convolution of a concatenation, and a separable one.
        let sum = self.place(small);
        self.steps.push(Step::Zero { target: sum, shape: small });
        self.dense(node, sum, DenseShape::pointwise(small, 4), false, true);
        self.dense(Place::Workspace(reduced), sum, DenseShape::pointwise(small, 4), false, true);
        let shape = SeparableShape { input: small, kernel: 3, stride: 1, dilation: 2, output_channels: 4 };
        let count = shape.depthwise().weights() + shape.pointwise().weights();
        let weights = self.weights(count, Some(4));
        let widened = if self.half { count } else { 0 };
        let Place::Workspace(scratch) = self.place(ImageShape::new(1, shape.forward_scratch() + widened, 1)) else {
            unreachable!()
        };
        let (source, relu, bias, accumulate) = (Place::Workspace(reduced), true, true, true);
        self.steps.push(Step::Separable { source, target: sum, shape, relu, weights, bias, accumulate, scratch });

        let Place::Workspace(features) = self.place(ImageShape::new(1, 1, 12)) else { unreachable!() };
        for (i, source) in [node, Place::Workspace(reduced), sum].into_iter().enumerate() {
            let target = Place::Workspace(features + 16 * i as u32);
            self.steps.push(Step::GlobalAvgPool { source, target, shape: small });
        }
        let shape = DenseShape::pointwise(ImageShape::new(1, 1, 12), self.classes);
        self.dense(Place::Workspace(features), Place::External, shape, true, false);
    }

    /// Allots a region of the workspace.
    fn place(&mut self, shape: ImageShape) -> Place {
        let start = self.workspace_end;
        self.workspace_end += 4 * shape.len() as u32;
        Place::Workspace(start)
    }

    fn prelude(&mut self, source: Place, shape: ImageShape, padding: Padding, relu: bool) -> Place {
        let target = self.place(shape.padded(padding));
        self.steps.push(Step::Prelude { source, target, shape, padding, relu });
        target
    }

    fn dense(&mut self, source: Place, target: Place, shape: DenseShape, bias: bool, accumulate: bool) {
        let weights = self.weights(shape.weights(), bias.then_some(shape.output_channels));
        // Three channels at a time, so that a last block of one channel remains.
        let widened = if self.half { shape.output_channels.min(3) } else { 0 };
        let scratch = self.scratch(shape.weights() / shape.output_channels * widened);
        let (block, relu) = (widened as u16, accumulate);
        self.steps.push(Step::Dense { source, target, shape, relu, weights, bias, accumulate, scratch, block });
    }

    /// Allots room for widened weights; none for `f32`.
    fn scratch(&mut self, elements: usize) -> u32 {
        match self.place(ImageShape::new(1, if self.half { elements } else { 0 }, 1)) {
            Place::Workspace(start) if self.half => start,
            _ => 0,
        }
    }

    /// Draws and stores `count` weights, and a bias of so many channels.
    fn weights(&mut self, count: usize, bias: Option<usize>) -> Weights {
        let mut weights = self.random.values(count);
        let offset = self.weights.len() as u32;
        let storage = if self.half {
            weights.iter_mut().for_each(|weight| *weight = half::f16::from_f32(*weight).to_f32());
            self.weights.extend(weights.iter().flat_map(|&weight| half::f16::from_f32(weight).to_le_bytes()));
            self.weights.resize(self.weights.len().next_multiple_of(4), 0);
            Storage::F16
        } else {
            self.weights.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
            Storage::F32
        };
        let bias = bias.map(|channels| self.random.values(channels));
        self.weights.extend(bias.iter().flatten().flat_map(|value| value.to_le_bytes()));
        self.filters.push(Filter { weights, bias });
        Weights { offset, storage }
    }

    /// Bytes of the workspace that the plan uses.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_end as usize
    }

    /// The parts for writing.
    pub fn parts(&self) -> ModelParts<'_> {
        ModelParts {
            metadata: Metadata {
                input: self.input,
                classes: self.classes,
                layers: 8,
                channels: 16,
                kind: NetworkKind::Cifar,
                mean: &self.mean,
                deviation: &self.deviation,
            },
            genotype: &self.genotype,
            steps: &self.steps,
            weights: &self.weights,
        }
    }

    /// The file.
    pub fn file(&self) -> Result<AlignedBytes, WriteError> {
        let parts = self.parts();
        let mut file = AlignedBytes::new(&vec![0xaa; parts.encoded_len()], 0);
        parts.write(file.get_mut())?;
        Ok(file)
    }
}
