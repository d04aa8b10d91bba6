//! Denormal numbers, which cost many processors a hundred cycles each and training nothing to lose.

/// Makes the calling thread treat denormal `f32` numbers as zero, as operands and as results, until it ends: FTZ and
/// DAZ in MXCSR on x86-64, FZ in FPCR on AArch64. Elsewhere this does nothing.
///
/// Gradients that fade out would otherwise slow the kernels down, and by amounts that depend on the data. Each thread
/// that runs kernels calls this once, before the first one.
pub fn flush_denormals() {
    #[cfg(target_arch = "x86_64")]
    {
        /// Flush-to-zero, bit 15, and denormals-are-zero, bit 6 (Intel manual, volume 1, section 10.2.3).
        const FLUSH: u32 = 1 << 15 | 1 << 6;
        let mut control = 0u32;
        // SAFETY: SSE is part of x86-64, and the pointers are to a local variable. Only the treatment of denormals
        // changes, no rounding mode and no exception mask; the compiler's arithmetic at build time may keep denormals,
        // which is harmless here.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack));
            control |= FLUSH;
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        /// FZ, bit 24 (Arm Architecture Reference Manual, FPCR).
        const FLUSH: u64 = 1 << 24;
        let mut control: u64;
        // SAFETY: FPCR is readable and writable at every exception level. Only the treatment of denormals changes.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack));
            control |= FLUSH;
            core::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack));
        }
    }
}
