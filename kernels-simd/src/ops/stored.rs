//! Images in single or in half precision. Kernels convert what they read where they read it and what they write on its
//! way past the caches, so that half precision is half the memory traffic and no pass of its own.

use core::ops::Range;

use crate::arch::Simd;
use crate::kernels::Kernels;
use crate::ops::lanes;
use crate::ops::prelude::Prelude;
use crate::ops::stream::{copy, copy_halves};

/// Values as they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// In single precision.
    F32(&'a [f32]),
    /// The bits of IEEE half precision.
    F16(&'a [u16]),
}

/// Where values are stored.
#[derive(Debug)]
pub enum StoredMut<'a> {
    /// In single precision.
    F32(&'a mut [f32]),
    /// As the bits of IEEE half precision, rounded to nearest even.
    F16(&'a mut [u16]),
}

impl<'a> From<&'a [f32]> for Stored<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl Stored<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of a range.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F16(values) => Self::F16(&values[range]),
        }
    }

    /// One value, in single precision.
    ///
    /// # Panics
    ///
    /// When it does not exist.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(values) => values[index],
            Self::F16(values) => half::f16::from_bits(values[index]).to_f32_const(),
        }
    }
}

/// A value as it is stored.
pub(super) trait Element: Copy {
    /// As [`load`](lanes::load), converted to single precision.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn load<S: Simd, const PARTIAL: bool>(source: *const Self, count: usize) -> S::Vector;

    /// The values, if they are stored in this form.
    fn values(stored: Stored<'_>) -> Option<&[Self]>;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd, const PARTIAL: bool>(source: *const Self, count: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { lanes::load::<S, PARTIAL>(source, count) }
    }

    fn values(stored: Stored<'_>) -> Option<&[Self]> {
        if let Stored::F32(values) = stored { Some(values) } else { None }
    }
}

impl Element for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd, const PARTIAL: bool>(source: *const Self, count: usize) -> S::Vector {
        // SAFETY: the caller's promise.
        unsafe { if PARTIAL { S::load_f16_partial(source, count) } else { S::load_f16(source) } }
    }

    fn values(stored: Stored<'_>) -> Option<&[Self]> {
        if let Stored::F16(values) = stored { Some(values) } else { None }
    }
}

/// An image that is read row by row.
pub(super) trait Source: Copy {
    /// Number of values.
    fn len(self) -> usize;

    /// `y` = the values of `range` after `prelude`.
    ///
    /// # Safety
    ///
    /// The range lies inside and is as long as `y`, that of whole pixels of as many channels as the slices of the
    /// prelude.
    unsafe fn preluded(self, kernels: Kernels, range: Range<usize>, prelude: Prelude<'_>, y: &mut [f32]);

    /// The memory of the `len` values from `first` on, which need not exist: where it starts, and its length in `f32`.
    fn memory(self, first: usize, len: usize) -> (*const f32, usize);
}

impl Source for &[f32] {
    fn len(self) -> usize {
        self.len()
    }

    #[inline(always)]
    unsafe fn preluded(self, kernels: Kernels, range: Range<usize>, prelude: Prelude<'_>, y: &mut [f32]) {
        // SAFETY: promised by the caller.
        unsafe { prelude.row(kernels, self.get_unchecked(range), y) }
    }

    fn memory(self, first: usize, len: usize) -> (*const f32, usize) {
        (self.as_ptr().wrapping_add(first), len)
    }
}

impl Source for Stored<'_> {
    fn len(self) -> usize {
        Stored::len(&self)
    }

    #[inline(always)]
    unsafe fn preluded(self, kernels: Kernels, range: Range<usize>, prelude: Prelude<'_>, y: &mut [f32]) {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Self::F32(values) => values.preluded(kernels, range, prelude, y),
                Self::F16(values) => prelude.row_of_halves(kernels, values.get_unchecked(range), y),
            }
        }
    }

    fn memory(self, first: usize, len: usize) -> (*const f32, usize) {
        match self {
            Self::F32(values) => values.memory(first, len),
            Self::F16(values) => (values.as_ptr().wrapping_add(first).cast(), len / 2),
        }
    }
}

/// An image that is written strip by strip.
pub(super) trait Target {
    /// Number of values.
    fn len(&self) -> usize;

    /// Where values in single precision can be stored in place.
    fn in_place(&mut self) -> Option<*mut f32>;

    /// Where values in half precision are.
    fn halves(&mut self) -> Option<*mut u16> {
        None
    }

    /// Stores `len` values from `source`, in the first cache, from value `first` on: past the caches where they fill
    /// lines.
    ///
    /// # Safety
    ///
    /// Both have these values.
    unsafe fn copy(&mut self, kernels: Kernels, source: *const f32, first: usize, len: usize);
}

impl Target for &mut [f32] {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn in_place(&mut self) -> Option<*mut f32> {
        Some(self.as_mut_ptr())
    }

    unsafe fn copy(&mut self, kernels: Kernels, source: *const f32, first: usize, len: usize) {
        // SAFETY: promised by the caller.
        unsafe { copy(kernels, source, self.as_mut_ptr().add(first), len) }
    }
}

impl Target for StoredMut<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    fn in_place(&mut self) -> Option<*mut f32> {
        match self {
            Self::F32(values) => values.in_place(),
            Self::F16(_) => None,
        }
    }

    fn halves(&mut self) -> Option<*mut u16> {
        match self {
            Self::F32(_) => None,
            Self::F16(values) => Some(values.as_mut_ptr()),
        }
    }

    unsafe fn copy(&mut self, kernels: Kernels, source: *const f32, first: usize, len: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Self::F32(values) => values.copy(kernels, source, first, len),
                Self::F16(values) => copy_halves(kernels, source, values.as_mut_ptr().add(first), len),
            }
        }
    }
}
