//! Convolutions and half precision on every instruction set against the reference.

use darts_kernels_simd::{DensePart, DenseShape, DepthwiseShape, ImageShape, Isa, Kernels, Padding, reference};
use darts_tests::{Guarded, Random, absolute, assert_close, guarded, kernels};

const EXTENTS: [usize; 5] = [1, 2, 3, 7, 8];

/// Channel counts from one to past two registers: those around register and half-register boundaries, and a few
/// between.
fn channels(kernels: Kernels) -> Vec<usize> {
    let lanes = kernels.isa().lanes();
    let mut counts: Vec<usize> = (1..=2 * lanes + 1)
        .filter(|c| lanes <= 4 || c % 7 == 3 || [0, 1, lanes / 2 - 1].contains(&(c % (lanes / 2))))
        .collect();
    if lanes <= 4 {
        counts.extend([4 * lanes, 4 * lanes + lanes + 1]);
    }
    counts.dedup();
    counts
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// ⟨dy, y⟩ = ⟨dx, x⟩ = ⟨dw, w⟩ for `y = x * w`, relative to the sum of the absolute products.
fn assert_adjoint(context: &str, inner: [f64; 3], magnitude: f64) {
    for other in &inner[1..] {
        assert!((inner[0] - other).abs() <= 1e-6 * magnitude + 1e-30, "{context}: inner products {inner:?}");
    }
}

fn uneven_padding(shape: DepthwiseShape) -> Padding {
    Padding { top: 1, bottom: 0, left: shape.input.width / 3, right: shape.input.width / 4 }
}

/// That of an output as large as the image at stride 1, or what fits.
fn same_padding(shape: DepthwiseShape) -> Padding {
    let side = |extent: usize| (shape.dilation * (shape.kernel - 1) / 2).min(extent / 2);
    Padding::symmetric(side(shape.input.height), side(shape.input.width))
}

fn check_depthwise(kernels: Kernels, shape: DepthwiseShape, random: &mut Random) {
    let context = format!("{} {shape:?}", kernels.isa());
    let (x, w) = (guarded(&random.values(shape.input.len())), guarded(&random.values(shape.weights())));
    let (dy, before) = (guarded(&random.values(shape.output().len())), random.values(w.len()));
    let (x_abs, w_abs, dy_abs) = (absolute(&x), absolute(&w), absolute(&dy));

    let (mut y, mut expected, mut magnitude) = (Guarded::unwritten(dy.len()), vec![0.0; dy.len()], vec![0.0; dy.len()]);
    kernels.depthwise(&x, &w, &mut y, shape);
    reference::depthwise(&x, &w, &mut expected, shape);
    reference::depthwise(&x_abs, &w_abs, &mut magnitude, shape);
    assert_close(("forward", &context), &y, &expected, &magnitude);
    let total = dot(&dy_abs, &magnitude);

    let (mut dx, mut expected, mut magnitude) = (Guarded::unwritten(x.len()), vec![0.0; x.len()], vec![0.0; x.len()]);
    let mut scratch = Guarded::unwritten(shape.backward_scratch());
    kernels.depthwise_backward_input(&dy, &w, &mut dx, shape, Padding::NONE, &mut scratch);
    reference::depthwise_backward_input(&dy, &w, &mut expected, shape);
    reference::depthwise_backward_input(&dy_abs, &w_abs, &mut magnitude, shape);
    assert_close(("backward input", &context), &dx, &expected, &magnitude);

    for padding in [uneven_padding(shape), same_padding(shape), Padding { left: 1, ..Padding::NONE }] {
        let mut inside = guarded(&vec![7.0; x.len()]);
        kernels.depthwise_backward_input(&dy, &w, &mut inside, shape, padding, &mut scratch);
        let (mut expected, mut magnitude) = (expected.clone(), magnitude.clone());
        for (i, (expected, magnitude)) in expected.iter_mut().zip(&mut magnitude).enumerate() {
            let ImageShape { height, width, channels } = shape.input;
            let (row, column) = (i / channels / width, i / channels % width);
            let rows = padding.top..height - padding.bottom;
            if !rows.contains(&row) || !(padding.left..width - padding.right).contains(&column) {
                (*expected, *magnitude) = (7.0, 0.0);
            }
        }
        assert_close((&format!("inside of {padding:?}"), &context), &inside, &expected, &magnitude);
    }

    let (mut dw, mut expected, mut magnitude) = (guarded(&before), before.clone(), absolute(&before));
    kernels.depthwise_backward_weight(&x, &dy, &mut dw, shape);
    reference::depthwise_backward_weight(&x, &dy, &mut expected, shape);
    reference::depthwise_backward_weight(&x_abs, &dy_abs, &mut magnitude, shape);
    assert_close(("backward weight", &context), &dw, &expected, &magnitude);

    let mut dw = guarded(&vec![0.0; w.len()]);
    kernels.depthwise_backward_weight(&x, &dy, &mut dw, shape);
    assert_adjoint(&context, [dot(&dy, &y), dot(&dx, &x), dot(&dw, &w)], total);
}

#[test]
fn depthwise() {
    for kernels in kernels() {
        let mut random = Random::new(1);
        for channels in channels(kernels) {
            for (kernel, stride, dilation) in [3, 5, 7]
                .into_iter()
                .flat_map(|k| [(1, 1), (1, 2), (2, 1), (2, 2)].map(move |(stride, dilation)| (k, stride, dilation)))
            {
                // The extents are those of the image before padding; one output row and column more than fit evenly at
                // stride 2 for the even ones.
                let padding = dilation * (kernel - 1);
                for (i, height) in EXTENTS.into_iter().enumerate() {
                    for width in [EXTENTS[i], EXTENTS[(i + channels) % EXTENTS.len()]] {
                        let input = ImageShape::new(height + padding, width + padding, channels);
                        check_depthwise(kernels, DepthwiseShape { input, kernel, stride, dilation }, &mut random);
                    }
                }
            }
        }
    }
}

#[test]
fn depthwise_over_long_rows_and_without_output() {
    for kernels in kernels() {
        let mut random = Random::new(2);
        for (height, width) in [(3, 31), (4, 40), (2, 2), (1, 9)] {
            for stride in [1, 2, 3] {
                let input = ImageShape::new(height, width, 18);
                check_depthwise(kernels, DepthwiseShape { input, kernel: 3, stride, dilation: 1 }, &mut random);
            }
        }
        // Rows in which blocks of pixels or of pairs of them fit, overlap, or reach too far, of channels that fill half
        // a register, one, and more.
        let lanes = kernels.isa().lanes();
        for channels in [lanes.div_ceil(2), lanes, lanes + 1] {
            for (kernel, dilation) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)] {
                let border = dilation * (kernel - 1);
                for width in (1..=20).chain([22, 23, 25, 26, 28, 33, 36, 41]) {
                    for stride in [1, 2, 3] {
                        let input = ImageShape::new(5 + border, width + border, channels);
                        check_depthwise(kernels, DepthwiseShape { input, kernel, stride, dilation }, &mut random);
                    }
                }
            }
        }
    }
}

