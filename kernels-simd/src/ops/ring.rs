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
        h.checked_rem(self.rows).unwrap_or_default()
    }

    /// Element of the ring at which row `h` starts.
    pub fn offset(&self, h: usize) -> usize {
        self.slot(h) * self.row_len
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
