//! The binary versions of CIFAR-10 and CIFAR-100: records of label bytes and a planar 32×32 RGB image.

use std::fs;
use std::path::Path;

use darts_kernels_simd::ImageShape;

use super::{DataError, DataSource, Dataset};

const SHAPE: ImageShape = ImageShape::new(32, 32, 3);
const REMEDY: &str = "the file is damaged or of another kind: fetch it again";
const CIFAR_10_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// One of the two data sets.
struct Kind {
    name: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// Below what each label byte must be; the last is the class.
    labels: &'static [u8],
    missing: &'static str,
}

const CIFAR_10: Kind = Kind {
    name: "CIFAR-10",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    labels: &[10],
    missing: "CIFAR-10 needs data_batch_1.bin to data_batch_5.bin and test_batch.bin in one folder",
};

/// Coarse label, fine label.
const CIFAR_100: Kind = Kind {
    name: "CIFAR-100",
    train: &["train.bin"],
    test: "test.bin",
    labels: &[20, 100],
    missing: "CIFAR-100 needs train.bin and test.bin in one folder",
};

impl Kind {
    /// Appends the records of `file` to `images` and `labels`.
    fn read(&self, file: &Path, images: &mut Vec<u8>, labels: &mut Vec<u16>) -> Result<(), DataError> {
        let bytes =
            fs::read(file).map_err(|source| DataError::Io { path: file.to_owned(), source, remedy: self.missing })?;
        let malformed =
            |offset, problem| Err(DataError::Malformed { file: file.to_owned(), offset, problem, remedy: REMEDY });
        let record = self.labels.len() + SHAPE.len();
        let rest = bytes.len() % record;
        if bytes.is_empty() || rest > 0 {
            let problem = format!("the file ends {rest} bytes into a record of {record}");
            return malformed((bytes.len() - rest) as u64, problem);
        }
        images.reserve_exact(bytes.len() / record * SHAPE.len());
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (label, planes) = record.split_at(self.labels.len());
            if let Some(at) = label.iter().zip(self.labels).position(|(label, classes)| label >= classes) {
                let problem = format!("label {} of image {index} is not below {}", label[at], self.labels[at]);
                return malformed((index * record.len() + at) as u64, problem);
            }
            labels.extend(label.last().map(|&label| u16::from(label)));
            let [red, green, blue] = [0, 1, 2].map(|plane| &planes[plane * SHAPE.pixels()..][..SHAPE.pixels()]);
            images.extend(red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]));
        }
        Ok(())
    }

    fn set(&self, folder: &Path, files: &[&str], class_names: &[String]) -> Result<Dataset, DataError> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let mut counts = Vec::with_capacity(files.len());
        for file in files {
            let before = labels.len();
            self.read(&folder.join(file), &mut images, &mut labels)?;
            counts.push(labels.len() - before);
        }
        self.check_counts(folder, files, &counts)?;
        Ok(Dataset::new(SHAPE, images, labels, class_names.to_vec()))
    }

    /// A file that was cut off between two records shows by having fewer than the others, which are of one size.
    fn check_counts(&self, folder: &Path, files: &[&str], counts: &[usize]) -> Result<(), DataError> {
        let Some((whole, most)) = files.iter().zip(counts).rev().max_by_key(|(_, count)| **count) else {
            return Ok(());
        };
        let Some((short, count)) = files.iter().zip(counts).find(|(_, count)| *count < most) else {
            return Ok(());
        };
        let offset = (count * (self.labels.len() + SHAPE.len())) as u64;
        let problem = format!("the file ends after {count} images, but {whole} has {most}");
        Err(DataError::Malformed { file: folder.join(short), offset, problem, remedy: REMEDY })
    }

    fn load(&self, folder: &Path, class_names: &[String]) -> Result<DataSource, DataError> {
        let train = self.set(folder, self.train, class_names)?;
        let test = self.set(folder, &[self.test], class_names)?;
        Ok(DataSource { name: format!("{} ({})", folder.display(), self.name), train, test })
    }

    fn is_in(&self, folder: &Path) -> bool {
        self.train.iter().chain([&self.test]).any(|file| folder.join(file).exists())
    }
}

/// The names of CIFAR-100's classes, from the file that comes with it if it is there, else their numbers.
fn cifar_100_names(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("fine_label_names.txt")).unwrap_or_default();
    let names: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    if names.len() == 100 { names } else { (0..100).map(|class| class.to_string()).collect() }
}

/// Loads the data set in `folder`, if it has at least one file of either.
pub(super) fn load(folder: &Path) -> Option<Result<DataSource, DataError>> {
    if CIFAR_10.is_in(folder) {
        Some(CIFAR_10.load(folder, &CIFAR_10_NAMES.map(str::to_owned)))
    } else if CIFAR_100.is_in(folder) {
        Some(CIFAR_100.load(folder, &cifar_100_names(folder)))
    } else {
        None
    }
}