/// The elements that are pixels of the output.
fn gather(y: &[f32], shape: DenseShape) -> Vec<f32> {
    (0..shape.output().pixels())
        .flat_map(|p| &y[p * shape.output_pixel_stride..][..shape.output_channels])
        .copied()
        .collect()
}

fn check_dense(kernels: Kernels, shape: DenseShape, random: &mut Random) {
    let context = format!("{} {shape:?}", kernels.isa());
    let (x, w, bias) = (
        guarded(&random.values(shape.input.len())),
        guarded(&random.values(shape.weights())),
        guarded(&random.values(shape.output_channels)),
    );
    let (dy, before) = (guarded(&random.values(shape.output_len())), random.values(shape.output_len()));
    let (x_abs, w_abs, bias_abs, dy_abs) = (absolute(&x), absolute(&w), absolute(&bias), absolute(&dy));

    let mut linear = Vec::new();
    let mut total = 0.0;
    for (bias, bias_abs, accumulate) in [
        (None, None, false),
        (Some(&bias), Some(&bias_abs[..]), false),
        (None, None, true),
        (Some(&bias), Some(&bias_abs[..]), true),
    ] {
        let start = if accumulate { before.clone() } else { vec![f32::NAN; before.len()] };
        let (mut y, mut expected, mut magnitude) = (guarded(&start), start.clone(), absolute(&start));
        kernels.dense(&x, &w, bias.map(|bias| &bias[..]), &mut y, shape, accumulate);
        reference::dense(&x, &w, bias.map(|bias| &bias[..]), &mut expected, shape, accumulate);
        reference::dense(&x_abs, &w_abs, bias_abs, &mut magnitude, shape, accumulate);
        let (pixels, magnitudes) = (gather(&y, shape), gather(&magnitude, shape));
        assert_close(("forward", &context, accumulate), &pixels, &gather(&expected, shape), &magnitudes);
        for (i, (y, start)) in y.iter().zip(&start).enumerate() {
            let between = i % shape.output_pixel_stride >= shape.output_channels;
            assert!(!between || y.to_bits() == start.to_bits(), "{context}: element {i} between pixels was written");
        }
        if linear.is_empty() {
            (linear, total) = (pixels, dot(&gather(&dy_abs, shape), &magnitudes));
        }
    }

    let mut transposed = Guarded::unwritten(w.len());
    let taps = shape.kernel_height * shape.kernel_width;
    kernels.transpose(&w, &mut transposed, taps, shape.input.channels, shape.output_channels);
    let transposed_abs = absolute(&transposed);
    let mut adjoint = Vec::new();
    for accumulate in [false, true] {
        let start = if accumulate { random.values(x.len()) } else { vec![f32::NAN; x.len()] };
        let (mut dx, mut expected, mut magnitude) = (guarded(&start), start.clone(), absolute(&start));
        kernels.dense_backward_input(&dy, &transposed, &mut dx, shape, accumulate);
        reference::dense_backward_input(&dy, &transposed, &mut expected, shape, accumulate);
        reference::dense_backward_input(&dy_abs, &transposed_abs, &mut magnitude, shape, accumulate);
        assert_close(("backward input", &context, accumulate), &dx, &expected, &magnitude);
        if !accumulate {
            adjoint = dx.to_vec();
        }
    }

    let before = random.values(w.len());
    let (mut dw, mut expected, mut magnitude) = (guarded(&before), before.clone(), absolute(&before));
    kernels.dense_backward_weight(&x, &dy, &mut dw, shape);
    reference::dense_backward_weight(&x, &dy, &mut expected, shape);
    reference::dense_backward_weight(&x_abs, &dy_abs, &mut magnitude, shape);
    assert_close(("backward weight", &context), &dw, &expected, &magnitude);

    let mut dw = guarded(&vec![0.0; w.len()]);
    kernels.dense_backward_weight(&x, &dy, &mut dw, shape);
    assert_adjoint(&context, [dot(&gather(&dy, shape), &linear), dot(&adjoint, &x), dot(&dw, &w)], total);
}

