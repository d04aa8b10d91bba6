//! Rows of an image in a ring: the last few of them, with zeros left and right.

use core::ops::Range;

use crate::ops::depthwise::Window;
use crate::shape::divide;

/// `rows` rows of `row_len` elements; row `h` of the image lives in slot `h % rows`. A whole image is a ring with as
/// many slots as it has rows.
#[derive(Clone, Copy)]
pub(super) struct Ring {
    pub start: *mut f32,
    pub rows: usize,
    pub row_len: usize,
}

impl Ring {
    /// A ring over `storage`, whose slots get zeros in all but the elements `inside`, unless they are there.
    pub fn new(storage: &mut [f32], rows: usize, inside: Range<usize>, zeros_are_there: bool) -> Self {
        debug_assert!(storage.len().is_multiple_of(rows), "whole rows");
        let row_len = storage.len().checked_div(rows).unwrap_or_default();
        if !zeros_are_there {
            for row in storage.chunks_exact_mut(row_len.max(1)) {
                row.get_mut(..inside.start).unwrap_or_default().fill(0.0);
                row.get_mut(inside.end..).unwrap_or_default().fill(0.0);
            }
        }
        Self { start: storage.as_mut_ptr(), rows, row_len }
    }

    /// Where row `h` lives; there is always a slot.
    fn slot(&self, h: usize) -> usize {
        // Mostly a whole image, which needs no division.
        if h < self.rows { h } else { h.checked_rem(self.rows).unwrap_or_default() }
    }

    /// Element of the ring at which row `h` starts.
    pub fn offset(&self, h: usize) -> usize {
        self.slot(h) * self.row_len
    }

    /// The same rows, each from element `first` on.
    pub fn starting_at(self, first: usize) -> Self {
        Self { start: self.start.wrapping_add(first), ..self }
    }

    /// Rows from `above` above row `first` on, of an image of `height` rows; those outside of it are at `outside`.
    pub fn padded(self, first: usize, above: usize, height: usize, outside: *const f32) -> PaddedRows {
        let first_inside = first.saturating_sub(above);
        PaddedRows {
            rows: self,
            above: above.saturating_sub(first),
            inside: height - first_inside,
            slot: self.slot(first_inside),
            outside,
        }
    }

    /// `window` over rows `step` rows of the image apart from `first` on.
    #[inline(always)]
    pub fn window(&self, first: usize, step: usize, window: Window) -> Window {
        Window {
            source_row: step * self.row_len,
            rows_to_end: divide(self.rows - self.slot(first) + step - 1, step),
            ring: (self.rows * self.row_len) as isize,
            ..window
        }
    }
}

/// Rows of an image and of zeros around it, which are stored nowhere.
#[derive(Clone, Copy)]
pub(super) struct PaddedRows {
    pub rows: Ring,
    /// Rows of zeros above the others.
    pub above: usize,
    /// Rows that are stored; those behind are zeros again.
    pub inside: usize,
    /// The slot of the first stored row.
    pub slot: usize,
    /// Where all others are: a row of zeros, or null.
    pub outside: *const f32,
}

impl PaddedRows {
    /// Where row `row` starts, or [`outside`](Self::outside).
    ///
    /// # Safety
    ///
    /// The stored rows up to this one are at most as many as the ring has slots.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> *const f32 {
        let stored = row.wrapping_sub(self.above);
        if stored >= self.inside {
            return self.outside;
        }
        let slot = self.slot + stored;
        let slot = if slot >= self.rows.rows { slot - self.rows.rows } else { slot };
        // SAFETY: the slot is in the ring.
        unsafe { self.rows.start.add(slot * self.rows.row_len) }
    }
}
