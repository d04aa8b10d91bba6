//! A scale and a zero for every image.

use darts_core::Step;
use darts_kernels_simd::Padding;

use super::ranges::{Range, Ranges};
use crate::export::lower::{BufferId, Draft};
use crate::export::sequence::Sequence;

/// A real number is `scale · (q − zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub scale: f64,
    pub zero: i8,
}

impl Scale {
    /// The elements -128 to 127 over a range, in which 0 is exact.
    fn new((low, high): Range) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
        Self { scale, zero: (-128.0 - low / scale).round() as i8 }
    }
}

/// The scales of a lowered network.
pub(super) struct Scales {
    /// Of the network's input.
    pub input: Scale,
    /// By buffer.
    pub buffers: Vec<Scale>,
    /// Between the two convolutions of a separable step, by step.
    pub middles: Vec<Scale>,
}

impl Scales {
    pub fn new(sequence: &Sequence, ranges: &Ranges) -> Self {
        let mut same = Groups::new(sequence.buffers.len());
        let mut drafts = sequence.drafts.as_slice();
        while let [draft, rest @ ..] = drafts {
            if let (Some(source), Some(target)) = (draft.source, draft.target)
                && keeps_scale(sequence, draft, target)
            {
                same.join(source, target);
            }
            // The parts of a concatenation are added up as integers.
            if let Some(source) = draft.source {
                let parts = rest.iter().take_while(|next| is_part(draft, next));
                parts.filter_map(|part| part.source).for_each(|part| same.join(source, part));
            }
            drafts = rest;
        }
        let mut joined: Vec<Range> = vec![(0.0, 0.0); sequence.buffers.len()];
        for (buffer, &(low, high)) in ranges.buffers.iter().enumerate() {
            let low = if only_relu_reads(sequence, buffer) { 0.0 } else { low };
            let group = &mut joined[same.of(buffer)];
            *group = (group.0.min(low), group.1.max(high));
        }
        Self {
            input: Scale::new(ranges.input),
            buffers: (0..joined.len()).map(|buffer| Scale::new(joined[same.of(buffer)])).collect(),
            middles: ranges.middles.iter().map(|&range| Scale::new(range)).collect(),
        }
    }
}

/// Whether a step writes elements of its source's scale to `target`. A pool can rescale, but need not for what only it
/// writes.
fn keeps_scale(sequence: &Sequence, draft: &Draft, target: BufferId) -> bool {
    match draft.step {
        Step::Prelude { padding, relu, .. } => relu || padding != Padding::NONE,
        Step::MaxPool { .. } | Step::AvgPool { .. } => writers(sequence, target) == 1,
        _ => false,
    }
}

fn writers(sequence: &Sequence, buffer: BufferId) -> usize {
    sequence.drafts.iter().filter(|draft| draft.target == Some(buffer)).count()
}

/// Whether `next` adds another part of a concatenation to what the dense step `draft` of the same layer writes.
pub(super) fn is_part(draft: &Draft, next: &Draft) -> bool {
    match (draft.step, next.step) {
        (
            Step::Dense { target, shape, relu, .. },
            Step::Dense {
                target: next_target, shape: next_shape, relu: next_relu, accumulate: true, bias: false, ..
            },
        ) => {
            (draft.layer, draft.target) == (next.layer, next.target)
                && (target, shape, relu) == (next_target, next_shape, next_relu)
        }
        _ => false,
    }
}

/// Whether values below 0 of a buffer make no difference: one step writes it, and all that read it do so through a
/// ReLU.
pub(super) fn only_relu_reads(sequence: &Sequence, buffer: BufferId) -> bool {
    let mut readers = sequence.drafts.iter().filter(|draft| draft.source == Some(buffer));
    let through_relu = |draft: &Draft| match draft.step {
        Step::Prelude { relu, .. } | Step::Separable { relu, .. } | Step::Dense { relu, .. } => relu,
        _ => false,
    };
    writers(sequence, buffer) == 1 && readers.all(through_relu)
}

/// Disjoint sets of buffers.
struct Groups {
    parents: Vec<BufferId>,
}

impl Groups {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    /// The first buffer of the group of `buffer`.
    fn of(&self, mut buffer: BufferId) -> BufferId {
        while self.parents[buffer] != buffer {
            buffer = self.parents[buffer];
        }
        buffer
    }

    fn join(&mut self, a: BufferId, b: BufferId) {
        let (a, b) = (self.of(a), self.of(b));
        self.parents[a.max(b)] = a.min(b);
    }
}