#[test]
fn dense_kernels_and_strides() {
    for kernels in kernels() {
        let mut random = Random::new(3);
        for (kernel_height, kernel_width) in [(1, 1), (3, 3), (1, 7), (7, 1), (2, 2)] {
            for (stride_height, stride_width) in [(1, 1), (2, 2), (1, 2)] {
                for (i, height) in EXTENTS.into_iter().enumerate() {
                    let width = EXTENTS[(i + kernel_height) % EXTENTS.len()];
                    let (height, width) = (height + kernel_height - 1, width + kernel_width - 1);
                    let shape = DenseShape {
                        kernel_height,
                        kernel_width,
                        stride_height,
                        stride_width,
                        ..DenseShape::pointwise(ImageShape::new(height, width, 3 + 2 * i), 5 + 7 * i)
                    };
                    check_dense(kernels, shape, &mut random);
                }
            }
        }
    }
}

#[test]
fn dense_channels() {
    for kernels in kernels() {
        let mut random = Random::new(4);
        let channels = channels(kernels);
        for (i, &output) in channels.iter().enumerate() {
            for input in [output, channels[(i * 7 + 3) % channels.len()]] {
                check_dense(kernels, DenseShape::pointwise(ImageShape::new(5, 9, input), output), &mut random);
                check_dense(kernels, DenseShape::square(ImageShape::new(7, 8, input), output, 1, 2), &mut random);
            }
            check_dense(kernels, DenseShape::square(ImageShape::new(4, 9, 3), output, 3, 1), &mut random);
        }
    }
}

