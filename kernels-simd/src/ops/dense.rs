//! Dense convolutions, the pointwise one among them, and the transposition of their weights.
