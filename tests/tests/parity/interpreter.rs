//! Steps on 8-bit integers by the reference, apart from the core.

use darts_core::{Int8Step, Network, Place, Section, Step};
use darts_host::data::Dataset;
use darts_kernels_simd::{ChannelFactors, Int8Part, Int8Separable, Int8Target, SeparableShape, reference};
use darts_tests::Random;

/// Random images, smooth enough to be told apart after pooling.
pub fn images(network: &Network, count: usize) -> Dataset {
    let mut random = Random::new(5);
    let shape = network.input_shape();
    let bytes = (0..count).flat_map(|_| {
        let level = random.indices(1, 200)[0];
        random.indices(shape.len(), 56).into_iter().map(move |value| (level + value) as u8).collect::<Vec<_>>()
    });
    let names = (0..network.classes()).map(|class| format!("class {class}")).collect();
    Dataset::new(shape, bytes.collect(), vec![0; count], names)
}

/// What the workspace holds at first.
pub const BEFORE: i8 = 99;

/// Runs a plan step by step with the kernels of the reference, in a workspace of its own.
pub struct Interpreter<'a> {
    weights: &'a [u8],
    workspace: Vec<i8>,
}

impl<'a> Interpreter<'a> {
    /// The workspace is full of [`BEFORE`].
    pub fn new(weights: &'a [u8], workspace_bytes: usize) -> Self {
        Self { weights, workspace: vec![BEFORE; workspace_bytes] }
    }

    pub fn read(&self, place: Place, len: usize) -> Vec<i8> {
        let Place::Workspace(start) = place else { panic!("outside of the workspace") };
        self.workspace[start as usize..][..len].to_vec()
    }

    pub fn write(&mut self, place: Place, values: &[i8]) {
        let Place::Workspace(start) = place else { panic!("outside of the workspace") };
        self.workspace[start as usize..][..values.len()].copy_from_slice(values);
    }

    fn bytes(&self, offset: usize, len: usize) -> Vec<i8> {
        self.weights[offset..][..len].iter().map(|&byte| byte as i8).collect()
    }

    fn words(&self, offset: usize, len: usize) -> Vec<i32> {
        self.weights[offset..][..4 * len].as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect()
    }

    fn separable(&self, x: &[i8], y: &mut [i8], step: &Int8Step) {
        let Int8Step::Separable { shape, input, middle_zero, zero, weights, accumulate, .. } = *step else {
            unreachable!()
        };
        let SeparableShape { input: image, output_channels, .. } = shape;
        let (first, second) = (shape.depthwise().weights(), shape.pointwise().weights());
        let start = weights as usize;
        let mut at = start + (first + second).next_multiple_of(4);
        let mut words = |len: usize| {
            let words = self.words(at, len);
            at += 4 * len;
            words
        };
        let (middle, bias, multiplier) = (words(image.channels), words(output_channels), words(output_channels));
        let shifts = &self.weights[at..];
        let (depthwise, pointwise) = (self.bytes(start, first), self.bytes(start + first, second));
        let weights = Int8Separable {
            depthwise: &depthwise,
            middle: ChannelFactors { bias: &[], multiplier: &middle, shift: &shifts[..image.channels] },
            middle_zero,
            pointwise: &pointwise,
            factors: ChannelFactors {
                bias: &bias,
                multiplier: &multiplier,
                shift: &shifts[image.channels..][..output_channels],
            },
        };
        let mut padded = vec![0; shape.depthwise().input.len()];
        let mut between = vec![0; shape.depthwise().output().len()];
        reference::int8_separable(x, shape, input, weights, y, zero, accumulate, &mut padded, &mut between);
    }

