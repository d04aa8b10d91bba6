//! Test data.

use darts_kernels_simd::{ChannelFactors, Factor, Int8Input, Rescale};

/// Largest number of channels.
const CHANNELS: usize = 128;

/// A generator (xorshift, Marsaglia 2003); always the same numbers.
pub struct Random(u32);

impl Random {
    pub fn new() -> Self {
        Self(2_463_534_242)
    }

    pub fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// From `from` to `to`, both included.
    pub fn within(&mut self, from: usize, to: usize) -> usize {
        from + (self.word() >> 8) as usize % (to + 1 - from)
    }

    pub fn flag(&mut self) -> bool {
        self.within(0, 1) == 1
    }

    pub fn element(&mut self) -> i8 {
        (self.word() >> 24) as i8
    }

    pub fn fill(&mut self, elements: &mut [i8]) {
        elements.iter_mut().for_each(|element| *element = self.element());
    }

    /// Any, and often one that rounds exact halves, or is 1.
    pub fn factor(&mut self) -> Factor {
        let exponent = self.within(0, 30) as u32;
        match self.within(0, 5) {
            0 => Factor { multiplier: 1 << exponent, shift: self.within(1, 62) as u8 },
            1 => Factor { multiplier: 1 << exponent, shift: exponent.max(1) as u8 },
            2 => Factor { multiplier: self.word() as i32, shift: self.within(1, 62) as u8 },
            _ => self.usual_factor(29, 34),
        }
    }

    /// As networks have them, with an odd multiplier of 31 bits.
    pub fn usual_factor(&mut self, least: usize, most: usize) -> Factor {
        Factor { multiplier: (1 << 30 | self.word() >> 2 | 1) as i32, shift: self.within(least, most) as u8 }
    }

    pub fn rescale(&mut self) -> Rescale {
        let same = self.flag();
        let (source_zero, target_zero) = (self.element(), self.element());
        Rescale { factor: self.factor(), source_zero, target_zero: if same { source_zero } else { target_zero } }
    }

    pub fn input(&mut self) -> Int8Input {
        let zero = if self.flag() { -128 } else { self.element() };
        Int8Input { zero, relu: self.flag() }
    }
}

/// What becomes of sums.
pub struct Factors {
    bias: [i32; CHANNELS],
    multiplier: [i32; CHANNELS],
    shift: [u8; CHANNELS],
}

impl Factors {
    /// `usual` ones, or any among them.
    pub fn new(random: &mut Random, usual: bool) -> Self {
        let mut factors = Self { bias: [0; CHANNELS], multiplier: [0; CHANNELS], shift: [0; CHANNELS] };
        for channel in 0..CHANNELS {
            let any = !usual && random.within(0, 3) == 0;
            let factor = if any { random.factor() } else { random.usual_factor(36, 42) };
            factors.bias[channel] = random.word() as i32 >> 18;
            (factors.multiplier[channel], factors.shift[channel]) = (factor.multiplier, factor.shift);
        }
        factors
    }

    pub fn of(&self, channels: usize) -> ChannelFactors<'_> {
        ChannelFactors { bias: &self.bias[..channels], ..self.without_bias(channels) }
    }

    pub fn without_bias(&self, channels: usize) -> ChannelFactors<'_> {
        ChannelFactors { bias: &[], multiplier: &self.multiplier[..channels], shift: &self.shift[..channels] }
    }
}
