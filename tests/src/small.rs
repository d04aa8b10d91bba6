//! Real images that are small.

use darts_host::data::{self, Dataset, LoadOptions};
use darts_kernels_simd::ImageShape;

/// Pixels of the embedded images, in both directions, that become one.
const SCALE: usize = 4;

/// The first `count` embedded training images, taken through the classes in turn, at a fourth of their size: searches
/// of a few steps are repeated many times in tests, also under emulation.
///
pub fn small_images(count: usize) -> Dataset {
    let large = data::load("embedded", &LoadOptions::default()).expect("part of the program").train.limited(count);
    let ImageShape { height, width, channels } = large.shape();
    assert_eq!(channels, 1, "the embedded images are grey");
    let mean = |image: &[u8], y: usize, x: usize| {
        let rows = image.chunks_exact(width).skip(SCALE * y).take(SCALE);
        let sum: usize = rows.flat_map(|row| &row[SCALE * x..SCALE * (x + 1)]).map(|&pixel| usize::from(pixel)).sum();
        (sum / (SCALE * SCALE)) as u8
    };
    let [rows, columns] = [height, width].map(|size| size / SCALE);
    let pixels = large
        .images()
        .chunks_exact(height * width)
        .flat_map(|image| (0..rows).flat_map(move |y| (0..columns).map(move |x| mean(image, y, x))));
    let shape = ImageShape::new(rows, columns, 1);
    Dataset::new(shape, pixels.collect(), large.labels().to_vec(), large.class_names().to_vec())
}
