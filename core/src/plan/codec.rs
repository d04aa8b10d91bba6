//! The record of a step in a model file, [`STEP_BYTES`] little-endian bytes; docs/model-format.md has the table.

mod int8;

use darts_kernels_simd::{DenseShape, DepthwiseShape, ImageShape, Padding, PoolShape, SeparableShape};

use super::{Place, Step, StepError, Storage, Weights};

/// Bytes of the record of a step.
pub const STEP_BYTES: usize = 40;

const PRELUDE: u8 = 1;
const DEPTHWISE: u8 = 2;
const DENSE: u8 = 3;
const MAX_POOL: u8 = 4;
const AVG_POOL: u8 = 5;
const GLOBAL_AVG_POOL: u8 = 6;
const ADD: u8 = 7;
const ZERO: u8 = 8;
const SEPARABLE: u8 = 9;

const RELU: u8 = 1;
const ACCUMULATE: u8 = 2;
const BIAS: u8 = 4;

const F32: u8 = 1;
const F16: u8 = 2;

/// Stands for [`Place::External`]; no multiple of 4, so that it is no byte offset.
const EXTERNAL: u32 = u32::MAX;

/// The fields of a record in their order; those that a kind of step does not use are 0.
#[derive(Default)]
struct Record {
    kind: u8,
    flags: u8,
    kernel: [u8; 2],
    stride: [u8; 2],
    dilation: u8,
    storage: u8,
    /// Padding (top, bottom, left, right), or the offsets of a dense convolution (rows, columns); with 8-bit integers
    /// also what stands for 0.
    border: [u8; 4],
    height: u16,
    width: u16,
    channels: u16,
    output_channels: u16,
    output_pixel_stride: u16,
    block: u16,
    source: u32,
    target: u32,
    weights: u32,
    scratch: u32,
}

