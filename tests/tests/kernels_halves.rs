//! Kernels that read and write half precision: the same bits as with what is read brought to single precision before, and
//! with what is written rounded behind them.

use darts_kernels_simd::{
    ImageShape, Kernels, MixTerm, Moments, NormSums, NormTerm, OutputGradient, Prelude, SeparableInputGradient,
    SeparableScratch, SeparableShape, SeparableWeightGradient, SeparableWeights, Stored, StoredMut, reference,
};
use darts_tests::{Guarded, Random, assert_close, channel_counts, guarded, kernels, repeating_channel_counts};

/// Numbers in half precision between canaries: NaNs that a kernel must neither write nor let take part.
struct Halves(Vec<u16>);

const GUARD: usize = 32;
const CANARY: u16 = 0x7eda;

impl Halves {
    fn new(values: &[u16]) -> Self {
        Self([&[CANARY; GUARD], values, &[CANARY; GUARD]].concat())
    }

    fn random(random: &mut Random, len: usize) -> Self {
        let mut halves = vec![0; len];
        reference::f32_to_f16(&random.values(len), &mut halves);
        Self::new(&halves)
    }

    fn get(&self) -> &[u16] {
        &self.0[GUARD..self.0.len() - GUARD]
    }

    fn get_mut(&mut self) -> &mut [u16] {
        let end = self.0.len() - GUARD;
        &mut self.0[GUARD..end]
    }

    fn stored(&self) -> Stored<'_> {
        Stored::F16(self.get())
    }

    fn wide(&self) -> Guarded {
        let mut wide = vec![f32::NAN; self.get().len()];
        reference::f16_to_f32(self.get(), &mut wide);
        guarded(&wide)
    }

    fn check(&self) {
        let end = self.0.len() - GUARD;
        assert!(self.0[..GUARD].iter().chain(&self.0[end..]).all(|&value| value == CANARY), "written outside");
    }
}

fn each_channels(mut test: impl FnMut(Kernels, usize, &mut Random)) {
    let mut random = Random::new(21);
    for kernels in kernels() {
        for channels in channel_counts(kernels).into_iter().chain(repeating_channel_counts(kernels)) {
            test(kernels, channels, &mut random);
        }
    }
}

#[test]
fn mix() {
    each_channels(|kernels, channels, random| {
        for (pixels, count) in [(1, 1), (7, 2), (8, 4), (9, 5), (49, 8), (33, 11)] {
            let z: Vec<_> = (0..count).map(|_| Halves::random(random, pixels * channels)).collect();
            let wide: Vec<_> = z.iter().map(Halves::wide).collect();
            let scale: Vec<_> = (0..count).map(|_| guarded(&random.values(channels))).collect();
            let shift = guarded(&random.values(channels));
            let run = |is_half: &dyn Fn(usize) -> bool| {
                let form = |term: usize| if is_half(term) { z[term].stored() } else { Stored::F32(&wide[term]) };
                let terms: Vec<_> =
                    scale.iter().enumerate().map(|(term, scale)| MixTerm { z: form(term), scale }).collect();
                let mut y = Guarded::unwritten(pixels * channels);
                let mut expected = vec![f32::NAN; y.len()];
                for accumulate in [false, true] {
                    kernels.mix(&terms, &shift, &mut y, accumulate);
                    reference::mix(&terms, &shift, &mut expected, accumulate);
                    let size = vec![2.0 + 2.0 * count as f32; y.len()];
                    assert_close((kernels, channels, pixels, count, accumulate), &y, &expected, &size);
                }
                y.to_vec()
            };
            assert_eq!(run(&|_| true), run(&|_| false), "{kernels:?}, {channels}, {pixels}, {count}");
            run(&|term| term % 3 != 1);
        }
    });
}

#[test]
fn sums_of_a_norm_s_backward() {
    each_channels(|kernels, channels, random| {
        for (pixels, count) in [(1, 1), (3, 2), (100, 3), (1100, 4), (33, 5), (64, 8)] {
            let dy = guarded(&random.values(pixels * channels));
            let z: Vec<_> = (0..count).map(|_| Halves::random(random, pixels * channels)).collect();
            let wide: Vec<_> = z.iter().map(Halves::wide).collect();
            let mean = guarded(&random.values(channels));
            let run = |is_half: &dyn Fn(usize) -> bool| {
                let form = |term: usize| if is_half(term) { z[term].stored() } else { Stored::F32(&wide[term]) };
                let mut sums = vec![[vec![1.0; channels], vec![2.0; channels]]; count];
                let mut terms: Vec<_> = sums
                    .iter_mut()
                    .enumerate()
                    .map(|(term, [sum, dot])| NormTerm {
                        z: form(term),
                        sums: NormSums { mean: &mean, scale: 0.5, sum, dot },
                    })
                    .collect();
                kernels.norm_backward_reduce_terms(&dy, &mut terms);
                sums
            };
            let expected = run(&|_| false);
            assert_eq!(run(&|_| true), expected, "{kernels:?}, {channels}, {pixels}, {count}");
            // Others are in one group with a term then, which changes none of its sums.
            assert_eq!(run(&|term| term % 3 != 1), expected, "{kernels:?}, {channels}, {pixels}, {count}, both");
        }
    });
}

