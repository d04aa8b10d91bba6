//! Depthwise and dense convolutions over padded images.

use super::{Real, output_of, put};
use crate::shape::{DenseShape, DepthwiseShape};

/// `y[h, w, c] = Σ_ij x[h·s + i·d, w·s + j·d, c] · w[i, j, c]`; `y` is overwritten.
pub fn depthwise<T: Real>(x: &[T], w: &[T], y: &mut [T], shape: DepthwiseShape) {
    let (input, output) = (shape.input, shape.output());
    let channels = input.channels;
    for row in 0..output.height {
        for column in 0..output.width {
            for c in 0..channels {
                let mut sum = 0.0;
                for i in 0..shape.kernel {
                    for j in 0..shape.kernel {
                        let h = row * shape.stride + i * shape.dilation;
                        let v = column * shape.stride + j * shape.dilation;
                        sum += x[(h * input.width + v) * channels + c].get()
                            * w[(i * shape.kernel + j) * channels + c].get();
                    }
                }
                y[(row * output.width + column) * channels + c] = T::from_f64(sum);
            }
        }
    }
}

/// Gradient of [`depthwise`] with respect to the padded input; `dx` is overwritten.
pub fn depthwise_backward_input<T: Real>(dy: &[T], w: &[T], dx: &mut [T], shape: DepthwiseShape) {
    let (input, output) = (shape.input, shape.output());
    let channels = input.channels;
    for h in 0..input.height {
        for v in 0..input.width {
            for c in 0..channels {
                let mut sum = 0.0;
                for i in 0..shape.kernel {
                    for j in 0..shape.kernel {
                        let row = output_of(h, i, shape.stride, shape.dilation, output.height);
                        let column = output_of(v, j, shape.stride, shape.dilation, output.width);
                        if let (Some(row), Some(column)) = (row, column) {
                            sum += dy[(row * output.width + column) * channels + c].get()
                                * w[(i * shape.kernel + j) * channels + c].get();
                        }
                    }
                }
                dx[(h * input.width + v) * channels + c] = T::from_f64(sum);
            }
        }
    }
}

/// Gradient of [`depthwise`] with respect to the weights, added to `dw`.
pub fn depthwise_backward_weight<T: Real>(x: &[T], dy: &[T], dw: &mut [T], shape: DepthwiseShape) {
    let (input, output) = (shape.input, shape.output());
    let channels = input.channels;
    for i in 0..shape.kernel {
        for j in 0..shape.kernel {
            for c in 0..channels {
                let mut sum = 0.0;
                for row in 0..output.height {
                    for column in 0..output.width {
                        let h = row * shape.stride + i * shape.dilation;
                        let v = column * shape.stride + j * shape.dilation;
                        sum += x[(h * input.width + v) * channels + c].get()
                            * dy[(row * output.width + column) * channels + c].get();
                    }
                }
                put(&mut dw[(i * shape.kernel + j) * channels + c], sum, true);
            }
        }
    }
}

/// Element of the padded input under tap `(i, j)` of the window of output pixel `(row, column)`, channel 0.
fn dense_input(shape: &DenseShape, row: usize, column: usize, i: usize, j: usize) -> usize {
    let h = shape.offset_height + row * shape.stride_height + i;
    let v = shape.offset_width + column * shape.stride_width + j;
    (h * shape.input.width + v) * shape.input.channels
}

/// Element of the weights `[kh, kw, C_in, C_out]` (or, with the channel counts exchanged, of their transpose).
fn dense_weight(shape: &DenseShape, i: usize, j: usize) -> usize {
    (i * shape.kernel_width + j) * shape.input.channels * shape.output_channels
}

/// `y[h, w, o] = bias[o] + Σ_ijc x[h·s + i, w·s + j, c] · w[i, j, c, o]`; overwrites `y`, or adds to it.
pub fn dense<T: Real>(x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], shape: DenseShape, accumulate: bool) {
    let output = shape.output();
    for row in 0..output.height {
        for column in 0..output.width {
            for o in 0..shape.output_channels {
                let mut sum = bias.map_or(0.0, |bias| bias[o].get());
                for i in 0..shape.kernel_height {
                    for j in 0..shape.kernel_width {
                        for c in 0..shape.input.channels {
                            sum += x[dense_input(&shape, row, column, i, j) + c].get()
                                * w[dense_weight(&shape, i, j) + c * shape.output_channels + o].get();
                        }
                    }
                }
                let pixel = row * output.width + column;
                put(&mut y[pixel * shape.output_pixel_stride + o], sum, accumulate);
            }
        }
    }
}

/// Gradient of [`dense`] with respect to the whole padded input, from the transposed weights `[kh, kw, C_out, C_in]`;
/// overwrites `dx`, or adds to it.
pub fn dense_backward_input<T: Real>(dy: &[T], w_transposed: &[T], dx: &mut [T], shape: DenseShape, accumulate: bool) {
    let (input, output) = (shape.input, shape.output());
    for h in 0..input.height {
        for v in 0..input.width {
            for c in 0..input.channels {
                let mut sum = 0.0;
                for i in 0..shape.kernel_height {
                    for j in 0..shape.kernel_width {
                        let row = output_of(h, i + shape.offset_height, shape.stride_height, 1, output.height);
                        let column = output_of(v, j + shape.offset_width, shape.stride_width, 1, output.width);
                        let (Some(row), Some(column)) = (row, column) else { continue };
                        let pixel = row * output.width + column;
                        for o in 0..shape.output_channels {
                            sum += dy[pixel * shape.output_pixel_stride + o].get()
                                * w_transposed[dense_weight(&shape, i, j) + o * input.channels + c].get();
                        }
                    }
                }
                put(&mut dx[(h * input.width + v) * input.channels + c], sum, accumulate);
            }
        }
    }
}

/// Gradient of [`dense`] with respect to the weights `[kh, kw, C_in, C_out]`, added to `dw`.
pub fn dense_backward_weight<T: Real>(x: &[T], dy: &[T], dw: &mut [T], shape: DenseShape) {
    let output = shape.output();
    for i in 0..shape.kernel_height {
        for j in 0..shape.kernel_width {
            for c in 0..shape.input.channels {
                for o in 0..shape.output_channels {
                    let mut sum = 0.0;
                    for row in 0..output.height {
                        for column in 0..output.width {
                            let pixel = row * output.width + column;
                            sum += x[dense_input(&shape, row, column, i, j) + c].get()
                                * dy[pixel * shape.output_pixel_stride + o].get();
                        }
                    }
                    put(&mut dw[dense_weight(&shape, i, j) + c * shape.output_channels + o], sum, true);
                }
            }
        }
    }
}

/// Transposes each of `matrices` matrices: `[m, rows, columns]` to `[m, columns, rows]`.
pub fn transpose<T: Real>(w: &[T], w_transposed: &mut [T], matrices: usize, rows: usize, columns: usize) {
    for m in 0..matrices {
        for r in 0..rows {
            for c in 0..columns {
                w_transposed[(m * columns + c) * rows + r] = w[(m * rows + r) * columns + c];
            }
        }
    }
}