impl Record {
    fn to_bytes(&self) -> [u8; STEP_BYTES] {
        let mut bytes = [0; STEP_BYTES];
        let [k0, k1] = self.kernel;
        let [s0, s1] = self.stride;
        let [b0, b1, b2, b3] = self.border;
        let small = [self.kind, self.flags, k0, k1, s0, s1, self.dilation, self.storage, b0, b1, b2, b3];
        let medium =
            [self.height, self.width, self.channels, self.output_channels, self.output_pixel_stride, self.block];
        let large = [self.source, self.target, self.weights, self.scratch];
        let values = small
            .into_iter()
            .chain(medium.into_iter().flat_map(u16::to_le_bytes))
            .chain(large.into_iter().flat_map(u32::to_le_bytes));
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = value;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; STEP_BYTES]) -> Self {
        let byte = |i: usize| bytes.get(i).copied().unwrap_or_default();
        let half = |i| u16::from_le_bytes([byte(i), byte(i + 1)]);
        let word = |i| u32::from_le_bytes([byte(i), byte(i + 1), byte(i + 2), byte(i + 3)]);
        Self {
            kind: byte(0),
            flags: byte(1),
            kernel: [byte(2), byte(3)],
            stride: [byte(4), byte(5)],
            dilation: byte(6),
            storage: byte(7),
            border: [byte(8), byte(9), byte(10), byte(11)],
            height: half(12),
            width: half(14),
            channels: half(16),
            output_channels: half(18),
            output_pixel_stride: half(20),
            block: half(22),
            source: word(24),
            target: word(28),
            weights: word(32),
            scratch: word(36),
        }
    }

    fn set_shape(&mut self, shape: ImageShape) -> Result<(), StepError> {
        self.height = half("height", shape.height)?;
        self.width = half("width", shape.width)?;
        self.channels = half("channels", shape.channels)?;
        Ok(())
    }

    fn shape(&self) -> ImageShape {
        ImageShape::new(self.height.into(), self.width.into(), self.channels.into())
    }

    fn set_weights(&mut self, weights: Weights) {
        self.weights = weights.offset;
        self.storage = match weights.storage {
            Storage::F32 => F32,
            Storage::F16 => F16,
        };
    }

    fn weights(&self) -> Result<Weights, StepError> {
        let storage = match self.storage {
            F32 => Storage::F32,
            F16 => Storage::F16,
            other => return Err(StepError::Storage(other)),
        };
        Ok(Weights { offset: self.weights, storage })
    }

    fn set_padding(&mut self, padding: Padding) -> Result<(), StepError> {
        let Padding { top, bottom, left, right } = padding;
        for (byte_of, side) in self.border.iter_mut().zip([top, bottom, left, right]) {
            *byte_of = byte("padding", side)?;
        }
        Ok(())
    }

    fn padding(&self) -> Padding {
        let [top, bottom, left, right] = self.border.map(usize::from);
        Padding { top, bottom, left, right }
    }

    fn set_separable(&mut self, shape: SeparableShape) -> Result<(), StepError> {
        self.set_shape(shape.input)?;
        self.kernel = [byte("kernel", shape.kernel)?; 2];
        self.stride = [byte("stride", shape.stride)?; 2];
        self.dilation = byte("dilation", shape.dilation)?;
        self.output_channels = half("output channels", shape.output_channels)?;
        Ok(())
    }

    fn separable(&self) -> SeparableShape {
        SeparableShape {
            input: self.shape(),
            kernel: self.kernel[0].into(),
            stride: self.stride[0].into(),
            dilation: self.dilation.into(),
            output_channels: self.output_channels.into(),
        }
    }

    fn set_dense(&mut self, shape: DenseShape) -> Result<(), StepError> {
        self.set_shape(shape.input)?;
        self.kernel = [byte("kernel", shape.kernel_height)?, byte("kernel", shape.kernel_width)?];
        self.stride = [byte("stride", shape.stride_height)?, byte("stride", shape.stride_width)?];
        self.border = [byte("offset", shape.offset_height)?, byte("offset", shape.offset_width)?, 0, 0];
        self.output_channels = half("output channels", shape.output_channels)?;
        self.output_pixel_stride = half("output pixel stride", shape.output_pixel_stride)?;
        Ok(())
    }

    fn dense(&self) -> DenseShape {
        let [kernel_height, kernel_width] = self.kernel.map(usize::from);
        let [stride_height, stride_width] = self.stride.map(usize::from);
        let [offset_height, offset_width, ..] = self.border.map(usize::from);
        DenseShape {
            input: self.shape(),
            output_channels: self.output_channels.into(),
            kernel_height,
            kernel_width,
            stride_height,
            stride_width,
            offset_height,
            offset_width,
            output_pixel_stride: self.output_pixel_stride.into(),
        }
    }

    fn set_pool(&mut self, shape: PoolShape) -> Result<(), StepError> {
        self.set_shape(shape.input)?;
        self.kernel = [byte("kernel", shape.kernel)?; 2];
        self.stride = [byte("stride", shape.stride)?; 2];
        self.border = [byte("padding", shape.padding)?; 4];
        Ok(())
    }

    fn pool(&self) -> PoolShape {
        PoolShape {
            input: self.shape(),
            kernel: self.kernel[0].into(),
            stride: self.stride[0].into(),
            padding: self.border[0].into(),
        }
    }
}

fn byte(name: &'static str, value: usize) -> Result<u8, StepError> {
    value.try_into().map_err(|_| StepError::Parameter { name, value })
}

fn half(name: &'static str, value: usize) -> Result<u16, StepError> {
    value.try_into().map_err(|_| StepError::Parameter { name, value })
}

const fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

const fn encoded(place: Place) -> u32 {
    match place {
        Place::External => EXTERNAL,
        Place::Workspace(offset) => offset,
    }
}

const fn decoded(offset: u32) -> Place {
    if offset == EXTERNAL { Place::External } else { Place::Workspace(offset) }
}

