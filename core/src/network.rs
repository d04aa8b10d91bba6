//! A model file, checked and ready to run.

use core::fmt;

use darts_kernels_simd::{ImageShape, Kernels};

use crate::execute::{Buffers, Observed, Pixels};
use crate::genotype::Genotype;
use crate::model::{Metadata, ModelError, Sections, steps};
use crate::plan::{Place, Step};

/// A network in the bytes of its model file, which it reads in place.
#[derive(Clone, Debug)]
pub struct Network<'a> {
    sections: Sections<'a>,
}

/// Why a network did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The input has another length than [`Network::input_len`].
    InputLength {
        /// Elements of the network's input.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The output has another length than [`Network::classes`].
    OutputLength {
        /// Elements of the network's output.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The workspace has fewer bytes than [`Network::required_bytes`].
    Workspace {
        /// Bytes the network needs.
        required: usize,
        /// Bytes given.
        found: usize,
    },
    /// The bytes of the model are no longer those that were parsed: memory has been overwritten.
    ModelChanged,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputLength { expected, found } => {
                write!(f, "the network's input has {expected} elements, {found} were given")
            }
            Self::OutputLength { expected, found } => {
                write!(f, "the network's output has {expected} elements, room for {found} was given")
            }
            Self::Workspace { required, found } => {
                write!(f, "the network needs a workspace of {required} bytes, {found} were given")
            }
            Self::ModelChanged => f.write_str("the bytes of the model have changed since they were parsed"),
        }
    }
}

impl core::error::Error for RunError {}

