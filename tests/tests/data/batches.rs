use std::collections::HashSet;

use darts_host::data::{Augment, Batch, BatchSettings, Batcher, DataError, Dataset, Normalization, Order};
use darts_kernels_simd::ImageShape;
use rayon::ThreadPoolBuilder;

/// `images` images of 6×5×2; pixel values count up, so that every image differs.
fn data(images: usize) -> Dataset {
    let shape = ImageShape::new(6, 5, 2);
    let pixels = (0..images * shape.len()).map(|at| (at * 7 % 251) as u8).collect();
    let labels = (0..images).map(|image| (image % 3) as u16).collect();
    Dataset::new(shape, pixels, labels, ["a", "b", "c"].map(String::from).to_vec())
}

fn settings(order: Order, augment: Augment, data: &Dataset) -> BatchSettings {
    BatchSettings { batch_size: 8, order, seed: 5, augment, normalization: Normalization::of(data) }
}

fn batch(batcher: &mut Batcher<'_>, epoch: usize, index: usize) -> Batch {
    let mut batch = Batch { images: vec![f32::NAN; 3], labels: vec![9; 100] };
    batcher.fill(epoch, index, &mut batch);
    assert_eq!(batch.images.len(), batch.count() * batcher.shape().len());
    batch
}

const ALL: Augment = Augment { crop_padding: 2, flip: true, cutout: Some(3) };
const ORDERS: [Order; 3] = [Order::Sequential, Order::Shuffled, Order::Random];

#[test]
fn sequential_batches_are_the_images_normalised() {
    let data = data(20);
    let indices: Vec<_> = (0..20).rev().collect();
    let mut batcher =
        Batcher::new(&data, indices.clone(), settings(Order::Sequential, Augment::NONE, &data)).expect("good");
    assert_eq!((batcher.batches_per_epoch(), batcher.images()), (3, 20));
    let Normalization { mean, std } = Normalization::of(&data);
    for index in 0..3 {
        let batch = batch(&mut batcher, 0, index);
        let expected = &indices[index * 8..20.min(index * 8 + 8)];
        assert!(batch.labels.iter().zip(expected).all(|(&label, &image)| label == image as u32 % 3));
        assert_eq!(batch.count(), expected.len());
        let stored = expected.iter().flat_map(|&image| data.image(image));
        for (at, (value, &stored)) in batch.images.iter().zip(stored).enumerate() {
            let normalised = (f64::from(stored) / 255.0 - f64::from(mean[at % 2])) / f64::from(std[at % 2]);
            assert!((f64::from(*value) - normalised).abs() < 1e-5, "{value} is not {normalised}");
        }
    }
}

