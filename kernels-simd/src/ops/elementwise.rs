//! Weighted sums, scalings and reductions.

/// One summand of [`mix`](crate::reference::mix): a tensor and its factor per channel.
#[derive(Clone, Copy, Debug)]
pub struct MixTerm<'a> {
    /// The tensor, `[P, C]`.
    pub z: &'a [f32],
    /// Factor of each channel, `[C]`.
    pub scale: &'a [f32],
}
