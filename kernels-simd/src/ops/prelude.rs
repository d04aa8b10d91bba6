//! What precedes a convolution.