#[test]
fn dense_into_a_group_of_channels_with_an_offset() {
    for kernels in kernels() {
        let mut random = Random::new(5);
        for (height, width) in [(8, 8), (7, 7), (2, 3), (1, 1)] {
            for (channels, group) in [(16, 8), (5, 3), (36, 18)] {
                for offset in [0, 1] {
                    let shape = DenseShape {
                        offset_height: offset,
                        offset_width: offset,
                        output_pixel_stride: 2 * group,
                        ..DenseShape::square(ImageShape::new(height, width, channels), group, 1, 2)
                    };
                    check_dense(kernels, shape, &mut random);
                    check_dense(kernels, DenseShape { stride_height: 1, stride_width: 1, ..shape }, &mut random);
                }
            }
        }
    }
}

#[test]
fn transpose_is_the_reference() {
    let w = Random::new(6).values(3 * 5 * 7);
    let (mut actual, mut expected) = (Guarded::unwritten(w.len()), vec![0.0; w.len()]);
    Kernels::detect().transpose(&w, &mut actual, 3, 5, 7);
    reference::transpose(&w, &mut expected, 3, 5, 7);
    assert_eq!(&actual[..], expected);
}

#[test]
fn half_precision_is_the_reference_with_the_same_bits_everywhere() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    // All exponents with mantissas at, and one either side of, the ties of rounding, and a stride through the rest.
    let near_ties =
        (0..1u32 << 20).flat_map(|top| [0, 1, 0x0fff, 0x1000, 0x1001, 0x1fff].map(|low| (top >> 1) << 13 | low));
    let floats: Vec<f32> = near_ties.chain((0..u32::MAX).step_by(40_009)).map(f32::from_bits).collect();
    let portable = Kernels::with_isa(Isa::Scalar).unwrap();
    for kernels in kernels() {
        for len in [halves.len(), 37, 5, 0] {
            let (mut actual, mut expected, mut same) = (Guarded::unwritten(len), vec![0.0; len], vec![0.0; len]);
            kernels.f16_to_f32(&halves[..len], &mut actual);
            portable.f16_to_f32(&halves[..len], &mut same);
            reference::f16_to_f32(&halves[..len], &mut expected);
            for (half, ((a, s), e)) in actual.iter().zip(&same).zip(&expected).enumerate() {
                let right = if e.is_nan() { a.is_nan() } else { a.to_bits() == e.to_bits() };
                assert!(right && a.to_bits() == s.to_bits(), "{}: {half:#x} is {a}, {s}, not {e}", kernels.isa());
            }
        }
        for len in [floats.len(), 37, 5, 0] {
            let (mut actual, mut expected, mut same) = (vec![0; len], vec![0; len], vec![0; len]);
            kernels.f32_to_f16(&floats[..len], &mut actual);
            portable.f32_to_f16(&floats[..len], &mut same);
            reference::f32_to_f16(&floats[..len], &mut expected);
            for (x, ((a, s), e)) in floats.iter().zip(actual.iter().zip(&same).zip(&expected)) {
                let right = if x.is_nan() { a & 0x7c00 == 0x7c00 && a & 0x3ff != 0 } else { a == e };
                assert!(right && a == s, "{}: {x:e} is {a:#x}, {s:#x}, not {e:#x}", kernels.isa());
            }
        }
    }
}

