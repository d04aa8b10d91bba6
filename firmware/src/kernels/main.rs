//! The kernels on 8-bit integers, each alone: those of this build against the reference in every bit, on random shapes,
//! and then the instructions that each takes. Counting needs an emulator for which an instruction is a nanosecond
//! (QEMU's `-icount shift=0`).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod check;
mod count;
mod random;
#[path = "../stop.rs"]
mod stop;

use core::panic::PanicInfo;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use random::Random;
use stop::stop;

/// Elements of the largest image.
const ELEMENTS: usize = 28 * 28 * 32;

/// What kernels read and write.
struct Buffers {
    x: [i8; ELEMENTS],
    w: [i8; ELEMENTS],
    y: [i8; ELEMENTS],
    expected: [i8; ELEMENTS],
    scratch: [[i8; ELEMENTS]; 2],
}

#[entry]
fn main() -> ! {
    static mut BUFFERS: Buffers = Buffers {
        x: [0; ELEMENTS],
        w: [0; ELEMENTS],
        y: [0; ELEMENTS],
        expected: [0; ELEMENTS],
        scratch: [[0; ELEMENTS]; 2],
    };
    check::all(BUFFERS, &mut Random::new());
    if let Some(peripherals) = Peripherals::take() {
        count::all(BUFFERS, &mut Random::new(), peripherals.SYST);
    }
    stop(debug::EXIT_SUCCESS)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    stop(debug::EXIT_FAILURE)
}
