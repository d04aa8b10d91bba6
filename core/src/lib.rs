//! `no_std` genotype, model file and fixed-buffer inference of DARTS networks.
#![no_std]
#![forbid(unsafe_code)]
