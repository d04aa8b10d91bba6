//! `no_std` genotype, model file and fixed-buffer inference of DARTS networks.
//!
//! ```
//! use darts_core::{Genotype, Primitive};
//!
//! let genotype: Genotype = "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0)], normal_concat=range(2, 3), \
//!     reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])".parse()?;
//! assert_eq!(genotype.normal.edges[0].primitive, Primitive::SepConv3x3);
//! # Ok::<(), darts_core::GenotypeError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod builtin;
mod genotype;
mod genotype_text;
mod model;
mod plan;
mod primitive;

pub use builtin::BUILTIN_NAMES;
pub use genotype::{
    CellError, CellGenotype, CellKind, Edge, Genotype, GenotypeError, MAX_EDGES, MAX_NODES, MAX_STATES,
};
pub use model::{
    ALIGNMENT, MAGIC, Metadata, ModelError, ModelParts, NetworkKind, SECTION_ALIGNMENT, Section, VERSION, WriteError,
};
pub use plan::{Limits, Operand, Place, STEP_BYTES, Sizes, Step, StepError, Storage, Weights};
pub use primitive::{Primitive, UnknownPrimitive};
