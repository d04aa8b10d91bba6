//! Slices with canaries on both sides.

use std::ops::{Deref, DerefMut};

/// Elements on each side, more than the widest register has lanes.
const GUARD: usize = 32;

/// A NaN with a payload that no arithmetic produces.
const CANARY: u32 = 0x7fc0_da27;

/// A slice of `f32` between canaries. A kernel that writes outside is found when the buffer is dropped; one that lets
/// an element from outside take part gives NaN.
pub struct Guarded {
    all: Vec<f32>,
}

impl Guarded {
    /// `len` elements that are all NaN: for outputs that are overwritten.
    pub fn unwritten(len: usize) -> Self {
        guarded(&vec![f32::NAN; len])
    }
}

/// A guarded copy.
pub fn guarded(values: &[f32]) -> Guarded {
    let canary = [f32::from_bits(CANARY); GUARD];
    Guarded { all: [&canary[..], values, &canary[..]].concat() }
}

impl Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.all[GUARD..self.all.len() - GUARD]
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        let end = self.all.len() - GUARD;
        &mut self.all[GUARD..end]
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let end = self.all.len() - GUARD;
        for (i, value) in self.all.iter().enumerate() {
            let outside = i < GUARD || i >= end;
            assert!(
                !outside || value.to_bits() == CANARY,
                "element {} of {} was written",
                i as isize - GUARD as isize,
                end - GUARD
            );
        }
    }
}
