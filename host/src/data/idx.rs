//! IDX files, the form of MNIST and Fashion-MNIST: big-endian header, then unsigned bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use darts_kernels_simd::ImageShape;
use flate2::bufread::GzDecoder;

use super::{DataError, DataSource, Dataset};

const REMEDY: &str = "the file is damaged or of another kind: fetch it again";
const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Names of the four files, images and labels of each set; each may also end in `.gz`.
pub(super) const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
pub(super) const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// A file, or what stands for one.
pub(super) struct Input {
    /// For messages.
    file: PathBuf,
    reader: Box<dyn Read>,
    /// No more bytes than this can come out: what a header is held against before anything is allocated.
    most: u64,
}

impl Input {
    /// A gzipped stream of `compressed` bytes.
    pub(super) fn gzipped(file: PathBuf, reader: impl io::BufRead + 'static, compressed: u64) -> Self {
        // Deflate makes at most 1032 bytes of one.
        Self { file, reader: Box::new(GzDecoder::new(reader)), most: compressed.saturating_mul(1032) }
    }

    /// The file `name` in `folder`, plain or gzipped.
    fn open(folder: &Path, name: &str) -> Result<Self, DataError> {
        let plain = folder.join(name);
        let gzipped = folder.join(format!("{name}.gz"));
        let remedy = "the folder needs train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
                      t10k-labels-idx1-ubyte, plain or with .gz";
        let is_gzipped = !plain.exists() && gzipped.exists();
        let file = if is_gzipped { gzipped } else { plain };
        let opened = File::open(&file).and_then(|opened| Ok((opened.metadata()?.len(), BufReader::new(opened))));
        match opened {
            Ok((length, reader)) if is_gzipped => Ok(Self::gzipped(file, reader, length)),
            Ok((length, reader)) => Ok(Self { file, reader: Box::new(reader), most: length }),
            Err(source) => Err(DataError::Io { path: file, source, remedy }),
        }
    }

    fn malformed(&self, offset: u64, problem: String) -> DataError {
        DataError::Malformed { file: self.file.clone(), offset, problem, remedy: REMEDY }
    }

    /// Appends up to `count` bytes to `bytes`; fewer at the end of the file.
    fn read(&mut self, count: u64, bytes: &mut Vec<u8>) -> Result<(), DataError> {
        let before = bytes.len() as u64;
        let read = self.reader.by_ref().take(count).read_to_end(bytes);
        read.map(drop).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                self.malformed(before.max(bytes.len() as u64), format!("cannot be decompressed further ({error})"))
            }
            _ => DataError::Io { path: self.file.clone(), source: error, remedy: "check the file and the disk" },
        })
    }

    /// Reads the whole file: the `D` sizes of its header, and its values with the header still in front.
    fn values<const D: usize>(mut self) -> Result<([usize; D], Values), DataError> {
        let header = 4 + 4 * D as u64;
        let mut bytes = Vec::new();
        self.read(header, &mut bytes)?;
        let end = bytes.len() as u64;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
        let magic = 0x0800 + D as u32;
        if let Some(&found) = words.first().filter(|&&found| found != magic) {
            let problem =
                format!("the magic number is {found:#010x}, not {magic:#010x} (unsigned bytes, {D} dimensions)");
            return Err(self.malformed(0, problem));
        }
        if end < header {
            return Err(self.malformed(end, format!("the file ends inside its header of {header} bytes")));
        }
        if let Some(zero) = words[1..].iter().position(|&size| size == 0) {
            return Err(self.malformed(4 + 4 * zero as u64, format!("dimension {zero} has size 0")));
        }
        let sizes: [u32; D] = std::array::from_fn(|dimension| words[1 + dimension]);
        let length = sizes.iter().fold(1u128, |length, &size| length.saturating_mul(u128::from(size)));
        if length > u128::from(self.most.saturating_sub(header)) {
            let problem = format!("the header promises {sizes:?} = {length} values, more than the file can hold");
            return Err(self.malformed(4, problem));
        }
        let length = length as u64;
        self.read(length + 1, &mut bytes)?;
        let found = bytes.len() as u64 - header;
        if found < length {
            return Err(self.malformed(header + found, format!("the file ends after {found} of {length} values")));
        }
        if found > length {
            return Err(self.malformed(header + length, format!("the file goes on after its {length} values")));
        }
        bytes.drain(..header as usize);
        Ok((sizes.map(|size| size as usize), Values { file: self.file, bytes }))
    }
}

struct Values {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// Images and labels of one set, as many of each.
struct Set {
    images: Values,
    labels: Values,
    shape: ImageShape,
}

impl Set {
    fn read([images, labels]: [Input; 2]) -> Result<Self, DataError> {
        let ([count, height, width], images) = images.values::<3>()?;
        let ([label_count], labels) = labels.values::<1>()?;
        if label_count != count {
            let problem = format!("{label_count} labels, but {count} images in {}", images.file.display());
            return Err(DataError::Malformed { file: labels.file, offset: 4, problem, remedy: REMEDY });
        }
        Ok(Self { images, labels, shape: ImageShape::new(height, width, 1) })
    }

    fn dataset(self, class_names: &[String]) -> Dataset {
        let labels = self.labels.bytes.into_iter().map(u16::from).collect();
        Dataset::new(self.shape, self.images.bytes, labels, class_names.to_vec())
    }
}

/// Assembles a source from its four files. The training labels tell how many classes there are; if there are ten and
/// `fashion`, they have the names of Fashion-MNIST's, else numbers.
pub(super) fn source(
    name: String,
    fashion: bool,
    train: [Input; 2],
    test: [Input; 2],
) -> Result<DataSource, DataError> {
    let (train, test) = (Set::read(train)?, Set::read(test)?);
    if train.shape != test.shape {
        let size = |ImageShape { height, width, channels }| format!("{height}×{width}×{channels}");
        let (found, expected) = (size(test.shape), size(train.shape));
        let problem = format!("test images are {found} (height, width, channels), training images {expected}");
        return Err(DataError::Malformed { file: test.images.file, offset: 8, problem, remedy: REMEDY });
    }
    // A network tells at least two classes apart.
    let classes = train.labels.bytes.iter().fold(2, |classes, &label| classes.max(usize::from(label) + 1));
    if let Some(at) = test.labels.bytes.iter().position(|&label| usize::from(label) >= classes) {
        let label = test.labels.bytes[at];
        let problem = format!("label {label} of image {at} is not below {classes}, the number of classes in training");
        return Err(DataError::Malformed { file: test.labels.file, offset: 8 + at as u64, problem, remedy: REMEDY });
    }
    let class_names: Vec<String> = if fashion && classes == FASHION.len() {
        FASHION.map(str::to_owned).to_vec()
    } else {
        (0..classes).map(|class| class.to_string()).collect()
    };
    Ok(DataSource { name, train: train.dataset(&class_names), test: test.dataset(&class_names) })
}

/// Whether `folder` has at least one of the four files.
pub(super) fn is_in(folder: &Path) -> bool {
    let exists = |name: &&str| folder.join(name).exists() || folder.join(format!("{name}.gz")).exists();
    TRAIN.iter().chain(&TEST).any(exists)
}

/// Loads a folder with the four files; Fashion-MNIST is told by `fashion` in the path.
pub(super) fn load(folder: &Path) -> Result<DataSource, DataError> {
    let open = |names: [&str; 2]| Ok([Input::open(folder, names[0])?, Input::open(folder, names[1])?]);
    let fashion = folder.to_string_lossy().to_lowercase().contains("fashion");
    source(format!("{} (IDX files)", folder.display()), fashion, open(TRAIN)?, open(TEST)?)
}
