//! The measurements of a run as TensorBoard reads them: an event file of scalars. A file is a sequence of records, each
//! `length u64, masked CRC-32C of it u32, bytes, masked CRC-32C of them u32`, little-endian; the bytes are an `Event`
//! message (tensorflow/core/util/event.proto and framework/summary.proto), of which the few fields that are used are
//! declared here by hand.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use prost::{Message, Oneof};

use super::record::{EpochRecord, RunRecord};
use crate::atomic::{self, WriteError};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// `Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    /// What the first event of a file has: `brain.Event:2`.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `Summary.Value` with a `simple_value`.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// The event file of one run. It is written anew when a process takes the run up, with what the log of measurements
/// knows, and grows with every epoch: no step is there twice, and a reader that follows the file sees it grow.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// The file `path` with what is known of a run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(path: &Path, run: &RunRecord) -> Result<Self, WriteError> {
        let version = Event {
            wall_time: run.epochs.iter().find_map(|epoch| epoch.process.unix_time).unwrap_or(0.0),
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".into())),
        };
        let bytes = run.epochs.iter().fold(record(&version), |bytes, epoch| [bytes, record(&event(epoch))].concat());
        atomic::write(path, &bytes)?;
        let file = File::options().append(true).open(path);
        let file = file.map_err(|source| WriteError { path: path.to_owned(), source })?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends an epoch.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, epoch: &EpochRecord) -> Result<(), WriteError> {
        let written = self.file.write_all(&record(&event(epoch)));
        written.map_err(|source| WriteError { path: self.path.clone(), source })
    }
}

/// All scalars of an epoch; its step is the number of complete epochs.
fn event(epoch: &EpochRecord) -> Event {
    let count = |number: Option<usize>| number.map(|number| number as f64);
    let (normal, reduce) = (&epoch.normal, &epoch.reduce);
    let scalars = [
        ("loss/train", epoch.train_loss),
        ("loss/validation", epoch.valid_loss),
        ("accuracy/train", epoch.train_accuracy),
        ("accuracy/validation", epoch.valid_accuracy),
        ("schedule/learning_rate", epoch.learning_rate),
        ("schedule/drop_path", epoch.drop_path),
        ("entropy/normal", normal.entropy),
        ("entropy/reduce", reduce.entropy),
        ("edges/skip_normal", count(normal.skip_edges)),
        ("edges/skip_reduce", count(reduce.skip_edges)),
        ("edges/none_normal", count(normal.none_edges)),
        ("edges/none_reduce", count(reduce.none_edges)),
        ("derived/skips_normal", count(normal.skips)),
        ("derived/skips_reduce", count(reduce.skips)),
        ("alpha/lambda_max", epoch.lambda_max),
        ("process/images_per_second", epoch.images_per_second()),
        ("process/seconds", epoch.seconds),
        ("process/peak_rss_bytes", epoch.process.peak_rss_bytes.map(|bytes| bytes as f64)),
    ];
    let scalars = scalars
        .into_iter()
        .filter_map(|(tag, value)| Some(Scalar { tag: tag.to_owned(), simple_value: value? as f32 }));
    Event {
        wall_time: epoch.process.unix_time.unwrap_or(0.0),
        step: epoch.epoch as i64 + 1,
        what: Some(What::Summary(Summary { value: scalars.collect() })),
    }
}

/// An event with its frame.
fn record(event: &Event) -> Vec<u8> {
    let content = event.encode_to_vec();
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), &content, &masked(&content).to_le_bytes()].concat()
}

/// The checksum of the format: rotated, and moved by a constant, since checksums of checksums are weak.
fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_does_it() {
        // The first record of any event file that TensorFlow writes, with the wall time 1.0.
        let version = Event { wall_time: 1.0, step: 0, what: Some(What::FileVersion("brain.Event:2".into())) };
        let bytes = record(&version);
        assert_eq!(bytes[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(bytes[12..21], [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(&bytes[21..36], b"\x1a\x0dbrain.Event:2");
        assert_eq!(bytes.len(), 12 + 24 + 4);
    }

    #[test]
    fn what_an_epoch_does_not_have_is_no_scalar() {
        let epoch = EpochRecord { epoch: 4, train_loss: Some(0.5), ..EpochRecord::default() };
        let Event { step, what, .. } = event(&epoch);
        assert_eq!(step, 5);
        let value = vec![Scalar { tag: "loss/train".into(), simple_value: 0.5 }];
        assert_eq!(what, Some(What::Summary(Summary { value })));
    }
}
