//! The matrix product behind the dense convolutions.

use super::dense::DensePart;
use super::prefetch::Along;
use super::strip::Strip;
use super::terms::in_groups;
use super::tiles::{Tiles, cover};
use crate::arch::{Simd, Terms};
use crate::kernels::{Kernels, dispatch};
use crate::shape::divide;

/// `c[p, :] (+)= bias + Σ_s a_s[p, :] · b_s` for the `s`-th of `segments` pairs of matrices: `a_s` `[pixels, depth]`,
/// `b_s` `[depth, columns]`, one behind the other.
pub(super) struct Product {
    pub a: *const f32,
    pub a_pixel: usize,
    pub a_segment: usize,
    pub segments: usize,
    pub depth: usize,
    pub b: *const f32,
    pub columns: usize,
    /// Null for none.
    pub bias: *const f32,
    pub accumulate: bool,
    /// With [`Destination::MemoryAsHalves`] it points to `u16`.
    pub c: *mut f32,
    pub c_pixel: usize,
    /// Where `c` is no one row of pixels; then it is overwritten.
    pub gaps: Option<Gaps>,
    pub to: Destination,
    /// `[2, columns]`: each column's sum and sum of squares of `c` are added; null for none.
    pub moments: *mut f32,
    /// What is asked for on the way.
    pub ahead: Along,
}

/// How `c` is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Caches,
    /// Past the caches; [`can_stream`](super::stream::can_stream).
    Memory,
    /// The same in half precision, with no gaps and nothing added to;
    /// [`can_stream_halves`](super::stream::can_stream_halves).
    MemoryAsHalves,
}

/// Rows of pixels with gaps between them.
#[derive(Clone, Copy)]
pub(super) struct Gaps {
    /// Pixels of a row.
    pub width: usize,
    /// Elements between two rows.
    pub len: usize,
}

/// Where pixels start, one after the other.
pub(super) struct Targets<'a> {
    product: &'a Product,
    next: *mut f32,
    /// Pixels before the next gap.
    left: usize,
}

impl Targets<'_> {
    /// Where the next `pixels` pixels start, between which there is no gap.
    #[inline(always)]
    pub fn next(&mut self, pixels: usize) -> *mut f32 {
        if let (0, Some(Gaps { width, len })) = (self.left, self.product.gaps) {
            self.next = self.next.wrapping_add(len);
            self.left = width;
        }
        let target = self.next;
        self.next = target.wrapping_add(pixels * self.product.c_pixel);
        self.left -= pixels;
        target
    }
}

