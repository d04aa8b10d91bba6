//! The steps of a network on 8-bit integers, from those on `f32`.

use darts_core::{Int8Step, Place, Step};
use darts_kernels_simd::{Factor, ImageShape, Int8Input, Padding, Rescale, SeparableShape};

use super::form::{Form, float_buffers, is_copy, narrowed, read_by, same_layer, written_by};
use super::scales::{Scale, Scales, is_part};
use crate::export::lower::{BufferId, Draft, Layer, WHOLE};
use crate::export::plan::narrow;
use crate::export::sequence::Sequence;
use crate::export::{ExportError, Plan, Precision, fold};
use crate::graph::Graph;
use crate::weights::TrainedNetwork;

/// Steps over buffers, and the bytes of each step's weights.
pub(super) struct Int8Drafts {
    pub drafts: Vec<Draft>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    pub weights: Vec<Vec<u8>>,
    /// Of each step, the one on `f32` that it stands for: the first one, where its sums are those of several. Steps
    /// that only bring an image into another form for its readers stand for none.
    pub origins: Vec<Option<usize>>,
}

/// A network whose steps are translated.
#[derive(Clone, Copy)]
pub(super) struct Real<'a> {
    pub network: &'a TrainedNetwork,
    pub graph: &'a Graph,
    pub sequence: &'a Sequence,
    /// Has the steps of the sequence with places in `weights`.
    pub plan: &'a Plan,
    /// All weights and biases.
    pub weights: &'a [f32],
}

/// Largest absolute value of a weight.
const LARGEST: f64 = 127.0;

/// Translates every step to its form.
pub(super) fn quantized(real: Real<'_>, scales: &Scales, forms: &[Form]) -> Result<Int8Drafts, ExportError> {
    let sequence = real.sequence;
    let float = float_buffers(sequence, forms);
    // An 8-bit element takes a fourth of the bytes; buffers begin at multiples of 4.
    let bytes = |(bytes, float): (&u64, &bool)| if *float { *bytes } else { (bytes / 4).next_multiple_of(4) };
    let mut quantizer = Quantizer {
        real,
        scales,
        copies: vec![None; sequence.buffers.len()],
        buffers: sequence.buffers.iter().zip(&float).map(bytes).collect(),
        float,
        input: None,
        layer: Layer::Head,
        drafts: Vec::new(),
        blobs: Vec::new(),
        origins: Vec::new(),
    };
    let mut index = 0;
    while let [draft, rest @ ..] = &sequence.drafts[index..] {
        quantizer.layer = draft.layer;
        index += match (draft.step, forms[index]) {
            _ if is_copy(&draft.step) && quantizer.is_float(draft.source) && !quantizer.is_float(draft.target) => {
                quantizer.add_rounded(index, draft);
                1
            }
            (Step::Dense { .. }, Form::Float(precision)) => {
                let count = same_layer(&sequence.drafts[index..]);
                quantizer.float(index, &sequence.drafts[index..index + count], precision)?;
                count
            }
            (Step::Dense { .. }, Form::Int8) => {
                let parts = 1 + rest.iter().take_while(|next| is_part(draft, next)).count();
                quantizer.dense(index, &sequence.drafts[index..index + parts])?;
                parts
            }
            (step, Form::Float(precision))
                if quantizer.is_float(draft.target) || !is_copy(&step) && !matches!(step, Step::Zero { .. }) =>
            {
                quantizer.float(index, &sequence.drafts[index..=index], precision)?;
                1
            }
            _ => {
                quantizer.step(index, draft)?;
                1
            }
        };
    }
    let Quantizer { drafts, buffers, blobs, origins, .. } = quantizer;
    Ok(Int8Drafts { drafts, buffers, weights: blobs, origins })
}

/// Buffers of the sequence keep their numbers; those that are added come behind them.
struct Quantizer<'a> {
    real: Real<'a>,
    scales: &'a Scales,
    /// Which buffers of the sequence hold `f32`.
    float: Vec<bool>,
    /// Of each buffer of the sequence, one with the same image in the other form, if there is one at this point.
    copies: Vec<Option<BufferId>>,
    /// The quantized input, once it is needed.
    input: Option<BufferId>,
    buffers: Vec<u64>,
    /// What is being translated.
    layer: Layer,
    drafts: Vec<Draft>,
    blobs: Vec<Vec<u8>>,
    origins: Vec<Option<usize>>,
}

