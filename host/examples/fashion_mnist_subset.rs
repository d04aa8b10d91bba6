//! Makes the data set that is embedded in the program from the full Fashion-MNIST: the first 400 training images and
//! the first 100 test images of each class, in their original order, as gzipped IDX files.
//!
//! ```text
//! cargo run --release --example fashion_mnist_subset -- FULL_FOLDER host/data/fashion-mnist
//! ```

use std::error::Error;
use std::io::Write;
use std::path::Path;

use darts_host::atomic;
use darts_host::data::{self, Dataset, LoadOptions};
use flate2::{Compression, write::GzEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [full, output] = arguments.as_slice() else {
        return Err("give the folder with the full Fashion-MNIST and the folder to write to".into());
    };
    let source = data::load(full, &LoadOptions::default())?;
    write_set(Path::new(output), "train", &source.train.limited(4000))?;
    write_set(Path::new(output), "t10k", &source.test.limited(1000))
}

fn write_set(folder: &Path, set: &str, data: &Dataset) -> Result<(), Box<dyn Error>> {
    let sizes = [data.len(), data.shape().height, data.shape().width].map(|size| size as u32);
    let labels: Vec<u8> = data.labels().iter().map(|&label| u8::try_from(label)).collect::<Result<_, _>>()?;
    write_idx(&folder.join(format!("{set}-images-idx3-ubyte.gz")), &sizes, data.images())?;
    write_idx(&folder.join(format!("{set}-labels-idx1-ubyte.gz")), &sizes[..1], &labels)
}

fn write_idx(path: &Path, sizes: &[u32], values: &[u8]) -> Result<(), Box<dyn Error>> {
    atomic::write_with(path, |file| {
        let mut file = GzEncoder::new(file, Compression::best());
        file.write_all(&(0x0800 + sizes.len() as u32).to_be_bytes())?;
        for size in sizes {
            file.write_all(&size.to_be_bytes())?;
        }
        file.write_all(values)?;
        file.finish().map(drop)
    })?;
    Ok(())
}
