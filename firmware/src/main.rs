//! A network in flash classifies test images on a Cortex-M4F or M7; logits, time and stack go to the debugger by
//! semihosting.
#![no_std]
#![no_main]

#[path = "../common/failure.rs"]
mod failure;
/// As `darts export --rust` wrote it.
#[rustfmt::skip]
#[path = "../model/mod.rs"]
mod model;
#[path = "../common/stack.rs"]
mod stack;
mod stop;
mod ticks;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use failure::Failure;
use model::{Classifier, INPUT_LEN, Memory};
use stack::Stack;
use stop::stop;
use ticks::Ticks;

/// Pixels of the test images, `[N, H, W, C]`.
static IMAGES: &[u8] = include_bytes!("../model/images.bin");

/// The memory is static: its size is part of the image, and the linker says if the RAM does not hold it.
#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::new();
    let status = match classify(MEMORY) {
        Ok(()) => debug::EXIT_SUCCESS,
        Err(error) => {
            hprintln!("error: {}", error);
            debug::EXIT_FAILURE
        }
    };
    stop(status)
}

fn classify(memory: &mut Memory) -> Result<(), Failure> {
    let (stack, ticks) = (Stack::paint(), Ticks::start());
    let mut classifier = Classifier::new(memory)?;
    hprintln!("ticks: {} to check the model", ticks.passed());
    for pixels in IMAGES.as_chunks::<INPUT_LEN>().0 {
        let before = ticks.passed();
        let scores = classifier.classify(pixels)?;
        let (passed, depth) = (ticks.passed() - before, stack.depth());
        for (class, logit) in scores.logits().iter().enumerate() {
            // Without the code that writes floating point: it is as large as all of the network's.
            hprintln!("logit {}: {:#010x} {} / 1000000", class, logit.to_bits(), (logit * 1e6) as i32);
        }
        hprintln!("class {}: {}", scores.class(), scores.class_name());
        hprintln!("ticks: {} to classify", passed);
        hprintln!("stack: {} bytes", depth);
    }
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    stop(debug::EXIT_FAILURE)
}
