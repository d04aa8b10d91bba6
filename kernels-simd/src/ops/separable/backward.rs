//! The backward pass.

use core::ops::Range;
use core::ptr;

use super::finish::Finish;
use super::forward::{SUMMED_PIXELS, SeparableScratch, depthwise_rows, prelude_rows};
use super::gradients::{End, Gradients, TapGrid};
use super::input::SeparableInput;
use super::operands::{NormSums, OutputGradient, SeparableInputGradient, SeparableWeightGradient, SeparableWeights};
use crate::kernels::Kernels;
use crate::ops::dense::OuterProducts;
use crate::ops::depthwise::{FilterGradient, InputGradient, Reach, steps};
use crate::ops::prefetch::{Ahead, Along};
use crate::ops::prelude::Prelude;
use crate::ops::product::{Destination, Gaps, Product};
use crate::ops::ring::Ring;
use crate::ops::stored::{Source, Stored};
use crate::ops::stream::{copy, publish};
use crate::shape::{SeparableShape, divide, divide_up};

/// Weights of products that take about as long as the rows of a depthwise convolution, and ask for nothing on their way
/// but where there is little else to ask at.
const FEW_WEIGHTS: usize = 256;

/// Multiply-adds of a larger product along which a portion is asked for. Half as many: 1 to 4 % slower for 5×5, as much
/// faster for 3×3 (AMD EPYC, Zen 5, 36 and 72 channels from memory, 2026-11-29).
const MULTIPLY_ADDS: usize = 16384;

/// The same for one with few weights where no gradient of weights is computed. The gradient of the input at 16
/// channels, 32×32, everything in memory, takes 9.0 µs for 3×3 and 10.9 for 5×5 in place of 13.0 and 15.4, at 8
/// channels, 28×28, 3.6 and 4.3 in place of 5.4 and 5.1; with half or twice as many 16 channels gain less. With
/// gradients of weights nothing is gained (AMD EPYC, Zen 5, AVX-512, 2026-11-30).
const FEW_MULTIPLY_ADDS: usize = 4096;

/// Registers of channels for which a row asks once. Twice for 32 channels: 2 to 3 % faster from memory at 16×16, 3 to 5
/// % slower in the cache, and at 7×7 up to 5 % slower (AMD EPYC, Zen 5, 2026-11-29).
const FEW_REGISTERS: usize = 2;

impl Kernels {
    /// Gradients of [`Kernels::separable_stored`] on one image, with respect to what the prelude's ReLU is
    /// applied to (`dx`, as [`Kernels::prelude_backward`]) and to the weights (`dw`), each only where given. The output
    /// of the depthwise convolution is computed again. `scratch` holds [`SeparableShape::backward_scratch`] elements.
    ///
    /// # Panics
    ///
    /// When a length does not fit the shape; `scratch` may be longer.
    #[allow(clippy::too_many_arguments)]
    pub fn separable_backward(
        self,
        input: SeparableInput<'_>,
        shape: SeparableShape,
        weights: SeparableWeights<'_>,
        dz: OutputGradient<'_>,
        dx: Option<SeparableInputGradient<'_>>,
        dw: Option<SeparableWeightGradient<'_>>,
        scratch: SeparableScratch<'_>,
    ) {
        let SeparableInput { x, prelude, .. } = input;
        assert!(
            shape.is_sane()
                && x.len() == shape.input.len()
                && weights.depthwise.len() == shape.depthwise().weights()
                && weights.pointwise_transposed.len() == shape.pointwise().weights()
                && dz.fits(shape)
                && scratch.elements.len() >= shape.backward_scratch(),
            "separable_backward: x, weights, dz or scratch of {}, {}, {}, .. and {} elements do not fit {shape:?}",
            x.len(),
            weights.depthwise.len(),
            weights.pointwise_transposed.len(),
            scratch.elements.len()
        );
        if !prelude.check(shape.input) {
            return;
        }
        if let Some(SeparableInputGradient { dx, sums, .. }) = &dx {
            assert_eq!(dx.len(), x.len(), "separable_backward: dx for {shape:?}");
            if let Some(NormSums { mean, sum, dot, .. }) = sums {
                let channels = shape.input.channels;
                let lengths = (mean.len(), sum.len(), dot.len());
                assert_eq!(lengths, (channels, channels, channels), "separable_backward: mean and sums for {shape:?}");
            }
        }
        if let Some(SeparableWeightGradient { depthwise, pointwise }) = &dw {
            let lengths = (depthwise.len(), pointwise.len());
            let wanted = (weights.depthwise.len(), weights.pointwise_transposed.len());
            assert_eq!(lengths, wanted, "separable_backward: dw for {shape:?}");
        }
        let pass = Pass::new(self, input, shape, weights, dw.is_some(), scratch);
        // SAFETY: the lengths fit the shape.
        unsafe { pass.run(dz, dx, dw) }
    }
}

