//! A measured case.

use std::sync::Arc;
use std::time::Duration;

use darts_kernels_simd::Kernels;
use serde::Serialize;

use super::case::Case;
use super::roof::Roof;
use super::timing::best_seconds;
use crate::engine::Workers;

/// Time that the samples of a row take; a single call where one takes longer.
const BUDGET: Duration = Duration::from_millis(15);

/// What a case came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The operation.
    pub name: String,
    /// Instruction set.
    pub isa: &'static str,
    /// Channels, height and width of the input, and what else there is to say of sizes.
    pub shape: String,
    /// What of the operation is computed.
    pub direction: String,
    /// Threads.
    pub threads: usize,
    /// Best time of a call.
    pub seconds: f64,
    /// Speed.
    pub gflops: f64,
    /// Operands and results over the time; what an engine runs may have them in any cache.
    pub gbytes_per_second: f64,
    /// The roof that applies: `compute`, `L1`, `L2`, `L3` or `memory`.
    pub bound: &'static str,
    /// The least time under that roof over the time.
    pub fraction_of_peak: f64,
}

impl Row {
    /// Measures `case`, on all threads of `all` or on this one.
    pub fn measure(case: &Case, kernels: Kernels, roof: &Roof, all: &Arc<Workers>) -> Self {
        let mut seconds = f64::NAN;
        case.run(kernels, all, &mut |run| seconds = best_seconds(BUDGET, run));
        let threads = if case.parallel { all.threads() } else { 1 };
        let place = roof.place(kernels, threads, case.work);
        Self {
            name: case.name.clone(),
            isa: kernels.isa().name(),
            shape: case.shape.clone(),
            direction: case.direction.to_string(),
            threads,
            seconds,
            gflops: case.work.flops / seconds / 1e9,
            gbytes_per_second: case.work.moved as f64 / seconds / 1e9,
            bound: place.bound,
            fraction_of_peak: place.seconds / seconds,
        }
    }
}