#[test]
fn a_norm_s_backward() {
    each_channels(|kernels, channels, random| {
        for pixels in [1, 7, 32, 33, 70] {
            let (dy, z) = (guarded(&random.values(pixels * channels)), Halves::random(random, pixels * channels));
            let [mean, p, q, r] = [(); 4].map(|()| guarded(&random.values(channels)));
            let run = |z: Stored| {
                let mut dz = Guarded::unwritten(dy.len());
                kernels.norm_backward_apply(&dy, z, &mean, &p, &q, &r, 0.75, &mut dz);
                dz.to_vec()
            };
            assert_eq!(run(z.stored()), run(Stored::F32(&z.wide())), "{kernels:?}, {channels}, {pixels}");
        }
    });
}

fn shapes(channels: usize) -> impl Iterator<Item = SeparableShape> {
    [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 1), (3, 1, 2)].into_iter().flat_map(move |(kernel, stride, dilation)| {
        [(1, 1), (3, 7), (9, 8), (20, 14)].map(|(height, width)| SeparableShape {
            input: ImageShape::new(height, width, channels),
            kernel,
            stride,
            dilation,
            output_channels: channels,
        })
    })
}

fn preludes<'a>(scale: &'a [f32], shift: &'a [f32]) -> [Prelude<'a>; 4] {
    [Prelude::AffineRelu { scale, shift }, Prelude::Relu, Prelude::Affine { scale, shift }, Prelude::Copy]
}

#[test]
fn separable() {
    each_channels(|kernels, channels, random| {
        let (scale, shift) = (random.values(channels), random.values(channels));
        for (shape, prelude) in shapes(channels).zip(preludes(&scale, &shift).into_iter().cycle()) {
            let x = Halves::random(random, shape.input.len());
            let depthwise = random.values(shape.depthwise().weights());
            let pointwise = random.values(shape.pointwise().weights());
            let len = shape.output().len();
            let run = |x: Stored, z: StoredMut| {
                let mut sums = [vec![1.0; channels], vec![2.0; channels]];
                let [sum, sum_of_squares] = &mut sums;
                let mut scratch = Guarded::unwritten(shape.streaming_scratch());
                let scratch = SeparableScratch::new(&mut scratch);
                let moments = Some(Moments { sum, sum_of_squares });
                kernels.separable_stored(x, shape, prelude, &depthwise, &pointwise, z, moments, scratch);
                sums
            };
            let (mut z, mut expected) = (Halves::new(&vec![0x7e00; len]), Guarded::unwritten(len));
            let sums = run(Stored::F32(&x.wide()), StoredMut::F32(&mut expected));
            let mut rounded = vec![0; len];
            reference::f32_to_f16(&expected, &mut rounded);
            assert_eq!(run(x.stored(), StoredMut::F16(z.get_mut())), sums, "{kernels:?}, {shape:?}, {prelude:?}");
            assert_eq!(z.get(), rounded, "{kernels:?}, {shape:?}, {prelude:?}");
            z.check();
        }
    });
}

#[test]
fn separable_backward() {
    each_channels(|kernels, channels, random| {
        let (scale, shift) = (random.values(channels), random.values(channels));
        for (shape, prelude) in shapes(channels).zip(preludes(&scale, &shift).into_iter().cycle()) {
            let (x, z) = (Halves::random(random, shape.input.len()), Halves::random(random, shape.output().len()));
            let dy = guarded(&random.values(shape.output().len()));
            let depthwise = random.values(shape.depthwise().weights());
            let pointwise_transposed = random.values(shape.pointwise().weights());
            let [mean, p, q, r] = [(); 4].map(|()| random.values(channels));
            let run = |x: Stored, z: Stored| {
                let mut dx = Guarded::unwritten(shape.input.len());
                let mut sums = [vec![1.0; channels], vec![2.0; channels]];
                let mut dw = [vec![0.5; depthwise.len()], vec![0.5; pointwise_transposed.len()]];
                let mut scratch = Guarded::unwritten(shape.backward_scratch());
                let ([sum, dot], [d_depthwise, d_pointwise]) = (&mut sums, &mut dw);
                kernels.separable_backward(
                    x,
                    shape,
                    prelude,
                    SeparableWeights { depthwise: &depthwise, pointwise_transposed: &pointwise_transposed },
                    OutputGradient::Norm { dy: &dy, z, mean: &mean, p: &p, q: &q, r: &r, scale: 1.5 },
                    Some(SeparableInputGradient {
                        dx: &mut dx,
                        accumulate: false,
                        sums: Some(NormSums { mean: &mean, scale: 0.5, sum, dot }),
                    }),
                    Some(SeparableWeightGradient { depthwise: d_depthwise, pointwise: d_pointwise }),
                    SeparableScratch::new(&mut scratch),
                );
                (dx.to_vec(), sums, dw)
            };
            let (wide_x, wide_z) = (x.wide(), z.wide());
            let expected = run(Stored::F32(&wide_x), Stored::F32(&wide_z));
            for (x, z) in [(x.stored(), z.stored()), (Stored::F32(&wide_x), z.stored())] {
                assert!(run(x, z) == expected, "{kernels:?}, {shape:?}, {prelude:?}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "scratch of")]
fn a_short_scratch_is_refused() {
    let input = ImageShape::new(2, 2, 1);
    let shape = SeparableShape { input, kernel: 3, stride: 1, dilation: 1, output_channels: 1 };
    let mut scratch = vec![0.0; shape.streaming_scratch() - 1];
    let (x, mut z, scratch) = ([0; 4], [0; 4], SeparableScratch::new(&mut scratch));
    let (x, z) = (Stored::F16(&x), StoredMut::F16(&mut z));
    Kernels::detect().separable_stored(x, shape, Prelude::Copy, &[0.0; 9], &[0.0], z, None, scratch);
}
