//! What the images of a network hold on calibration data.

use darts_core::{Elements, Observed, Step};
use darts_kernels_simd::{Kernels, Padding, Prelude, SeparableShape};
use rayon::prelude::*;

use crate::data::Dataset;
use crate::export::sequence::Sequence;
use crate::export::{ExportError, Plan};
use crate::model_file::ModelFile;

/// How the range of an image follows from the values on the calibration data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calibration {
    /// From the least to the greatest value.
    MinMax,
    /// Without the outermost 0.005 % of the values on either side.
    Percentile,
    /// The part of it with the least mean squared error.
    #[default]
    Mse,
}

/// Values from the first to the second, 0 always among them.
pub(super) type Range = (f32, f32);

/// The ranges of a lowered network.
pub(super) struct Ranges {
    /// Of the network's input.
    pub input: Range,
    /// By buffer.
    pub buffers: Vec<Range>,
    /// Between the two convolutions of a separable step, by step.
    pub middles: Vec<Range>,
}

/// Equal parts of a range whose values are counted.
const BINS: usize = 2048;
/// Share of the values on either side that a percentile leaves out.
const TAIL: f64 = 5e-5;
/// Parts of the whole range that are tried for the least error.
const PARTS: usize = 100;

/// Runs the network on all images of `data`, once for the extremes and, if `calibration` asks for it, once to count
/// values.
pub(super) fn measure(
    file: &ModelFile,
    sequence: &Sequence,
    plan: &Plan,
    weights: &[f32],
    data: &Dataset,
    calibration: Calibration,
    kernels: Kernels,
) -> Result<Ranges, ExportError> {
    let observer = Observer { file, sequence, plan, weights, data, kernels };
    let count = observer.tensors();
    let extremes = observer.run(
        || vec![(0.0f32, 0.0f32); count],
        |extremes, tensor, values| {
            let (low, high) = &mut extremes[tensor];
            // NaN spreads, so that it is found below.
            values.iter().for_each(|&value| {
                *low = if value >= *low { *low } else { value };
                *high = if value <= *high { *high } else { value };
            });
        },
        |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = (a.0.min(b.0), a.1.max(b.1)));
            a
        },
    );
    if let Some(&(low, high)) = extremes.iter().find(|(low, high)| !(low.is_finite() && high.is_finite())) {
        return Err(ExportError::Calibration { low, high });
    }
    let ranges = if calibration == Calibration::MinMax {
        extremes
    } else {
        let histograms = observer.run(
            || extremes.iter().map(|&range| Histogram::new(range)).collect::<Vec<_>>(),
            |histograms, tensor, values| histograms[tensor].add(values),
            |mut a, b| {
                a.iter_mut().zip(&b).for_each(|(a, b)| a.merge(b));
                a
            },
        );
        histograms.iter().map(|histogram| histogram.range(calibration)).collect()
    };
    let (buffers, rest) = ranges.split_at(sequence.buffers.len());
    let (middles, input) = rest.split_at(sequence.drafts.len());
    Ok(Ranges { input: input[0], buffers: buffers.to_vec(), middles: middles.to_vec() })
}

/// Runs a network and looks at its images: those of the buffers, then those in the middle of each step, then the input.
struct Observer<'a> {
    file: &'a ModelFile,
    sequence: &'a Sequence,
    plan: &'a Plan,
    weights: &'a [f32],
    data: &'a Dataset,
    kernels: Kernels,
}

impl Observer<'_> {
    fn tensors(&self) -> usize {
        self.sequence.buffers.len() + self.sequence.drafts.len() + 1
    }

    /// Folds the values of all images; the order of `merge` does not matter to what this is used for.
    fn run<T: Send>(
        &self,
        new: impl Fn() -> T + Sync + Send,
        fold: impl Fn(&mut T, usize, &[f32]) + Sync,
        merge: impl Fn(T, T) -> T + Sync + Send,
    ) -> T {
        let network = self.file.network().expect("a model that was just exported");
        let (buffers, steps) = (self.sequence.buffers.len(), self.sequence.drafts.len());
        let start = || {
            let workspace = vec![0.0; network.required_bytes() / size_of::<f32>()];
            (new(), vec![0.0; network.input_len()], workspace, vec![0.0; network.classes()], Vec::new())
        };
        let results = (0..self.data.len()).into_par_iter().fold(start, |mut state, index| {
            let (folded, input, workspace, logits, middle) = &mut state;
            network.normalize(self.data.image(index), input).expect("images of the network's shape");
            fold(folded, buffers + steps, input);
            let observe = |step: usize, observed: Observed| {
                let Observed { source: Elements::F32(source), target: Elements::F32(target) } = observed else {
                    unreachable!("a network on f32")
                };
                if let Some(buffer) = self.sequence.drafts[step].target {
                    fold(folded, buffer, target);
                }
                if let Step::Separable { shape, relu, weights, .. } = self.plan.steps[step] {
                    let weights = &self.weights[weights.offset as usize / size_of::<f32>()..];
                    self.depthwise(source, shape, relu, weights, middle);
                    fold(folded, buffers + step, &middle[..shape.depthwise().output().len()]);
                }
            };
            network
                .run_observed(self.kernels, input, workspace, logits, observe)
                .expect("buffers of the right lengths");
            state
        });
        results.map(|(folded, ..)| folded).reduce(&new, merge)
    }

    /// The output of the depthwise part of a separable convolution, at the front of `buffer`.
    fn depthwise(&self, x: &[f32], shape: SeparableShape, relu: bool, weights: &[f32], buffer: &mut Vec<f32>) {
        let depthwise = shape.depthwise();
        let (output, padded) = (depthwise.output().len(), depthwise.input.len());
        buffer.resize(buffer.len().max(output + padded), 0.0);
        let (y, rest) = buffer.split_at_mut(output);
        let prelude = if relu { Prelude::Relu } else { Prelude::Copy };
        let padding: Padding = shape.padding();
        self.kernels.prelude(x, shape.input, padding, prelude, &mut rest[..padded]);
        self.kernels.depthwise(&rest[..padded], &weights[..depthwise.weights()], y, depthwise);
    }
}

