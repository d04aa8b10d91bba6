//! What lies between convolutions and behind them: batch norm, preludes, mixed sums, the classifier, the loss, and work
//! on vectors.

use std::hint::black_box;

use darts_kernels_simd::{ImageShape, MixTerm, NormSums, NormTerm, Padding, Prelude};

use super::buffer::{Values, buffer, floats, name_of, values};
use super::case::{Case, Direction, SIZES, Work, image, text};
use crate::engine::Saved;
use crate::engine::aligned::AlignedBuffer;

/// Terms of a mixed operation: one for each primitive.
const TERMS: usize = 8;

/// The sums of as many terms behind one gradient.
const REDUCE_TERMS: &str = "norm backward reduce of 8 terms";

/// Images in the batch of the classifier and the loss.
const BATCH: usize = 64;

/// Classes.
const CLASSES: usize = 10;

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        cases.push(moments(image(size)));
        cases.extend(preludes(image(size)));
        for saved in [Saved::F32, Saved::F16] {
            cases.extend(norms_backward(image(size), saved));
            cases.push(mix(image(size), saved));
        }
        cases.extend(vectors(image(size)));
        cases.extend(half_precision(image(size)));
    }
    cases.extend([256, 576].into_iter().flat_map(classifier));
    cases.push(loss());
    cases
}

fn moments(shape: ImageShape) -> Case {
    let (size, len) = (text(shape), shape.len());
    let work = Work::streaming(3 * len, len);
    Case::kernel(("channel moments", &size), Direction::Forward, work, shape, |shape, kernels, timer| {
        let z = buffer(shape.len());
        let (mut sum, mut squares) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
        timer(&mut || kernels.channel_moments(&z, shape.channels, &mut sum, &mut squares));
    })
}

/// Of values that are stored as `saved` says.
fn norms_backward(shape: ImageShape, saved: Saved) -> [Case; 3] {
    let (size, len, kept) = (text(shape), shape.len(), floats(shape.len(), saved));
    let case = |name, work, body| {
        Case::kernel((&name_of(name, saved), &size), Direction::InputGradient, work, (shape, saved), body)
    };
    [
        case("norm backward reduce", Work::streaming(4 * len, len + kept), |&(shape, saved), kernels, timer| {
            let (dy, z, mean) = (buffer(shape.len()), values(shape.len(), saved, kernels), buffer(shape.channels));
            let (mut sum, mut dot) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
            timer(&mut || kernels.norm_backward_reduce(&dy, z.stored(), &mean, 1.0, &mut sum, &mut dot));
        }),
        case(
            REDUCE_TERMS,
            Work::streaming((3 * TERMS + 1) * len, len + TERMS * kept),
            |&(shape, saved), kernels, timer| {
                let (dy, mean) = (buffer(shape.len()), buffer(shape.channels));
                let values: [Values; TERMS] = [(); TERMS].map(|()| values(shape.len(), saved, kernels));
                let mut sums = [(); TERMS].map(|()| [(); 2].map(|()| vec![0.0; shape.channels]));
                let mut terms: Vec<NormTerm> = values
                    .iter()
                    .zip(&mut sums)
                    .map(|(z, [sum, dot])| NormTerm {
                        z: z.stored(),
                        sums: NormSums { mean: &mean, scale: 1.0, sum, dot },
                    })
                    .collect();
                timer(&mut || kernels.norm_backward_reduce_terms(&dy, &mut terms));
            },
        ),
        case("norm backward apply", Work::streaming(5 * len, 2 * len + kept), |&(shape, saved), kernels, timer| {
            let (dy, z) = (buffer(shape.len()), values(shape.len(), saved, kernels));
            let ([mean, p, q, r], mut dz) = ([(); 4].map(|()| buffer(shape.channels)), buffer(shape.len()));
            timer(&mut || kernels.norm_backward_apply(&dy, z.stored(), &mean, &p, &q, &r, 1.0, &mut dz));
        }),
    ]
}

/// The zeros that a 3×3 window needs.
const PADDING: Padding = Padding::symmetric(1, 1);

fn preludes(shape: ImageShape) -> [Case; 4] {
    let (size, len, padded) = (text(shape), shape.len(), shape.padded(PADDING).len());
    let case = |name, direction, work, body| Case::kernel((name, &size), direction, work, shape, body);
    let name = "prelude (norm, ReLU, padding 1)";
    [
        case(name, Direction::Forward, Work::streaming(3 * len, len + padded), |&shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), buffer(shape.padded(PADDING).len()));
            let [scale, shift] = [(); 2].map(|()| buffer(shape.channels));
            let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
            timer(&mut || kernels.prelude(&x, shape, PADDING, prelude, &mut y));
        }),
        case(name, Direction::InputGradient, Work::streaming(3 * len, 2 * len + padded), |&shape, kernels, timer| {
            let (x, dy, mut dx) = (buffer(shape.len()), buffer(shape.padded(PADDING).len()), buffer(shape.len()));
            let [scale, shift] = [(); 2].map(|()| buffer(shape.channels));
            let prelude = Prelude::AffineRelu { scale: &scale, shift: &shift };
            timer(&mut || kernels.prelude_backward(&x, shape, PADDING, prelude, &dy, &mut dx, false));
        }),
        case("ReLU", Direction::Forward, Work::streaming(len, 2 * len), |shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), buffer(shape.len()));
            timer(&mut || kernels.relu(&x, &mut y));
        }),
        case("ReLU", Direction::InputGradient, Work::streaming(len, 3 * len), |shape, kernels, timer| {
            let (x, dy, mut dx) = (buffer(shape.len()), buffer(shape.len()), buffer(shape.len()));
            timer(&mut || kernels.relu_backward(&x, &dy, &mut dx, false));
        }),
    ]
}