impl<'a> Network<'a> {
    /// Checks a model file completely: lengths, checksum, sections, genotype, and every region of every step.
    ///
    /// # Errors
    ///
    /// [`ModelError`] with the first fault, [`ModelError::Misaligned`] if the address of `bytes` is no multiple of
    /// [`ALIGNMENT`](crate::ALIGNMENT).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ModelError> {
        Sections::read(bytes).map(|sections| Self { sections })
    }

    /// What the file says about the network.
    pub fn metadata(&self) -> &Metadata<'a> {
        &self.sections.metadata
    }

    /// The cells that the network was built from.
    pub fn genotype(&self) -> &Genotype {
        &self.sections.genotype
    }

    /// One input image, `[H, W, C]`.
    pub fn input_shape(&self) -> ImageShape {
        self.sections.metadata.input
    }

    /// Elements of one input image.
    pub fn input_len(&self) -> usize {
        self.input_shape().len()
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.sections.metadata.classes
    }

    /// Bytes of the workspace that [`run`](Self::run) needs, a multiple of 4.
    pub fn required_bytes(&self) -> usize {
        self.sections.workspace_bytes
    }

    /// The plan.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        steps(self.sections.plan).filter_map(Result::ok)
    }

    /// [`Step::operations`] of all steps: a bound of the work of [`run`](Self::run), which executes each once. Who runs
    /// files of unknown origin compares it with what is worth waiting for; no other limit is set on a plan than that of
    /// its regions.
    pub fn operations(&self) -> u64 {
        self.steps().fold(0, |sum, step| sum.saturating_add(step.operations()))
    }

    /// Bytes of the weights section.
    pub fn weight_bytes(&self) -> usize {
        self.sections.weights.len()
    }

    /// Turns pixels `[H, W, C]` of a byte each into the network's input: `(pixel / 255 − mean) / deviation` per
    /// channel. `input` is overwritten.
    ///
    /// # Errors
    ///
    /// [`RunError::InputLength`] if either has not [`input_len`](Self::input_len) elements.
    pub fn normalize(&self, pixels: &[u8], input: &mut [f32]) -> Result<(), RunError> {
        self.check_input(pixels.len())?;
        self.check_input(input.len())?;
        self.normalize_into(pixels, input);
        Ok(())
    }

    fn normalize_into(&self, pixels: &[u8], input: &mut [f32]) {
        let normalized = Pixels::new(pixels, &self.sections.metadata).normalized();
        input.iter_mut().zip(normalized).for_each(|(input, value)| *input = value);
    }

    /// Elements of the normalised image that [`run_pixels`](Self::run_pixels) needs room for:
    /// [`input_len`](Self::input_len) where a step reads it as `f32`, 0 where it is only read to be quantized.
    pub fn input_buffer_len(&self) -> usize {
        let reads = |step: Step| step.source() == Some(Place::External) && !matches!(step, Step::Int8(_));
        if self.steps().any(reads) { self.input_len() } else { 0 }
    }

    /// Computes the logits of one image of pixels `[H, W, C]` of a byte each: the same in every bit as
    /// [`normalize`](Self::normalize) and [`run`](Self::run). `input` is overwritten.
    ///
    /// # Errors
    ///
    /// [`RunError`] as of [`run`](Self::run), [`RunError::InputLength`] also if `input` has not
    /// [`input_buffer_len`](Self::input_buffer_len) elements.
    pub fn run_pixels(
        &self,
        kernels: Kernels,
        pixels: &[u8],
        input: &mut [f32],
        workspace: &mut [f32],
        output: &mut [f32],
    ) -> Result<(), RunError> {
        self.check_input(pixels.len())?;
        let (expected, found) = (self.input_buffer_len(), input.len());
        if found != expected {
            return Err(RunError::InputLength { expected, found });
        }
        self.normalize_into(pixels, input);
        let pixels = Some(Pixels::new(pixels, &self.sections.metadata));
        let weights = self.sections.weights;
        self.execute(Buffers { kernels, input, pixels, workspace, output, weights }, |_, _, _| {})
    }

    /// Computes the logits of one image. `input` is the normalised image `[H, W, C]`, `output` gets the logits
    /// `[classes]`; the workspace may hold anything before, and holds nothing of use after.
    ///
    /// # Errors
    ///
    /// [`RunError`] if a length is wrong; the workspace may be larger than [`required_bytes`](Self::required_bytes).
    pub fn run(
        &self,
        kernels: Kernels,
        input: &[f32],
        workspace: &mut [f32],
        output: &mut [f32],
    ) -> Result<(), RunError> {
        self.check_input(input.len())?;
        let weights = self.sections.weights;
        self.execute(Buffers { kernels, input, pixels: None, workspace, output, weights }, |_, _, _| {})
    }

    /// The same, and after each step `observe` is told which one of [`steps`](Self::steps) it was, with the images that
    /// it read and wrote: for calibration, and to find a layer that goes wrong. Of steps that are executed as one it is
    /// told the first.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_observed(
        &self,
        kernels: Kernels,
        input: &[f32],
        workspace: &mut [f32],
        output: &mut [f32],
        mut observe: impl FnMut(usize, Observed<'_>),
    ) -> Result<(), RunError> {
        self.check_input(input.len())?;
        let weights = self.sections.weights;
        self.execute(Buffers { kernels, input, pixels: None, workspace, output, weights }, |index, step, buffers| {
            if let Some(observed) = buffers.observed(step) {
                observe(index, observed);
            }
        })
    }

    /// Executes the plan; `after` is called after each step, with its index.
    fn execute(
        &self,
        mut buffers: Buffers<'_>,
        mut after: impl FnMut(usize, &Step, &mut Buffers<'_>),
    ) -> Result<(), RunError> {
        let (classes, required) = (self.classes(), self.required_bytes());
        if buffers.output.len() != classes {
            return Err(RunError::OutputLength { expected: classes, found: buffers.output.len() });
        }
        let found = size_of_val(buffers.workspace);
        if found < required {
            return Err(RunError::Workspace { required, found });
        }
        let (mut plan, mut index) = (steps(self.sections.plan), 0);
        while let Some(step) = plan.next() {
            let step = step.map_err(|_| RunError::ModelChanged)?;
            let following = plan.clone().map_while(Result::ok);
            let more = buffers.execute(&step, following).ok_or(RunError::ModelChanged)?;
            after(index, &step, &mut buffers);
            for _ in 0..more {
                plan.next();
            }
            index += 1 + more;
        }
        Ok(())
    }

    fn check_input(&self, found: usize) -> Result<(), RunError> {
        let expected = self.input_len();
        if found == expected { Ok(()) } else { Err(RunError::InputLength { expected, found }) }
    }
}

/// The bytes of a model file, in the program and aligned: `include_model!("net.model")` is a `&'static [u8]`. The path
/// is relative to the source file, as with [`include_bytes!`].
#[macro_export]
macro_rules! include_model {
    ($path:expr $(,)?) => {{
        #[repr(C, align(64))]
        struct Aligned<T: ?Sized>(T);
        static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &MODEL.0
    }};
}
