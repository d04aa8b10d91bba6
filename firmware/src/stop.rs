//! The end of a program.

use cortex_m_semihosting::debug;

/// Ends the emulator; a board without a debugger stays here.
pub fn stop(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        core::hint::spin_loop();
    }
}
