//! Depthwise convolutions.
