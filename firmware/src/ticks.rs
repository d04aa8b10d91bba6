//! Time as the SysTick counter tells it: cycles of the processor on a board. An emulator has no cycles; QEMU with
//! `-icount shift=0` takes 1 ns for an instruction, and the counter of its MPS2 boards has 25 MHz, so that a tick is 40
//! instructions.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;

/// The counter goes down from here to 0, 24 bits.
const RELOAD: u32 = 0xff_ffff;

/// How often it has begun anew.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
}

/// The running counter.
pub struct Ticks(());

impl Ticks {
    /// Starts it at 0.
    pub fn start() -> Self {
        if let Some(Peripherals { mut SYST, .. }) = Peripherals::take() {
            SYST.set_clock_source(SystClkSource::Core);
            SYST.set_reload(RELOAD);
            SYST.clear_current();
            SYST.enable_interrupt();
            SYST.enable_counter();
        }
        Self(())
    }

    /// Ticks since then.
    pub fn passed(&self) -> u64 {
        loop {
            let rounds = ROUNDS.load(Ordering::Relaxed);
            let left = SYST::get_current();
            if rounds == ROUNDS.load(Ordering::Relaxed) {
                return u64::from(rounds) * u64::from(RELOAD + 1) + u64::from(RELOAD - left);
            }
        }
    }
}
