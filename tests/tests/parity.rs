//! The core computes what the host computes, in the memory that the planner says, for every kind of network.

#[path = "parity/export.rs"]
mod export;
#[path = "parity/int8.rs"]
mod int8;
#[path = "parity/interpreter.rs"]
mod interpreter;
#[path = "parity/memory.rs"]
mod memory;
#[path = "parity/mixed.rs"]
mod mixed;
#[path = "parity/weights.rs"]
mod weights;
