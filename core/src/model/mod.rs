//! The model file: what it holds, and where. docs/model-format.md describes every byte.

mod genotype;
mod metadata;
mod read;
mod write;

use core::fmt;

pub use metadata::{Metadata, NetworkKind};
pub(crate) use read::{Sections, steps};
pub use write::{ModelParts, WriteError};

use crate::genotype::GenotypeError;
use crate::plan::StepError;

#[cfg(target_endian = "big")]
compile_error!("weights are read in place from little-endian files, which takes a little-endian target");

/// First bytes of a model file.
pub const MAGIC: [u8; 8] = *b"DARTSMDL";
/// Version of the format that this library reads and writes.
pub const VERSION: u32 = 2;
/// What the address of the bytes of a model must be a multiple of.
pub const ALIGNMENT: usize = 4;
/// What the offset of every section is a multiple of.
pub const SECTION_ALIGNMENT: usize = 64;

const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;
/// Position of the checksum, which is over all bytes but its own four.
const CHECKSUM_AT: usize = 20;

/// CRC-32 as in zlib and Ethernet.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

fn checksum(before: &[u8], after: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(before);
    digest.update(after);
    digest.finalize()
}

/// A part of the file. Those with other numbers are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// Input, classes, normalisation, kind of network.
    Metadata = 1,
    /// The two cells.
    Genotype = 2,
    /// The steps.
    Plan = 3,
    /// Weights and biases.
    Weights = 4,
}

impl Section {
    /// All sections, in the order of the file.
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Genotype, Self::Plan, Self::Weights];

    const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Genotype => "genotype",
            Self::Plan => "plan",
            Self::Weights => "weights",
        }
    }
}

/// Why bytes are not a model that can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// The address of the bytes is no multiple of [`ALIGNMENT`]; [`include_model!`](crate::include_model) aligns.
    Misaligned,
    /// There are fewer or more bytes than the file says.
    Length {
        /// Bytes there should be, as far as is known.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The bytes do not begin with [`MAGIC`].
    Magic,
    /// Another version of the format.
    Version {
        /// The file's version.
        found: u32,
    },
    /// The checksum in the header is not that of the rest.
    Checksum {
        /// Checksum in the header.
        stated: u32,
        /// Checksum of the rest.
        computed: u32,
    },
    /// The header has something other than 0 in a reserved place, or a length that is not the format's.
    Header,
    /// An entry of the section table has something other than 0 in a reserved place, does not begin at the next
    /// multiple of [`SECTION_ALIGNMENT`], or ends behind the file.
    SectionTable {
        /// Index of the entry.
        entry: usize,
    },
    /// A section is there twice.
    Duplicate(Section),
    /// A section is not there.
    Missing(Section),
    /// The metadata or the genotype has another length than its content takes.
    SectionLength(Section),
    /// A number of the metadata is out of its range.
    Metadata {
        /// Which number.
        field: &'static str,
    },
    /// The genotype has an unknown operation.
    UnknownPrimitive {
        /// Its id.
        id: u8,
    },
    /// The genotype does not make sense.
    Genotype(GenotypeError),
    /// A step of the plan is not sound.
    Step {
        /// Index of the step.
        step: usize,
        /// What is wrong with it.
        error: StepError,
    },
    /// The plan is empty, or its last step does not write the output, or another one does.
    Output {
        /// Index of the step.
        step: usize,
    },
    /// The workspace that the header states is not the one that the plan needs.
    Workspace {
        /// Bytes in the header.
        stated: u32,
        /// Bytes the plan needs.
        needed: u64,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("model file: ")?;
        match self {
            Self::Misaligned => {
                write!(f, "its address in memory is no multiple of {ALIGNMENT}; load it into an aligned buffer")
            }
            Self::Length { expected, found } => {
                write!(f, "{found} bytes where there should be {expected}; it is cut off or something is appended")
            }
            Self::Magic => f.write_str("it does not begin as a model file does"),
            Self::Version { found } => {
                write!(f, "version {found} of the format, this program reads {VERSION}; export the model again")
            }
            Self::Checksum { stated, computed } => {
                write!(f, "the checksum is {computed:08x}, not {stated:08x}; the file is damaged")
            }
            Self::Header => f.write_str("the header has a value that this version does not know"),
            Self::SectionTable { entry } => write!(f, "entry {entry} of the section table is not valid"),
            Self::Duplicate(section) => write!(f, "the {} section is there twice", section.name()),
            Self::Missing(section) => write!(f, "the {} section is missing", section.name()),
            Self::SectionLength(section) => {
                write!(f, "the {} section has not the length of its content", section.name())
            }
            Self::Metadata { field } => write!(f, "the metadata's {field} is out of range"),
            Self::UnknownPrimitive { id } => write!(f, "the genotype has an unknown operation {id}"),
            Self::Genotype(error) => error.fmt(f),
            Self::Step { step, error } => write!(f, "step {step}: {error}"),
            Self::Output { step } => {
                write!(f, "step {step}: the last step, and no other, must write the network's output")
            }
            Self::Workspace { stated, needed } => {
                write!(f, "the header states a workspace of {stated} bytes, the plan needs {needed}")
            }
        }
    }
}

impl core::error::Error for ModelError {}
