//! The nodes of a network on 8-bit integers, as pairs of `QuantizeLinear` and `DequantizeLinear` around operators on
//! real numbers.
//!
//! They follow the steps of the model for the core, one by one, and so round where it rounds: `q + round(x / s)` there
//! is `round((s · q + x) / s)` here.

use darts_core::{Int8Step, Place, Step};
use darts_kernels_simd::{Padding, PoolShape, SeparableShape};

use super::builder::{Builder, int, ints};
use super::proto::{AttributeProto, GraphProto};
use crate::export::int8::{Int8Network, Scale};
use crate::export::lower::{BufferId, Draft};

/// The nodes and constants that compute `output` from `input`, without the descriptions of these two.
pub(super) fn lower(network: &Int8Network<'_>, input: &str, output: &str) -> GraphProto {
    let images = vec![Image::default(); network.buffers];
    let mut lowerer = Lowerer { network, images, input, scope: String::new(), builder: Builder::default() };
    let mut index = 0;
    let mut logits = None;
    while index < network.drafts.len() {
        network.layer(index).clone_into(&mut lowerer.scope);
        let open = |draft: &&Draft| matches!(draft.step, Step::Int8(Int8Step::Dense { more: true, .. }));
        let parts = 1 + network.drafts[index..].iter().take_while(open).count();
        if let Step::Int8(Int8Step::Dense { .. }) = network.drafts[index].step {
            logits = lowerer.dense(index, parts);
            index += parts;
        } else {
            lowerer.step(index);
            index += 1;
        }
    }
    let mut nodes = lowerer.builder.graph;
    let last = nodes.node.last_mut().expect("a head has nodes");
    assert_eq!(Some(&last.output[0]), logits.as_ref(), "the logits come last");
    last.output = vec![output.to_owned()];
    nodes
}

/// What a buffer holds.
#[derive(Clone, Default)]
struct Image {
    /// Names of quantized values, each with its first channel and their number, in order.
    pieces: Vec<(usize, usize, String)>,
    /// Zeros around it that its reader has to add.
    padding: Padding,
}

struct Lowerer<'a> {
    network: &'a Int8Network<'a>,
    /// By buffer.
    images: Vec<Image>,
    /// The network's input.
    input: &'a str,
    /// The layer.
    scope: String,
    builder: Builder,
}

/// Weights of a convolution, with a scale for each output channel.
struct Filter {
    name: String,
    shape: Vec<usize>,
    values: Vec<i8>,
    scales: Vec<f64>,
    /// In units of the product of these scales and that of the input.
    bias: Option<Vec<i32>>,
}

