//! Batches of network inputs.

use super::draw::{Purpose, Sampler, generator, shuffle};
use super::{Augment, DataError, Dataset, Normalization};
use darts_kernels_simd::ImageShape;

/// How batches are chosen from the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In the order given, for evaluation. A batch may be larger than the set.
    Sequential,
    /// A new permutation each epoch: every image once.
    Shuffled,
    /// Each batch on its own, of different images: the draws for α.
    Random,
}

/// What a [`Batcher`] needs to know beside the images.
#[derive(Clone, Debug)]
pub struct BatchSettings {
    /// Images in a batch; the last batch of an epoch has what is left.
    pub batch_size: usize,
    /// How batches are chosen.
    pub order: Order,
    /// Seed of the choice and of the augmentation.
    pub seed: u64,
    /// Random changes of the images.
    pub augment: Augment,
    /// Scale of the pixels.
    pub normalization: Normalization,
}

/// One batch; a buffer that is filled again and again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Normalised images, `[N, H, W, C]`.
    pub images: Vec<f32>,
    /// Their classes, `[N]`.
    pub labels: Vec<u32>,
}

impl Batch {
    /// Number of images, `N`.
    pub fn count(&self) -> usize {
        self.labels.len()
    }
}

/// Makes batches from some images of a data set. Batch `k` of epoch `e` depends on the settings, `e` and `k` alone: not
/// on the batches drawn before, nor on the number of threads.
#[derive(Clone, Debug)]
pub struct Batcher<'a> {
    data: &'a Dataset,
    indices: Vec<usize>,
    settings: BatchSettings,
    table: Vec<[f32; 256]>,
    /// The permutation of the epoch last asked for, which is cheap to keep and costly to make for every batch.
    permutation: Vec<usize>,
    permutation_of: Option<usize>,
    sampler: Sampler,
    /// The images of the batch at hand, as indices into the data set.
    chosen: Vec<usize>,
}

impl<'a> Batcher<'a> {
    /// Batches of the images of `data` at `indices`.
    ///
    /// # Errors
    /// If the batch size is 0, or, unless in sequential order, larger than the number of indices; if the normalisation
    /// is for another number of channels.
    ///
    /// # Panics
    /// If an index is not below `data.len()`.
    pub fn new(data: &'a Dataset, indices: Vec<usize>, settings: BatchSettings) -> Result<Self, DataError> {
        let images = indices.len();
        assert!(indices.iter().all(|&index| index < data.len()), "every index is below {}", data.len());
        let batch = settings.batch_size;
        if batch == 0 || (batch > images && settings.order != Order::Sequential) {
            return Err(DataError::BatchSize { batch, images });
        }
        let Normalization { mean, std } = settings.normalization.clone();
        let table = Normalization::new(mean, std, data.shape().channels)?.table();
        let (permutation, sampler, chosen) = (Vec::new(), Sampler::default(), Vec::new());
        Ok(Self { data, indices, settings, table, permutation, permutation_of: None, sampler, chosen })
    }

    /// Height, width and channels of the images.
    pub fn shape(&self) -> ImageShape {
        self.data.shape()
    }

    /// Number of images drawn from.
    pub fn images(&self) -> usize {
        self.indices.len()
    }

    /// Number of batches that make an epoch, the last one smaller if the sizes do not divide.
    pub fn batches_per_epoch(&self) -> usize {
        self.indices.len().div_ceil(self.settings.batch_size)
    }

    /// Overwrites `output` with batch `batch` of epoch `epoch`, both counted from 0. In [`Order::Random`] a batch is
    /// always full, and there is no end to them.
    ///
    /// # Panics
    /// If `batch` is not below [`batches_per_epoch`](Self::batches_per_epoch), unless in random order.
    pub fn fill(&mut self, epoch: usize, batch: usize, output: &mut Batch) {
        self.choose(epoch, batch);
        let (data, table, augment) = (self.data, &self.table, self.settings.augment);
        let shape = data.shape();
        let purpose = match self.settings.order {
            Order::Sequential => Purpose::AugmentSequential,
            Order::Shuffled => Purpose::AugmentShuffled,
            Order::Random => Purpose::AugmentRandom,
        };
        let (seed, first) = (self.settings.seed, batch * self.settings.batch_size);
        output.labels.clear();
        output.labels.extend(self.chosen.iter().map(|&index| u32::from(data.labels()[index])));
        output.images.resize(self.chosen.len() * shape.len(), 0.0);
        let images = output.images.chunks_exact_mut(shape.len());
        for (place, (image, &index)) in images.zip(&self.chosen).enumerate() {
            let draw = augment.draw(&mut generator(seed, purpose, epoch, first + place), shape);
            augment.render(&draw, data.image(index), shape, table, image);
        }
    }

    /// Chooses the images of a batch.
    fn choose(&mut self, epoch: usize, batch: usize) {
        let BatchSettings { batch_size, order, seed, .. } = self.settings;
        self.chosen.clear();
        if order == Order::Random {
            let mut rng = generator(seed, Purpose::Sample, epoch, batch * batch_size);
            let drawn = self.sampler.draw(&mut rng, self.indices.len(), batch_size);
            self.chosen.extend(drawn.map(|place| self.indices[place]));
            return;
        }
        assert!(batch < self.batches_per_epoch(), "batch {batch} of {}", self.batches_per_epoch());
        let places = batch * batch_size..self.indices.len().min((batch + 1) * batch_size);
        if order == Order::Sequential {
            self.chosen.extend_from_slice(&self.indices[places]);
            return;
        }
        if self.permutation_of != Some(epoch) {
            self.permutation.clone_from(&self.indices);
            shuffle(&mut generator(seed, Purpose::Shuffle, epoch, 0), &mut self.permutation);
            self.permutation_of = Some(epoch);
        }
        self.chosen.extend_from_slice(&self.permutation[places]);
    }
}
