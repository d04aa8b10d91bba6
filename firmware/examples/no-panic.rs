//! All of `darts-core`, in an image that does not link if any of it can panic: it is to be built and not to be run
//! (`scripts/no-panic`). What is called with is hidden from the compiler, which so leaves nothing out that a certain model does without.
#![no_std]
#![no_main]

use core::fmt::{self, Write};
use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use darts_core::{Genotype, GenotypeError, Kernels, ModelError, ModelParts, Network, RunError, Step, WriteError};

#[entry]
fn main() -> ! {
    loop {
        if let Err(failure) = all(black_box(&[])) {
            let _ = match failure {
                Failure::Model(error) => write!(Nowhere, "{error}"),
                Failure::Run(error) => write!(Nowhere, "{error}"),
                Failure::Write(error) => write!(Nowhere, "{error}"),
                Failure::Genotype(error) => write!(Nowhere, "{error}"),
            };
        }
    }
}

fn all(model: &[u8]) -> Result<(), Failure> {
    let (kernels, network) = (Kernels::detect(), Network::parse(model)?);
    black_box((network.input_shape(), network.input_len(), network.classes(), network.required_bytes()));
    black_box((network.input_buffer_len(), network.weight_bytes(), network.operations()));
    network.normalize(black_box(&[]), black_box(&mut []))?;
    network.run(kernels, black_box(&[]), black_box(&mut []), black_box(&mut []))?;
    network.run_pixels(kernels, black_box(&[]), black_box(&mut []), black_box(&mut []), black_box(&mut []))?;
    network.run_observed(kernels, black_box(&[]), black_box(&mut []), black_box(&mut []), |step, observed| {
        black_box((step, observed));
    })?;
    let genotype = &Genotype::parse(black_box(""))?;
    let _ = write!(Nowhere, "{genotype} {}", black_box(network.genotype()));
    black_box(Genotype::builtin(black_box("")));
    let steps: &[Step] = black_box(&[]);
    let parts = ModelParts { metadata: *network.metadata(), genotype, steps, weights: black_box(&[]) };
    black_box(parts.encoded_len());
    parts.write(black_box(&mut []))?;
    Ok(())
}

enum Failure {
    Model(ModelError),
    Run(RunError),
    Write(WriteError),
    Genotype(GenotypeError),
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

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<GenotypeError> for Failure {
    fn from(error: GenotypeError) -> Self {
        Self::Genotype(error)
    }
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
