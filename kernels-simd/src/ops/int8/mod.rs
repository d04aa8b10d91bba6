//! Inference on 8-bit integers: a real number is `scale · (q − zero)` for an element `q` of an image, and `scale_c · w`
//! for a weight of output channel `c`. Sums are 32-bit and exact (they wrap, where a file is so made that they
//! overflow); what comes from them to an image is rescaled by a fixed-point factor and rounded once, half away from
//! zero. So every implementation gives the same bits.

mod convolution;
mod elementwise;
mod pool;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod dot;
#[cfg(all(target_arch = "arm", feature = "dsp"))]
mod dsp;
#[cfg(not(all(target_arch = "arm", feature = "dsp")))]
mod portable;

#[cfg(all(target_arch = "arm", feature = "dsp"))]
use dsp as bodies;
#[cfg(not(all(target_arch = "arm", feature = "dsp")))]
use portable as bodies;

pub use convolution::{Int8Depthwise, Int8Part, Int8Separable, Int8Target};

/// The factor `multiplier / 2^shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// From 2^30 on for 31 significant bits; negative ones are allowed, 0 gives 0.
    pub multiplier: i32,
    /// 1 to 62.
    pub shift: u8,
}

impl Factor {
    /// Largest shift.
    pub const MAX_SHIFT: u8 = 62;

    /// 0.
    const ZERO: Self = Self { multiplier: 0, shift: Self::MAX_SHIFT };

    /// The nearest factor to `value`; 0 if that is too small, `None` if it is negative, no number, or 2^30 and more.
    pub fn new(value: f64) -> Option<Self> {
        if !(0.0..1073741823.5).contains(&value) {
            return None;
        }
        // The mantissa of a normal number, as an integer of 53 bits, and its exponent.
        let bits = value.to_bits();
        let (exponent, mantissa) = ((bits >> 52) as i32 - 1075, bits & ((1 << 52) - 1) | (1 << 52));
        let (mut multiplier, mut shift) = ((mantissa + (1 << 21)) >> 22, -(exponent + 22));
        if multiplier == 1 << 31 {
            (multiplier, shift) = (1 << 30, shift - 1);
        }
        let fits = shift <= Self::MAX_SHIFT.into();
        Some(if fits { Self { multiplier: multiplier as i32, shift: shift as u8 } } else { Self::ZERO })
    }

    /// The same with an odd multiplier, off by 2^-30 of it at most. With a shift of 33 and more no product of a sum
    /// then lies half way between two integers, so that one shift rounds it.
    pub const fn with_odd_multiplier(self) -> Self {
        if self.multiplier == 0 { self } else { Self { multiplier: self.multiplier | 1, ..self } }
    }

    /// `value` times the factor, rounded half away from zero.
    #[inline(always)]
    pub(crate) const fn apply(self, value: i32) -> i64 {
        let product = value as i64 * self.multiplier as i64;
        let shift = if self.shift < 1 {
            1
        } else if self.shift > Self::MAX_SHIFT {
            Self::MAX_SHIFT
        } else {
            self.shift
        };
        // Of a negative number exactly half way the one below is taken, which is the one away from zero.
        (product + (1 << (shift - 1)) - (product < 0) as i64) >> shift
    }
}

/// From elements of one image to those of another: `target_zero + factor · (q − source_zero)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// Scale of the source by scale of the target.
    pub factor: Factor,
    /// What stands for 0 in the source.
    pub source_zero: i8,
    /// What stands for 0 in the target.
    pub target_zero: i8,
}

impl Rescale {
    /// What `y` becomes of an element `x` of the source.
    #[inline(always)]
    fn element(&self, x: i8, y: i8, accumulate: bool) -> i8 {
        let value = self.factor.apply(i32::from(x) - i32::from(self.source_zero));
        let before = if accumulate { y } else { self.target_zero };
        clamp(value + i64::from(before))
    }
}

/// What becomes of the sums of each output channel of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ChannelFactors<'a> {
    /// Added to the sums; empty for none.
    pub bias: &'a [i32],
    /// [`Factor::multiplier`] of each channel.
    pub multiplier: &'a [i32],
    /// [`Factor::shift`] of each channel.
    pub shift: &'a [u8],
}

impl<'a> ChannelFactors<'a> {
    fn fits(&self, channels: usize) -> bool {
        (self.bias.is_empty() || self.bias.len() == channels)
            && [self.multiplier.len(), self.shift.len()] == [channels; 2]
    }
}

/// How a convolution reads an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Input {
    /// What stands for 0.
    pub zero: i8,
    /// Whether negative values count as 0.
    pub relu: bool,
}

impl Int8Input {
    /// What is multiplied: an element less the zero, -255 to 255.
    #[inline(always)]
    fn offset(self, q: i8) -> i32 {
        let value = i32::from(q) - i32::from(self.zero);
        if self.relu { value.max(0) } else { value }
    }
}

/// The nearest element.
#[inline(always)]
fn clamp(value: i64) -> i8 {
    value.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}
