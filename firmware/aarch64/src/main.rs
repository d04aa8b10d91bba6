//! A network classifies a test image on an AArch64 processor without an operating system; logits, cycles and stack go
//! to the debugger by semihosting.
#![no_std]
#![no_main]

mod cycles;
#[path = "../../common/failure.rs"]
mod failure;
/// As `darts export --rust` wrote it.
#[rustfmt::skip]
#[path = "../../model/mod.rs"]
mod model;
#[path = "../../common/stack.rs"]
mod stack;

use core::panic::PanicInfo;

use aarch64_rt::{InitialPagetable, entry, initial_pagetable};
use semihosting::{eprintln, println, process};
use static_cell::ConstStaticCell;

use cycles::Cycles;
use failure::Failure;
use model::{Classifier, INPUT_LEN, Memory};
use stack::Stack;

/// Pixels of the test image, `[H, W, C]`.
static IMAGE: &[u8; INPUT_LEN] = include_bytes!("../../model/images.bin");
static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());

/// A block descriptor of 1 GiB: valid, accessed.
const BLOCK: usize = 1 | 1 << 10;
/// Attributes 1 of the default MAIR (normal memory), inner shareable.
const NORMAL: usize = 1 << 2 | 3 << 8;

// Without the MMU all memory counts as that of a device, where an access that is not aligned fails.
initial_pagetable!({
    let mut map = [0; 512];
    map[0] = BLOCK;
    map[1] = 0x4000_0000 | BLOCK | NORMAL;
    InitialPagetable(map)
});

/// Of the stack, 4 KiB each.
const PAGES: usize = 32;

entry!(main, PAGES);

fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    if let Err(error) = classify(MEMORY.take()) {
        eprintln!("error: {error}");
        process::exit(1);
    }
    process::exit(0)
}

fn classify(memory: &mut Memory) -> Result<(), Failure> {
    let (stack, cycles) = (Stack::paint(), Cycles::start());
    let mut classifier = Classifier::new(memory)?;
    let parsed = cycles.passed();
    let scores = classifier.classify(IMAGE)?;
    let (passed, depth) = (cycles.passed(), stack.depth());
    for (class, logit) in scores.logits().iter().enumerate() {
        println!("logit {class}: {:#010x} {} / 1000000", logit.to_bits(), (logit * 1e6) as i32);
    }
    println!("class {}: {}", scores.class(), scores.class_name());
    println!("cycles: {parsed} to check the model, {} to classify", passed - parsed);
    println!("stack: {depth} bytes");
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    eprintln!("{info}");
    process::exit(1)
}