#[test]
fn an_epoch_has_every_image_once_and_each_epoch_another_order() {
    let data = data(30);
    let mut batcher =
        Batcher::new(&data, (10..30).collect(), settings(Order::Shuffled, Augment::NONE, &data)).expect("good");
    let mut epoch = |epoch| {
        let images: Vec<Vec<u32>> = (0..3)
            .flat_map(|index| {
                let batch = batch(&mut batcher, epoch, index);
                batch
                    .images
                    .chunks_exact(60)
                    .map(|image| image.iter().map(|v| v.to_bits()).collect())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(images.len(), 20);
        assert_eq!(images.iter().collect::<HashSet<_>>().len(), 20);
        images
    };
    assert_ne!(epoch(0), epoch(1));
}

#[test]
fn random_batches_are_full_of_different_images_and_do_not_end() {
    let data = data(9);
    let mut batcher =
        Batcher::new(&data, (0..9).collect(), settings(Order::Random, Augment::NONE, &data)).expect("good");
    let mut firsts = HashSet::new();
    for index in 0..50 {
        let batch = batch(&mut batcher, 0, index);
        assert_eq!(batch.count(), 8);
        let images: HashSet<Vec<u32>> =
            batch.images.chunks_exact(60).map(|image| image.iter().map(|v| v.to_bits()).collect()).collect();
        assert_eq!(images.len(), 8);
        firsts.insert(batch.images[..60].iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }
    assert_eq!(firsts.len(), 9);
}

#[test]
fn a_batch_depends_on_seed_epoch_and_index_alone() {
    let data = data(40);
    for order in ORDERS {
        let new = |seed| {
            let settings = BatchSettings { seed, ..settings(order, ALL, &data) };
            Batcher::new(&data, (0..40).collect(), settings).expect("good")
        };
        let mut forward = new(5);
        let all: Vec<_> = (0..15).map(|at| batch(&mut forward, at / 5, at % 5)).collect();
        // Drawn backwards, each is the same; another seed gives others.
        let (mut backward, mut other) = (new(5), new(6));
        for at in (0..15).rev() {
            assert_eq!(batch(&mut backward, at / 5, at % 5), all[at], "{order:?} {at}");
            assert_ne!(batch(&mut other, at / 5, at % 5), all[at], "{order:?} {at}");
        }
        assert_eq!(
            (0..15).map(|at| all[at].images.iter().map(|v| v.to_bits()).collect()).collect::<HashSet<Vec<_>>>().len(),
            15
        );
    }
}

#[test]
fn a_batch_is_the_same_at_any_number_of_threads() {
    let data = data(40);
    for order in ORDERS {
        let at_threads = |threads| {
            ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(|| {
                let mut batcher = Batcher::new(&data, (0..40).collect(), settings(order, ALL, &data)).expect("good");
                (batch(&mut batcher, 1, 2), Normalization::of(&data))
            })
        };
        let one = at_threads(1);
        assert_eq!(one, at_threads(2));
        assert_eq!(one, at_threads(5));
    }
}

/// Every position of the crop, with and without the flip, comes from the image and is drawn about equally often.
#[test]
fn crops_and_flips_are_the_image_moved_and_evenly_drawn() {
    let data = data(1);
    let (height, width, padding) = (6, 5, 1);
    let augment = Augment { crop_padding: padding, flip: true, cutout: None };
    let normalization = Normalization { mean: vec![0.0; 2], std: vec![1.0 / 255.0; 2] };
    let settings = BatchSettings { batch_size: 1, normalization, ..settings(Order::Shuffled, augment, &data) };
    let mut batcher = Batcher::new(&data, vec![0], settings).expect("good");
    let moved = |row: usize, column: usize, flip: bool| -> Vec<u8> {
        let at = |y: usize, x: usize, channel: usize| {
            let x = if flip { width - 1 - x } else { x };
            let (y, x) = ((y + row).wrapping_sub(padding), (x + column).wrapping_sub(padding));
            if y < height && x < width { data.images()[(y * width + x) * 2 + channel] } else { 0 }
        };
        (0..height * width * 2).map(|index| at(index / (2 * width), index / 2 % width, index % 2)).collect()
    };
    let expected: Vec<_> = (0..18).map(|index| moved(index / 6, index / 2 % 3, index % 2 == 1)).collect();
    let mut drawn = [0; 18];
    for epoch in 0..1800 {
        let image: Vec<u8> = batch(&mut batcher, epoch, 0).images.iter().map(|value| value.round() as u8).collect();
        drawn[expected.iter().position(|expected| *expected == image).expect("one of the possible images")] += 1;
    }
    // Expected 100 each, standard deviation 10.
    assert!(drawn.iter().all(|count| (60..140).contains(count)), "{drawn:?}");
}

#[test]
fn a_cutout_is_zero_after_normalisation_with_its_centre_anywhere() {
    let data = data(1);
    let augment = Augment { cutout: Some(4), ..Augment::NONE };
    // No pixel is normalised to zero.
    let normalization = Normalization { mean: vec![2.0; 2], std: vec![1.0; 2] };
    let settings = BatchSettings { batch_size: 1, normalization, ..settings(Order::Shuffled, augment, &data) };
    let mut batcher = Batcher::new(&data, vec![0], settings).expect("good");
    let mut squares = HashSet::new();
    for epoch in 0..600 {
        let images = batch(&mut batcher, epoch, 0).images;
        let zeros: Vec<_> = (0..30).filter(|&at| images[2 * at] == 0.0).collect();
        assert!((0..30).all(|at| (images[2 * at + 1] == 0.0) == zeros.contains(&at)), "both channels are cut");
        let (rows, columns): (HashSet<_>, HashSet<_>) = zeros.iter().map(|at| (at / 5, at % 5)).unzip();
        assert_eq!(zeros.len(), rows.len() * columns.len());
        assert!((2..=4).contains(&rows.len()) && (2..=4).contains(&columns.len()), "{zeros:?}");
        squares.insert(zeros);
    }
    // One for each centre: four rows around row 1 or 2 of 5 columns differ in clipping alone.
    assert_eq!(squares.len(), 6 * 5);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let data = data(10);
    let new = |batch_size, order, normalization| {
        let settings = BatchSettings { batch_size, order, seed: 0, augment: Augment::NONE, normalization };
        Batcher::new(&data, (0..7).collect(), settings)
    };
    let good = || Normalization::of(&data);
    for order in [Order::Shuffled, Order::Random] {
        let message = new(8, order, good()).expect_err("too large").to_string();
        assert!(message.contains("batch of 8") && message.contains("7 images"), "{message}");
        assert!(new(7, order, good()).is_ok());
    }
    assert_eq!(new(8, Order::Sequential, good()).expect("all in one").batches_per_epoch(), 1);
    assert!(matches!(new(0, Order::Sequential, good()), Err(DataError::BatchSize { batch: 0, images: 7 })));
    let one_channel = Normalization { mean: vec![0.0], std: vec![1.0] };
    assert!(matches!(new(7, Order::Shuffled, one_channel), Err(DataError::Normalization { channels: 2, .. })));
}

#[test]
fn normalisation_is_the_mean_and_deviation_of_the_pixels() {
    let shape = ImageShape::new(1, 2, 2);
    let data = Dataset::new(shape, vec![0, 51, 255, 51, 0, 51, 255, 51], vec![0, 0], vec!["a".into()]);
    // The second channel has no variance, and keeps its scale.
    assert_eq!(Normalization::of(&data), Normalization { mean: vec![0.5, 0.2], std: vec![0.5, 1.0] });
    assert!(Normalization::new(vec![0.5], vec![0.5], 1).is_ok());
    for (mean, std) in [(vec![], vec![]), (vec![f32::NAN], vec![1.0]), (vec![0.0], vec![0.0]), (vec![0.0], vec![-1.0])]
    {
        assert!(matches!(Normalization::new(mean, std, 1), Err(DataError::Normalization { .. })));
    }
}
