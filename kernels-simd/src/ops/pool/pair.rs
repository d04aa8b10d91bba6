//! Both pools of an image at once, and the image itself: what a mixed operation makes of a state without weights. Each
//! window is read once for all three.

use core::ptr;

use crate::arch::Simd;
use crate::kernels::{Kernels, dispatch};
use crate::ops::pool::check;
use crate::ops::pool::forward::each_output;
use crate::ops::pool::outputs::{Mix, Norm, Reduce};
use crate::ops::pool::reduction::Both;
use crate::ops::separable::NormSums;
use crate::shape::PoolShape;

/// Factors of [`Kernels::pool_pair_mix`].
#[derive(Clone, Copy, Debug)]
pub struct PairFactors<'a> {
    /// Of the maximum over a window, one for each channel.
    pub maximum: &'a [f32],
    /// Of the mean over a window, one for each channel.
    pub average: &'a [f32],
    /// Of the image itself, if that is a term, too.
    pub image: Option<f32>,
}

/// Where [`Kernels::pool_pair_norm_reduce`] adds.
#[derive(Debug)]
pub struct PairSums<'a> {
    /// For the norm of the maximum over each window.
    pub maximum: NormSums<'a>,
    /// For the norm of the mean over each window.
    pub average: NormSums<'a>,
    /// `Σ dy·x` is added here, if it is wanted.
    pub image: Option<&'a mut f64>,
}

impl Kernels {
    /// `y += maximum·max(x) + average·mean(x) + image·x`, the terms of a [`mix`](Self::mix) that come from one state:
    /// what [`pool_mix`](Self::pool_mix) adds for both pools, and the image. `y` has the output shape.
    ///
    /// # Panics
    ///
    /// As [`max_pool`](Self::max_pool); with `image`, also when input and output differ in their shapes.
    pub fn pool_pair_mix(self, x: &[f32], shape: PoolShape, factors: PairFactors<'_>, y: &mut [f32]) {
        if !check("pool_pair_mix", x, y.len(), shape) {
            return;
        }
        let PairFactors { maximum, average, image } = factors;
        let (lengths, channels) = ([maximum, average].map(<[f32]>::len), shape.input.channels);
        assert_eq!(lengths, [channels; 2], "pool_pair_mix: factors of {shape:?}");
        assert!(
            image.is_none() || shape.output() == shape.input,
            "pool_pair_mix: an image of another shape, {shape:?}"
        );
        let scales = [maximum, average].map(<[f32]>::as_ptr);
        let (x, y) = (x.as_ptr(), y.as_mut_ptr());
        // SAFETY: x has the length of the input, y that of the output and with an image the same, the factors that of
        // the channels, and no window is empty.
        unsafe {
            match image {
                Some(image) => {
                    let output = Mix { scales, image, x, y };
                    dispatch!(self, mix_with_image(x: *const f32, shape: PoolShape, output: Mix<2, true>));
                }
                None => {
                    let output = Mix { scales, image: 0.0, x, y };
                    dispatch!(self, mix(x: *const f32, shape: PoolShape, output: Mix<2, false>));
                }
            }
        }
    }

    /// The sums of [`pool_norm_reduce`](Self::pool_norm_reduce) for both pools of `x`, and with the image itself; `dy`
    /// has the output shape.
    ///
    /// # Panics
    ///
    /// As [`pool_pair_mix`](Self::pool_pair_mix).
    pub fn pool_pair_norm_reduce(self, x: &[f32], dy: &[f32], shape: PoolShape, sums: PairSums<'_>) {
        if !check("pool_pair_norm_reduce", x, dy.len(), shape) {
            return;
        }
        let PairSums { maximum, average, image } = sums;
        let same = image.is_none() || shape.output() == shape.input;
        assert!(same, "pool_pair_norm_reduce: an image of another shape, {shape:?}");
        let norms = [maximum, average].map(|sums| Norm::new("pool_pair_norm_reduce", sums, shape));
        let (x, dy) = (x.as_ptr(), dy.as_ptr());
        // SAFETY: x has the length of the input, dy that of the output and with an image the same, means and sums that
        // of the channels, and no window is empty.
        unsafe {
            match image {
                Some(image) => {
                    let output = Reduce { dy, norms, x, image };
                    dispatch!(self, reduce_with_image(x: *const f32, shape: PoolShape, output: Reduce<2, true>));
                }
                None => {
                    let output = Reduce { dy, norms, x, image: ptr::null_mut() };
                    dispatch!(self, reduce(x: *const f32, shape: PoolShape, output: Reduce<2, false>));
                }
            }
        }
    }
}

/// One body per output for [`dispatch`].
macro_rules! image {
    ($name:ident, $output:ty) => {
        #[inline(always)]
        unsafe fn $name<S: Simd>(x: *const f32, shape: PoolShape, output: $output) {
            // SAFETY: promised by the caller.
            unsafe { each_output::<S, Both, _, 2>(x, shape, &output) }
        }
    };
}
image!(mix, Mix<2, false>);
image!(mix_with_image, Mix<2, true>);
image!(reduce, Reduce<2, false>);
image!(reduce_with_image, Reduce<2, true>);
