//! Differentiable architecture search on a multicore CPU: data, supernet, bilevel search, training, export. The binary
//! `darts` is a thin command line over this library.
//!
//! ```
//! use std::sync::Arc;
//!
//! use darts_host::atomic::WriteError;
//! use darts_host::data::{self, LoadOptions};
//! use darts_host::engine::Workers;
//! use darts_host::observer::Observer;
//! use darts_host::search::run::{SearchEpoch, search};
//! use darts_host::search::settings::SearchSettings;
//!
//! struct Print;
//! impl Observer<SearchEpoch> for Print {
//!     fn epoch(&mut self, record: &SearchEpoch) -> Result<(), WriteError> {
//!         println!("epoch {}: loss {:.3}, {}", record.epoch, record.train_loss, record.genotype);
//!         Ok(())
//!     }
//! }
//!
//! let images = data::load("embedded", &LoadOptions::default())?.train.limited(40);
//! let settings = SearchSettings { channels: 2, layers: 2, epochs: 1, batch_size: 10, ..SearchSettings::QUICK };
//! let workers = Arc::new(Workers::new(2)?);
//! let outcome = search(&settings, &images, darts_host::isa::kernels()?, workers, &mut Print)?;
//! assert_eq!(outcome.genotype.normal.nodes(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod atomic;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod draw;
mod drop_path;
pub mod engine;
pub mod evaluate;
pub mod export;
pub mod graph;
pub mod instructions;
pub mod interrupt;
pub mod isa;
pub mod memory;
pub mod memory_map;
pub mod memory_svg;
pub mod model_file;
pub mod observer;
pub mod progress;
pub mod report;
pub mod run_directory;
pub mod search;
pub mod state;
pub mod statistics;
pub mod train;
pub mod weights;