impl<'a> Quantizer<'a> {
    fn push(&mut self, step: Step, [source, target]: [Option<BufferId>; 2], weights: Vec<u8>, origin: Option<usize>) {
        self.drafts.push(Draft { step, source, target, weights: None, layer: self.layer });
        self.blobs.push(weights);
        self.origins.push(origin);
    }

    /// Whether a buffer of the sequence holds `f32`.
    fn is_float(&self, buffer: Option<BufferId>) -> bool {
        buffer.is_some_and(|buffer| self.float[buffer])
    }

    fn buffer(&mut self, bytes: u64) -> BufferId {
        self.buffers.push(bytes.next_multiple_of(4));
        self.buffers.len() - 1
    }

    /// The scale of an image, be it quantized or not; that of the input for none.
    fn scale(&self, buffer: Option<BufferId>) -> Scale {
        buffer.map_or(self.scales.input, |buffer| self.scales.buffers[buffer])
    }

    /// Forgets the copy of an image that changes.
    fn changed(&mut self, buffer: Option<BufferId>) {
        if let Some(buffer) = buffer {
            self.copies[buffer] = None;
        }
    }

    fn quantize(
        &mut self,
        source: Option<BufferId>,
        (target, place): (BufferId, Place),
        shape: ImageShape,
        Scale { scale, zero }: Scale,
        (accumulate, origin): (bool, Option<usize>),
    ) {
        let step = Int8Step::Quantize {
            source: source.map_or(Place::External, |_| WHOLE),
            target: place,
            shape,
            inverse_scale: (1.0 / scale) as f32,
            zero,
            accumulate,
        };
        self.push(Step::Int8(step), [source, Some(target)], Vec::new(), origin);
    }

    /// The 8-bit integers that a step reads.
    fn source(&mut self, draft: &Draft) -> Option<BufferId> {
        draft.step.source()?;
        let known = match draft.source {
            Some(buffer) if !self.float[buffer] => Some(buffer),
            Some(buffer) => self.copies[buffer],
            None => self.input,
        };
        if known.is_some() {
            return known;
        }
        let shape = read_by(&draft.step);
        let copy = self.buffer(shape.len() as u64);
        self.quantize(draft.source, (copy, WHOLE), shape, self.scale(draft.source), (false, None));
        *draft.source.map_or(&mut self.input, |buffer| &mut self.copies[buffer]) = Some(copy);
        Some(copy)
    }

    /// The `f32` that a step reads; `None` is the network's input, or nothing.
    fn float_source(&mut self, draft: &Draft) -> Option<BufferId> {
        let buffer = draft.source?;
        if self.float[buffer] {
            return Some(buffer);
        }
        if let Some(copy) = self.copies[buffer] {
            return Some(copy);
        }
        let shape = read_by(&draft.step);
        let copy = self.buffer(4 * shape.len() as u64);
        let Scale { scale, zero } = self.scale(draft.source);
        let step = Int8Step::Dequantize { source: WHOLE, target: WHOLE, shape, scale: scale as f32, zero };
        self.push(Step::Int8(step), [Some(buffer), Some(copy)], Vec::new(), None);
        self.copies[buffer] = Some(copy);
        Some(copy)
    }

    /// Adds an image of `f32` to one of 8-bit integers, or copies it there.
    fn add_rounded(&mut self, index: usize, draft: &Draft) {
        let target = draft.target.expect("an image is added to a buffer");
        let adds = matches!(draft.step, Step::Add { .. });
        let (shape, scale) = (written_by(&draft.step), self.scale(draft.target));
        self.quantize(draft.source, (target, WHOLE), shape, scale, (adds, Some(index)));
        self.changed(draft.target);
    }

    /// Steps on `f32` from step `first` on, several only if they are one dense layer's. An image of 8-bit integers gets
    /// what they make rounded.
    fn float(&mut self, first: usize, drafts: &[Draft], precision: Precision) -> Result<(), ExportError> {
        let sources: Vec<_> = drafts.iter().map(|draft| self.float_source(draft)).collect();
        let rounded = drafts[0].target.filter(|&target| !self.float[target]);
        let shape = written_by(&drafts[0].step);
        let target = if rounded.is_some() { Some(self.buffer(4 * shape.len() as u64)) } else { drafts[0].target };
        let (mut place, mut adds, mut convolution) = (WHOLE, false, 0);
        for (index, (draft, source)) in drafts.iter().zip(sources).enumerate() {
            let mut float = Draft { source, target, weights: None, ..draft.clone() };
            if precision == Precision::F16 {
                narrow(&mut float);
            }
            let part = index > 0 && is_part(&drafts[convolution], draft);
            if !part {
                convolution = index;
            }
            match &mut float.step {
                // The parts of a concatenation are added to the first one, and the sum is what is rounded.
                Step::Dense { accumulate, .. } | Step::Separable { accumulate, .. } if rounded.is_some() && !part => {
                    adds = std::mem::take(accumulate);
                }
                Step::GlobalAvgPool { target, .. } if rounded.is_some() => {
                    place = narrowed(std::mem::replace(target, WHOLE));
                }
                _ => {}
            }
            let mut bytes = Vec::new();
            if let Some(folded) = &draft.weights {
                fold::append(self.real.network, self.real.graph, &float.step, folded, &mut bytes)?;
            }
            self.push(float.step, [source, target], bytes, Some(first + convolution));
        }
        if let Some(buffer) = rounded {
            self.quantize(target, (buffer, place), shape, self.scale(rounded), (adds, Some(first + convolution)));
        }
        self.changed(drafts[0].target);
        Ok(())
    }

