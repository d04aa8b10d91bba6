//! Memory of one thread for the images it works on: grown on demand, kept from image to image.

use darts_kernels_simd::{SeparableScratch, SeparableShape};

use super::aligned::AlignedBuffer;

/// Terms of a mix that are added at a time.
pub(super) const TERMS: usize = 8;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What a stage computes on the way.
    pub stage: StageScratch,
    /// Value of a tensor that is not stored as it is read.
    pub value: Buffer,
    /// Gradient of a stage's value from one of its readers, and its share of that from all.
    pub scaled: Buffer,
    pub part: Buffer,
    /// Per-channel scales of the terms of a mix, behind their common shift, or what the backward pass of a pool needs
    /// for each channel.
    pub scales: Buffer,
    /// The states of a region after their ReLU, each for the images of a group.
    pub relus: Vec<Buffer>,
    /// A zero for each channel.
    pub zeros: Buffer,
    /// A stage's value before it is stored in half precision.
    pub stored: Buffer,
    /// Gradient of a stage's stored value.
    pub stored_gradient: Buffer,
}

/// Buffers of a stage on one image.
#[derive(Debug, Default)]
pub(super) struct StageScratch {
    /// Padded input of each operation of the stage at hand.
    pub inputs: Vec<Buffer>,
    /// Unpadded output of an operation.
    pub output: Buffer,
    /// Gradient of an operation's unpadded output.
    pub output_gradient: Buffer,
    /// Gradient of an operation's padded input.
    pub input_gradient: Buffer,
    /// Scratch of a kernel.
    pub kernel: Buffer,
    pub separable: SeparableBuffer,
}

/// The scratch of separable convolutions.
#[derive(Debug, Default)]
pub(super) struct SeparableBuffer {
    elements: Buffer,
    last: Option<Pass>,
}

/// What a scratch was used for.
#[derive(Debug, PartialEq, Eq)]
struct Pass {
    shape: SeparableShape,
    backward: bool,
    /// Whether its prelude was there.
    preluded: bool,
}

impl SeparableBuffer {
    /// Makes it as large as either pass needs it.
    pub fn prepare(&mut self, shape: SeparableShape) {
        self.elements.sized(shape.streaming_scratch().max(shape.backward_scratch()));
        self.last = None;
    }

    pub fn forward(&mut self, shape: SeparableShape, preluded: bool) -> SeparableScratch<'_> {
        self.next(Pass { shape, backward: false, preluded }, shape.streaming_scratch())
    }

    pub fn backward(&mut self, shape: SeparableShape, preluded: bool) -> SeparableScratch<'_> {
        self.next(Pass { shape, backward: true, preluded }, shape.backward_scratch())
    }

    fn next(&mut self, pass: Pass, len: usize) -> SeparableScratch<'_> {
        let reused = self.last.as_ref() == Some(&pass);
        self.last = Some(pass);
        SeparableScratch { elements: self.elements.sized(len), reused }
    }
}

/// A buffer that only grows.
#[derive(Debug, Default)]
pub(super) struct Buffer(AlignedBuffer);

impl Buffer {
    /// The first `len` elements, whatever they held.
    pub fn sized(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0 = AlignedBuffer::new(len);
        }
        &mut self.0[..len]
    }

    /// The first `len` elements, as [`sized`](Self::sized) left them.
    pub fn get(&self, len: usize) -> &[f32] {
        &self.0[..len]
    }
}
