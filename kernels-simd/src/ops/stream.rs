//! Stores past the caches, of what is not read again before a barrier over the whole batch: it has left the caches by then, and
//! an ordinary store would first read the line that it overwrites.
//!
//! A separable 3×3 convolution at 16 channels, 32×32, with `z` in memory: 4.2 µs in place of 6.5; both its gradients with `dx` and
//! all they read in memory: 18.0 in place of 19.4 (AMD EPYC, Zen 5, 1,024 images in turn, 2026-11-29).

/// Whether pixels of `channels` channels from `target` on are made of whole registers that lie on boundaries of their size.
pub(super) fn can_stream(target: *const f32, channels: usize) -> bool {
    let line = if channels == 8 { 32 } else { 64 };
    target.addr().is_multiple_of(line) && (channels * size_of::<f32>()).is_multiple_of(line)
}

/// What was stored past the caches comes before what is stored from now on.
pub(super) fn publish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this kind has the instruction.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}