    fn rescale(&self, source: Scale, target: Scale, part: f64) -> Result<Rescale, ExportError> {
        let factor = factor(source.scale / target.scale * part)?;
        Ok(Rescale { factor, source_zero: source.zero, target_zero: target.zero })
    }

    /// Weights and bias of a step.
    fn stored(&self, index: usize) -> &'a [f32] {
        let offset = self.real.plan.steps[index].weights_offset().expect("a step with weights");
        &self.real.weights[offset as usize / size_of::<f32>()..]
    }

    /// Any step that is not dense, on 8-bit integers.
    fn step(&mut self, index: usize, draft: &Draft) -> Result<(), ExportError> {
        let (source, target) = (self.source(draft), draft.target);
        let (from, to) = (self.scale(draft.source), self.scale(target));
        let (read, write) = (WHOLE, narrowed(draft.step.target()));
        let mut weights = Vec::new();
        let step = match draft.step {
            Step::Prelude { shape, padding: Padding::NONE, relu: false, .. } => {
                let rescale = self.rescale(from, to, 1.0)?;
                Int8Step::Rescale { source: read, target: write, shape, rescale, accumulate: false }
            }
            Step::Prelude { shape, padding, relu, .. } => {
                let input = Int8Input { zero: from.zero, relu };
                Int8Step::Prelude { source: read, target: write, shape, padding, input }
            }
            Step::Separable { shape, relu, bias, accumulate, .. } => {
                let middle = self.scales.middles[index];
                weights = separable(self.stored(index), shape, bias, [from, middle, to])?;
                Int8Step::Separable {
                    source: read,
                    target: write,
                    shape,
                    input: Int8Input { zero: from.zero, relu },
                    middle_zero: middle.zero,
                    zero: to.zero,
                    weights: 0,
                    accumulate,
                    scratch: 0,
                }
            }
            Step::MaxPool { shape, .. } => {
                Int8Step::MaxPool { source: read, target: write, shape, rescale: self.rescale(from, to, 1.0)? }
            }
            Step::AvgPool { shape, .. } => {
                Int8Step::AvgPool { source: read, target: write, shape, rescale: self.rescale(from, to, 1.0)? }
            }
            Step::GlobalAvgPool { shape, .. } => {
                let rescale = self.rescale(from, to, 1.0 / shape.pixels() as f64)?;
                Int8Step::GlobalAvgPool { source: read, target: write, shape, rescale }
            }
            Step::Add { shape, .. } => {
                let rescale = self.rescale(from, to, 1.0)?;
                Int8Step::Rescale { source: read, target: write, shape, rescale, accumulate: true }
            }
            Step::Zero { shape, .. } => Int8Step::Zero { target: write, shape, zero: to.zero },
            Step::Depthwise { .. } | Step::Dense { .. } | Step::Int8(_) => {
                unreachable!("{} is no step of a lowered network on its own", draft.step.name())
            }
        };
        self.push(Step::Int8(step), [source, target], weights, Some(index));
        self.changed(target);
        Ok(())
    }

    /// Dense convolutions of the parts of a concatenation, from step `first` on, whose sums are one, on 8-bit integers.
    fn dense(&mut self, first: usize, parts: &[Draft]) -> Result<(), ExportError> {
        let Step::Dense { target, shape, relu, bias, accumulate, .. } = parts[0].step else {
            unreachable!("a dense step")
        };
        let to = self.scale(parts[0].target);
        let from = self.scale(parts[0].source);
        let sources: Vec<_> = parts.iter().map(|part| self.source(part)).collect();
        let matrices: Vec<&[f32]> =
            (0..parts.len()).map(|part| &self.stored(first + part)[..shape.weights()]).collect();
        let columns = column_scales(&matrices, shape.output_channels);
        let biases = bias.then(|| &self.stored(first)[shape.weights()..][..shape.output_channels]);
        for (index, (part, matrix)) in parts.iter().zip(&matrices).enumerate() {
            let more = index + 1 < parts.len();
            let mut bytes = rounded(matrix, &columns);
            if !more {
                let sums: Vec<f64> = columns.iter().map(|column| column * from.scale).collect();
                pad(&mut bytes);
                push_bias(&mut bytes, biases, &sums);
                if target == Place::External {
                    sums.iter().for_each(|&scale| bytes.extend((scale as f32).to_le_bytes()));
                } else {
                    push_factors(&mut bytes, &factors(&sums, to)?);
                }
            }
            let step = Int8Step::Dense {
                source: WHOLE,
                target: narrowed(target),
                shape,
                input: Int8Input { zero: from.zero, relu },
                zero: if target == Place::External { 0 } else { to.zero },
                weights: 0,
                accumulate,
                more,
            };
            self.push(Step::Int8(step), [sources[index], part.target], bytes, Some(first));
        }
        self.changed(parts[0].target);
        Ok(())
    }
}

