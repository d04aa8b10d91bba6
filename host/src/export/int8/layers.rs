//! Which layers of a network the rounding to 8-bit integers hurts.

use std::path::Path;

use darts_core::{Elements, Network, Observed};
use darts_kernels_simd::Kernels;
use rayon::prelude::*;

use super::Quantization;
use super::form::{FloatLayers, Form};
use super::scales::{Scale, is_part, only_relu_reads};
use crate::data::Dataset;
use crate::export::{ExportError, Precision};
use crate::interrupt::Interrupted;
use crate::model_file::ModelFile;

/// How far a layer's output is from that in `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// The layer, as in [`Quantization::layers`].
    pub name: String,
    /// Signal to quantization noise of its output with all that came before, in dB; infinite without noise. The output
    /// of a layer that adds to a state is the sum that it leaves there. Where all readers take max(x, 0), that is what
    /// counts.
    pub sqnr: f64,
}

/// Squares of what should be, and of the differences from it.
#[derive(Clone, Copy, Default)]
struct Power {
    signal: f64,
    noise: f64,
}

impl Power {
    fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        pairs.fold(Self::default(), |sum, (expected, found)| Self {
            signal: sum.signal + expected * expected,
            noise: sum.noise + (expected - found) * (expected - found),
        })
    }

    fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    fn decibels(self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}

/// Signal to noise ratio of values that should be `expected`, in dB; infinite if they are.
///
/// # Panics
/// If the lengths differ.
pub fn signal_to_noise(expected: &[f32], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len(), "values to compare");
    Power::of(expected.iter().zip(found).map(|(&expected, &found)| (expected.into(), found.into()))).decibels()
}

/// Where a layer's output is compared: behind a step of the sequence.
struct Point<'a> {
    name: &'a str,
    /// The first step of those whose sums the output is.
    step: usize,
    /// Whether values below 0 make no difference.
    rectified: bool,
}

impl Quantization<'_> {
    /// The layers by name, in the order in which they are complete: what computes something, sums included.
    pub fn layers(&self) -> Vec<&str> {
        self.points().into_iter().map(|point| point.name).collect()
    }

    /// The model in which everything but the layer `name` is kept in `f32`.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn model_of_one(&self, name: &str) -> Result<Vec<u8>, ExportError> {
        let form = |own: &str| if own == name { Form::Int8 } else { Form::Float(Precision::F32) };
        let drafts = &self.sequence.drafts;
        self.file_of(
            self.drafts_of(&drafts.iter().map(|draft| form(draft.layer.name(&self.graph))).collect::<Vec<_>>())?,
        )
    }

    /// The error of each layer in the model with the layers of `float` in floating point, over all images of `data`;
    /// `after_image` is called after each, and may end the work.
    ///
    /// # Errors
    /// As [`model`](Self::model), and if `after_image` asks for a stop.
    ///
    /// # Panics
    /// If the images of `data` have not the network's shape.
    pub fn layer_errors(
        &self,
        float: &[FloatLayers],
        data: &Dataset,
        kernels: Kernels,
        after_image: impl Fn() -> Result<(), Interrupted> + Sync,
    ) -> Result<Vec<LayerError>, ExportError> {
        let drafts = self.drafts(float)?;
        let origins = drafts.origins.clone();
        let file = ModelFile::new(&self.file_of(drafts)?, Path::new("the model on integers"));
        let sound = "a model that was just exported";
        let (real, network) = (self.file.network().expect(sound), file.network().expect(sound));
        let points = self.points();
        let comparison = Comparison { quantization: self, points: &points, real, network, origins, kernels };
        let of_image = |index| {
            let powers = comparison.image(data.image(index));
            after_image()?;
            Ok::<_, ExportError>(powers)
        };
        let images = (0..data.len()).into_par_iter().map(of_image).collect::<Result<Vec<_>, _>>()?;
        let mut sums = vec![Power::default(); points.len()];
        images.iter().for_each(|powers| sums.iter_mut().zip(powers).for_each(|(sum, power)| sum.add(*power)));
        let error = |(point, sum): (&Point, Power)| LayerError { name: point.name.to_owned(), sqnr: sum.decibels() };
        Ok(points.iter().zip(sums).map(error).collect())
    }

    /// One for each layer: behind its last step.
    fn points(&self) -> Vec<Point<'_>> {
        let mut points: Vec<Point> = Vec::new();
        for (&step, draft) in self.firsts().iter().zip(&self.sequence.drafts) {
            let name = draft.layer.name(&self.graph);
            points.retain(|point| point.name != name);
            let rectified = draft.target.is_some_and(|target| only_relu_reads(&self.sequence, target));
            points.push(Point { name, step, rectified });
        }
        points
    }

    /// Of each step of the sequence, the first one of those that add up parts of a concatenation with it.
    fn firsts(&self) -> Vec<usize> {
        let drafts = &self.sequence.drafts;
        let mut firsts: Vec<usize> = Vec::with_capacity(drafts.len());
        for (index, draft) in drafts.iter().enumerate() {
            let before = firsts.last().copied().filter(|&first| is_part(&drafts[first], draft));
            firsts.push(before.unwrap_or(index));
        }
        firsts
    }
}