impl Lowerer<'_> {
    fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.builder.node(&self.scope, operator, inputs, attributes)
    }

    fn concat(&mut self, parts: &[String]) -> String {
        if let [part] = parts {
            return part.clone();
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Concat", &parts, vec![int("axis", 1)])
    }

    fn slice(&mut self, value: &str, [starts, ends, axes]: [&[i64]; 3]) -> String {
        let [starts, ends, axes] = [starts, ends, axes].map(|values| self.builder.integers(values));
        self.node("Slice", &[value, &starts, &ends, &axes], Vec::new())
    }

    fn dequantized(&mut self, value: &str, Scale { scale, zero }: Scale) -> String {
        let (scale, zero) = (self.builder.scale(scale as f32), self.builder.zero_point(zero));
        self.node("DequantizeLinear", &[value, &scale, &zero], Vec::new())
    }

    fn quantized(&mut self, value: &str, Scale { scale, zero }: Scale) -> String {
        let (scale, zero) = (self.builder.scale(scale as f32), self.builder.zero_point(zero));
        self.node("QuantizeLinear", &[value, &scale, &zero], Vec::new())
    }

    /// The quantized value of a whole buffer, without what its reader pads.
    fn read(&mut self, buffer: BufferId) -> String {
        let pieces: Vec<String> = self.images[buffer].pieces.iter().map(|(.., name)| name.clone()).collect();
        assert!(!pieces.is_empty(), "{}: buffer {buffer} is read before it is written", self.scope);
        self.concat(&pieces)
    }

    /// The same after max(x, 0); a scale that starts at 0 has nothing below.
    fn rectified(&mut self, buffer: BufferId, relu: bool) -> String {
        let (value, scale) = (self.read(buffer), self.network.scale(buffer));
        if !relu || scale.zero == i8::MIN {
            return value;
        }
        let real = self.dequantized(&value, scale);
        let positive = self.node("Relu", &[&real], Vec::new());
        self.quantized(&positive, scale)
    }

    /// Writes real numbers to `count` channels from `first` on, or adds them to these.
    fn write(&mut self, target: BufferId, (first, count): (usize, usize), value: &str, accumulate: bool) {
        let scale = self.network.scale(target);
        let mut value = value.to_owned();
        if accumulate {
            let before = self.channels(target, first, count);
            let before = self.dequantized(&before, scale);
            value = self.node("Add", &[&before, &value], Vec::new());
        }
        let value = self.quantized(&value, scale);
        let mut pieces = Vec::new();
        for (start, channels, name) in std::mem::take(&mut self.images[target].pieces) {
            let end = start + channels;
            // What is left of a piece on either side.
            for (from, to) in [(start, end.min(first)), (start.max(first + count), end)] {
                if from < to {
                    let rest = (from, to) == (start, end);
                    let ends = [&[(from - start) as i64][..], &[(to - start) as i64], &[1]];
                    pieces.push((from, to - from, if rest { name.clone() } else { self.slice(&name, ends) }));
                }
            }
        }
        pieces.push((first, count, value));
        pieces.sort_unstable();
        self.images[target] = Image { pieces, padding: Padding::NONE };
    }

    /// The quantized value of some channels of a buffer.
    fn channels(&mut self, buffer: BufferId, first: usize, count: usize) -> String {
        let pieces = &self.images[buffer].pieces;
        if let Some((.., name)) = pieces.iter().find(|(start, channels, _)| (*start, *channels) == (first, count)) {
            return name.clone();
        }
        let whole = self.read(buffer);
        self.slice(&whole, [&[first as i64], &[(first + count) as i64], &[1]])
    }

    /// Any step that is not dense.
    fn step(&mut self, index: usize) {
        let draft = &self.network.drafts[index];
        let Step::Int8(step) = draft.step else { unreachable!("a network on integers") };
        let target = draft.target.expect("only a dense step writes the output");
        match (step, draft.source) {
            (Int8Step::Quantize { shape, .. }, _) => self.write(target, (0, shape.channels), self.input, false),
            (Int8Step::Prelude { shape, padding, input, .. }, Some(source)) => {
                let value = self.rectified(source, input.relu);
                self.images[target] = Image { pieces: vec![(0, shape.channels, value)], padding };
            }
            (Int8Step::Separable { shape, input, accumulate, .. }, Some(source)) => {
                let value = self.rectified(source, input.relu);
                let value = self.separable(index, &value, shape);
                self.write(target, (0, shape.output_channels), &value, accumulate);
            }
            (Int8Step::MaxPool { shape, .. }, Some(source)) => self.pool("MaxPool", source, target, shape),
            (Int8Step::AvgPool { shape, .. }, Some(source)) => self.pool("AveragePool", source, target, shape),
            (Int8Step::GlobalAvgPool { shape, target: place, .. }, Some(source)) => {
                let value = self.real(source);
                let value = self.node("GlobalAveragePool", &[&value], Vec::new());
                self.write(target, (channel(place), shape.channels), &value, false);
            }
            (Int8Step::Rescale { shape, accumulate, .. }, Some(source)) => {
                let value = self.real(source);
                self.write(target, (0, shape.channels), &value, accumulate);
            }
            (Int8Step::Zero { shape, .. }, _) => {
                let value = self.builder.zeros(&self.scope, self.input, shape);
                self.write(target, (0, shape.channels), &value, false);
            }
            (other, _) => unreachable!("{} is no step of a network on integers", other.name()),
        }
    }

    /// The real numbers of a buffer.
    fn real(&mut self, buffer: BufferId) -> String {
        let value = self.read(buffer);
        self.dequantized(&value, self.network.scale(buffer))
    }

    fn pool(&mut self, operator: &str, source: BufferId, target: BufferId, shape: PoolShape) {
        let mut attributes = vec![
            ints("kernel_shape", &[shape.kernel; 2]),
            ints("strides", &[shape.stride; 2]),
            ints("pads", &[shape.padding; 4]),
        ];
        if operator == "AveragePool" {
            attributes.push(int("count_include_pad", 0));
        }
        let value = self.real(source);
        let value = self.node(operator, &[&value], attributes);
        self.write(target, (0, shape.input.channels), &value, false);
    }

    /// Real numbers from the quantized `value`.
    fn separable(&mut self, index: usize, value: &str, shape: SeparableShape) -> String {
        let source = self.network.drafts[index].source.expect("a separable step reads a buffer");
        let (from, middle) = (self.network.scale(source), self.network.middle(index));
        let to = self.network.scale(self.network.drafts[index].target.expect("and writes one"));
        let SeparableShape { input, kernel, stride, dilation, output_channels } = shape;
        let (channels, taps) = (input.channels, kernel * kernel);
        let mut numbers = Numbers(&self.network.weights[index]);
        let (depthwise, pointwise) = (numbers.bytes(taps * channels), numbers.bytes(channels * output_channels));
        numbers.align(taps * channels + channels * output_channels);
        let (between, bias, multipliers) =
            (numbers.words(channels), numbers.words(output_channels), numbers.words(output_channels));
        let (shifts_between, shifts) = (numbers.bytes(channels), numbers.bytes(output_channels));
        let [first, second] = self.network.parameters(index);
        let filter = Filter {
            name: first,
            shape: vec![channels, 1, kernel, kernel],
            values: transposed(&depthwise, taps, channels),
            scales: scales(&between, &shifts_between, middle.scale / from.scale),
            bias: None,
        };
        let attributes = vec![
            int("group", channels),
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("dilations", &[dilation; 2]),
            ints("pads", &pads(shape.padding())),
        ];
        let value = self.convolution("Conv", value, from, filter, attributes);
        let value = self.quantized(&value, middle);
        let filter = Filter {
            name: second,
            shape: vec![output_channels, channels, 1, 1],
            values: transposed(&pointwise, channels, output_channels),
            scales: scales(&multipliers, &shifts, to.scale / middle.scale),
            bias: Some(bias),
        };
        self.convolution("Conv", &value, middle, filter, vec![ints("kernel_shape", &[1; 2])])
    }

    /// An operator with weights on the quantized `value`. The result is real.
    fn convolution(
        &mut self,
        operator: &str,
        value: &str,
        from: Scale,
        filter: Filter,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let value = self.dequantized(value, from);
        let Filter { name, shape, values, scales, bias } = filter;
        let axis = || vec![int("axis", 0)];
        let [quantized, scale] = ["quantized", "scale"].map(|what| format!("{name}_{what}"));
        self.builder.bytes(&quantized, &shape, &values);
        self.builder.floats(&scale, &[scales.len()], &scales.iter().map(|&scale| scale as f32).collect::<Vec<_>>());
        let weight = self.node("DequantizeLinear", &[&quantized, &scale], axis());
        let Some(bias) = bias.filter(|bias| bias.iter().any(|&value| value != 0)) else {
            return self.node(operator, &[&value, &weight], attributes);
        };
        let name = name.strip_suffix(".weight").unwrap_or(&name);
        let [quantized, scale] = ["quantized", "scale"].map(|what| format!("{name}.bias_{what}"));
        let scales: Vec<f32> = scales.iter().map(|scale| (scale * from.scale) as f32).collect();
        self.builder.words(&quantized, &bias);
        self.builder.floats(&scale, &[scales.len()], &scales);
        let bias = self.node("DequantizeLinear", &[&quantized, &scale], axis());
        self.node(operator, &[&value, &weight, &bias], attributes)
    }

    /// A dense convolution of a concatenation of `parts` images, from step `first` on. Returns the logits, if it writes
    /// them.
    fn dense(&mut self, first: usize, parts: usize) -> Option<String> {
        let network = self.network;
        let drafts = &network.drafts[first..first + parts];
        let Step::Int8(Int8Step::Dense { target: place, shape, input, accumulate, .. }) = drafts[0].step else {
            unreachable!("a dense step")
        };
        let sources: Vec<BufferId> = drafts.iter().map(|draft| draft.source.expect("it reads a buffer")).collect();
        let (from, padding) = (network.scale(sources[0]), self.images[sources[0]].padding);
        let images: Vec<String> = sources.iter().map(|&source| self.rectified(source, input.relu)).collect();
        let mut value = self.concat(&images);

        let (rows, outputs) = (shape.weights() / shape.output_channels, shape.output_channels);
        let taps = shape.kernel_height * shape.kernel_width;
        // [part, tap, channel, output] to [output, part, channel, tap].
        let matrices: Vec<Vec<i8>> =
            (first..first + parts).map(|step| Numbers(&network.weights[step]).bytes(shape.weights())).collect();
        let channels = shape.input.channels;
        let mut values = Vec::with_capacity(parts * shape.weights());
        for output in 0..outputs {
            for matrix in &matrices {
                values.extend(of_output(matrix, output, [taps, channels, outputs]));
            }
        }
        let mut numbers = Numbers(&network.weights[first + parts - 1]);
        numbers.bytes(shape.weights());
        numbers.align(shape.weights());
        let (bias, multipliers) = (numbers.words(outputs), numbers.words(outputs));
        let target = drafts[0].target;
        let scales = match target {
            Some(target) => scales(&multipliers, &numbers.bytes(outputs), network.scale(target).scale / from.scale),
            None => {
                let real = |&word: &i32| f64::from(f32::from_bits(word.cast_unsigned())) / from.scale;
                multipliers.iter().map(real).collect()
            }
        };
        let [.., name] = network.parameters(first);
        let mut filter = Filter {
            name,
            shape: vec![outputs, parts * channels, shape.kernel_height, shape.kernel_width],
            values,
            scales,
            bias: Some(bias),
        };
        let Some(target) = target else {
            filter.shape = vec![outputs, parts * rows];
            let features = self.node("Flatten", &[&value], vec![int("axis", 1)]);
            return Some(self.convolution("Gemm", &features, from, filter, vec![int("transB", 1)]));
        };
        let mut around = padding;
        let offset = [shape.offset_height, shape.offset_width];
        if offset != [0, 0] {
            value = self.shifted(&value, padding, offset.map(|extent| extent as i64), from.zero);
            around = Padding::NONE;
        }
        let attributes = vec![
            ints("kernel_shape", &[shape.kernel_height, shape.kernel_width]),
            ints("strides", &[shape.stride_height, shape.stride_width]),
            ints("pads", &pads(around)),
        ];
        let value = self.convolution("Conv", &value, from, filter, attributes);
        self.write(target, (channel(place), outputs), &value, accumulate);
        None
    }

    /// A padded image without its first rows and columns.
    fn shifted(&mut self, value: &str, padding: Padding, offset: [i64; 2], zero: i8) -> String {
        let mut value = value.to_owned();
        if padding != Padding::NONE {
            let [top, left, bottom, right] = pads(padding).map(|side| side as i64);
            let (pads, zero) =
                (self.builder.integers(&[0, 0, top, left, 0, 0, bottom, right]), self.builder.zero_point(zero));
            value = self.node("Pad", &[&value, &pads, &zero], Vec::new());
        }
        self.slice(&value, [&offset, &[i64::MAX; 2], &[2, 3]])
    }
}

