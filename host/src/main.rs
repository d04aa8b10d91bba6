//! The `darts` binary.
#![forbid(unsafe_code)]
fn main() {}
