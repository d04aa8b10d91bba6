//! Dense convolutions, the pointwise one among them, and the transposition of their weights.
//!
//! Neighbouring filter columns read neighbouring pixels, so that one row of the filter is a product with
//! `kernel_width * C_in` contiguous elements of the input: a matrix product per row of the filter, accumulated in
//! registers over the rows. A 1×1 convolution at stride 1 is one product over all pixels of the image.

use core::ptr;

use super::prefetch::Along;
use super::product::{Destination, Product};
use super::strip::Strip;
use super::terms::in_groups;
use super::tiles::{Tiles, cover};
use crate::arch::{Simd, Terms};
use crate::kernels::{Kernels, dispatch};
use crate::lengths::require;
use crate::shape::DenseShape;

/// One part of a concatenation of images, and the weights over it.
#[derive(Clone, Copy, Debug)]
pub struct DensePart<'a> {
    /// The padded input, `[H, W, C_in]`.
    pub x: &'a [f32],
    /// `[kh, kw, C_in, C_out]`.
    pub w: &'a [f32],
}

impl Kernels {
    /// Convolution `y = x * w + bias`, or `y += x * w + bias` if `accumulate`, with `w` `[kh, kw, C_in, C_out]` and
    /// `bias` `[C_out]`. `y` is written where the shape says ([`DenseShape::output_pixel_stride`]); elements between
    /// the output pixels are left alone.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `y` may be longer than it needs to be.
    pub fn dense(self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32], shape: DenseShape, accumulate: bool) {
        self.dense_sum(&[DensePart { x, w }], false, bias, y, shape, accumulate);
    }

    /// Sum of the convolutions of `parts`, which is the convolution of their concatenation: as [`dense`](Self::dense)
    /// for the first, then accumulating for each of the others, with the same bits but `y` read and written once. With
    /// `relu` inputs are `max(x, 0)`.
    ///
    /// # Panics
    ///
    /// When there is no part, or as [`dense`](Self::dense).
    pub fn dense_sum(
        self,
        parts: &[DensePart<'_>],
        relu: bool,
        bias: Option<&[f32]>,
        y: &mut [f32],
        shape: DenseShape,
        accumulate: bool,
    ) {
        for part in parts {
            if !check("dense", shape, part.x.len(), y.len(), part.w.len()) {
                return;
            }
        }
        if let Some(bias) = bias {
            require!(bias.len() == shape.output_channels, "dense: bias of {} elements for {shape:?}", bias.len());
        }
        require!(!parts.is_empty(), "dense: no input for {shape:?}");
        let Some((first, others)) = parts.split_first() else { return };
        // SAFETY: the lengths fit the shape.
        unsafe { forward(self, *first, others, relu, bias, y, shape, accumulate) }
    }

    /// Gradient of [`Kernels::dense`] with respect to its input: `dx = dy * wᵀ`, or `dx += dy * wᵀ` if `accumulate`,
    /// over the whole padded input `[H, W, C_in]`. `w_transposed` is `[kh, kw, C_out, C_in]` (see
    /// [`Kernels::transpose`]); `dy` is read with [`DenseShape::output_pixel_stride`].
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `dy` may be longer than it needs to be.
    pub fn dense_backward_input(
        self,
        dy: &[f32],
        w_transposed: &[f32],
        dx: &mut [f32],
        shape: DenseShape,
        accumulate: bool,
    ) {
        if !check("dense_backward_input", shape, dx.len(), dy.len(), w_transposed.len()) {
            return;
        }
        // SAFETY: the lengths fit the shape.
        unsafe { backward_input(self, dy, w_transposed, dx, shape, accumulate) }
    }

    /// Gradient of [`Kernels::dense`] with respect to its weights: adds `Σ_pixels x·dy` to `dw`
    /// `[kh, kw, C_in, C_out]`; `dy` is read with [`DenseShape::output_pixel_stride`].
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `dy` may be longer than it needs to be.
    pub fn dense_backward_weight(self, x: &[f32], dy: &[f32], dw: &mut [f32], shape: DenseShape) {
        if !check("dense_backward_weight", shape, x.len(), dy.len(), dw.len()) {
            return;
        }
        // SAFETY: the lengths fit the shape.
        unsafe { backward_weight(self, x, dy, dw, shape) }
    }

    /// Transposes each of `matrices` matrices: `w` `[matrices, rows, columns]` to `w_transposed`
    /// `[matrices, columns, rows]`. Dense weights `[kh, kw, C_in, C_out]` are `kh * kw` matrices of `C_in` rows and
    /// `C_out` columns.
    ///
    /// # Panics
    ///
    /// When a length is not `matrices * rows * columns`.
    pub fn transpose(self, w: &[f32], w_transposed: &mut [f32], matrices: usize, rows: usize, columns: usize) {
        let len = matrices * rows * columns;
        assert_eq!((w.len(), w_transposed.len()), (len, len), "transpose: lengths for [{matrices}, {rows}, {columns}]");
        if len == 0 {
            return;
        }
        for (from, to) in w.chunks_exact(rows * columns).zip(w_transposed.chunks_exact_mut(rows * columns)) {
            for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                for (to, from) in to.iter_mut().zip(from[column..].iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
}

/// Whether the lengths fit the shape.
#[must_use]
fn check(name: &str, shape: DenseShape, input: usize, output: usize, weights: usize) -> bool {
    let fits = shape.is_sane()
        && input == shape.input.len()
        && output >= shape.output_len()
        && weights == shape.weights()
        && shape.output_pixel_stride >= shape.output_channels;
    require!(
        fits,
        "{name}: input of {input}, output of {output} and weights of {weights} elements do not fit {shape:?}"
    );
    true
}

#[allow(clippy::too_many_arguments)]
unsafe fn forward(
    kernels: Kernels,
    DensePart { x, w }: DensePart<'_>,
    others: &[DensePart<'_>],
    relu: bool,
    bias: Option<&[f32]>,
    y: &mut [f32],
    shape: DenseShape,
    accumulate: bool,
) {
    let (input, output) = (shape.input, shape.output());
    let merged = is_matrix_product(shape);
    let (rows, pixels) = if merged { (1, output.pixels()) } else { (output.height, output.width) };
    for row in 0..rows {
        let first = (row * shape.stride_height + shape.offset_height) * input.width + shape.offset_width;
        // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
        unsafe {
            let offset = first * input.channels;
            let product = Product {
                a: x.as_ptr().add(offset),
                a_pixel: shape.stride_width * input.channels,
                a_segment: input.width * input.channels,
                segments: shape.kernel_height,
                depth: shape.kernel_width * input.channels,
                b: w.as_ptr(),
                columns: shape.output_channels,
                bias: bias.map_or(ptr::null(), <[f32]>::as_ptr),
                accumulate,
                c: y.as_mut_ptr().add(row * pixels * shape.output_pixel_stride),
                c_pixel: shape.output_pixel_stride,
                gaps: None,
                to: Destination::Caches,
                moments: ptr::null_mut(),
                ahead: Along::NONE,
            };
            product.compute_sum(kernels, pixels, others, offset, relu);
        }
    }
}

/// Whether output pixel `p` depends on input pixel `p` alone.
fn is_matrix_product(shape: DenseShape) -> bool {
    (shape.kernel_height, shape.kernel_width) == (1, 1)
        && (shape.stride_height, shape.stride_width) == (1, 1)
        && (shape.offset_height, shape.offset_width) == (0, 0)
}

unsafe fn backward_input(
    kernels: Kernels,
    dy: &[f32],
    w_transposed: &[f32],
    dx: &mut [f32],
    shape: DenseShape,
    accumulate: bool,
) {
    let (input, output) = (shape.input, shape.output());
    let merged = is_matrix_product(shape);
    if !merged && !accumulate {
        dx.fill(0.0);
    }
    let (rows, pixels) = if merged { (1, output.pixels()) } else { (output.height, output.width) };
    let taps = shape.kernel_height * shape.kernel_width;
    for (row, tap) in (0..rows).flat_map(|row| (0..taps).map(move |tap| (row, tap))) {
        let y = row * shape.stride_height + shape.offset_height + tap / shape.kernel_width;
        let x = shape.offset_width + tap % shape.kernel_width;
        // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
        unsafe {
            let product = Product {
                a: dy.as_ptr().add(row * pixels * shape.output_pixel_stride),
                a_pixel: shape.output_pixel_stride,
                a_segment: 0,
                segments: 1,
                depth: shape.output_channels,
                b: w_transposed.as_ptr().add(tap * shape.output_channels * input.channels),
                columns: input.channels,
                bias: ptr::null(),
                accumulate: accumulate || !merged,
                c: dx.as_mut_ptr().add((y * input.width + x) * input.channels),
                c_pixel: shape.stride_width * input.channels,
                gaps: None,
                to: Destination::Caches,
                moments: ptr::null_mut(),
                ahead: Along::NONE,
            };
            product.compute(kernels, pixels);
        }
    }
}

/// `dw[k, :] += Σ_p x_p[k] · dy_p[:]` over the output pixels, for the contiguous elements `k` of one row of the filter.
pub(super) struct OuterProducts {
    pub x: *const f32,
    pub x_row: usize,
    pub x_pixel: usize,
    pub dy: *const f32,
    pub dy_pixel: usize,
    pub height: usize,
    pub width: usize,
    pub dw: *mut f32,
    pub columns: usize,
    /// What is asked for on the way.
    pub ahead: Along,
}

impl OuterProducts {
    /// Computes `depth` rows of `dw`.
    ///
    /// # Safety
    ///
    /// The pointers cover the matrices.
    pub unsafe fn compute(&self, kernels: Kernels, depth: usize) {
        let products = self;
        // SAFETY: promised by the caller.
        unsafe { dispatch!(kernels, outer_products(products: &OuterProducts, depth: usize)) }
    }
}

#[inline(always)]
unsafe fn outer_products<S: Simd>(products: &OuterProducts, depth: usize) {
    // SAFETY: promised by the caller; what is left begins behind what is done.
    unsafe {
        if products.can_keep::<S>(depth) {
            return products.keep_sums::<S>();
        }
        let done = if products.can_halve::<S>(depth) { products.halve::<S>() } else { 0 };
        if done < products.width {
            let left = OuterProducts {
                x: products.x.add(done * products.x_pixel),
                dy: products.dy.add(done * products.dy_pixel),
                width: products.width - done,
                ..*products
            };
            cover::<S, _>(&left, depth, products.columns);
        }
    }
}

impl Tiles for OuterProducts {
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize, const U: usize, const PARTIAL: bool>(
        &self,
        row: usize,
        column: usize,
        lanes: usize,
    ) {
        let width = const { V * S::LANES + U * S::Rest::LANES };
        self.ahead.ask((row, R), (column, width));
        // SAFETY: the pointers cover the matrices, and the tile lies inside.
        unsafe {
            let mut sums = [Strip::<S, V, U>::zero(); R];
            let mut dy = self.dy.add(column);
            for y in 0..self.height {
                let x = self.x.add(y * self.x_row + row);
                let (a_pixel, depth, columns) = (self.x_pixel, self.width, self.dy_pixel);
                let mut terms = Terms { a: x, a_pixel, depth, b: dy, columns };
                if const { in_groups::<S>(R, V, U) } {
                    terms = terms.add_groups::<S, R, V, U, false, true>(&mut sums, lanes);
                }
                for pixel in 0..terms.depth {
                    let gradients = Strip::load::<PARTIAL>(terms.b.add(pixel * columns), lanes);
                    let x = terms.a.add(pixel * a_pixel);
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add_scaled(Strip::<S, V, U>::factor(x.add(r)), &gradients);
                    }
                }
                dy = dy.add(self.width * self.dy_pixel);
            }
            for (r, sum) in sums.iter().enumerate() {
                let dw = self.dw.add((row + r) * self.columns + column);
                sum.add(&Strip::load::<PARTIAL>(dw, lanes)).store::<PARTIAL>(dw, lanes);
            }
        }
    }
}

unsafe fn backward_weight(kernels: Kernels, x: &[f32], dy: &[f32], dw: &mut [f32], shape: DenseShape) {
    let (input, output) = (shape.input, shape.output());
    if output.is_empty() {
        return;
    }
    let merged = is_matrix_product(shape);
    let (height, width) = if merged { (1, output.pixels()) } else { (output.height, output.width) };
    let depth = shape.kernel_width * input.channels;
    for filter_row in 0..shape.kernel_height {
        let first = (filter_row + shape.offset_height) * input.width + shape.offset_width;
        // SAFETY: the shape says that all windows lie inside the input, and the lengths fit the shape.
        unsafe {
            let products = OuterProducts {
                x: x.as_ptr().add(first * input.channels),
                x_row: shape.stride_height * input.width * input.channels,
                x_pixel: shape.stride_width * input.channels,
                dy: dy.as_ptr(),
                dy_pixel: shape.output_pixel_stride,
                height,
                width,
                dw: dw.as_mut_ptr().add(filter_row * depth * shape.output_channels),
                columns: shape.output_channels,
                ahead: Along::NONE,
            };
            products.compute(kernels, depth);
        }
    }
}