fn mix(shape: ImageShape, saved: Saved) -> Case {
    let (name, size, len) = (name_of(&format!("mix of {TERMS} terms"), saved), text(shape), shape.len());
    let work = Work::streaming(2 * TERMS * len, len + TERMS * floats(len, saved));
    Case::kernel((&name, &size), Direction::Forward, work, (shape, saved), |&(shape, saved), kernels, timer| {
        let images: [Values; TERMS] = [(); TERMS].map(|()| values(shape.len(), saved, kernels));
        let (scale, shift, mut y) = (buffer(shape.channels), buffer(shape.channels), buffer(shape.len()));
        let terms: Vec<MixTerm> = images.iter().map(|z| MixTerm { z: z.stored(), scale: &scale }).collect();
        timer(&mut || kernels.mix(&terms, &shift, &mut y, false));
    })
}

/// On vectors as long as an image.
fn vectors(shape: ImageShape) -> [Case; 4] {
    let (size, len) = (text(shape), shape.len());
    let case = |name, work, body| Case::kernel((name, &size), Direction::Forward, work, shape, body);
    [
        case("axpy", Work::streaming(2 * len, 3 * len).in_place(len), |shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), buffer(shape.len()));
            timer(&mut || kernels.axpy(1e-6, &x, &mut y));
        }),
        case("scale and add", Work::streaming(3 * len, 3 * len).in_place(len), |shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), buffer(shape.len()));
            timer(&mut || kernels.scale_add(0.1, &x, 0.9, &mut y));
        }),
        case(
            "sum of 8 vectors",
            Work::streaming(TERMS * len, (TERMS + 2) * len).in_place(len),
            |shape, kernels, timer| {
                let xs: [AlignedBuffer; TERMS] = [(); TERMS].map(|()| buffer(shape.len()));
                let (xs, mut y) = (xs.each_ref().map(|x| &x[..]), buffer(shape.len()));
                timer(&mut || kernels.add_all(&xs, &mut y));
            },
        ),
        case("dot product", Work::streaming(2 * len, 2 * len), |shape, kernels, timer| {
            let (x, y) = (buffer(shape.len()), buffer(shape.len()));
            timer(&mut || {
                black_box(kernels.dot(&x, &y));
            });
        }),
    ]
}

/// Between single and half precision.
fn half_precision(shape: ImageShape) -> [Case; 2] {
    let (size, len) = (text(shape), shape.len());
    // Half as many bytes on one side.
    let work = Work::streaming(len, len + len / 2);
    [
        Case::kernel(("f32 to f16", &size), Direction::Forward, work, shape, |shape, kernels, timer| {
            let (x, mut y) = (buffer(shape.len()), vec![0; shape.len()]);
            timer(&mut || kernels.f32_to_f16(&x, &mut y));
        }),
        Case::kernel(("f16 to f32", &size), Direction::Forward, work, shape, |shape, kernels, timer| {
            let (mut x, mut y) = (vec![0; shape.len()], buffer(shape.len()));
            kernels.f32_to_f16(&buffer(shape.len()), &mut x);
            timer(&mut || kernels.f16_to_f32(&x, &mut y));
        }),
    ]
}

fn classifier(features: usize) -> [Case; 2] {
    let size = format!("{BATCH}x{features}->{CLASSES}");
    let (flops, floats) = (2 * BATCH * features * CLASSES, BATCH * (features + CLASSES) + features * CLASSES);
    [
        Case::kernel(
            ("linear", &size),
            Direction::Forward,
            Work::new(flops, floats),
            features,
            |&features, kernels, timer| {
                let (x, w) = (buffer(BATCH * features), buffer(features * CLASSES));
                let (bias, mut y) = (buffer(CLASSES), buffer(BATCH * CLASSES));
                timer(&mut || kernels.linear(&x, &w, &bias, &mut y));
            },
        ),
        Case::kernel(
            ("linear", &size),
            Direction::Gradients,
            Work::new(2 * flops, 2 * floats),
            features,
            |&features, kernels, timer| {
                let (x, w, dy) = (buffer(BATCH * features), buffer(features * CLASSES), buffer(BATCH * CLASSES));
                let (mut dx, mut dw, mut dbias) = (buffer(x.len()), buffer(w.len()), buffer(CLASSES));
                timer(&mut || kernels.linear_backward(&x, &w, &dy, &mut dx, &mut dw, &mut dbias));
            },
        ),
    ]
}

/// Largest, exponential, sum, logarithm and difference of each logit, in plain `f64`.
fn loss() -> Case {
    let (size, len) = (format!("{BATCH}x{CLASSES}"), BATCH * CLASSES);
    let work = Work::streaming(6 * len, 2 * len);
    Case::kernel(("softmax cross-entropy", &size), Direction::Gradients, work, (), |(), kernels, timer| {
        let (logits, mut gradient) = (buffer(BATCH * CLASSES), buffer(BATCH * CLASSES));
        let targets: Vec<u32> = (0..BATCH as u32).map(|image| image % CLASSES as u32).collect();
        timer(&mut || {
            kernels.softmax_cross_entropy(&logits, &targets, 0.0, &mut gradient);
        });
    })
}