/// See [`Pass::multiply_adds_of_portion`]: for products that take long, or where there is little else to ask at, of
/// streams that are about equally long.
fn multiply_adds_of_portion(shape: SeparableShape, with_weights: bool) -> Option<usize> {
    match (shape.stride, shape.pointwise().weights() > FEW_WEIGHTS) {
        (1, true) => Some(MULTIPLY_ADDS),
        (1, false) if !with_weights => Some(FEW_MULTIPLY_ADDS),
        _ => None,
    }
}

/// What stays the same for all strips of an image.
struct Pass<'a> {
    kernels: Kernels,
    x: Stored<'a>,
    shape: SeparableShape,
    prelude: Prelude<'a>,
    weights: SeparableWeights<'a>,
    /// Rows of the input after the prelude, with the padding's columns.
    preluded: Ring,
    /// Whether all of them are there.
    ready: bool,
    /// A row of zeros of that width.
    zeros: *const f32,
    /// Rows of the gradient of the depthwise convolution's output, with the zeros that its input gradient reads.
    middle_gradient: Ring,
    /// The gradient of the input from those.
    input_gradient: InputGradient<'a>,
    /// The taps that reach the first two rows of the input, and columns.
    reaches: [Reach; 2],
    /// One strip of the depthwise convolution's output, later a few rows of the gradient of the input, before the ReLU
    /// and, on their way past the caches, behind it.
    middle: *mut f32,
    /// Rows of the gradient of the input that are computed together where they go through that buffer, as many as it
    /// holds.
    rows_of_gradient: usize,
    /// One strip of the gradient of the output.
    output_gradient: &'a mut [f32],
    /// `[2, C]`.
    sums: &'a mut [f32],
    /// What the next strip will read and write.
    ahead: Ahead,
    /// Multiply-adds of a product along which a portion of it is asked for; otherwise that is once ahead of the
    /// product.
    multiply_adds_of_portion: Option<usize>,
}

impl<'a> Pass<'a> {
    fn new(
        kernels: Kernels,
        SeparableInput { x, prelude, preluded: ready }: SeparableInput<'a>,
        shape: SeparableShape,
        weights: SeparableWeights<'a>,
        with_weights: bool,
        scratch: SeparableScratch<'a>,
    ) -> Self {
        let (depthwise, output, channels) = (shape.depthwise(), shape.output(), shape.input.channels);
        let strip_rows = shape.backward_strip_rows();
        let SeparableScratch { elements, reused } = scratch;
        let mut rest = SeparableShape::aligned(elements);
        let mut take = |len: usize| rest.split_off_mut(..len).unwrap_or_default();
        let (rows, row) = (shape.ring_rows(strip_rows), shape.ring_row());
        let left = shape.padding().left * channels;
        let inside = left..left + shape.input.width * channels;
        let storage = take(rows * row);
        let preluded = ready.map_or_else(|| Ring::new(storage, rows, inside, reused), |preluded| preluded.ring(shape));
        let zeros = take(row);
        if !reused {
            zeros.fill(0.0);
        }
        let (rows, row) = (shape.backward_ring_rows(), shape.backward_ring_row());
        let left = depthwise.backward_padding() * channels;
        let middle_gradient = Ring::new(take(rows * row), rows, left..left + output.width * channels, reused);
        Self {
            kernels,
            x,
            shape,
            prelude,
            weights,
            preluded,
            ready: ready.is_some(),
            zeros: zeros.as_ptr(),
            middle_gradient,
            input_gradient: InputGradient::new(kernels, weights.depthwise, depthwise, shape.padding()),
            reaches: [0, 1].map(|position| Reach::behind_zeros(shape.padding().left + position, depthwise)),
            rows_of_gradient: (shape.backward_buffer() / (shape.input.width * channels).max(1)).max(1),
            middle: take(shape.backward_buffer()).as_mut_ptr(),
            output_gradient: take(shape.strip_len(strip_rows, shape.output_channels)),
            sums: take(2 * channels),
            ahead: Ahead::NONE,
            multiply_adds_of_portion: multiply_adds_of_portion(shape, with_weights),
        }
    }

