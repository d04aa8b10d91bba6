//! The fully connected layer.
