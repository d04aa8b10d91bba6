//! Linear layers and the loss.
