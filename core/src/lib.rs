//! `no_std` genotype, model file and fixed-buffer inference of DARTS networks.
//!
//! A [`Genotype`] is a pair of cells, read from and printed as text. A model file holds one, a plan of kernel calls and
//! the weights; [`Network::parse`] checks it completely, once, and then [`Network::run`] computes logits in a workspace
//! of the caller's. Nothing here allocates, copies weights or panics, whatever the file.
//!
//! ```
//! use darts_core::{Genotype, Kernels, Metadata, ModelParts, Network, NetworkKind, Place, Step, Storage, Weights};
//! use darts_kernels_simd::{DenseShape, ImageShape, Padding};
//!
//! // Usually the host writes the file. This one adds up the two channels of one pixel, negative values as 0.
//! let input = ImageShape::new(1, 1, 2);
//! let steps = [
//!     Step::Prelude {
//!         source: Place::External,
//!         target: Place::Workspace(0),
//!         shape: input,
//!         padding: Padding::NONE,
//!         relu: true,
//!     },
//!     Step::Dense {
//!         source: Place::Workspace(0),
//!         target: Place::External,
//!         shape: DenseShape::pointwise(input, 1),
//!         relu: false,
//!         weights: Weights { offset: 0, storage: Storage::F32 },
//!         bias: false,
//!         accumulate: false,
//!         scratch: 0,
//!         block: 0,
//!     },
//! ];
//! let parts = ModelParts {
//!     metadata: Metadata {
//!         input,
//!         classes: 1,
//!         layers: 1,
//!         channels: 1,
//!         kind: NetworkKind::Cifar,
//!         mean: &[0.5, 0.5],
//!         deviation: &[0.25, 0.25],
//!     },
//!     genotype: &Genotype::builtin("DARTS_V2").ok_or("no such genotype")?,
//!     steps: &steps,
//!     weights: &[[0, 0, 0x80, 0x3f]; 2].concat(), // 1.0 twice
//! };
//! #[repr(align(64))]
//! struct File([u8; 512]);
//! let mut file = File([0; 512]);
//! let file = &mut file.0[..parts.encoded_len()];
//! parts.write(file)?;
//!
//! // The device.
//! let network = Network::parse(file)?;
//! assert_eq!(network.required_bytes(), 8);
//! let (mut image, mut workspace, mut logits) = ([0.0; 2], [0.0; 2], [0.0; 1]);
//! network.run_pixels(Kernels::detect(), &[0, 255], &mut image, &mut workspace, &mut logits)?;
//! assert_eq!(logits, [2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod builtin;
mod execute;
mod genotype;
mod genotype_text;
mod model;
mod network;
mod plan;
mod primitive;

pub use builtin::BUILTIN_NAMES;
/// The kernels that a network runs on.
pub use darts_kernels_simd::Kernels;
pub use execute::{Elements, Observed};
pub use genotype::{
    CellError, CellGenotype, CellKind, Edge, Genotype, GenotypeError, MAX_EDGES, MAX_NODES, MAX_STATES,
};
pub use model::{
    ALIGNMENT, MAGIC, Metadata, ModelError, ModelParts, NetworkKind, SECTION_ALIGNMENT, Section, VERSION, WriteError,
};
pub use network::{Network, RunError};
pub use plan::{Int8Step, Limits, Operand, Place, STEP_BYTES, Sizes, Step, StepError, Storage, Weights};
pub use primitive::{Primitive, UnknownPrimitive};