impl Step {
    /// The record of the step.
    ///
    /// # Errors
    ///
    /// [`StepError::Parameter`] if a number is too large for its field.
    pub fn to_bytes(&self) -> Result<[u8; STEP_BYTES], StepError> {
        let mut record = Record {
            source: self.source().map_or(0, encoded),
            target: encoded(self.target()),
            scratch: self.scratch().unwrap_or(0),
            ..Record::default()
        };
        match *self {
            Self::Prelude { shape, padding, relu, .. } => {
                record.kind = PRELUDE;
                record.flags = flag(relu, RELU);
                record.set_shape(shape)?;
                record.set_padding(padding)?;
            }
            Self::Depthwise { shape, weights, .. } => {
                record.kind = DEPTHWISE;
                record.set_shape(shape.input)?;
                record.kernel = [byte("kernel", shape.kernel)?; 2];
                record.stride = [byte("stride", shape.stride)?; 2];
                record.dilation = byte("dilation", shape.dilation)?;
                record.set_weights(weights);
            }
            Self::Separable { shape, relu, weights, bias, accumulate, .. } => {
                record.kind = SEPARABLE;
                record.flags = flag(relu, RELU) | flag(accumulate, ACCUMULATE) | flag(bias, BIAS);
                record.set_separable(shape)?;
                record.set_weights(weights);
            }
            Self::Dense { shape, relu, weights, bias, accumulate, block, .. } => {
                record.kind = DENSE;
                record.flags = flag(relu, RELU) | flag(accumulate, ACCUMULATE) | flag(bias, BIAS);
                record.block = block;
                record.set_dense(shape)?;
                record.set_weights(weights);
            }
            Self::MaxPool { shape, .. } => {
                record.kind = MAX_POOL;
                record.set_pool(shape)?;
            }
            Self::AvgPool { shape, .. } => {
                record.kind = AVG_POOL;
                record.set_pool(shape)?;
            }
            Self::GlobalAvgPool { shape, .. } => {
                record.kind = GLOBAL_AVG_POOL;
                record.set_shape(shape)?;
            }
            Self::Add { shape, .. } => {
                record.kind = ADD;
                record.set_shape(shape)?;
            }
            Self::Zero { shape, .. } => {
                record.kind = ZERO;
                record.set_shape(shape)?;
            }
            Self::Int8(step) => record.set_int8(step)?,
        }
        Ok(record.to_bytes())
    }

    /// The step of a record. Whether it is sound says [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`StepError::Kind`], [`StepError::Storage`] and [`StepError::Reserved`], for a record that is not exactly what
    /// [`to_bytes`](Self::to_bytes) gives for a step.
    pub fn from_bytes(bytes: &[u8; STEP_BYTES]) -> Result<Self, StepError> {
        let step = Self::decode(bytes)?;
        if step.to_bytes()? == *bytes { Ok(step) } else { Err(StepError::Reserved) }
    }

    /// The same without a look at fields that the step does not use, for records that have passed
    /// [`from_bytes`](Self::from_bytes) before.
    pub(crate) fn decode(bytes: &[u8; STEP_BYTES]) -> Result<Self, StepError> {
        let record = Record::from_bytes(bytes);
        let (source, target) = (decoded(record.source), decoded(record.target));
        let has = |flag| record.flags & flag != 0;
        let shape = record.shape();
        Ok(match record.kind {
            PRELUDE => Self::Prelude { source, target, shape, padding: record.padding(), relu: has(RELU) },
            DEPTHWISE => Self::Depthwise {
                source,
                target,
                shape: DepthwiseShape {
                    input: shape,
                    kernel: record.kernel[0].into(),
                    stride: record.stride[0].into(),
                    dilation: record.dilation.into(),
                },
                weights: record.weights()?,
                scratch: record.scratch,
            },
            SEPARABLE => Self::Separable {
                source,
                target,
                shape: record.separable(),
                relu: has(RELU),
                weights: record.weights()?,
                bias: has(BIAS),
                accumulate: has(ACCUMULATE),
                scratch: record.scratch,
            },
            DENSE => Self::Dense {
                source,
                target,
                shape: record.dense(),
                relu: has(RELU),
                weights: record.weights()?,
                bias: has(BIAS),
                accumulate: has(ACCUMULATE),
                scratch: record.scratch,
                block: record.block,
            },
            MAX_POOL => Self::MaxPool { source, target, shape: record.pool() },
            AVG_POOL => Self::AvgPool { source, target, shape: record.pool() },
            GLOBAL_AVG_POOL => Self::GlobalAvgPool { source, target, shape },
            ADD => Self::Add { source, target, shape },
            ZERO => Self::Zero { target, shape },
            _ => Self::Int8(record.int8()?),
        })
    }
}
