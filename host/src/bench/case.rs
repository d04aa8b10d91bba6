//! What is measured: one kernel, stage or network at one shape in one direction.

use std::fmt;
use std::sync::Arc;

use darts_kernels_simd::{ImageShape, Kernels};

use crate::engine::Workers;

/// What of a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The output.
    Forward,
    /// The gradient with respect to the input.
    InputGradient,
    /// The gradient with respect to the weights.
    WeightGradient,
    /// Both gradients.
    Gradients,
    /// Forward and backward, and the update that uses the gradients.
    Step,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
            Self::Gradients => "both gradients",
            Self::Step => "step",
        })
    }
}

/// What one call has to do, whatever the instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Floating-point operations: additions, multiplications and comparisons.
    pub flops: f64,
    /// Bytes of operands and results, each counted once; of a network those of all its operations, three times for a
    /// forward and backward pass.
    pub moved: usize,
    /// Those of them that are brought in: all but results that lie where operands do. What is stored past the caches is
    /// not, but counts, for multiply-adds bound where that is done.
    pub fetched: usize,
    /// Bytes that are touched before the first are touched again; `None` where it is the engine that decides.
    pub touched: Option<usize>,
    /// Whether the operations are multiply-adds, so that their peak is a bound; else moving the operands alone is.
    pub multiply_adds: bool,
}

impl Work {
    /// `flops` over `floats` operands and results, which are the same in every call.
    pub(super) fn new(flops: usize, floats: usize) -> Self {
        let bytes = floats * size_of::<f32>();
        Self { flops: flops as f64, moved: bytes, fetched: bytes, touched: Some(bytes), multiply_adds: true }
    }

    /// The same where little is computed from each operand, and not by multiply-adds alone.
    pub(super) fn streaming(flops: usize, floats: usize) -> Self {
        Self { multiply_adds: false, ..Self::new(flops, floats) }
    }

    /// The same where `floats` of the results lie where operands do.
    pub(super) fn in_place(self, floats: usize) -> Self {
        let bytes = floats * size_of::<f32>();
        Self { fetched: self.fetched - bytes, touched: self.touched.map(|touched| touched - bytes), ..self }
    }

    /// `flops` of a network over `moved` bytes, which may lie anywhere.
    pub(super) fn network(flops: f64, moved: usize) -> Self {
        Self { flops, moved, fetched: moved, touched: None, multiply_adds: true }
    }
}

/// Is given what to time; calls it as often as it likes.
pub type Timer<'a> = dyn FnMut(&mut dyn FnMut()) + 'a;

type Body = dyn Fn(Kernels, &Arc<Workers>, &mut Timer);

/// Something to be measured.
pub struct Case {
    /// The operation.
    pub name: String,
    /// Channels, height and width of the input, and what else there is to say of sizes.
    pub shape: String,
    /// What of it is computed.
    pub direction: Direction,
    /// What a call has to do.
    pub work: Work,
    /// Whether it runs on all threads; otherwise on one.
    pub parallel: bool,
    pub(super) body: Box<Body>,
}

impl Case {
    /// A kernel: `body` prepares its operands of `shape` and has the timer call it.
    pub(super) fn kernel<S: 'static>(
        (name, size): (&str, &str),
        direction: Direction,
        work: Work,
        shape: S,
        body: fn(&S, Kernels, &mut Timer),
    ) -> Self {
        let body: Box<Body> = Box::new(move |kernels, _, timer| body(&shape, kernels, timer));
        Self { name: name.to_owned(), shape: size.to_owned(), direction, work, parallel: false, body }
    }

    /// Prepares the operands and has `timer` call what is to be timed.
    pub fn run(&self, kernels: Kernels, workers: &Arc<Workers>, timer: &mut Timer) {
        (self.body)(kernels, workers, timer);
    }

    /// Name, shape and direction in one line.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.name, self.shape, self.direction)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Channels and extent of the images in DARTS networks: the search's at C = 16 and C = 8, those of derived networks at
/// C = 36 and 40, and beside channels that fill no whole registers the next that do.
pub(super) const SIZES: [(usize, usize); 13] = [
    (16, 32),
    (32, 16),
    (64, 8),
    (8, 28),
    (16, 14),
    (32, 7),
    (36, 32),
    (40, 32),
    (48, 32),
    (72, 16),
    (80, 16),
    (144, 8),
    (160, 8),
];

/// A square image.
pub(super) fn image((channels, extent): (usize, usize)) -> ImageShape {
    ImageShape::new(extent, extent, channels)
}

/// A shape as it is written on the command line.
pub(super) fn text(shape: ImageShape) -> String {
    format!("{}x{}x{}", shape.channels, shape.height, shape.width)
}

/// What windows are called.
pub(super) fn window(kernel: usize, stride: usize, dilation: usize) -> String {
    let dilated = if dilation > 1 { format!(" dilation {dilation}") } else { String::new() };
    let strided = if stride > 1 { format!(" stride {stride}") } else { String::new() };
    format!("{kernel}x{kernel}{dilated}{strided}")
}