    /// # Safety
    ///
    /// All lengths fit the shape.
    unsafe fn run(
        mut self,
        dz: OutputGradient<'_>,
        mut dx: Option<SeparableInputGradient<'_>>,
        mut dw: Option<SeparableWeightGradient<'_>>,
    ) {
        let (shape, output) = (self.shape, self.shape.output());
        let strip_rows = shape.backward_strip_rows();
        let (mut rows_done, mut finished, mut summed) = (0, 0, 0);
        self.sums.fill(0.0);
        let stream = dx.as_ref().is_some_and(|dx| dx.streams(self.kernels));
        let fit = dw.is_some() && Gradients::fit(self.kernels, shape);
        let direct = fit && dx.as_mut().is_some_and(|dx| self.is_direct(dx));
        let together = fit && dx.is_some() && (direct || shape.stride == 1);
        let rows_together = if direct { shape.input.height } else { self.rows_of_gradient };
        for first in (0..output.height).step_by(strip_rows) {
            let rows = strip_rows.min(output.height - first);
            let end = first + rows;
            if first == 0 {
                self.ahead = self.ahead_of(&dz, dx.as_ref(), dw.is_some(), end, strip_rows);
            } else {
                self.ahead.next_strip();
            }
            // SAFETY: the lengths fit the shape; the rows that a strip needs fit the rings.
            unsafe {
                let dz = self.output_gradient(dz, first, rows);
                if let Some(dw) = &mut dw {
                    let needed = shape.rows_needed(end - 1);
                    if !self.ready {
                        prelude_rows(self.kernels, self.x, shape, self.prelude, self.preluded, rows_done..needed);
                    }
                    rows_done = rows_done.max(needed);
                    self.pointwise_weights(dz, first, rows, dw.pointwise);
                }
                self.middle_gradient(dz, first, rows);
                if let Some(dw) = &mut dw
                    && !together
                {
                    self.depthwise_weights(first, rows, dw.depthwise);
                }
                if let Some(dx) = &mut dx {
                    // Rows of the padded input that no later row of the output reaches.
                    let complete = if end == output.height { usize::MAX } else { end * shape.stride };
                    let complete = complete.saturating_sub(shape.padding().top).min(shape.input.height);
                    for h in (finished..complete).step_by(rows_together) {
                        let dw = dw.as_mut().filter(|_| together).map(|dw| &mut *dw.depthwise);
                        self.input_rows(h..complete.min(h + rows_together), dx, dw);
                    }
                    summed += (complete - finished) * shape.input.width;
                    finished = complete;
                    if summed >= SUMMED_PIXELS || end == output.height {
                        self.add_sums(dx);
                        summed = 0;
                    }
                }
            }
        }
        if stream {
            publish();
        }
    }