impl Product {
    /// Where pixel `pixel` and those behind it start in `c`.
    #[inline(always)]
    pub fn targets(&self, pixel: usize) -> Targets<'_> {
        let (before, left) = match self.gaps {
            Some(Gaps { width, len }) => {
                let rows = divide(pixel, width);
                (rows * len, (rows + 1) * width - pixel)
            }
            None => (0, usize::MAX),
        };
        Targets { product: self, next: self.c.wrapping_add(pixel * self.c_pixel + before), left }
    }

    /// Computes `pixels` rows of `c`.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices.
    pub unsafe fn compute(&self, kernels: Kernels, pixels: usize) {
        // SAFETY: promised by the caller.
        unsafe { self.compute_sum(kernels, pixels, &[], 0, false) }
    }

    /// The same with the products of `others` added, whose matrices are `x` from element `offset` on, and `w`; with
    /// `relu` every `a` is `max(a, 0)`.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices, and so do those of `others`.
    pub unsafe fn compute_sum(
        &self,
        kernels: Kernels,
        pixels: usize,
        others: &[DensePart<'_>],
        offset: usize,
        relu: bool,
    ) {
        let product = self;
        // SAFETY: promised by the caller.
        unsafe {
            if relu {
                let sum = &Sum::<true> { product, others, offset, first: 0 };
                dispatch!(kernels, rows_of_relu(sum: &Sum<'_, true>, pixels: usize))
            } else {
                let sum = &Sum::<false> { product, others, offset, first: 0 };
                dispatch!(kernels, rows(sum: &Sum<'_, false>, pixels: usize))
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd>(sum: &Sum<'_, false>, pixels: usize) {
    let product = sum.product;
    // SAFETY: promised by the caller; what is left begins behind what is done.
    unsafe {
        let done = match sum.others {
            [] if product.can_keep::<S>() => product.keep_weights::<S>(pixels),
            [] if product.can_halve::<S>() => product.halve::<S>(pixels),
            _ => 0,
        };
        // In one place: it is much code, and on the stack of an unoptimised program once for each.
        if done < pixels {
            cover::<S, _>(&Sum { first: done, ..*sum }, pixels - done, product.columns);
        }
    }
}

#[inline(always)]
unsafe fn rows_of_relu<S: Simd>(sum: &Sum<'_, true>, pixels: usize) {
    // SAFETY: promised by the caller.
    unsafe { cover::<S, _>(sum, pixels, sum.product.columns) }
}

/// A product and others that are added to it.
struct Sum<'a, const RELU: bool> {
    product: &'a Product,
    others: &'a [DensePart<'a>],
    offset: usize,
    /// Pixels that are done.
    first: usize,
}

impl<const RELU: bool> Tiles for Sum<'_, RELU> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize, const U: usize, const PARTIAL: bool>(
        &self,
        row: usize,
        column: usize,
        lanes: usize,
    ) {
        let (product, row) = (self.product, self.first + row);
        let width = const { V * S::LANES + U * S::Rest::LANES };
        product.ahead.ask((row, R), (column, width));
        // SAFETY: the pointers cover the matrices, and the tile lies inside.
        unsafe {
            let c = product.c.wrapping_add(row * product.c_pixel + column);
            let mut sums = [Strip::<S, V, U>::zero(); R];
            if !product.bias.is_null() {
                sums = [Strip::load::<PARTIAL>(product.bias.add(column), lanes); R];
            }
            if product.accumulate {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add(&Strip::load::<PARTIAL>(c.add(r * product.c_pixel), lanes));
                }
            }
            let first = (product.a, product.b);
            let others = self.others.iter().map(|part| (part.x.as_ptr().add(self.offset), part.w.as_ptr()));
            for (a, b) in core::iter::once(first).chain(others) {
                let mut b = b.add(column);
                for segment in 0..product.segments {
                    let a = a.add(row * product.a_pixel + segment * product.a_segment);
                    let mut terms =
                        Terms { a, a_pixel: product.a_pixel, depth: product.depth, b, columns: product.columns };
                    if const { in_groups::<S>(R, V, U) } {
                        terms = terms.add_groups::<S, R, V, U, RELU, false>(&mut sums, lanes);
                    }
                    terms.add::<S, R, V, U, PARTIAL, RELU>(&mut sums, lanes);
                    b = b.add(product.depth * product.columns);
                }
            }
            let (mut targets, c_pixel) = (product.targets(row), product.c_pixel);
            // Of 8 columns and of whole sixteens there are no other strips.
            if const { S::STREAMS && !PARTIAL && U == 0 } && product.to == Destination::MemoryAsHalves {
                let c = product.c.cast::<u16>().add(row * c_pixel + column);
                sums.iter().enumerate().for_each(|(r, sum)| sum.stream_halves(c.add(r * c_pixel)));
            } else if targets.left >= R {
                let c = targets.next(R).add(column);
                let sums = sums.iter().enumerate();
                // Not asked for each row: for all that the compiler knows, what is stored might change the answer.
                if product.to == Destination::Memory {
                    sums.for_each(|(r, sum)| sum.stream::<PARTIAL>(c.add(r * c_pixel), lanes));
                } else {
                    sums.for_each(|(r, sum)| sum.store::<PARTIAL>(c.add(r * c_pixel), lanes));
                }
            } else {
                for sum in &sums {
                    sum.store::<PARTIAL>(targets.next(1).add(column), lanes);
                }
            }
            if !product.moments.is_null() {
                // Two chains each, so that additions do not wait for each other.
                let (mut sum, mut squares) = ([Strip::<S, V, U>::zero(); 2], [Strip::<S, V, U>::zero(); 2]);
                for (r, z) in sums.iter().enumerate() {
                    sum[r % 2] = sum[r % 2].add(z);
                    squares[r % 2] = squares[r % 2].add_square(z);
                }
                for (moment, value) in [sum, squares].into_iter().enumerate() {
                    let target = product.moments.add(moment * product.columns + column);
                    let before = Strip::load::<PARTIAL>(target, lanes);
                    before.add(&value[0].add(&value[1])).store::<PARTIAL>(target, lanes);
                }
            }
        }
    }
}
