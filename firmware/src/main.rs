//! A network in flash classifies a test image on a Cortex-M4F; the logits go to the debugger by semihosting.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

/// As `darts export` wrote it. Not every image needs all the constants.
#[allow(dead_code)]
mod model {
    include!("../model/model.rs");
}

use core::fmt;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use darts_core::{Kernels, ModelError, Network, RunError};
use model::{CLASSES, INPUT_LEN, MODEL, WORKSPACE_LEN};

/// Pixels of the test image, `[H, W, C]`.
static IMAGE: &[u8; INPUT_LEN] = include_bytes!("../model/image.bin");

/// The buffers are static: their sizes are part of the image, and the linker says if the RAM does not hold them.
#[entry]
fn main() -> ! {
    static mut INPUT: [f32; INPUT_LEN] = [0.0; INPUT_LEN];
    static mut WORKSPACE: [f32; WORKSPACE_LEN] = [0.0; WORKSPACE_LEN];
    static mut LOGITS: [f32; CLASSES] = [0.0; CLASSES];
    let status = match classify(INPUT, WORKSPACE, LOGITS) {
        Ok(()) => {
            for (class, logit) in LOGITS.iter().enumerate() {
                // Without the code that writes floating point: it is as large as all of the network's.
                hprintln!("logit {}: {:#010x} {} / 1000000", class, logit.to_bits(), (logit * 1e6) as i32);
            }
            debug::EXIT_SUCCESS
        }
        Err(error) => {
            hprintln!("error: {}", error);
            debug::EXIT_FAILURE
        }
    };
    stop(status)
}

fn classify(input: &mut [f32], workspace: &mut [f32], logits: &mut [f32]) -> Result<(), Failure> {
    let network = Network::parse(MODEL)?;
    network.normalize(IMAGE, input)?;
    Ok(network.run(Kernels::detect(), input, workspace, logits)?)
}

enum Failure {
    Model(ModelError),
    Run(RunError),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
        }
    }
}

/// Ends the emulator; a board without a debugger stays here.
fn stop(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    stop(debug::EXIT_FAILURE)
}
