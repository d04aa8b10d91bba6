//! The data set inside the program: the first 400 training images and 100 test images of each class of Fashion-MNIST.

use super::{DataError, DataSource, idx};

macro_rules! file {
    ($name:literal) => {
        (concat!($name, ".gz"), include_bytes!(concat!("../../data/fashion-mnist/", $name, ".gz")).as_slice())
    };
}

const TRAIN: [(&str, &[u8]); 2] = [file!("train-images-idx3-ubyte"), file!("train-labels-idx1-ubyte")];
const TEST: [(&str, &[u8]); 2] = [file!("t10k-images-idx3-ubyte"), file!("t10k-labels-idx1-ubyte")];

pub(super) fn load() -> Result<DataSource, DataError> {
    let inputs = |files: [(&str, &'static [u8]); 2]| {
        files.map(|(name, bytes)| idx::Input::gzipped(format!("embedded/{name}").into(), bytes, bytes.len() as u64))
    };
    idx::source("embedded (a subset of Fashion-MNIST)".into(), true, inputs(TRAIN), inputs(TEST))
}
