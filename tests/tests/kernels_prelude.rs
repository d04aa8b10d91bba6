//! Padding, ReLU and affine map ahead of a convolution, against the reference.

use darts_kernels_simd::{ImageShape, Kernels, Padding, Prelude, reference};
use darts_tests::{Guarded, Random, assert_adjoint, assert_close, assert_same, guarded, images, kernels};

const PADDINGS: [Padding; 3] =
    [Padding::NONE, Padding::symmetric(1, 2), Padding { top: 0, bottom: 1, left: 0, right: 1 }];

fn each_case(mut test: impl FnMut(Kernels, ImageShape, Padding, Prelude<'_>, &mut Random)) {
    let mut random = Random::new(1);
    for kernels in kernels() {
        for shape in images(kernels) {
            let (scale, shift) = (guarded(&random.values(shape.channels)), guarded(&random.values(shape.channels)));
            let (scale, shift) = (&scale[..], &shift[..]);
            let preludes =
                [Prelude::Copy, Prelude::Relu, Prelude::Affine { scale, shift }, Prelude::AffineRelu { scale, shift }];
            for prelude in preludes {
                for padding in PADDINGS {
                    test(kernels, shape, padding, prelude, &mut random);
                }
            }
        }
    }
}

#[test]
fn forward() {
    each_case(|kernels, shape, padding, prelude, random| {
        let x = guarded(&random.values(shape.len()));
        let mut y = Guarded::unwritten(shape.padded(padding).len());
        kernels.prelude(&x, shape, padding, prelude, &mut y);
        let mut expected = vec![f32::NAN; y.len()];
        reference::prelude(&x, shape, padding, prelude, &mut expected);
        assert_close((kernels, shape, padding, prelude), &y, &expected, &vec![2.0; y.len()]);
    });
}

#[test]
fn backward() {
    each_case(|kernels, shape, padding, prelude, random| {
        let x = guarded(&random.values(shape.len()));
        let dy = guarded(&random.values(shape.padded(padding).len()));
        let before = random.values(shape.len());
        for accumulate in [false, true] {
            let mut dx = if accumulate { guarded(&before) } else { Guarded::unwritten(x.len()) };
            let mut expected = dx.to_vec();
            kernels.prelude_backward(&x, shape, padding, prelude, &dy, &mut dx, accumulate);
            reference::prelude_backward(&x, shape, padding, prelude, &dy, &mut expected, accumulate);
            assert_same((kernels, shape, padding, prelude), &dx, &expected);
        }
    });
}

#[test]
fn padding_is_adjoint_to_cropping() {
    each_case(|kernels, shape, padding, prelude, random| {
        if !matches!(prelude, Prelude::Copy) {
            return;
        }
        let (x, dy) = (random.values(shape.len()), random.values(shape.padded(padding).len()));
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        kernels.prelude(&x, shape, padding, prelude, &mut y);
        kernels.prelude_backward(&x, shape, padding, prelude, &dy, &mut dx, false);
        assert_adjoint((kernels, shape, padding), &x, &y, &dy, &dx);
    });
}

#[test]
fn nan_is_not_hidden_by_relu() {
    for kernels in kernels() {
        let x = [f32::NAN; 17];
        let mut y = [0.0; 17];
        kernels.relu(&x, &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "{kernels:?}: {y:?}");
    }
}