    /// What the `rows` rows of the output from `first` on will read and write, in portions for the way through a strip.
    fn ahead_of(
        &self,
        dz: &OutputGradient<'_>,
        dx: Option<&SeparableInputGradient<'_>>,
        weights: bool,
        first: usize,
        rows: usize,
    ) -> Ahead {
        let (shape, output, input) = (self.shape, self.shape.output(), self.shape.input);
        let output_row = output.width * output.channels;
        let input_row = input.width * input.channels;
        let stream = |image: Stored<'_>, row: usize, row_len: usize, rows: usize| {
            let len = if image.is_empty() { 0 } else { rows * row_len };
            image.memory(row * row_len, len)
        };
        let [dy, z] = dz.images();
        // What is added to was there for the operation before, and so was `x`.
        let fresh = dx.is_none_or(|dx| !dx.accumulate);
        let (input_rows, above) = (rows * shape.stride, shape.padding().top);
        let streams = [
            stream(dy, first, output_row, rows),
            stream(z, first, output_row, rows),
            stream(
                if fresh && !self.ready { self.x } else { Stored::F32(&[]) },
                first * shape.stride + above,
                input_row,
                input_rows,
            ),
            stream(
                Stored::F32(dx.filter(|dx| fresh && !dx.streams(self.kernels)).map_or(&[], |dx| &*dx.dx)),
                (first * shape.stride).saturating_sub(above),
                input_row,
                input_rows,
            ),
        ];
        let registers = input.channels.div_ceil(self.kernels.isa().lanes());
        let every_register = registers > FEW_REGISTERS;
        let portions_of_row = if every_register { registers } else { 1 };
        let product = self.portions_of_product(rows);
        // Where both gradients are one pass, the last of these is asked for at the rows of the input's.
        let portions_of_weights = if weights { rows * portions_of_row + product + 1 } else { 0 };
        // At stride 2 a row in pairs asks once, others, and one pass of both gradients, more often than there are
        // portions.
        let portions_of_input = input_rows * if shape.stride == 1 { portions_of_row } else { 1 };
        let portions_of_input = match dx {
            None => 0,
            // What the last rows ask for would not be there in time: both gradients at 16 channels, 32×32, `z` or
            // everything from memory, take 12.5 and 13.9 µs in place of 13.2 and 15.2 for 3×3. Without gradients of
            // weights each portion would be too large (AMD EPYC, Zen 5, 2026-11-30).
            Some(_) if weights => portions_of_input.div_ceil(2),
            Some(_) => portions_of_input,
        };
        Ahead::new(streams, product + portions_of_weights + portions_of_input, every_register)
    }

    /// Portions that are asked for along a product of `rows` rows.
    fn portions_of_product(&self, rows: usize) -> usize {
        self.multiply_adds_of_portion.map_or(1, |portion| {
            (rows * self.shape.output().width * self.shape.pointwise().weights()).div_ceil(portion)
        })
    }

    /// What is asked for along a product of `rows` rows, which has `lines` and `columns`.
    fn along(&mut self, rows: usize, lines: usize, columns: usize) -> Along {
        if self.multiply_adds_of_portion.is_some() {
            return self.ahead.along(self.portions_of_product(rows), lines, columns);
        }
        self.ahead.ask();
        Along::NONE
    }

    /// The gradient of `rows` rows of the output.
    fn output_gradient(&mut self, dz: OutputGradient<'_>, first: usize, rows: usize) -> *const f32 {
        let row = self.shape.output().width * self.shape.output_channels;
        let strip = first * row..(first + rows) * row;
        match dz {
            OutputGradient::Ready(dz) => dz[strip].as_ptr(),
            OutputGradient::Norm { dy, z, mean, p, q, r, scale } => {
                let target = &mut self.output_gradient[..rows * row];
                self.kernels.norm_backward_apply(&dy[strip.clone()], z.part(strip), mean, p, q, r, scale, target);
                target.as_ptr()
            }
        }
    }

    /// Computes the depthwise convolution's output again and adds to the gradient of the pointwise weights.
    unsafe fn pointwise_weights(&mut self, dz: *const f32, first: usize, rows: usize, dw: &mut [f32]) {
        let (shape, channels) = (self.shape, self.shape.input.channels);
        let width = shape.output().width;
        // SAFETY: the buffers have a strip, and the ring the rows that it needs.
        unsafe {
            let (depthwise, ahead) = (self.weights.depthwise, Some(&mut self.ahead));
            depthwise_rows(self.kernels, shape, self.preluded, first..first + rows, depthwise, self.middle, ahead);
            let products = OuterProducts {
                x: self.middle,
                x_row: 0,
                x_pixel: channels,
                dy: dz,
                dy_pixel: shape.output_channels,
                height: 1,
                width: rows * width,
                dw: dw.as_mut_ptr(),
                columns: shape.output_channels,
                ahead: self.along(rows, channels, shape.output_channels),
            };
            products.compute(self.kernels, channels);
        }
    }

    /// Computes the gradient of the depthwise convolution's output.
    unsafe fn middle_gradient(&mut self, dz: *const f32, first: usize, rows: usize) {
        let (shape, channels) = (self.shape, self.shape.input.channels);
        let (width, outputs) = (shape.output().width, shape.output_channels);
        let left = shape.depthwise().backward_padding() * channels;
        let ring = self.middle_gradient;
        // SAFETY: a row of the ring has zeros on both sides of the row of the gradient, and those of a strip are one
        // behind the other.
        unsafe {
            let product = Product {
                a: dz,
                a_pixel: outputs,
                a_segment: 0,
                segments: 1,
                depth: outputs,
                b: self.weights.pointwise_transposed.as_ptr(),
                columns: channels,
                bias: ptr::null(),
                accumulate: false,
                c: ring.start.add(ring.offset(first) + left),
                c_pixel: channels,
                gaps: Some(Gaps { width, len: ring.row_len - width * channels }),
                to: Destination::Caches,
                moments: ptr::null_mut(),
                ahead: self.along(rows, rows * width, channels),
            };
            product.compute(self.kernels, rows * width);
        }
    }

    /// Adds to the gradient of the depthwise weights.
    unsafe fn depthwise_weights(&mut self, first: usize, rows: usize, dw: &mut [f32]) {
        let (shape, padding) = (self.shape, self.shape.padding());
        let left = shape.depthwise().backward_padding() * shape.input.channels;
        // SAFETY: both rings have the rows of the strip, those of the gradient one behind the other.
        unsafe {
            let gradient = FilterGradient {
                kernel: shape.kernel,
                stride: shape.stride,
                dilation: shape.dilation,
                channels: shape.input.channels,
                x: self.preluded.padded(first * shape.stride, padding.top, shape.input.height, self.zeros),
                dy: self.middle_gradient.start.add(self.middle_gradient.offset(first) + left),
                dy_row: self.middle_gradient.row_len,
                height: rows,
                width: shape.output().width,
                dw: dw.as_mut_ptr(),
            };
            self.ahead.ask();
            gradient.compute(self.kernels);
        }
    }

    /// Computes the rows `rows` of the gradient of the input, and with `dw` what they add to that of the depthwise
    /// weights.
    unsafe fn input_rows(
        &mut self,
        rows: Range<usize>,
        target: &mut SeparableInputGradient<'_>,
        dw: Option<&mut [f32]>,
    ) {
        let shape = self.shape;
        let row = shape.input.width * shape.input.channels;
        let copied = self.copies(target);
        let finish = self.finish(rows.clone(), target);
        // SAFETY: the rings have the rows that reach these, and the buffer has such rows where it is needed; `dx` has
        // the shape of the input.
        unsafe {
            let finished = if let Some(dw) = dw {
                self.both_gradients(rows.clone(), &finish, dw)
            } else {
                let top = shape.padding().top;
                let (first, last, ahead) = (rows.start + top, rows.end + top, Some(&mut self.ahead));
                self.input_gradient.rows(self.kernels, self.middle_gradient, first..last, self.middle, row, ahead);
                false
            };
            if !finished {
                finish.compute(self.kernels);
            }
            if copied {
                copy(self.kernels, self.middle, target.dx.as_mut_ptr().add(rows.start * row), rows.len() * row);
            }
        }
    }

    /// Whether rows of the gradient of the input go past the caches from the buffer.
    fn copies(&self, target: &SeparableInputGradient<'_>) -> bool {
        target.streams(self.kernels) && !target.is_made_of_lines()
    }

    /// Whether any rows of the gradient of the input can be computed together where both gradients are one pass: they
    /// do not go through the buffer, nor into sums, which are the same bits without gradients of weights.
    fn is_direct(&mut self, target: &mut SeparableInputGradient<'_>) -> bool {
        let end = End::of(&self.finish(0..0, target), self.kernels.isa().lanes());
        matches!(end, End::Masked { .. })
    }

    /// The end of the rows `rows` of the gradient of the input.
    fn finish(&mut self, rows: Range<usize>, target: &mut SeparableInputGradient<'_>) -> Finish<'a> {
        let (input, copied) = (self.shape.input, self.copies(target));
        let row = input.width * input.channels;
        Finish {
            x: self.x.part(rows.start * row..rows.end * row),
            gradient: self.middle,
            dx: if copied { self.middle } else { target.dx[rows.start * row..].as_mut_ptr() },
            pixels: rows.len() * input.width,
            width: input.width,
            channels: input.channels,
            prelude: self.prelude,
            accumulate: target.accumulate,
            stream: target.streams(self.kernels) && !copied,
            mean: target.sums.as_ref().map_or(ptr::null(), |sums| sums.mean.as_ptr()),
            sums: self.sums.as_mut_ptr(),
        }
    }

    /// Computes the rows `rows` of the gradient of the input, what they add to that of the depthwise weights, and as
    /// much of `finish` as [`End::of`] says; returns whether that is all of it. The shape is one that
    /// [`Gradients::fit`].
    unsafe fn both_gradients(&mut self, rows: Range<usize>, finish: &Finish<'_>, dw: &mut [f32]) -> bool {
        let SeparableShape { input, stride, .. } = self.shape;
        let end = End::of(finish, self.kernels.isa().lanes());
        let without_taps = self.reaches[..stride].iter().any(|reach| reach.taps == 0);
        if without_taps && end == (End::Masked { accumulate: false }) {
            // SAFETY: there are as many rows.
            unsafe { finish.dx.write_bytes(0, rows.len() * input.width * input.channels) };
        }
        for class in (0..stride).flat_map(|row| (0..stride).map(move |column| [row, column])) {
            if let Some(gradients) = self.gradients(class, rows.clone(), finish, end, dw) {
                // SAFETY: promised by the caller; both rings have the rows that these need.
                unsafe { gradients.compute(self.kernels, &mut self.ahead) }
            }
        }
        end != End::Bare
    }

    /// Both gradients at those pixels of `rows` whose row and column are `class` behind multiples of the stride; none
    /// if no tap reaches them.
    fn gradients<'b>(
        &self,
        class: [usize; 2],
        rows: Range<usize>,
        finish: &'b Finish<'b>,
        end: End,
        dw: &mut [f32],
    ) -> Option<Gradients<'b>> {
        let SeparableShape { input, kernel, stride, .. } = self.shape;
        let (depthwise, channels, left) = (self.shape.depthwise(), input.channels, self.shape.padding().left);
        let [tap_rows, tap_columns] = class.map(|position| self.reaches[position]);
        let before = divide_up(rows.start.saturating_sub(class[0]), stride);
        let first = before * stride + class[0];
        if tap_rows.taps == 0 || tap_columns.taps == 0 || first >= rows.end {
            return None;
        }
        let (tap_step, spread) = steps(depthwise);
        let (tap_row, tap_column) = (tap_rows.first_tap(tap_step), tap_columns.first_tap(tap_step));
        let tap = (tap_row * kernel + tap_column) * channels;
        let dx = if end == End::Bare { self.middle } else { finish.dx };
        Some(Gradients {
            channels,
            rows: divide_up(rows.end - first, stride),
            width: divide(input.width, stride),
            step: stride,
            x: self.preluded.starting_at((left + class[1]) * channels).padded(first, 0, input.height, ptr::null()),
            dy: self.middle_gradient.starting_at(tap_columns.first_output * channels).padded(
                before + tap_rows.first_output,
                depthwise.backward_padding(),
                self.shape.output().height,
                ptr::null(),
            ),
            spread,
            taps: TapGrid {
                rows: tap_rows.taps,
                columns: tap_columns.taps,
                row: tap_step * kernel * channels,
                column: tap_step * channels,
                w: self.weights.depthwise[tap..].as_ptr(),
                dw: dw[tap..].as_mut_ptr(),
            },
            dx: dx.wrapping_add(((first - rows.start) * input.width + class[1]) * channels),
            end,
            finish,
        })
    }

    /// Moves the sums to double precision.
    fn add_sums(&mut self, dx: &mut SeparableInputGradient<'_>) {
        let Some(NormSums { scale, sum, dot, .. }) = &mut dx.sums else { return };
        let (sums, dots) = self.sums.split_at(self.shape.input.channels);
        for (target, values) in [(sum, sums), (dot, dots)] {
            for (target, &value) in target.iter_mut().zip(values) {
                *target += f64::from(*scale) * f64::from(value);
            }
        }
        self.sums.fill(0.0);
    }
}
