//! Elementwise operations and reductions.
