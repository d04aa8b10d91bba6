//! The layers of a cell as stages, named as in the original's state dict.

use darts_core::Primitive;

use super::{GraphBuilder, Op, ParameterKind, Source};

impl GraphBuilder {
    /// ReLU → 1×1 convolution to `channels` → BN.
    pub fn relu_conv_bn(&mut self, name: &str, inputs: Vec<Source>, channels: usize) -> Source {
        let input_channels = inputs.iter().map(|&source| self.shape(source).channels).sum();
        let op = self.dense(&format!("{name}.op.1"), input_channels, channels, [1, 1], [1, 1], [0, 0]);
        let norm = self.default_norm(format!("{name}.op.2"));
        self.stage(name, inputs, true, vec![op], norm)
    }

    /// ReLU → two 1×1 convolutions at stride 2 → BN.
    pub fn factorized_reduce(&mut self, name: &str, inputs: Vec<Source>, channels: usize) -> Source {
        let input = inputs.iter().map(|&source| self.shape(source).channels).sum();
        let kind = ParameterKind::Dense { kernel: [1, 1], input, output: channels / 2 };
        let weights = ["conv_1", "conv_2"].map(|half| self.parameter(format!("{name}.{half}.weight"), kind));
        let norm = self.default_norm(format!("{name}.bn"));
        self.stage(name, inputs, true, vec![Op::FactorizedReduce { weights, output_channels: channels }], norm)
    }

    /// The operation of an edge on `input`; `None` for the primitive `none`. Pools get a BN if `pool_norm`, as the
    /// search has it and derived networks do not.
    pub fn primitive(
        &mut self,
        primitive: Primitive,
        name: &str,
        input: Source,
        stride: usize,
        pool_norm: bool,
    ) -> Option<Source> {
        Some(match primitive {
            Primitive::None => return None,
            Primitive::MaxPool3x3 => self.pool(name, input, Op::MaxPool { kernel: 3, stride, padding: 1 }, pool_norm),
            Primitive::AvgPool3x3 => self.pool(name, input, Op::AvgPool { kernel: 3, stride, padding: 1 }, pool_norm),
            Primitive::SkipConnect => self.skip_connect(name, input, stride),
            Primitive::SepConv3x3 => self.sep_conv(name, input, 3, stride),
            Primitive::SepConv5x5 => self.sep_conv(name, input, 5, stride),
            Primitive::SepConv7x7 => self.sep_conv(name, input, 7, stride),
            Primitive::DilConv3x3 => self.depthwise_separable(name, input, 1, 3, stride, 2),
            Primitive::DilConv5x5 => self.depthwise_separable(name, input, 1, 5, stride, 2),
            Primitive::Conv7x1_1x7 => self.conv_7x1_1x7(name, input, stride),
        })
    }

    /// The identity, or a factorized reduction at stride 2.
    pub fn skip_connect(&mut self, name: &str, input: Source, stride: usize) -> Source {
        if stride == 1 {
            return input;
        }
        let channels = self.shape(input).channels;
        self.factorized_reduce(name, vec![input], channels)
    }

    fn pool(&mut self, name: &str, input: Source, op: Op, norm: bool) -> Source {
        let Some(norm) = self.default_norm(format!("{name}.1")).filter(|_| norm) else {
            return self.stage(name, vec![input], false, vec![op], None);
        };
        // The edges that leave a state pool the same values.
        let shared = self.shared_stage(&[input], false, std::slice::from_ref(&op), norm.clone());
        shared.unwrap_or_else(|| self.stage(name, vec![input], false, vec![op], Some(norm)))
    }

    fn sep_conv(&mut self, name: &str, input: Source, kernel: usize, stride: usize) -> Source {
        let middle = self.depthwise_separable(name, input, 1, kernel, stride, 1);
        self.depthwise_separable(name, middle, 5, kernel, 1, 1)
    }

    /// ReLU → depthwise → 1×1 → BN; `first` is the position of the depthwise convolution in the original's sequence.
    fn depthwise_separable(
        &mut self,
        name: &str,
        input: Source,
        first: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
    ) -> Source {
        let channels = self.shape(input).channels;
        let kind = ParameterKind::Depthwise { kernel, channels };
        let weight = self.parameter(format!("{name}.op.{first}.weight"), kind);
        let pointwise = self.dense(&format!("{name}.op.{}", first + 1), channels, channels, [1, 1], [1, 1], [0, 0]);
        let norm = self.default_norm(format!("{name}.op.{}", first + 2));
        self.stage(name, vec![input], true, vec![Op::Depthwise { weight, kernel, stride, dilation }, pointwise], norm)
    }

    fn conv_7x1_1x7(&mut self, name: &str, input: Source, stride: usize) -> Source {
        let channels = self.shape(input).channels;
        let rows = self.dense(&format!("{name}.1"), channels, channels, [1, 7], [1, stride], [0, 3]);
        let columns = self.dense(&format!("{name}.2"), channels, channels, [7, 1], [stride, 1], [3, 0]);
        let norm = self.default_norm(format!("{name}.3"));
        self.stage(name, vec![input], true, vec![rows, columns], norm)
    }

    /// A dense convolution whose weight is called `{name}.weight`.
    pub fn dense(
        &mut self,
        name: &str,
        input: usize,
        output: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Op {
        let weight = self.parameter(format!("{name}.weight"), ParameterKind::Dense { kernel, input, output });
        Op::Dense { weight, kernel, stride, padding, output_channels: output }
    }

    /// The preprocessing of a cell's input: a factorized reduction where the states come at twice the cell's size.
    pub fn preprocess(&mut self, name: &str, inputs: Vec<Source>, channels: usize, reduce: bool) -> Source {
        let stage = if reduce {
            self.factorized_reduce(name, inputs, channels)
        } else {
            self.relu_conv_bn(name, inputs, channels)
        };
        self.state(name, stage)
    }

    /// The CIFAR stem: dense 3×3 convolution to `channels`, affine BN.
    pub fn cifar_stem(&mut self, channels: usize) -> Source {
        let input = Source { tensor: super::INPUT, norm: None };
        let input_channels = self.shape(input).channels;
        let conv = self.dense("stem.0", input_channels, channels, [3, 3], [1, 1], [1, 1]);
        let stage = self.stage("stem", vec![input], false, vec![conv], Some(("stem.1".to_owned(), true)));
        self.state("stem", stage)
    }
}

/// Which cells reduce: those at a third and at two thirds of the depth.
pub fn is_reduction(cell: usize, layers: usize) -> bool {
    cell == layers / 3 || cell == 2 * layers / 3
}
