//! Differentiable architecture search on a multicore CPU.
#![forbid(unsafe_code)]

pub mod atomic;
pub mod data;
pub mod draw;
pub mod engine;
pub mod evaluate;
pub mod export;
pub mod graph;
pub mod interrupt;
pub mod isa;
pub mod model_file;
pub mod progress;
pub mod run_directory;
pub mod search;
pub mod train;
pub mod weights;