    /// Returns the logits if the step writes them.
    pub fn dense(&mut self, parts: &[Int8Step]) -> Option<Vec<f32>> {
        let Int8Step::Dense { target, shape, input, zero, accumulate, .. } = parts[0] else { unreachable!() };
        let images: Vec<_> = parts
            .iter()
            .map(|part| {
                let Int8Step::Dense { source, weights, .. } = *part else { unreachable!() };
                (self.read(source, shape.input.len()), self.bytes(weights as usize, shape.weights()), weights as usize)
            })
            .collect();
        let all: Vec<_> = images.iter().map(|(x, w, _)| Int8Part { x, w }).collect();
        let channels = shape.output_channels;
        let numbers = images[images.len() - 1].2 + shape.weights().next_multiple_of(4);
        let (bias, multiplier) = (self.words(numbers, channels), self.words(numbers + 4 * channels, channels));
        if target == Place::External {
            let scale: Vec<f32> = multiplier.iter().map(|&word| f32::from_bits(word as u32)).collect();
            let mut y = vec![0.0; shape.output_len()];
            reference::int8_dense(&all, input, Int8Target::F32 { y: &mut y, bias: &bias, scale: &scale }, shape);
            return Some(y);
        }
        let shift = &self.weights[numbers + 8 * channels..][..channels];
        let factors = ChannelFactors { bias: &bias, multiplier: &multiplier, shift };
        let mut y = self.read(target, shape.output_len());
        reference::int8_dense(&all, input, Int8Target::Int8 { y: &mut y, factors, zero, accumulate }, shape);
        self.write(target, &y);
        None
    }

    pub fn step(&mut self, step: &Int8Step, image: &[f32]) {
        let x = match step.source() {
            Some(place @ Place::Workspace(_)) => self.read(place, source_len(step)),
            _ => Vec::new(),
        };
        let mut y = self.read(step.target(), target_len(step));
        match *step {
            Int8Step::Quantize { source, inverse_scale, zero, accumulate, .. } => {
                let image = if source == Place::External { image.to_vec() } else { reals(&x) };
                for (y, value) in y.iter_mut().zip(image) {
                    let value = f64::from(value * inverse_scale);
                    let before = if accumulate { *y } else { zero };
                    // Rust's `round` takes halves away from zero.
                    *y = (value.round() + f64::from(before)).clamp(-128.0, 127.0) as i8;
                }
            }
            Int8Step::Dequantize { scale, zero, .. } => {
                let real: Vec<f32> = x.iter().map(|&q| scale * (f32::from(q) - f32::from(zero))).collect();
                y = integers(&real);
            }
            Int8Step::Prelude { shape, padding, input, .. } => {
                reference::int8_prelude(&x, shape, padding, input, &mut y);
            }
            Int8Step::Separable { .. } => self.separable(&x, &mut y, step),
            Int8Step::Dense { .. } => unreachable!(),
            Int8Step::MaxPool { shape, rescale, .. } => reference::int8_max_pool(&x, &mut y, shape, rescale),
            Int8Step::AvgPool { shape, rescale, .. } => reference::int8_avg_pool(&x, &mut y, shape, rescale),
            Int8Step::GlobalAvgPool { shape, rescale, .. } => {
                reference::int8_global_avg_pool(&x, shape, &mut y, rescale);
            }
            Int8Step::Rescale { rescale, accumulate, .. } => {
                reference::int8_rescale(&x, &mut y, rescale, accumulate);
            }
            Int8Step::Zero { zero, .. } => y.fill(zero),
        }
        self.write(step.target(), &y);
    }
}

fn source_len(step: &Int8Step) -> usize {
    Step::Int8(*step).sizes().unwrap().source as usize
}

pub fn target_len(step: &Int8Step) -> usize {
    Step::Int8(*step).sizes().unwrap().target as usize
}

/// The bytes of these `f32`.
pub fn integers(values: &[f32]) -> Vec<i8> {
    values.iter().flat_map(|value| value.to_le_bytes().map(|byte| byte as i8)).collect()
}

/// The `f32` of these bytes.
fn reals(bytes: &[i8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&word: &[i8; 4]| f32::from_le_bytes(word.map(|byte| byte as u8))).collect()
}

/// Offset and length of a section of a file as the library writes it.
pub fn section(file: &[u8], section: Section) -> (usize, usize) {
    let entry = 64 + 16 * (section as usize - 1);
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    (word(entry + 4), word(entry + 8))
}
