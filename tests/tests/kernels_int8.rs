//! Inference on 8-bit integers equals the reference in every bit.

use darts_kernels_simd::{
    ChannelFactors, DenseShape, Factor, ImageShape, Int8Depthwise, Int8Input, Int8Part, Int8Separable, Int8Target, Isa,
    Kernels, Padding, PoolShape, Rescale, SeparableShape, reference,
};
use darts_tests::{Random, images, int8_kernels, kernels};

/// Factors that spread sums of `terms` products over the elements, with some that saturate and some that round to 0.
struct Factors {
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<u8>,
}

impl Factors {
    fn random(random: &mut Random, channels: usize) -> Self {
        let shifts = random.indices(channels, 14);
        Self {
            bias: random.int32(channels, 1 << 14),
            multiplier: random.int32(channels, 1 << 29).into_iter().map(|value| value + (3 << 29)).collect(),
            shift: shifts.into_iter().map(|shift| 33 + shift as u8).collect(),
        }
    }

    fn all(&self) -> ChannelFactors<'_> {
        ChannelFactors { bias: &self.bias, multiplier: &self.multiplier, shift: &self.shift }
    }
}

fn each_image(mut test: impl FnMut(Kernels, ImageShape, &mut Random)) {
    let mut random = Random::new(8);
    for kernels in int8_kernels() {
        for input in images(kernels) {
            test(kernels, input, &mut random);
        }
    }
}

#[test]
fn the_dot_product_is_used_where_the_processor_has_it() {
    for kernels in kernels() {
        let expected = match kernels.isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512vnni").then_some("vnni"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("dotprod").then_some("sdot"),
            _ => None,
        };
        assert_eq!(kernels.int8_dot(), expected, "{}", kernels.isa());
        assert_eq!(kernels.without_int8_dot().int8_dot(), None);
    }
}

fn inputs(random: &mut Random) -> [Int8Input; 3] {
    let zero = random.int8(1)[0];
    [Int8Input { zero, relu: false }, Int8Input { zero, relu: true }, Int8Input { zero: -128, relu: true }]
}

#[test]
fn factors_are_the_nearest_and_round_half_away_from_zero() {
    assert_eq!(Factor::new(1.0), Some(Factor { multiplier: 1 << 30, shift: 30 }));
    assert_eq!(Factor::new(0.5), Some(Factor { multiplier: 1 << 30, shift: 31 }));
    assert_eq!(Factor::new(0.0).map(|factor| factor.multiplier), Some(0));
    assert_eq!([-1.0, f64::NAN, f64::INFINITY, 2f64.powi(30)].map(Factor::new), [None; 4]);
    let mut random = Random::new(3);
    for exponent in -31..=28 {
        for value in random.values_f64(50) {
            let value = (1.5 + 0.5 * value) * f64::from(exponent).exp2();
            let Factor { multiplier, shift } = Factor::new(value).expect("a positive number");
            let found = f64::from(multiplier) * (-f64::from(shift)).exp2();
            // 31 significant bits.
            assert!((found - value).abs() <= value * 2f64.powi(-30), "{value}: {multiplier} / 2^{shift}");
        }
    }
    assert_eq!(Factor::new(0.5).map(Factor::with_odd_multiplier), Some(Factor { multiplier: 1 << 30 | 1, shift: 31 }));
    assert_eq!(Factor::new(0.0).map(|factor| factor.with_odd_multiplier().multiplier), Some(0));
    let half = Rescale { factor: Factor { multiplier: 1, shift: 1 }, source_zero: 0, target_zero: 0 };
    for kernels in kernels() {
        let mut y = [0; 6];
        kernels.int8_rescale(&[-3, -2, -1, 1, 2, 3], &mut y, half, false);
        assert_eq!(y, [-2, -1, -1, 1, 1, 2]);
    }
}

