//! Steps on 8-bit integers: the fields that other steps leave free hold what stands for 0, and factors.

use darts_kernels_simd::{Factor, Int8Input, PoolShape, Rescale};

use super::{ACCUMULATE, RELU, Record, flag};
use crate::plan::{Int8Step, StepError};

const QUANTIZE: u8 = 16;
const PRELUDE: u8 = 17;
const SEPARABLE: u8 = 18;
const DENSE: u8 = 19;
const MAX_POOL: u8 = 20;
const AVG_POOL: u8 = 21;
const GLOBAL_AVG_POOL: u8 = 22;
const RESCALE: u8 = 23;
const ZERO: u8 = 24;
const DEQUANTIZE: u8 = 25;

const MORE: u8 = 8;

impl Record {
    /// Everything but the source, the target and the scratch.
    pub(super) fn set_int8(&mut self, step: Int8Step) -> Result<(), StepError> {
        match step {
            Int8Step::Quantize { shape, inverse_scale, zero, accumulate, .. } => {
                self.kind = QUANTIZE;
                self.flags = flag(accumulate, ACCUMULATE);
                self.set_shape(shape)?;
                self.scratch = inverse_scale.to_bits();
                self.border = [0, zero.cast_unsigned(), 0, 0];
            }
            Int8Step::Dequantize { shape, scale, zero, .. } => {
                self.kind = DEQUANTIZE;
                self.set_shape(shape)?;
                self.scratch = scale.to_bits();
                self.border = [zero.cast_unsigned(), 0, 0, 0];
            }
            Int8Step::Prelude { shape, padding, input, .. } => {
                self.kind = PRELUDE;
                self.flags = flag(input.relu, RELU);
                self.set_shape(shape)?;
                self.set_padding(padding)?;
                self.dilation = input.zero.cast_unsigned();
            }
            Int8Step::Separable { shape, input, middle_zero, zero, weights, accumulate, .. } => {
                self.kind = SEPARABLE;
                self.flags = flag(input.relu, RELU) | flag(accumulate, ACCUMULATE);
                self.set_separable(shape)?;
                self.border = [input.zero, zero, middle_zero, 0].map(i8::cast_unsigned);
                self.weights = weights;
            }
            Int8Step::Dense { shape, input, zero, weights, accumulate, more, .. } => {
                self.kind = DENSE;
                self.flags = flag(input.relu, RELU) | flag(accumulate, ACCUMULATE) | flag(more, MORE);
                self.set_dense(shape)?;
                let [rows, columns, ..] = self.border;
                self.border = [rows, columns, input.zero.cast_unsigned(), zero.cast_unsigned()];
                self.weights = weights;
            }
            Int8Step::MaxPool { shape, rescale, .. } => self.set_int8_pool(MAX_POOL, shape, rescale)?,
            Int8Step::AvgPool { shape, rescale, .. } => self.set_int8_pool(AVG_POOL, shape, rescale)?,
            Int8Step::GlobalAvgPool { shape, rescale, .. } => {
                self.kind = GLOBAL_AVG_POOL;
                self.set_shape(shape)?;
                self.set_rescale(rescale);
            }
            Int8Step::Rescale { shape, rescale, accumulate, .. } => {
                self.kind = RESCALE;
                self.flags = flag(accumulate, ACCUMULATE);
                self.set_shape(shape)?;
                self.set_rescale(rescale);
            }
            Int8Step::Zero { shape, zero, .. } => {
                self.kind = ZERO;
                self.set_shape(shape)?;
                self.border = [0, zero.cast_unsigned(), 0, 0];
            }
        }
        Ok(())
    }

    /// The padding of a pool, four equal values elsewhere, is where a dilation would be.
    fn set_int8_pool(&mut self, kind: u8, shape: PoolShape, rescale: Rescale) -> Result<(), StepError> {
        self.kind = kind;
        self.set_pool(shape)?;
        self.dilation = self.border[0];
        self.set_rescale(rescale);
        Ok(())
    }

    fn set_rescale(&mut self, rescale: Rescale) {
        let Rescale { factor, source_zero, target_zero } = rescale;
        self.border = [source_zero.cast_unsigned(), target_zero.cast_unsigned(), factor.shift, 0];
        self.scratch = factor.multiplier.cast_unsigned();
    }

    fn rescale(&self) -> Rescale {
        let [source_zero, target_zero, shift, _] = self.border;
        Rescale {
            factor: Factor { multiplier: self.scratch.cast_signed(), shift },
            source_zero: source_zero.cast_signed(),
            target_zero: target_zero.cast_signed(),
        }
    }

    pub(super) fn int8(&self) -> Result<Int8Step, StepError> {
        let (source, target) = (super::decoded(self.source), super::decoded(self.target));
        let (relu, accumulate) = (self.flags & RELU != 0, self.flags & ACCUMULATE != 0);
        let [first, second, third, fourth] = self.border.map(u8::cast_signed);
        let shape = self.shape();
        let pool = PoolShape { padding: self.dilation.into(), ..self.pool() };
        Ok(match self.kind {
            QUANTIZE => {
                let inverse_scale = f32::from_bits(self.scratch);
                Int8Step::Quantize { source, target, shape, inverse_scale, zero: second, accumulate }
            }
            DEQUANTIZE => {
                Int8Step::Dequantize { source, target, shape, scale: f32::from_bits(self.scratch), zero: first }
            }
            PRELUDE => {
                let input = Int8Input { zero: self.dilation.cast_signed(), relu };
                Int8Step::Prelude { source, target, shape, padding: self.padding(), input }
            }
            SEPARABLE => Int8Step::Separable {
                source,
                target,
                shape: self.separable(),
                input: Int8Input { zero: first, relu },
                middle_zero: third,
                zero: second,
                weights: self.weights,
                accumulate,
                scratch: self.scratch,
            },
            DENSE => Int8Step::Dense {
                source,
                target,
                shape: self.dense(),
                input: Int8Input { zero: third, relu },
                zero: fourth,
                weights: self.weights,
                accumulate,
                more: self.flags & MORE != 0,
            },
            MAX_POOL => Int8Step::MaxPool { source, target, shape: pool, rescale: self.rescale() },
            AVG_POOL => Int8Step::AvgPool { source, target, shape: pool, rescale: self.rescale() },
            GLOBAL_AVG_POOL => Int8Step::GlobalAvgPool { source, target, shape, rescale: self.rescale() },
            RESCALE => Int8Step::Rescale { source, target, shape, rescale: self.rescale(), accumulate },
            ZERO => Int8Step::Zero { target, shape, zero: second },
            other => return Err(StepError::Kind(other)),
        })
    }
}
