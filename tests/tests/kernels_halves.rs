//! Kernels that read and write half precision: the same bits as with what is read brought to single precision before,
//! and with what is written rounded behind them.

use darts_kernels_simd::{
    ImageShape, Kernels, MixTerm, Moments, NormSums, NormTerm, OutputGradient, Prelude, SeparableInput,
    SeparableInputGradient, SeparableScratch, SeparableShape, SeparableWeightGradient, SeparableWeights, Stored,
    StoredMut, reference,
};
use darts_tests::{Guarded, Random, assert_close, channel_counts, guarded, kernels, repeating_channel_counts};

/// Numbers in half precision between canaries: NaNs that a kernel must neither write nor let take part.
struct Halves {
    all: Vec<u16>,
    start: usize,
    len: usize,
}

const GUARD: usize = 64;
const CANARY: u16 = 0x7eda;

impl Halves {
    /// The values `offset` values behind a boundary of 64 bytes.
    fn new(values: &[u16], offset: usize) -> Self {
        let mut all = vec![CANARY; values.len() + 3 * GUARD];
        let start = GUARD + all[GUARD..].as_ptr().align_offset(64) + offset;
        all[start..start + values.len()].copy_from_slice(values);
        Self { all, start, len: values.len() }
    }

    /// Numbers in ±1, and in some of them what is special: zeros of both signs, the smallest and the largest.
    fn random(random: &mut Random, len: usize) -> Self {
        let mut halves = vec![0; len];
        reference::f32_to_f16(&random.values(len), &mut halves);
        for (half, special) in halves.iter_mut().skip(3).step_by(7).zip([0x0000, 0x8000, 0x0001, 0x83ff, 0x4c00]) {
            *half = special;
        }
        Self::new(&halves, 0)
    }

    fn get(&self) -> &[u16] {
        &self.all[self.start..self.start + self.len]
    }

    fn get_mut(&mut self) -> &mut [u16] {
        &mut self.all[self.start..self.start + self.len]
    }

    fn stored(&self) -> Stored<'_> {
        Stored::F16(self.get())
    }

    fn wide(&self) -> Guarded {
        let mut wide = vec![f32::NAN; self.len];
        reference::f16_to_f32(self.get(), &mut wide);
        guarded(&wide)
    }

    fn check(&self) {
        let (before, rest) = self.all.split_at(self.start);
        assert!(before.iter().chain(&rest[self.len..]).all(|&value| value == CANARY), "written outside");
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

/// Of `channels` channels, to as many and to others; rows of 13 pixels have strips of an odd number of pixels.
fn shapes(channels: usize) -> impl Iterator<Item = SeparableShape> {
    [(3, 1, 1, 0), (5, 1, 2, 0), (3, 2, 1, 0), (5, 2, 1, 8), (3, 1, 2, 16), (5, 1, 1, 0)].into_iter().flat_map(
        move |(kernel, stride, dilation, outputs)| {
            // At stride 1 the preludes of the second and the sixth have a ReLU.
            [(1, 1), (20, 14), (9, 8), (3, 7), (11, 13), (6, 16), (2, 32)].map(|(height, width)| SeparableShape {
                input: ImageShape::new(height, width, channels),
                kernel,
                stride,
                dilation,
                output_channels: if outputs > 0 { outputs } else { channels },
            })
        },
    )
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
            let (len, outputs) = (shape.output().len(), shape.output_channels);
            let untouched = [vec![1.0; outputs], vec![2.0; outputs]];
            let run = |x: Stored, z: StoredMut, moments: bool| {
                let mut sums = untouched.clone();
                let [sum, sum_of_squares] = &mut sums;
                let mut scratch = Guarded::unwritten(shape.streaming_scratch());
                let scratch = SeparableScratch::new(&mut scratch);
                let moments = moments.then_some(Moments { sum, sum_of_squares });
                let input = SeparableInput::new(x, prelude);
                kernels.separable_stored(input, shape, &depthwise, &pointwise, z, moments, scratch);
                sums
            };
            let (wide, mut expected) = (x.wide(), Guarded::unwritten(len));
            let sums = run(Stored::F32(&wide), StoredMut::F32(&mut expected), true);
            let mut rounded = vec![0; len];
            reference::f32_to_f16(&expected, &mut rounded);
            for (offset, moments, half) in [(0, true, true), (0, false, false), (1, true, false), (8, false, true)] {
                let context = format!("{kernels:?}, {shape:?}, {prelude:?}, {offset}, {moments}, {half}");
                let mut z = Halves::new(&vec![0x7e00; len], offset);
                let x = if half { x.stored() } else { Stored::F32(&wide) };
                let actual = run(x, StoredMut::F16(z.get_mut()), moments);
                assert_eq!(actual, if moments { sums.clone() } else { untouched.clone() }, "{context}");
                assert_eq!(z.get(), rounded, "{context}");
                z.check();
            }
            let mut z = Guarded::unwritten(len);
            assert_eq!(run(x.stored(), StoredMut::F32(&mut z), true), sums, "{kernels:?}, {shape:?}, {prelude:?}");
            assert_eq!(z[..], expected[..], "{kernels:?}, {shape:?}, {prelude:?}");
        }
    });
}

