//! All of `darts-core`, in an image that does not link if any of it can panic: it is to be built and not to be run
//! (`scripts/no-panic`). What is called with is hidden from the compiler, which so leaves nothing out that a certain
//! model does without.
#![no_std]
#![no_main]

use core::fmt::{self, Write};
use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use darts_core::{Genotype, Kernels, ModelParts, Network, Observed, Step};

#[entry]
fn main() -> ! {
    loop {
        black_box(all(black_box(&[])));
    }
}

fn all(model: &[u8]) -> Option<()> {
    let (kernels, network) = (Kernels::detect(), told(Network::parse(model))?);
    black_box((network.input_shape(), network.input_len(), network.classes(), network.required_bytes()));
    black_box((network.input_buffer_len(), network.weight_bytes(), network.operations()));
    told(network.normalize(black_box(&[]), black_box(&mut [])))?;
    told(network.run(kernels, black_box(&[]), black_box(&mut []), black_box(&mut [])))?;
    let [input, workspace, logits] = [(); 3].map(|()| black_box(&mut [][..]));
    told(network.run_pixels(kernels, black_box(&[]), input, workspace, logits))?;
    let observe = |step, observed: Observed<'_>| {
        black_box((step, observed));
    };
    told(network.run_observed(kernels, black_box(&[]), black_box(&mut []), black_box(&mut []), observe))?;
    let genotype = &told(Genotype::parse(black_box("")))?;
    let _ = write!(Nowhere, "{genotype} {}", black_box(network.genotype()));
    black_box(Genotype::builtin(black_box("")));
    let steps: &[Step] = black_box(&[]);
    let parts = ModelParts { metadata: *network.metadata(), genotype, steps, weights: black_box(&[]) };
    black_box(parts.encoded_len());
    told(parts.write(black_box(&mut [])))?;
    Some(())
}

/// Prints an error.
fn told<T>(result: Result<T, impl fmt::Display>) -> Option<T> {
    result.map_err(|error| write!(Nowhere, "{error}")).ok()
}

/// Takes what is printed.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        Ok(())
    }
}

unsafe extern "C" {
    /// It is nowhere.
    safe fn darts_core_can_panic() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    darts_core_can_panic()
}
