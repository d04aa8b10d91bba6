//! Crop, flip, normalise and cut out: a stored image made into a network's input.

use darts_kernels_simd::ImageShape;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::draw::below;

/// Random changes of a training image that leave its class alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augment {
    /// Pads every side with this many black pixels and crops the original size at random.
    pub crop_padding: usize,
    /// Mirrors left and right with probability 1/2.
    pub flip: bool,
    /// Zeroes a square of this side in the normalised image, its centre anywhere, clipped at the edges (DeVries and
    /// Taylor, arXiv 1708.04552).
    pub cutout: Option<usize>,
}

impl Augment {
    /// The image as it is.
    pub const NONE: Self = Self { crop_padding: 0, flip: false, cutout: None };
    /// Pad by four and crop, flip: the usual choice for images of about 32×32.
    pub const STANDARD: Self = Self { crop_padding: 4, flip: true, cutout: None };

    /// Draws for one image of `shape`. All are drawn, used or not, so that one setting does not change another's draws.
    pub(super) fn draw(&self, rng: &mut impl Rng, shape: ImageShape) -> Draw {
        Draw {
            crop: [below(rng, 2 * self.crop_padding + 1), below(rng, 2 * self.crop_padding + 1)],
            flip: below(rng, 2) == 1 && self.flip,
            centre: [below(rng, shape.height), below(rng, shape.width)],
        }
    }

    /// Writes the normalised, augmented `image` `[H, W, C]` to `output` (overwritten). `table` is `[C, 256]`.
    pub(super) fn render(
        &self,
        draw: &Draw,
        image: &[u8],
        shape: ImageShape,
        table: &[[f32; 256]],
        output: &mut [f32],
    ) {
        let ImageShape { height, width, channels } = shape;
        // Where an output coordinate lies in the stored image; `None` in the black padding.
        let source = |at: usize, offset: usize, size: usize| {
            (at + offset).checked_sub(self.crop_padding).filter(|&at| at < size)
        };
        for (y, row) in output.chunks_exact_mut(width * channels).enumerate() {
            let stored_row =
                source(y, draw.crop[0], height).map(|y| &image[y * width * channels..][..width * channels]);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let x = if draw.flip { width - 1 - x } else { x };
                match stored_row.zip(source(x, draw.crop[1], width)) {
                    Some((stored, x)) => {
                        let values = pixel.iter_mut().zip(&stored[x * channels..]).zip(table);
                        values.for_each(|((value, &stored), table)| *value = table[usize::from(stored)]);
                    }
                    None => pixel.iter_mut().zip(table).for_each(|(value, table)| *value = table[0]),
                }
            }
        }
        if let Some(length) = self.cutout {
            cut_out(output, shape, draw.centre, length);
        }
    }
}

/// The draws for one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// First row and column of the crop in the padded image.
    crop: [usize; 2],
    flip: bool,
    /// Row and column of the cutout's centre.
    centre: [usize; 2],
}

fn cut_out(image: &mut [f32], shape: ImageShape, centre: [usize; 2], length: usize) {
    let clipped = |centre: usize, size: usize| {
        let end = (centre + length).saturating_sub(length / 2).min(size);
        centre.saturating_sub(length / 2)..end
    };
    let columns = clipped(centre[1], shape.width);
    for y in clipped(centre[0], shape.height) {
        let row = &mut image[y * shape.width * shape.channels..][..shape.width * shape.channels];
        row[columns.start * shape.channels..columns.end * shape.channels].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels, the second 100 more than the first; the table is the identity.
    fn rendered(augment: Augment, draw: Draw, height: usize, width: usize) -> Vec<f32> {
        let shape = ImageShape::new(height, width, 2);
        let image: Vec<u8> = (0..shape.pixels() as u8).flat_map(|pixel| [pixel + 1, pixel + 101]).collect();
        let table = [std::array::from_fn(|value| value as f32); 2];
        let mut output = vec![f32::NAN; shape.len()];
        augment.render(&draw, &image, shape, &table, &mut output);
        for pixel in output.chunks_exact(2) {
            assert!(pixel[1] == pixel[0] + 100.0 || pixel == [0.0; 2], "{pixel:?}");
        }
        output.chunks_exact(2).map(|pixel| pixel[0]).collect()
    }

    const STILL: Draw = Draw { crop: [0, 0], flip: false, centre: [0, 0] };

    #[test]
    fn no_augmentation_is_the_image() {
        assert_eq!(rendered(Augment::NONE, STILL, 2, 3), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_crop_moves_the_image_and_leaves_black() {
        let augment = Augment { crop_padding: 1, ..Augment::NONE };
        let at = |crop| rendered(augment, Draw { crop, ..STILL }, 2, 3);
        assert_eq!(at([1, 1]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(at([0, 0]), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(at([2, 2]), [5.0, 6.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(at([1, 0]), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
    }

    #[test]
    fn a_flip_mirrors_the_crop() {
        let augment = Augment { crop_padding: 1, flip: true, cutout: None };
        let draw = Draw { crop: [1, 0], flip: true, ..STILL };
        assert_eq!(rendered(augment, draw, 2, 3), [2.0, 1.0, 0.0, 5.0, 4.0, 0.0]);
    }

    #[test]
    fn a_padding_wider_than_the_image_may_leave_nothing_of_it() {
        let augment = Augment { crop_padding: 5, ..Augment::NONE };
        assert_eq!(rendered(augment, Draw { crop: [0, 10], ..STILL }, 2, 3), [0.0; 6]);
    }

    #[test]
    fn a_cutout_is_centred_clipped_and_as_large_as_asked() {
        let zeros = |length, centre| {
            let augment = Augment { cutout: Some(length), ..Augment::NONE };
            let image = rendered(augment, Draw { centre, ..STILL }, 5, 6);
            (0..30).filter(|&at| image[at] == 0.0).map(|at| (at / 6, at % 6)).collect::<Vec<_>>()
        };
        assert_eq!(zeros(2, [2, 3]), [(1, 2), (1, 3), (2, 2), (2, 3)]);
        assert_eq!(zeros(3, [2, 3]).len(), 9);
        assert_eq!(zeros(2, [0, 0]), [(0, 0)]);
        assert_eq!(zeros(2, [4, 5]), [(3, 4), (3, 5), (4, 4), (4, 5)]);
        assert_eq!(zeros(3, [4, 5]), [(3, 4), (3, 5), (4, 4), (4, 5)]);
        assert_eq!(zeros(40, [4, 5]).len(), 30);
        assert_eq!(zeros(0, [2, 2]), []);
    }
}
