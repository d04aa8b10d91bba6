//! Ctrl-C: the first one asks the running loop to stop at the next step and save what there is to save, the second one
//! kills.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io, thread};

use crate::progress::stderr_line;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit status of a process that Ctrl-C ended, by convention of shells 128 + SIGINT.
pub const EXIT_CODE: u8 = 130;

/// Environment variable that a process sets for one that it starts: this one then stops as at Ctrl-C when its standard
/// input ends. So it does too if the other one is killed, and on systems without signals.
pub const STOP_AT_END_OF_INPUT: &str = "DARTS_STOP_AT_END_OF_INPUT";

/// The work was stopped by Ctrl-C (or SIGTERM), after what was done had been saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the handler, and a watch of standard input where [`STOP_AT_END_OF_INPUT`] is set. Call once, at the start
/// of the process.
///
/// # Errors
/// If a handler is installed already or the system refuses.
pub fn install() -> Result<(), ctrlc::Error> {
    if env::var_os(STOP_AT_END_OF_INPUT).is_some() {
        thread::spawn(|| {
            // That it cannot be read any more is its end too.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            REQUESTED.store(true, Ordering::Relaxed);
        });
    }
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(EXIT_CODE));
        }
        stderr_line("\nstopping after this step; press Ctrl-C again to stop at once");
    })
}

/// Whether a stop was asked for. Long loops poll this once per step.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// `Err(Interrupted)` once a stop was asked for.
///
/// # Errors
/// [`Interrupted`], to be passed up with `?`.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}