fn factor(value: f64) -> Result<Factor, ExportError> {
    Factor::new(value).ok_or(ExportError::Factor { value })
}

/// From sums of the given scales to elements of an image, such that small processors round by one shift.
fn factors(sums: &[f64], target: Scale) -> Result<Vec<Factor>, ExportError> {
    sums.iter().map(|scale| Ok(factor(scale / target.scale)?.with_odd_multiplier())).collect()
}

/// The scale of each column of matrices that stand one below the other, by its largest weight.
fn column_scales(matrices: &[&[f32]], columns: usize) -> Vec<f64> {
    let mut largest = vec![0.0f32; columns];
    for row in matrices.iter().flat_map(|matrix| matrix.chunks_exact(columns)) {
        largest.iter_mut().zip(row).for_each(|(largest, weight)| *largest = largest.max(weight.abs()));
    }
    largest.iter().map(|&largest| if largest > 0.0 { f64::from(largest) / LARGEST } else { 1.0 }).collect()
}

/// The nearest integers to the weights in units of their columns' scales.
fn rounded(weights: &[f32], columns: &[f64]) -> Vec<u8> {
    let scales = columns.iter().cycle();
    weights.iter().zip(scales).map(|(&weight, scale)| ((f64::from(weight) / scale).round() as i8) as u8).collect()
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn push_bias(bytes: &mut Vec<u8>, bias: Option<&[f32]>, sums: &[f64]) {
    for (channel, scale) in sums.iter().enumerate() {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
        bytes.extend(((bias / scale).round() as i32).to_le_bytes());
    }
}

/// All multipliers, and then all shifts.
fn push_factors(bytes: &mut Vec<u8>, factors: &[Factor]) {
    factors.iter().for_each(|factor| bytes.extend(factor.multiplier.to_le_bytes()));
    bytes.extend(factors.iter().map(|factor| factor.shift));
}

/// The bytes of a separable step's weights: `[k, k, C]`, `[C, C_out]`, multipliers between the convolutions, biases and
/// multipliers of the output, shifts of both.
fn separable(
    stored: &[f32],
    shape: SeparableShape,
    bias: bool,
    [from, middle, to]: [Scale; 3],
) -> Result<Vec<u8>, ExportError> {
    let (depthwise, rest) = stored.split_at(shape.depthwise().weights());
    let (pointwise, rest) = rest.split_at(shape.pointwise().weights());
    let taps = column_scales(&[depthwise], shape.input.channels);
    let columns = column_scales(&[pointwise], shape.output_channels);
    let mut bytes = rounded(depthwise, &taps);
    bytes.extend(rounded(pointwise, &columns));
    pad(&mut bytes);
    let between = factors(&taps.iter().map(|scale| scale * from.scale).collect::<Vec<_>>(), middle)?;
    let sums: Vec<f64> = columns.iter().map(|scale| scale * middle.scale).collect();
    let output = factors(&sums, to)?;
    between.iter().for_each(|factor| bytes.extend(factor.multiplier.to_le_bytes()));
    push_bias(&mut bytes, bias.then(|| &rest[..shape.output_channels]), &sums);
    output.iter().for_each(|factor| bytes.extend(factor.multiplier.to_le_bytes()));
    bytes.extend(between.iter().chain(&output).map(|factor| factor.shift));
    Ok(bytes)
}
