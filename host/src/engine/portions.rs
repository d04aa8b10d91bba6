//! What a chunk adds up, apart for each portion of the batch.

use std::iter::repeat_n;
use std::ops::Range;

use super::division::{Division, images_of};
use super::plan::Plan;

/// What is added up over the images of a portion.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// Moments in the forward, reductions in the backward pass.
    pub sums: Vec<f64>,
    /// Gradients of the weights of the region at hand.
    pub weights: Vec<f32>,
}

/// The portions of a chunk.
#[derive(Debug)]
pub(super) struct Portions {
    all: Vec<Portion>,
    /// By image of the chunk.
    of_image: Vec<usize>,
}

impl Portions {
    /// Those of chunk `chunk`, with room for `sums` sums each.
    pub fn new(plan: &Plan, division: Division, chunk: usize, sums: usize) -> Self {
        let portion = || Portion { sums: vec![0.0; sums], weights: vec![0.0; plan.weights_len()] };
        Self {
            all: (0..division.most_portions(chunk)).map(|_| portion()).collect(),
            of_image: Vec::with_capacity(division.most_images(chunk)),
        }
    }

    /// Takes `portions` of a batch of `images`.
    pub fn begin(&mut self, portions: Range<usize>, images: usize) {
        self.of_image.clear();
        for (place, portion) in portions.enumerate() {
            self.of_image.extend(repeat_n(place, images_of(&(portion..portion + 1), images).len()));
        }
    }

    /// Those that have images, in the order of the batch.
    pub fn in_use(&self) -> &[Portion] {
        &self.all[..self.of_image.last().map_or(0, |last| last + 1)]
    }

    /// Sets the first sums of each in use to zero.
    pub fn clear(&mut self, sums: usize) {
        let in_use = self.in_use().len();
        for portion in &mut self.all[..in_use] {
            portion.sums[..sums].fill(0.0);
        }
    }

    /// Sets the gradients `weights` to zero in the portions that begin with one of `images` of the chunk.
    pub fn clear_weights(&mut self, images: &Range<usize>, weights: Range<usize>) {
        for image in images.clone() {
            let portion = self.of_image[image];
            if image == 0 || self.of_image[image - 1] != portion {
                self.all[portion].weights[weights.clone()].fill(0.0);
            }
        }
    }

    /// That of image `image` of the chunk.
    pub fn of(&mut self, image: usize) -> &mut Portion {
        &mut self.all[self.of_image[image]]
    }
}