#[test]
fn quantizing_rounds_and_saturates() {
    for kernels in kernels() {
        let x = [0.0, 0.24, 0.25, -0.25, -0.24, 1e9, -1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let mut y = [0; 10];
        kernels.int8_quantize(&x, 2.0, 3, &mut y, false);
        assert_eq!(y, [3, 3, 4, 2, 3, 127, -128, 127, -128, 3]);
        kernels.int8_quantize(&x, 2.0, 3, &mut y, true);
        assert_eq!(y, [3, 3, 5, 1, 3, 127, -128, 127, -128, 3]);
    }
}

#[test]
fn dequantizing_a_quantized_element_gives_it_back() {
    let elements: Vec<i8> = (-128..=127).collect();
    for kernels in kernels() {
        for (scale, zero) in [(0.25, 3), (1e-3, -128), (7.7, 127)] {
            let (mut real, mut again) = ([0.0; 256], [0; 256]);
            kernels.int8_dequantize(&elements, scale, zero, &mut real);
            let expected = elements.iter().map(|&q| (f32::from(q) - f32::from(zero)) * scale);
            assert!(real.iter().copied().eq(expected));
            kernels.int8_quantize(&real, 1.0 / scale, zero, &mut again, false);
            assert_eq!(again, *elements);
        }
    }
}

#[test]
fn elementwise() {
    each_image(|kernels, shape, random| {
        let x = random.int8(shape.len());
        for input in inputs(random) {
            for padding in [Padding::NONE, Padding::symmetric(1, 2), Padding { bottom: 1, right: 1, ..Padding::NONE }] {
                let mut y = random.int8(shape.padded(padding).len());
                let mut expected = y.clone();
                kernels.int8_prelude(&x, shape, padding, input, &mut y);
                reference::int8_prelude(&x, shape, padding, input, &mut expected);
                assert_eq!(y, expected, "{shape:?} {padding:?} {input:?}");
            }
        }
        for accumulate in [false, true] {
            let rescale = rescale(random, 1.0);
            let mut y = random.int8(x.len());
            let mut expected = y.clone();
            kernels.int8_rescale(&x, &mut y, rescale, accumulate);
            reference::int8_rescale(&x, &mut expected, rescale, accumulate);
            assert_eq!(y, expected, "{shape:?} {rescale:?}");
        }
    });
}

/// From a random zero to another with a factor around `size`.
fn rescale(random: &mut Random, size: f64) -> Rescale {
    let factor = Factor::new(size * (1.0 + 0.9 * random.values_f64(1)[0])).expect("a positive number");
    Rescale { factor, source_zero: random.int8(1)[0], target_zero: random.int8(1)[0] }
}

#[test]
fn pools() {
    each_image(|kernels, input, random| {
        let x = random.int8(input.len());
        for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (5, 3, 0), (2, 2, 0)] {
            let shape = PoolShape { input, kernel, stride, padding };
            let rescale = rescale(random, 1.0);
            let (mut y, mut expected) = (vec![0; shape.output().len()], vec![1; shape.output().len()]);
            kernels.int8_max_pool(&x, &mut y, shape, rescale);
            reference::int8_max_pool(&x, &mut expected, shape, rescale);
            assert_eq!(y, expected, "{shape:?}");
            kernels.int8_avg_pool(&x, &mut y, shape, rescale);
            reference::int8_avg_pool(&x, &mut expected, shape, rescale);
            assert_eq!(y, expected, "{shape:?}");
        }
        let rescale = rescale(random, 1.0 / input.pixels() as f64);
        let (mut y, mut expected) = (vec![0; input.channels], vec![1; input.channels]);
        kernels.int8_global_avg_pool(&x, input, &mut y, rescale);
        reference::int8_global_avg_pool(&x, input, &mut expected, rescale);
        assert_eq!(y, expected, "{input:?}");
    });
}

#[test]
fn dense() {
    each_image(|kernels, input, random| {
        let channels = input.channels;
        let pointwise = DenseShape::pointwise(input, channels + 3);
        let halves = DenseShape { output_pixel_stride: channels + 7, ..DenseShape::square(input, channels, 1, 2) };
        let shifted = DenseShape { offset_height: 1, offset_width: 1, ..halves };
        let square = DenseShape::square(input, 5, 3, 1);
        for shape in [pointwise, halves, shifted, square] {
            for read in inputs(random) {
                check_dense(kernels, shape, read, random);
            }
        }
    });
}