#[test]
fn what_is_not_finite_goes_through_and_what_is_too_large_becomes_infinite() {
    for kernels in kernels() {
        for channels in [1, 8, 16, 36] {
            let input = ImageShape::new(1, 3, channels);
            let shape = SeparableShape { input, kernel: 1, stride: 1, dilation: 1, output_channels: channels };
            let mut pointwise = vec![0.0; channels * channels];
            pointwise[0] = 1.0;
            let mut x = Halves::new(&vec![0; input.len()], 0);
            for (pixel, value) in [0x7e00, 0xfc00, 0x7bff].into_iter().enumerate() {
                x.get_mut()[pixel * channels] = value;
            }
            let (mut z, mut scratch) = (vec![0; input.len()], vec![0.0; shape.streaming_scratch()]);
            kernels.separable_stored(
                SeparableInput::new(x.stored(), Prelude::Copy),
                shape,
                &vec![2.0; channels],
                &pointwise,
                StoredMut::F16(&mut z),
                None,
                SeparableScratch::new(&mut scratch),
            );
            let first = [0, 1, 2].map(|pixel| z[pixel * channels]);
            assert_eq!(first[0] & 0x7e00, 0x7e00, "{kernels:?}, {channels}: NaN");
            assert_eq!(first[1..], [0xfc00, 0x7c00], "{kernels:?}, {channels}");
        }
    }
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
            let [p, q, r, z_mean] = [(); 4].map(|()| random.values(shape.output_channels));
            let mean = random.values(channels);
            // With everything, and with the gradient as it is, added to what is there, without sums or weights.
            let run = |x: Stored, z: Option<Stored>| {
                let mut dx = guarded(&vec![0.25; shape.input.len()]);
                let mut sums = [vec![1.0; channels], vec![2.0; channels]];
                let mut dw = [vec![0.5; depthwise.len()], vec![0.5; pointwise_transposed.len()]];
                let mut scratch = Guarded::unwritten(shape.backward_scratch());
                let ([sum, dot], [d_depthwise, d_pointwise]) = (&mut sums, &mut dw);
                let norm_sums = z.map(|_| NormSums { mean: &mean, scale: 0.5, sum, dot });
                let want_dw = z.map(|_| SeparableWeightGradient { depthwise: d_depthwise, pointwise: d_pointwise });
                let dz = z.map_or(OutputGradient::Ready(&dy), |z| OutputGradient::Norm {
                    dy: &dy,
                    z,
                    mean: &z_mean,
                    p: &p,
                    q: &q,
                    r: &r,
                    scale: 1.5,
                });
                kernels.separable_backward(
                    SeparableInput::new(x, prelude),
                    shape,
                    SeparableWeights { depthwise: &depthwise, pointwise_transposed: &pointwise_transposed },
                    dz,
                    Some(SeparableInputGradient { dx: &mut dx, accumulate: z.is_none(), sums: norm_sums }),
                    want_dw,
                    SeparableScratch::new(&mut scratch),
                );
                (dx.to_vec(), sums, dw)
            };
            let (wide_x, wide_z) = (x.wide(), z.wide());
            let expected = run(Stored::F32(&wide_x), Some(Stored::F32(&wide_z)));
            let context = format!("{kernels:?}, {shape:?}, {prelude:?}");
            assert!(run(x.stored(), Some(z.stored())) == expected, "{context}");
            assert!(run(Stored::F32(&wide_x), Some(z.stored())) == expected, "{context}, x in single precision");
            assert!(run(x.stored(), None) == run(Stored::F32(&wide_x), None), "{context}, no norm");
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
    let (x, z) = (SeparableInput::new(Stored::F16(&x), Prelude::Copy), StoredMut::F16(&mut z));
    Kernels::detect().separable_stored(x, shape, &[0.0; 9], &[0.0], z, None, scratch);
}