/// Runs an image through the network in `f32` and the one on integers.
struct Comparison<'a> {
    quantization: &'a Quantization<'a>,
    points: &'a [Point<'a>],
    real: Network<'a>,
    network: Network<'a>,
    /// Of each step on integers, the one on `f32` that it stands for.
    origins: Vec<Option<usize>>,
    kernels: Kernels,
}

impl Comparison<'_> {
    /// The power of signal and noise at each point.
    fn image(&self, pixels: &[u8]) -> Vec<Power> {
        let fits = "buffers of the right lengths";
        let mut input = vec![0.0; self.real.input_len()];
        let mut logits = vec![0.0; self.real.classes()];
        self.real.normalize(pixels, &mut input).expect(fits);
        let firsts = self.quantization.firsts();
        let mut expected: Vec<Vec<f32>> = vec![Vec::new(); self.points.len()];
        let observe = |step: usize, observed: Observed| {
            let Elements::F32(values) = observed.target else { unreachable!("a network on f32") };
            if let Some(point) = self.point(firsts[step]) {
                expected[point] = values.to_vec();
            }
        };
        let mut workspace = vec![0.0; self.real.required_bytes() / size_of::<f32>()];
        self.real.run_observed(self.kernels, &input, &mut workspace, &mut logits, observe).expect(fits);

        let mut powers = vec![Power::default(); self.points.len()];
        let observe = |step: usize, observed: Observed| {
            let Some((origin, point)) = self.origins[step].and_then(|origin| Some((origin, self.point(origin)?)))
            else {
                return;
            };
            // One of several steps, if the image is rounded behind the last: that is seen here, too, later.
            let least = if self.points[point].rectified { 0.0 } else { f64::NEG_INFINITY };
            powers[point] = match observed.target {
                Elements::F32(values) => compared(&expected[point], values, least, |&value| value.into()),
                Elements::Int8(elements) => {
                    let target = self.quantization.sequence.drafts[origin].target.expect("integers lie in buffers");
                    let Scale { scale, zero } = self.quantization.scales.buffers[target];
                    let real = |&q: &i8| scale * (f64::from(q) - f64::from(zero));
                    compared(&expected[point], elements, least, real)
                }
            };
        };
        workspace.resize(self.network.required_bytes() / size_of::<f32>(), 0.0);
        self.network.run_observed(self.kernels, &input, &mut workspace, &mut logits, observe).expect(fits);
        powers
    }

    fn point(&self, step: usize) -> Option<usize> {
        self.points.iter().position(|point| point.step == step)
    }
}

/// Compares values not below `least`. The last of two halves of an image ends where the whole does, so what both
/// regions have is at their ends.
fn compared<T>(expected: &[f32], found: &[T], least: f64, real: impl Fn(&T) -> f64) -> Power {
    let pairs = expected.iter().rev().zip(found.iter().rev());
    Power::of(pairs.map(|(&expected, found)| (f64::from(expected).max(least), real(found).max(least))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibels_are_ten_times_the_logarithm_of_the_powers() {
        assert_eq!(signal_to_noise(&[3.0, 4.0], &[3.0, 4.0]), f64::INFINITY);
        let sqnr = signal_to_noise(&[30.0, 40.0], &[33.0, 44.0]);
        assert!((sqnr - 20.0).abs() < 1e-9, "{sqnr}");
    }
}
