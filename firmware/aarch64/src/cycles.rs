//! The cycle counter of the performance monitors. QEMU with `-icount shift=0` takes a cycle for an instruction.

use core::arch::asm;

/// The running counter.
pub struct Cycles(u64);

impl Cycles {
    /// Starts it.
    pub fn start() -> Self {
        // Enabled in PMCR_EL0 with all 64 bits of the cycle counter, which PMCNTENSET_EL0 then starts.
        let (enabled, counter) = (1u64 | 1 << 6, 1u64 << 31);
        // SAFETY: these registers can be written at EL1, and have no effect on memory.
        unsafe {
            asm!("msr pmcr_el0, {}", "msr pmcntenset_el0, {}", "isb", in(reg) enabled, in(reg) counter, options(nostack));
        }
        Self(Self::now())
    }

    /// Cycles since then.
    pub fn passed(&self) -> u64 {
        Self::now().wrapping_sub(self.0)
    }

    fn now() -> u64 {
        let cycles;
        // SAFETY: reading a counter changes nothing.
        unsafe { asm!("isb", "mrs {}, pmccntr_el0", out(reg) cycles, options(nostack)) };
        cycles
    }
}