/// Counts of values in equal parts of a range.
struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<u64>,
}

impl Histogram {
    fn new((low, high): Range) -> Self {
        Self { low, high, counts: vec![0; BINS] }
    }

    fn width(&self) -> f64 {
        (f64::from(self.high) - f64::from(self.low)) / BINS as f64
    }

    fn add(&mut self, values: &[f32]) {
        let inverse = (1.0 / self.width().max(f64::MIN_POSITIVE)) as f32;
        for value in values {
            let bin = ((value - self.low) * inverse) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// The middle of a part.
    fn middle(&self, bin: usize) -> f64 {
        f64::from(self.low) + (bin as f64 + 0.5) * self.width()
    }

    fn range(&self, calibration: Calibration) -> Range {
        match calibration {
            Calibration::MinMax => (self.low, self.high),
            Calibration::Percentile => self.percentile(),
            Calibration::Mse => self.least_error(),
        }
    }

    fn percentile(&self) -> Range {
        let tail = self.counts.iter().sum::<u64>() as f64 * TAIL;
        // Parts that lie in the tail as a whole.
        let outside = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0.0;
            let inside = |&count: &&u64| {
                sum += *count as f64;
                sum <= tail
            };
            counts.take_while(inside).count() as f64 * self.width()
        };
        let low = f64::from(self.low) + outside(&mut self.counts.iter());
        let high = f64::from(self.high) - outside(&mut self.counts.iter().rev());
        (low.min(0.0) as f32, high.max(0.0) as f32)
    }

    fn least_error(&self) -> Range {
        let ranges = (1..=PARTS).rev().map(|part| {
            let part = part as f32 / PARTS as f32;
            (self.low * part, self.high * part)
        });
        let error = |range: &Range| self.error(*range);
        ranges.min_by(|a, b| error(a).total_cmp(&error(b))).expect("there are parts")
    }

    /// Sum of the squared errors of 256 steps over a range: that of rounding inside, and the distance outside.
    fn error(&self, (low, high): Range) -> f64 {
        let (low, high) = (f64::from(low), f64::from(high));
        let rounding = ((high - low) / 255.0).powi(2) / 12.0;
        let of_bin = |(bin, &count): (usize, &u64)| {
            let value = self.middle(bin);
            let outside = (low - value).max(value - high).max(0.0);
            count as f64 * (rounding + outside * outside)
        };
        self.counts.iter().enumerate().map(of_bin).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32], range: Range) -> Histogram {
        let mut histogram = Histogram::new(range);
        histogram.add(values);
        histogram
    }

    #[test]
    fn one_outlier_in_ten_million_is_left_out_by_all_but_the_extremes() {
        let mut histogram = histogram(&[50.0], (0.0, 50.0));
        // Values up to 1.
        histogram.counts[..BINS / 50].fill(250_000);
        assert_eq!(histogram.range(Calibration::MinMax), (0.0, 50.0));
        let (low, high) = histogram.range(Calibration::Percentile);
        assert!(low == 0.0 && (0.97..1.1).contains(&high), "{low} to {high}");
        // The error of 10 million steps of r / 255, and of 50 − r, is least at r = 3.7.
        let (low, high) = histogram.range(Calibration::Mse);
        assert!(low == 0.0 && (3.4..4.1).contains(&high), "{low} to {high}");
    }

    #[test]
    fn an_image_of_zeros_has_a_range_of_nothing() {
        let histogram = histogram(&[0.0; 100], (0.0, 0.0));
        for calibration in [Calibration::MinMax, Calibration::Percentile, Calibration::Mse] {
            assert_eq!(histogram.range(calibration), (0.0, 0.0));
        }
    }
}