#[test]
fn instruction_sets_have_names() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(Kernels::with_isa(isa).is_ok(), isa.is_available());
    }
    assert!("sse9".parse::<Isa>().is_err());
    assert_eq!(Some(Kernels::detect().isa()), Isa::available().last());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn detection_agrees_with_the_standard_library() {
    assert_eq!(Isa::Avx2.is_available(), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
    assert_eq!(Isa::Avx512.is_available(), is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"));
}

#[test]
#[should_panic(expected = "do not fit DenseShape")]
fn a_wrong_length_panics_with_the_shape() {
    let shape = DenseShape::pointwise(ImageShape::new(2, 2, 3), 4);
    Kernels::detect().dense(&[0.0; 12], &[0.0; 12], None, &mut [0.0; 15], shape, false);
}

#[test]
#[should_panic(expected = "do not fit DepthwiseShape")]
fn sizes_that_overflow_are_refused() {
    // The span of the window, dilation * (kernel - 1) + 1, is 1 modulo 2⁶⁴.
    let shape =
        DepthwiseShape { input: ImageShape::new(1, 1, 1), kernel: 3, stride: 1, dilation: 1 << (usize::BITS - 1) };
    Kernels::detect().depthwise(&[1.0], &[1.0; 9], &mut [0.0], shape);
}

#[test]
fn dense_over_many_channels() {
    for kernels in kernels() {
        let mut random = Random::new(7);
        let lanes = kernels.isa().lanes();
        // Every number of whole registers up to seven, with and without a part at the end.
        for output in (2..=7).flat_map(|registers| [0, 1, lanes / 2, lanes - 1].map(|left| registers * lanes + left)) {
            check_dense(kernels, DenseShape::pointwise(ImageShape::new(3, 9, 5), output), &mut random);
        }
    }
}

#[test]
fn a_sum_of_convolutions_is_one_after_the_other() {
    for kernels in kernels() {
        let mut random = Random::new(8);
        for (channels, output, kernel) in [(4, 6, 1), (5, 36, 1), (3, 72, 1), (2, 17, 3)] {
            let shape = DenseShape::square(ImageShape::new(7, 6, channels), output, kernel, 1);
            let parts: Vec<[Vec<f32>; 2]> =
                (0..3).map(|_| [shape.input.len(), shape.weights()].map(|len| random.values(len))).collect();
            let bias = random.values(output);
            for (count, relu, accumulate) in [(1, true, false), (3, false, true), (3, true, false), (2, true, true)] {
                let context = format!("{} {shape:?}, {count} parts, relu {relu}", kernels.isa());
                let before = random.values(shape.output_len());
                let mut expected = before.clone();
                for (index, [x, w]) in parts[..count].iter().enumerate() {
                    let x: Vec<f32> = x.iter().map(|&x| if relu { x.max(0.0) } else { x }).collect();
                    let bias = (index == 0).then_some(&bias[..]);
                    kernels.dense(&x, w, bias, &mut expected, shape, accumulate || index > 0);
                }
                let parts: Vec<_> = parts[..count].iter().map(|[x, w]| DensePart { x, w }).collect();
                let mut y = guarded(&before);
                kernels.dense_sum(&parts, relu, Some(&bias), &mut y, shape, accumulate);
                assert_eq!(&y[..], expected, "{context}");
            }
        }
    }
}
