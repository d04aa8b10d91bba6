//! The choice of the instruction set: the fastest there is, or the one that the environment variable `DARTS_ISA` names.

use std::env;

use darts_kernels_simd::{Isa, Kernels};

/// The environment variable that forces an instruction set.
pub const VARIABLE: &str = "DARTS_ISA";

/// `DARTS_ISA` asks for an instruction set that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no instruction set '{asked}' on this machine (environment variable {VARIABLE}): unset it or set it to one of {}", available().join(", "))]
pub struct IsaUnavailable {
    asked: String,
}

/// The names of the instruction sets that this machine has, the fastest last.
pub fn available() -> Vec<&'static str> {
    Isa::available().map(Isa::name).collect()
}

/// The kernels that this process is to use.
///
/// # Errors
/// [`IsaUnavailable`] if `DARTS_ISA` is misspelt or names what this machine lacks.
pub fn kernels() -> Result<Kernels, IsaUnavailable> {
    match env::var_os(VARIABLE) {
        Some(name) if !name.is_empty() => named(&name.to_string_lossy()),
        _ => Ok(Kernels::detect()),
    }
}

/// The kernels of every instruction set that this process may use, the fastest last: the one that `DARTS_ISA` names, or
/// all that this machine has.
///
/// # Errors
/// As [`kernels`].
pub fn allowed() -> Result<Vec<Kernels>, IsaUnavailable> {
    let forced = env::var_os(VARIABLE).is_some_and(|name| !name.is_empty());
    if forced {
        return kernels().map(|kernels| vec![kernels]);
    }
    Ok(Isa::available().filter_map(|isa| Kernels::with_isa(isa).ok()).collect())
}

fn named(name: &str) -> Result<Kernels, IsaUnavailable> {
    let kernels = name.parse().and_then(Kernels::with_isa);
    kernels.map_err(|_| IsaUnavailable { asked: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_set_can_be_named() {
        for name in available() {
            assert_eq!(named(name).map(|kernels| kernels.isa().name()), Ok(name));
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_there_is() {
        let error = named("avx1024").expect_err("there is no such set").to_string();
        assert!(error.contains("avx1024") && error.contains("scalar"), "{error}");
    }
}