/// Sums of more products than what is prepared at a time, and outputs in more than one go.
#[test]
fn large_dense() {
    let mut random = Random::new(10);
    for kernels in int8_kernels() {
        for (channels, outputs) in [(1023, 3), (1024, 40), (1025, 17), (300, 97), (5, 300)] {
            let shape = DenseShape::pointwise(ImageShape::new(1, 5, channels), outputs);
            for read in inputs(&mut random) {
                check_dense(kernels, shape, read, &mut random);
            }
        }
    }
}

#[test]
fn large_separable() {
    let mut random = Random::new(11);
    for kernels in int8_kernels() {
        for (channels, output_channels, kernel) in [(257, 9, 3), (130, 260, 5), (12, 12, 9)] {
            let input = ImageShape::new(2, 3, channels);
            let shape = SeparableShape { input, kernel, stride: 1, dilation: 1, output_channels };
            check_separable(kernels, shape, &mut random);
        }
    }
}

fn check_dense(kernels: Kernels, shape: DenseShape, input: Int8Input, random: &mut Random) {
    let images: Vec<_> = (0..3).map(|_| (random.int8(shape.input.len()), random.int8(shape.weights()))).collect();
    let factors = Factors::random(random, shape.output_channels);
    for count in [1, 3] {
        let parts: Vec<_> = images[..count].iter().map(|(x, w)| Int8Part { x, w }).collect();
        for accumulate in [false, true] {
            let zero = random.int8(1)[0];
            let mut y = random.int8(shape.output_len());
            let mut expected = y.clone();
            let target = Int8Target::Int8 { y: &mut y, factors: factors.all(), zero, accumulate };
            kernels.int8_dense(&parts, input, target, shape);
            let target = Int8Target::Int8 { y: &mut expected, factors: factors.all(), zero, accumulate };
            reference::int8_dense(&parts, input, target, shape);
            assert_eq!(y, expected, "{shape:?} {input:?}");
        }
        let scale = random.values(shape.output_channels);
        let (mut y, mut expected) = (vec![0.5; shape.output_len()], vec![0.5; shape.output_len()]);
        kernels.int8_dense(&parts, input, Int8Target::F32 { y: &mut y, bias: &factors.bias, scale: &scale }, shape);
        let target = Int8Target::F32 { y: &mut expected, bias: &factors.bias, scale: &scale };
        reference::int8_dense(&parts, input, target, shape);
        assert_eq!(y, expected, "{shape:?} {input:?}");
    }
}

#[test]
fn separable() {
    each_image(|kernels, input, random| {
        for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 2), (3, 1, 2), (7, 1, 1)] {
            let shape = SeparableShape { input, kernel, stride, dilation, output_channels: input.channels + 1 };
            check_separable(kernels, shape, random);
        }
    });
}

fn check_separable(kernels: Kernels, shape: SeparableShape, random: &mut Random) {
    let input = shape.input;
    let x = random.int8(input.len());
    let (depthwise, pointwise) = (random.int8(shape.depthwise().weights()), random.int8(shape.pointwise().weights()));
    let (middle, factors) = (Factors::random(random, input.channels), Factors::random(random, shape.output_channels));
    let weights = Int8Separable {
        depthwise: &depthwise,
        middle: ChannelFactors { bias: &[], ..middle.all() },
        middle_zero: random.int8(1)[0],
        pointwise: &pointwise,
        factors: factors.all(),
    };
    for (read, accumulate) in inputs(random).into_iter().zip([false, true, false]) {
        let zero = random.int8(1)[0];
        let mut y = random.int8(shape.output().len());
        let mut expected = y.clone();
        let mut scratch = random.int8(shape.int8_scratch());
        kernels.int8_separable(&x, shape, read, weights, &mut y, zero, accumulate, &mut scratch);
        let mut padded = vec![0; shape.depthwise().input.len()];
        let mut between = vec![0; shape.depthwise().output().len()];
        reference::int8_separable(&x, shape, read, weights, &mut expected, zero, accumulate, &mut padded, &mut between);
        assert_eq!(y, expected, "{shape:?} {read:?}");

        let depthwise = Int8Depthwise { w: &depthwise, factors: weights.middle, zero: weights.middle_zero };
        let mut y = vec![0; between.len()];
        kernels.int8_depthwise(&x, shape, read, depthwise, &mut y);
        assert_eq!(y, between, "depthwise part of {shape:?} {read:?}");
    }
}
