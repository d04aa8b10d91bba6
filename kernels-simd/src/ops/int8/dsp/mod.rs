//! The bodies for Cortex-M with the DSP extension (M4, M7, M33): registers of 32 bits that hold four elements or two
//! numbers of 16 bits, by inline assembly. What they are written for is few instructions and little code.
//!
//! Sums are exact whatever their order. A product of a sum with a [`Factor`] is rounded by one shift: half up, which is
//! half away from zero wherever no negative product lies half way. Factors of which that is not sure take the way over
//! 64 bits that every other processor takes.

mod dense;
mod depthwise;
mod instructions;
mod pool;
mod space;
mod sums;

pub(super) use dense::dense;
pub(super) use depthwise::depthwise_row;
pub(super) use pool::{avg_pool, max_pool};
pub(super) use space::Space;

use instructions::{
    add_even_bytes, add_odd_bytes, bytes, finish, halves, load, multiply_high_half, multiply_low_half, store,
};

use super::{Factor, Int8Input, Rescale};
use crate::kernels::Kernels;

/// Channels at a time: the elements of a word.
const QUAD: usize = 4;

impl Int8Input {
    /// What is added to elements, in both halves of a word.
    const fn minus_zero(self) -> u32 {
        halves(-(self.zero as i16))
    }

    /// Whether an element less the zero can be below 0 and then counts as 0.
    const fn rectifies(self) -> bool {
        self.relu && self.zero != i8::MIN
    }
}

/// A [`Rescale`] of four elements at a time.
#[derive(Clone, Copy)]
struct Scaler {
    multiplier: u32,
    /// What is left to shift of a product without its last 16 bits.
    shift: u32,
    minus_source_zero: u32,
}

impl Scaler {
    /// `None` if a negative product could lie half way between two integers, or has less than 17 bits behind the point.
    fn new(rescale: Rescale) -> Option<Self> {
        let Factor { multiplier, shift } = rescale.factor;
        let shift = u32::from(shift);
        // Half way is an odd multiple of 2^(shift − 1), and values have no more than 7 zeros at their end.
        let zeros = multiplier.trailing_zeros();
        ((17..=62).contains(&shift) && (zeros + 8 < shift || zeros >= shift)).then_some(Self {
            multiplier: multiplier as u32,
            shift: shift - 16,
            minus_source_zero: halves(-i16::from(rescale.source_zero)),
        })
    }

    /// Rescales bytes 0 and 2 in the first, and bytes 1 and 3 in the second word of pairs, all less the source's zero.
    #[inline(always)]
    fn pairs(self, even: u32, odd: u32, addends: [i32; QUAD]) -> u32 {
        bytes([
            finish(multiply_low_half(self.multiplier, even), self.shift, addends[0]),
            finish(multiply_low_half(self.multiplier, odd), self.shift, addends[1]),
            finish(multiply_high_half(self.multiplier, even), self.shift, addends[2]),
            finish(multiply_high_half(self.multiplier, odd), self.shift, addends[3]),
        ])
    }

    /// Rescales four elements.
    #[inline(always)]
    fn word(self, word: u32, addends: [i32; QUAD]) -> u32 {
        let even = add_even_bytes(self.minus_source_zero, word);
        self.pairs(even, add_odd_bytes(self.minus_source_zero, word), addends)
    }
}

/// The body of [`Kernels::int8_rescale`].
pub(super) fn rescale(_: Kernels, x: &[i8], y: &mut [i8], rescale: Rescale, accumulate: bool) {
    let whole = if Scaler::new(rescale).is_some() { x.len() / QUAD * QUAD } else { 0 };
    if let Some(scaler) = Scaler::new(rescale) {
        let zeros = [rescale.target_zero.into(); QUAD];
        let (mut from, mut to) = (x.as_ptr(), y.as_mut_ptr());
        // SAFETY: `y` is as long as `x`, and this many words lie in both.
        unsafe {
            let end = from.add(whole);
            while from != end {
                let addends =
                    if accumulate { load(to).to_le_bytes().map(|before| (before as i8).into()) } else { zeros };
                store(to, scaler.word(load(from), addends));
                (from, to) = (from.add(QUAD), to.add(QUAD));
            }
        }
    }
    for (y, &x) in y.iter_mut().zip(x).skip(whole) {
        *y = rescale.element(x, *y, accumulate);
    }
}
