//! One checkpoint as a file: safetensors, with what is no tensor as JSON in the metadata, and beside it a checksum of
//! both.

use std::collections::{BTreeMap, HashMap};
use std::io;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::WriteError;
use crate::data::CRC;
use crate::state::{Position, Values};

/// Key of the [`Header`] in the file's metadata.
const HEADER: &str = "darts";
/// Key of the checksum (CRC-64/XZ, hexadecimal) there.
const CHECKSUM: &str = "checksum";

/// What a checkpoint holds beside tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Where the run stands.
    pub position: Position,
    /// Bytes of the log of measurements as of then.
    pub log_bytes: u64,
    /// The best validation accuracy of the epochs before.
    pub best_accuracy: Option<f64>,
    /// The configuration of the run.
    pub config: Value,
}

/// A checkpoint that was read and is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it holds beside tensors.
    pub header: Header,
    tensors: BTreeMap<String, (Dtype, Vec<u8>)>,
}

/// Why a file is no checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The operating system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not safetensors, or not all of it.
    #[error("it is cut off or damaged: {0}")]
    Container(#[from] SafeTensorError),
    /// The metadata does not say what it must.
    #[error("its metadata is damaged")]
    Metadata,
    /// The content is not what was written.
    #[error("its checksum is wrong")]
    Checksum,
}

/// A checkpoint, or what belongs to it, that does not fit the run.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Other tensors than those of the run.
    #[error(
        "the checkpoint has {found} bytes of {name}, and this run needs {expected}: it was written by another version of darts; \
         go on with that one, or start a new run"
    )]
    Values {
        /// The tensor.
        name: String,
        /// Bytes in the checkpoint.
        found: usize,
        /// Bytes in the run.
        expected: usize,
    },
    /// The log of measurements is not the one that the checkpoint was written with.
    #[error("{problem}: the file was changed after the checkpoint was written; put it back, or start a new run")]
    Log {
        /// What is wrong where.
        problem: String,
    },
    /// It cannot be written to.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Checkpoint {
    /// The bytes of the file for a run with `header` and `values`.
    ///
    /// # Errors
    /// If the header cannot be written as JSON.
    pub fn encode(header: &Header, values: &[Values]) -> io::Result<Vec<u8>> {
        let header = serde_json::to_string(header)?;
        let sorted: BTreeMap<_, _> =
            values.iter().map(|values| (values.name, (values.dtype, &*values.bytes))).collect();
        let checksum = checksum(&header, sorted.iter().map(|(name, (dtype, bytes))| (*name, *dtype, *bytes)));
        let metadata = HashMap::from([(HEADER.to_owned(), header), (CHECKSUM.to_owned(), checksum)]);
        let tensors = sorted.into_iter().map(|(name, (dtype, bytes))| {
            Ok((name, TensorView::new(dtype, vec![8 * bytes.len() / dtype.bitsize()], bytes)?))
        });
        let tensors: Vec<_> = tensors.collect::<Result<_, SafeTensorError>>().map_err(io::Error::other)?;
        safetensors::serialize(tensors, Some(metadata)).map_err(io::Error::other)
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// If it is not that to the last bit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let file = SafeTensors::deserialize(bytes)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let entry = |key| metadata.metadata().as_ref().and_then(|entries| entries.get(key)).ok_or(Damage::Metadata);
        let (header, expected) = (entry(HEADER)?, entry(CHECKSUM)?);
        let sorted: BTreeMap<_, _> = file.iter().map(|(name, view)| (name, (view.dtype(), view.data()))).collect();
        let found = checksum(header, sorted.iter().map(|(name, (dtype, bytes))| (*name, *dtype, *bytes)));
        if found != *expected {
            return Err(Damage::Checksum);
        }
        let header = serde_json::from_str(header).map_err(|_| Damage::Metadata)?;
        let tensors = sorted.into_iter().map(|(name, (dtype, bytes))| (name.to_owned(), (dtype, bytes.to_vec())));
        Ok(Self { header, tensors: tensors.collect() })
    }

    /// Puts the tensors in the place of `values`.
    ///
    /// # Errors
    /// If one is missing or has another type or length; then some of `values` may have been overwritten.
    pub fn restore(&self, values: &mut [Values]) -> Result<(), RestoreError> {
        for values in values {
            let saved = self.tensors.get(values.name).filter(|(dtype, _)| *dtype == values.dtype);
            let saved = saved.map_or(&[][..], |(_, bytes)| bytes);
            if saved.len() != values.bytes.len() {
                let (found, expected) = (saved.len(), values.bytes.len());
                return Err(RestoreError::Values { name: values.name.to_owned(), found, expected });
            }
            values.bytes.copy_from_slice(saved);
        }
        Ok(())
    }
}

/// Of a header and of tensors in the order of their names.
fn checksum<'a>(header: &str, tensors: impl Iterator<Item = (&'a str, Dtype, &'a [u8])>) -> String {
    let mut digest = CRC.digest();
    digest.update(header.as_bytes());
    for (name, dtype, bytes) in tensors {
        digest.update(format!("\0{name}\0{dtype}\0").as_bytes());
        digest.update(bytes);
    }
    format!("{:016x}", digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let position = Position { epoch: 3, step: 7, images: 70, correct: 31, loss: 0.1 + 0.2, seconds: 1.5 };
        let config = serde_json::json!({"seed": u64::MAX, "rate": 0.1, "none": null});
        Header { position, log_bytes: 99, best_accuracy: Some(1.0 / 3.0), config }
    }

    fn encoded() -> Vec<u8> {
        let (mut weights, mut moments, mut steps) = ([1.5f32, -0.0, f32::MIN_POSITIVE], [0.1f64, 1e300], 12);
        let values = [
            Values::f32("weights", &mut weights),
            Values::f64("moments", &mut moments),
            Values::count("steps", &mut steps),
        ];
        Checkpoint::encode(&header(), &values).expect("it can be written")
    }

    #[test]
    fn what_was_written_is_read_to_the_last_bit() {
        let checkpoint = Checkpoint::decode(&encoded()).expect("it is whole");
        assert_eq!(checkpoint.header, header());
        let (mut weights, mut moments, mut steps) = ([0f32; 3], [0f64; 2], 0);
        let mut values = [
            Values::count("steps", &mut steps),
            Values::f32("weights", &mut weights),
            Values::f64("moments", &mut moments),
        ];
        checkpoint.restore(&mut values).expect("it fits");
        assert_eq!(weights.map(f32::to_bits), [1.5f32, -0.0, f32::MIN_POSITIVE].map(f32::to_bits));
        assert_eq!((moments, steps), ([0.1, 1e300], 12));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_found() {
        let whole = encoded();
        for length in 0..whole.len() {
            assert!(Checkpoint::decode(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn tensors_of_another_run_are_refused() {
        let checkpoint = Checkpoint::decode(&encoded()).expect("it is whole");
        let (mut four, mut others, mut one) = ([0.0; 4], [0.0; 4], [0.0; 1]);
        let cases = [
            (Values::f32("weights", &mut four), 12),
            (Values::f32("alpha", &mut others), 0),
            (Values::f64("weights", &mut one), 0),
        ];
        for (values, in_file) in cases {
            match checkpoint.restore(&mut [values]) {
                Err(RestoreError::Values { found, .. }) => assert_eq!(found, in_file),
                other => panic!("{other:?}"),
            }
        }
    }
}
