//! Putting a model file together.

use core::fmt;

use super::read::check_plan;
use super::{
    CHECKSUM_AT, ENTRY_BYTES, HEADER_BYTES, MAGIC, Metadata, ModelError, SECTION_ALIGNMENT, Section, VERSION, checksum,
    genotype,
};
use crate::genotype::Genotype;
use crate::plan::{Limits, STEP_BYTES, Step};

/// What a model file is made of.
#[derive(Clone, Copy, Debug)]
pub struct ModelParts<'a> {
    /// Input, classes, normalisation, kind of network.
    pub metadata: Metadata<'a>,
    /// The cells that the network was built from.
    pub genotype: &'a Genotype,
    /// The plan; its last step writes the logits to [`Place::External`](crate::Place::External), and no other does.
    pub steps: &'a [Step],
    /// Weights and biases, little-endian, where the steps point to.
    pub weights: &'a [u8],
}

/// Why a model file was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// What was to be written is not a valid model.
    Invalid(ModelError),
    /// The file or the workspace would take 4 GiB or more.
    TooLarge,
    /// The buffer has not the length that [`ModelParts::encoded_len`] gives.
    Buffer {
        /// Bytes of the file.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::TooLarge => f.write_str("model file: it or its workspace would take 4 GiB or more"),
            Self::Buffer { expected, found } => {
                write!(f, "model file: it takes {expected} bytes, the buffer has {found}")
            }
        }
    }
}

impl core::error::Error for WriteError {}

impl ModelParts<'_> {
    fn section_lengths(&self) -> [usize; 4] {
        [
            self.metadata.encoded_len(),
            genotype::encoded_len(self.genotype),
            self.steps.len() * STEP_BYTES,
            self.weights.len(),
        ]
    }

    /// Offset of each section, and the length of the file.
    fn layout(&self) -> ([usize; 4], usize) {
        let mut end = HEADER_BYTES + Section::ALL.len() * ENTRY_BYTES;
        let offsets = self.section_lengths().map(|length| {
            let offset = end.next_multiple_of(SECTION_ALIGNMENT);
            end = offset + length;
            offset
        });
        (offsets, end)
    }

    /// Bytes of the file.
    pub fn encoded_len(&self) -> usize {
        self.layout().1
    }

    /// Checks everything that [`Network::parse`](crate::Network::parse) checks, and returns the bytes of workspace that
    /// the plan needs.
    ///
    /// # Errors
    ///
    /// [`WriteError::Invalid`] with the first fault, [`WriteError::TooLarge`].
    pub fn workspace_bytes(&self) -> Result<u32, WriteError> {
        let metadata = &self.metadata;
        metadata.check().map_err(WriteError::Invalid)?;
        self.genotype.validate().map_err(|error| WriteError::Invalid(ModelError::Genotype(error)))?;
        let limits = Limits {
            input: metadata.input_bytes(),
            output: 4 * metadata.classes as u64,
            workspace: u64::MAX,
            weights: self.weights.len() as u64,
        };
        let needed = check_plan(self.steps.iter().copied().map(Ok), &limits).map_err(WriteError::Invalid)?;
        needed.try_into().map_err(|_| WriteError::TooLarge)
    }

    /// Writes the file into `file`, all of which is overwritten.
    ///
    /// # Errors
    ///
    /// As [`workspace_bytes`](Self::workspace_bytes), and [`WriteError::Buffer`] if `file` has not
    /// [`encoded_len`](Self::encoded_len) bytes.
    pub fn write(&self, file: &mut [u8]) -> Result<(), WriteError> {
        let workspace_bytes = self.workspace_bytes()?;
        let (offsets, expected) = self.layout();
        if file.len() != expected {
            return Err(WriteError::Buffer { expected, found: file.len() });
        }
        let total = u32::try_from(expected).map_err(|_| WriteError::TooLarge)?;
        file.fill(0);
        // Everything below is within `total`, and so has 32 bits.
        let word = |value: usize| (value as u32).to_le_bytes();
        let header = [VERSION, HEADER_BYTES as u32, total, 0, Section::ALL.len() as u32, workspace_bytes];
        put(file, 0, MAGIC.into_iter().chain(header.into_iter().flat_map(u32::to_le_bytes)));
        for (i, (section, (offset, length))) in
            Section::ALL.into_iter().zip(offsets.into_iter().zip(self.section_lengths())).enumerate()
        {
            let entry = [word(section as usize), word(offset), word(length)];
            put(file, HEADER_BYTES + i * ENTRY_BYTES, entry.into_iter().flatten());
        }
        let [metadata, genotype, plan, weights] = offsets;
        let floats = self.metadata.mean.iter().chain(self.metadata.deviation).flat_map(|value| value.to_le_bytes());
        put(file, metadata, self.metadata.fixed_bytes().into_iter().chain(floats));
        put(file, genotype, genotype::bytes(self.genotype));
        for (i, step) in self.steps.iter().enumerate() {
            let record = step.to_bytes();
            let record = record.map_err(|error| WriteError::Invalid(ModelError::Step { step: i, error }))?;
            put(file, plan + i * STEP_BYTES, record.into_iter());
        }
        put(file, weights, self.weights.iter().copied());
        let computed =
            checksum(file.get(..CHECKSUM_AT).unwrap_or_default(), file.get(CHECKSUM_AT + 4..).unwrap_or_default());
        put(file, CHECKSUM_AT, computed.to_le_bytes().into_iter());
        Ok(())
    }
}

/// Writes `bytes` from `offset` on.
fn put(file: &mut [u8], offset: usize, bytes: impl Iterator<Item = u8>) {
    for (target, byte) in file.iter_mut().skip(offset).zip(bytes) {
        *target = byte;
    }
}
