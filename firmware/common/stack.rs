//! How deep the stack becomes: what is below is painted before, and looked at after.

use core::hint;

/// Bytes that are painted, a multiple of 4. The stack must have them: nothing else may lie there. Kernels for NEON keep
/// what they prepare of 8-bit weights on the stack.
const PAINTED: usize = if cfg!(target_arch = "aarch64") { 96 << 10 } else { 8 << 10 };
/// Bytes below a local variable of `paint` that are left alone, since they may be its own.
const OWN: usize = 128;
const COLOUR: u32 = 0xC0DE_C0DE;

/// A painted stack.
pub struct Stack {
    /// From here on down.
    top: usize,
}

impl Stack {
    /// Paints the stack below the caller.
    #[inline(never)]
    pub fn paint() -> Self {
        let local = 0u32;
        let top = (&raw const local).addr();
        hint::black_box(&local);
        for address in (top - PAINTED..top - OWN).step_by(4) {
            // SAFETY: it is aligned as `local` is, and part of the stack below everything that lives on it.
            unsafe { (address as *mut u32).write_volatile(COLOUR) };
        }
        Self { top }
    }

    /// Bytes from the caller of `paint` down to the lowest that has been written since.
    #[inline(never)]
    pub fn depth(&self) -> usize {
        let painted = |address: &usize| {
            // SAFETY: as in `paint`, where it was written.
            unsafe { (*address as *const u32).read_volatile() == COLOUR }
        };
        PAINTED - 4 * (self.top - PAINTED..self.top - OWN).step_by(4).take_while(painted).count()
    }
}
