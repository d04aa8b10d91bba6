//! Differentiable architecture search on a multicore CPU.
#![forbid(unsafe_code)]

pub mod graph;
