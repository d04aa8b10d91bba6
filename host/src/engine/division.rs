//! How a batch is divided. Sums over the batch are added up portion by portion, and portions depend on nothing but the
//! number of images: the same bits at any number of threads. What one task works on is a chunk, some portions in a row,
//! of which there are as many as suit the threads.

use std::ops::Range;

/// Portions of a batch of no more than 128 images, or one for each image if these are fewer. No more threads than that
/// can work on a batch side by side, and each portion has partial sums of the weight gradients: with 32 and 64 a pass
/// of a batch of 64 takes 0.510 and 0.548 s in place of 0.502 at C = 16, 0.115 and 0.123 s in place of 0.112 at C = 8;
/// with 8 as long as with 16 (AMD EPYC, Zen 5, two threads, `darts bench step`, 2026-11-30).
const PORTIONS: usize = 16;

/// Images of a portion at most: larger batches have more portions, for more threads.
const IMAGES_OF_PORTION: usize = 8;

/// Chunks for each thread: one that other work holds up leaves some to the others. The fewer there are, the more lies
/// in one piece: with 4 for two threads a pass takes 2 % less at C = 8 than with 16, and 0 to 1 % less at C = 16
/// (measured as above).
const CHUNKS_PER_THREAD: usize = 2;

/// The chunks of batches of up to so many images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    batch: usize,
    threads: usize,
}

impl Division {
    pub fn new(batch: usize, threads: usize) -> Self {
        Self { batch, threads }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.threads.saturating_mul(CHUNKS_PER_THREAD).clamp(1, portions(self.batch).max(1))
    }

    /// The portions of a batch of `images` that are in chunk `chunk`: of a small batch some chunks have none, but never
    /// the first.
    pub fn portions(&self, chunk: usize, images: usize) -> Range<usize> {
        let (most, chunks) = (portions(self.batch), self.chunks());
        let border = |chunk: usize| (portions(images) * (most * chunk / chunks)).div_ceil(most);
        border(chunk)..border(chunk + 1)
    }

    /// Portions of chunk `chunk` at most.
    pub fn most_portions(&self, chunk: usize) -> usize {
        self.portions(chunk, self.batch).len()
    }

    /// Images of chunk `chunk` at most.
    pub fn most_images(&self, chunk: usize) -> usize {
        let (most, portions) = (self.most_portions(chunk), portions(self.batch));
        // Of more portions a smaller batch may have fuller ones.
        if portions > PORTIONS { most * IMAGES_OF_PORTION } else { (self.batch * most).div_ceil(portions) }
    }
}

/// Number of portions of a batch of `images`.
pub(super) fn portions(images: usize) -> usize {
    images.min(PORTIONS).max(images.div_ceil(IMAGES_OF_PORTION))
}

/// Images that all chunks of batches of up to `batch` have room for, at most, however many chunks there are.
pub(super) fn room(batch: usize) -> usize {
    let portions = portions(batch);
    portions.saturating_mul(batch.div_ceil(portions.max(1)))
}

/// The images of some portions of a batch of `images`.
pub(super) fn images_of(portions_of_chunk: &Range<usize>, images: usize) -> Range<usize> {
    let border = |portion: usize| images * portion / portions(images);
    border(portions_of_chunk.start)..border(portions_of_chunk.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_all_images_in_order_and_no_more_than_they_can() {
        for batch in (1..70).chain([96, 100, 129, 140, 250, 256, 265, 500]) {
            for threads in [1, 2, 3, 5, 8, 16, 40, usize::MAX] {
                let division = Division::new(batch, threads);
                assert!((1..=portions(batch)).contains(&division.chunks()));
                assert!((0..division.chunks()).map(|chunk| division.most_images(chunk)).sum::<usize>() <= room(batch));
                for images in 1..=batch {
                    let (mut portion, mut image) = (0, 0);
                    for chunk in 0..division.chunks() {
                        let found = division.portions(chunk, images);
                        assert_eq!(found.start, portion);
                        assert!(found.len() <= division.most_portions(chunk));
                        assert!(chunk > 0 || !found.is_empty());
                        let images_of_chunk = images_of(&found, images);
                        assert_eq!(images_of_chunk.start, image);
                        assert!(
                            images_of_chunk.len() <= division.most_images(chunk),
                            "{division:?}, {images}: {chunk}"
                        );
                        (portion, image) = (found.end, images_of_chunk.end);
                    }
                    assert_eq!((portion, image), (portions(images), images));
                }
            }
        }
    }
}
