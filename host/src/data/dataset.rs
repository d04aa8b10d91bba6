//! Labelled images in memory.

use std::fmt;

use crc::{CRC_64_XZ, Crc, Table};
use darts_kernels_simd::ImageShape;

use super::Normalization;

/// The checksum of data sets, of the image cache and of checkpoints.
pub(crate) const CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// Images of one size, each with one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    shape: ImageShape,
    images: Vec<u8>,
    labels: Vec<u16>,
    class_names: Vec<String>,
}

impl Dataset {
    /// A data set of `images` `[N, H, W, C]`, 0 black to 255 white, and `labels` `[N]`, indices into `class_names`.
    ///
    /// # Panics
    /// If the lengths do not belong together or a label has no name.
    pub fn new(shape: ImageShape, images: Vec<u8>, labels: Vec<u16>, class_names: Vec<String>) -> Self {
        assert_eq!(images.len(), labels.len() * shape.len(), "{} labels of images of {shape:?}", labels.len());
        let classes = class_names.len();
        assert!(labels.iter().all(|&label| usize::from(label) < classes), "every label is below {classes}");
        Self { shape, images, labels, class_names }
    }

    /// Height, width and channels of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of images, `N`.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All pixels, `[N, H, W, C]`.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// One image, `[H, W, C]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * self.shape.len()..][..self.shape.len()]
    }

    /// The class of every image, `[N]`.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Number of classes; labels are below it.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// A name for every class.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of images in each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// The images at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Self {
        let images = indices.iter().flat_map(|&index| self.image(index)).copied().collect();
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Self { shape: self.shape, images, labels, class_names: self.class_names.clone() }
    }

    /// A checksum (CRC-64/XZ) of shape, class count, labels and pixels in their order: equal for equal data.
    pub fn fingerprint(&self) -> u64 {
        let mut digest = CRC.digest();
        for size in [self.shape.height, self.shape.width, self.shape.channels, self.classes(), self.len()] {
            digest.update(&(size as u64).to_le_bytes());
        }
        for label in &self.labels {
            digest.update(&label.to_le_bytes());
        }
        digest.update(&self.images);
        digest.finalize()
    }
}

/// A training set and a test set of the same image size and classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// What was loaded, for logs and run records.
    pub name: String,
    /// Images to learn from.
    pub train: Dataset,
    /// Images to measure on.
    pub test: Dataset,
}

impl DataSource {
    /// Height, width and channels of every image.
    pub fn shape(&self) -> ImageShape {
        self.train.shape()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.train.classes()
    }

    /// A checksum of both sets, for run records: equal for equal data.
    pub fn fingerprint(&self) -> u64 {
        let parts = [self.train.fingerprint(), self.test.fingerprint()];
        CRC.checksum(&parts.map(u64::to_le_bytes).concat())
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { height, width, channels } = self.shape();
        writeln!(f, "data         {}", self.name)?;
        writeln!(f, "images       {} training, {} test", self.train.len(), self.test.len())?;
        writeln!(f, "size         {channels}×{height}×{width} (channels, height, width)")?;
        writeln!(f, "classes      {}: {}", self.classes(), abbreviated(self.train.class_names()))?;
        let counts = self.train.class_counts();
        let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        writeln!(f, "per class    {least} to {most} training images")?;
        writeln!(f, "pixels       {}", Normalization::of(&self.train))?;
        write!(f, "fingerprint  {:016x}", self.fingerprint())
    }
}

/// The first names of a list that may be long.
fn abbreviated(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}
