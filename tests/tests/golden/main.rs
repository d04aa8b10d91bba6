//! Golden vectors: numbers that the original implementation computed in double precision, held against this one.
//!
//! Reads every `NAME.json` (with its `NAME.safetensors`) of the folder that `DARTS_VECTORS` names, or of `vectors/`
//! beside the tests. Configurations come from the files alone.

mod bilevel;
mod derived;
mod genotype;
mod layout;
mod ops;
mod report;
mod search_net;
mod vectors;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use darts_host::engine::Workers;
use darts_kernels_simd::Kernels;

use report::{Checks, Report, Totals};
use vectors::Vectors;

/// The environment variable that names another folder of vectors.
const VARIABLE: &str = "DARTS_VECTORS";

/// What every case computes with.
struct Machine {
    kernels: Kernels,
    workers: Arc<Workers>,
}

#[test]
fn golden_vectors() {
    let folder = std::env::var_os(VARIABLE)
        .filter(|value| !value.is_empty())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"), PathBuf::from);
    let machine = Machine {
        kernels: darts_host::isa::kernels().expect("an instruction set"),
        workers: Arc::new(Workers::new(2).expect("two threads")),
    };
    // The handle itself, which the test harness does not capture.
    let mut out = std::io::stdout();
    let isa = machine.kernels.isa().name();
    writeln!(out, "golden vectors of {} on {isa}", folder.display()).expect("standard output");
    let mut totals = Totals::default();
    for path in vectors::files(&folder) {
        let report = check(&machine, &path);
        writeln!(out, "{report}").expect("standard output");
        totals.add(&report);
    }
    writeln!(out, "{totals}").expect("standard output");
    assert!(totals.files > 0, "no vectors in {}", folder.display());
    assert!(totals.failures.is_empty(), "{} failures:\n{}", totals.failures.len(), totals.failures.join("\n"));
}

/// Everything that one file holds, or what went wrong on the way.
fn check(machine: &Machine, path: &Path) -> Report {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let vectors = Vectors::read(path);
        let run: fn(&Machine, &Vectors, &mut Checks) = match vectors.kind() {
            "ops" => ops::run,
            "search_net" => search_net::run,
            "derived" => derived::run,
            "genotype_cnn" => genotype::run,
            "architect" => bilevel::architect,
            "trajectory" => bilevel::trajectory,
            "genotype_rnn" => return Report::not_covered(&vectors),
            kind if kind.starts_with("rnn_") => return Report::not_covered(&vectors),
            kind => panic!("unknown kind '{kind}'"),
        };
        let mut checks = Checks::default();
        run(machine, &vectors, &mut checks);
        checks.report(&vectors)
    }));
    outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        Report::broken(path, message)
    })
}
