//! Every kernel against the reference, on random shapes.

use cortex_m_semihosting::hprintln;
use darts_kernels_simd::{
    DenseShape, ImageShape, Int8Depthwise, Int8Part, Int8Separable, Int8Target, Kernels, PoolShape, SeparableShape,
    reference,
};

use crate::Buffers;
use crate::random::{Factors, Random};

/// Shapes for each kernel.
const SHAPES: usize = 150;

pub fn all(buffers: &mut Buffers, random: &mut Random) {
    random.fill(&mut buffers.x);
    random.fill(&mut buffers.w);
    for _ in 0..SHAPES {
        dense(buffers, random);
        separable(buffers, random);
        pools(buffers, random);
        rescale(buffers, random);
    }
    hprintln!("{} shapes of every kernel equal the reference", SHAPES);
}

fn image(random: &mut Random, least: usize) -> ImageShape {
    let channels = if random.flag() { 4 * random.within(1, 5) } else { random.within(1, 17) };
    ImageShape::new(random.within(least, 10), random.within(least, 40), channels)
}

/// Before a kernel writes to it, the same as expected.
fn reset(buffers: &mut Buffers, len: usize, random: &mut Random) {
    random.fill(&mut buffers.y[..len]);
    buffers.expected[..len].copy_from_slice(&buffers.y[..len]);
}

fn dense(buffers: &mut Buffers, random: &mut Random) {
    let mut input = image(random, 4);
    if random.within(0, 3) == 0 {
        // More than a kernel takes at a time.
        input = ImageShape::new(4, 6, random.within(60, 70));
    }
    let pointwise = random.flag();
    let mut up_to = |most| if pointwise { 1 } else { random.within(1, most) };
    let kernels = (up_to(3), up_to(3));
    let output_channels = random.within(1, 10);
    let shape = DenseShape {
        input,
        output_channels,
        output_pixel_stride: output_channels + random.within(0, 3),
        kernel_height: kernels.0,
        kernel_width: kernels.1,
        stride_height: random.within(1, 2),
        stride_width: random.within(1, 2),
        offset_height: random.within(0, 1),
        offset_width: random.within(0, 1),
    };
    let len = shape.output_len();
    let factors = Factors::new(random, false);
    let (zero, accumulate, read) = (random.element(), random.flag(), random.input());
    reset(buffers, len, random);
    let Buffers { x, w, y, expected, .. } = buffers;
    let parts = [0, 100, 200].map(|at| Int8Part { x: &x[at..][..input.len()], w: &w[at..][..shape.weights()] });
    let parts = &parts[..random.within(1, 3)];
    let factors = factors.of(output_channels);
    let target = Int8Target::Int8 { y: &mut y[..len], factors, zero, accumulate };
    Kernels::detect().int8_dense(parts, read, target, shape);
    let target = Int8Target::Int8 { y: &mut expected[..len], factors, zero, accumulate };
    reference::int8_dense(parts, read, target, shape);
    assert!(y[..len] == expected[..len], "{shape:?} {read:?} {accumulate}");

    let scale = [0.1; 10];
    let (mut y, mut expected) = ([0.0; 40 * 13 * 10], [0.0; 40 * 13 * 10]);
    let (y, expected) = (&mut y[..len], &mut expected[..len]);
    let bias = factors.bias;
    let scale = &scale[..output_channels];
    Kernels::detect().int8_dense(parts, read, Int8Target::F32 { y, bias, scale }, shape);
    reference::int8_dense(parts, read, Int8Target::F32 { y: expected, bias, scale }, shape);
    assert!(y == expected, "{shape:?} {read:?} in real numbers");
}

fn separable(buffers: &mut Buffers, random: &mut Random) {
    let input = image(random, 1);
    let shape = SeparableShape {
        input,
        kernel: [1, 3, 3, 5, 5, 7, 9][random.within(0, 6)],
        stride: random.within(1, 2),
        dilation: random.within(1, 2),
        output_channels: random.within(1, 10),
    };
    let (len, middle_len) = (shape.output().len(), shape.depthwise().output().len());
    let (between, factors) = (Factors::new(random, false), Factors::new(random, false));
    let (zero, accumulate, read) = (random.element(), random.flag(), random.input());
    reset(buffers, len, random);
    let Buffers { x, w, y, expected, scratch: [padded, middle] } = buffers;
    let weights = Int8Separable {
        depthwise: &w[..shape.depthwise().weights()],
        middle: between.without_bias(input.channels),
        middle_zero: random.element(),
        pointwise: &w[50..][..shape.pointwise().weights()],
        factors: factors.of(shape.output_channels),
    };
    let x = &x[..input.len()];
    Kernels::detect().int8_separable(x, shape, read, weights, &mut y[..len], zero, accumulate, middle);
    let padded = &mut padded[..shape.depthwise().input.len()];
    let middle = &mut middle[..middle_len];
    reference::int8_separable(x, shape, read, weights, &mut expected[..len], zero, accumulate, padded, middle);
    assert!(y[..len] == expected[..len], "{shape:?} {read:?} {accumulate}");

    // What the reference has left between the convolutions.
    let depthwise = Int8Depthwise { w: weights.depthwise, factors: weights.middle, zero: weights.middle_zero };
    Kernels::detect().int8_depthwise(x, shape, read, depthwise, &mut y[..middle_len]);
    assert!(y[..middle_len] == *middle, "depthwise part of {shape:?} {read:?}");
}

fn pools(buffers: &mut Buffers, random: &mut Random) {
    let input = image(random, 2);
    let kernel = random.within(1, 5).min(input.height).min(input.width);
    let shape = PoolShape { input, kernel, stride: random.within(1, 2), padding: random.within(0, (kernel - 1) / 2) };
    let (len, rescale) = (shape.output().len(), random.rescale());
    let Buffers { x, y, expected, .. } = buffers;
    let x = &x[..input.len()];
    Kernels::detect().int8_max_pool(x, &mut y[..len], shape, rescale);
    reference::int8_max_pool(x, &mut expected[..len], shape, rescale);
    assert!(y[..len] == expected[..len], "max pool {shape:?} {rescale:?}");
    Kernels::detect().int8_avg_pool(x, &mut y[..len], shape, rescale);
    reference::int8_avg_pool(x, &mut expected[..len], shape, rescale);
    assert!(y[..len] == expected[..len], "average pool {shape:?} {rescale:?}");
}

fn rescale(buffers: &mut Buffers, random: &mut Random) {
    let (len, at) = (random.within(0, 300), random.within(0, 100));
    let (rescale, accumulate) = (random.rescale(), random.flag());
    reset(buffers, len, random);
    let Buffers { x, y, expected, .. } = buffers;
    Kernels::detect().int8_rescale(&x[at..][..len], &mut y[..len], rescale, accumulate);
    reference::int8_rescale(&x[at..][..len], &mut expected[..len], rescale, accumulate);
    assert!(y[..len] == expected[..len], "{len} elements {rescale:?} {accumulate}");
}
