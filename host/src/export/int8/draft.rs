//! The steps of a network on 8-bit integers, from those on `f32`.

use darts_core::{Int8Step, Place, Step};
use darts_kernels_simd::{Factor, Int8Input, Padding, Rescale, SeparableShape};

use super::scales::{Scale, Scales, is_part};
use crate::export::lower::{BufferId, Draft};
use crate::export::sequence::Sequence;
use crate::export::{ExportError, Plan};
use crate::graph::Graph;

/// Steps over buffers, and the bytes of each step's weights.
pub(super) struct Int8Drafts {
    pub drafts: Vec<Draft>,
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    pub weights: Vec<Vec<u8>>,
}

/// Largest absolute value of a weight.
const LARGEST: f64 = 127.0;

/// The place of a whole buffer in that buffer.
const WHOLE: Place = Place::Workspace(0);

/// Translates every step. `plan` has the same steps with places in `weights`, all weights and biases.
pub(super) fn quantized(
    graph: &Graph,
    sequence: &Sequence,
    plan: &Plan,
    weights: &[f32],
    scales: &Scales,
) -> Result<Int8Drafts, ExportError> {
    // An element takes a fourth of the bytes; buffers begin at multiples of 4.
    let mut buffers: Vec<u64> = sequence.buffers.iter().map(|bytes| (bytes / 4).next_multiple_of(4)).collect();
    let input = buffers.len();
    buffers.push((graph.input.len() as u64).next_multiple_of(4));
    let Scale { scale, zero } = scales.input;
    let quantize = Int8Step::Quantize {
        source: Place::External,
        target: WHOLE,
        shape: graph.input,
        inverse_scale: (1.0 / scale) as f32,
        zero,
    };
    let mut quantizer = Quantizer { plan, weights, scales, input, drafts: Vec::new(), blobs: Vec::new() };
    quantizer.push(quantize, None, Some(input), Vec::new());
    let mut index = 0;
    while let [draft, rest @ ..] = &sequence.drafts[index..] {
        let parts = 1 + rest.iter().take_while(|next| is_part(draft, next)).count();
        if let Step::Dense { .. } = draft.step {
            quantizer.dense(index, &sequence.drafts[index..index + parts])?;
            index += parts;
        } else {
            quantizer.step(index, draft)?;
            index += 1;
        }
    }
    Ok(Int8Drafts { drafts: quantizer.drafts, buffers, weights: quantizer.blobs })
}

struct Quantizer<'a> {
    plan: &'a Plan,
    weights: &'a [f32],
    scales: &'a Scales,
    /// The buffer of the quantized input.
    input: BufferId,
    drafts: Vec<Draft>,
    blobs: Vec<Vec<u8>>,
}

impl<'a> Quantizer<'a> {
    fn push(&mut self, step: Int8Step, source: Option<BufferId>, target: Option<BufferId>, weights: Vec<u8>) {
        self.drafts.push(Draft { step: Step::Int8(step), source, target, weights: None });
        self.blobs.push(weights);
    }

    fn scale(&self, buffer: Option<BufferId>) -> Scale {
        match buffer {
            Some(buffer) if buffer != self.input => self.scales.buffers[buffer],
            _ => self.scales.input,
        }
    }

    /// The buffer that a step reads.
    fn source(&self, draft: &Draft) -> Option<BufferId> {
        draft.step.source().map(|_| draft.source.unwrap_or(self.input))
    }

    fn rescale(&self, source: Scale, target: Scale, part: f64) -> Result<Rescale, ExportError> {
        let factor = factor(source.scale / target.scale * part)?;
        Ok(Rescale { factor, source_zero: source.zero, target_zero: target.zero })
    }

    /// Weights and bias of a step.
    fn stored(&self, index: usize) -> &'a [f32] {
        let offset = self.plan.steps[index].weights_offset().expect("a step with weights");
        &self.weights[offset as usize / size_of::<f32>()..]
    }

    /// Any step that is not dense.
    fn step(&mut self, index: usize, draft: &Draft) -> Result<(), ExportError> {
        let (source, target) = (self.source(draft), draft.target);
        let (from, to) = (self.scale(source), self.scale(target));
        let place = |place| match place {
            Place::Workspace(byte) => Place::Workspace(byte / 4),
            Place::External => WHOLE,
        };
        let read = draft.step.source().map_or(WHOLE, place);
        let write = place(draft.step.target());
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
        self.push(step, source, target, weights);
        Ok(())
    }

    /// Dense convolutions of the parts of a concatenation, from step `first` on, whose sums are one.
    fn dense(&mut self, first: usize, parts: &[Draft]) -> Result<(), ExportError> {
        let Step::Dense { target, shape, relu, bias, accumulate, .. } = parts[0].step else {
            unreachable!("a dense step")
        };
        let to = self.scale(parts[0].target);
        let from = self.scale(self.source(&parts[0]));
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
            let source = self.source(part);
            let step = Int8Step::Dense {
                source: WHOLE,
                target: match target {
                    Place::Workspace(byte) => Place::Workspace(byte / 4),
                    Place::External => Place::External,
                },
                shape,
                input: Int8Input { zero: from.zero, relu },
                zero: if target == Place::External { 0 } else { to.zero },
                weights: 0,
                accumulate,
                more,
            };
            self.push(step, source, part.target, bytes);
        }
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