/// In the order of ONNX.
fn pads(Padding { top, bottom, left, right }: Padding) -> [usize; 4] {
    [top, left, bottom, right]
}

/// The channel at which a place in a buffer of 8-bit integers is.
fn channel(place: Place) -> usize {
    match place {
        Place::Workspace(byte) => byte as usize,
        Place::External => unreachable!("a place in a buffer"),
    }
}

/// The scales of weights, from the factors behind their sums.
fn scales(multipliers: &[i32], shifts: &[i8], ratio: f64) -> Vec<f64> {
    let real = |(&multiplier, &shift): (&i32, &i8)| f64::from(multiplier) * (-f64::from(shift)).exp2() * ratio;
    multipliers.iter().zip(shifts).map(real).collect()
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(matrix: &[i8], rows: usize, columns: usize) -> Vec<i8> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

/// `[channel, tap]` of one output of `[tap, channel, output]`.
fn of_output(matrix: &[i8], output: usize, [taps, channels, outputs]: [usize; 3]) -> impl Iterator<Item = i8> {
    (0..channels)
        .flat_map(move |channel| (0..taps).map(move |tap| matrix[(tap * channels + channel) * outputs + output]))
}

/// Numbers of a step's weights, one behind the other.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn bytes(&mut self, count: usize) -> Vec<i8> {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes.iter().map(|byte| byte.cast_signed()).collect()
    }

    fn words(&mut self, count: usize) -> Vec<i32> {
        let (words, rest) = self.0.split_at(4 * count);
        self.0 = rest;
        words.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect()
    }

    /// Goes on at a multiple of 4 behind the first `count` bytes.
    fn align(&mut self, count: usize) {
        self.0 = &self.0[count.next_multiple_of(4) - count..];
    }
}
