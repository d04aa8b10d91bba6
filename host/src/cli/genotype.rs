//! Genotypes as users give them: by name, as a file, as text, or as the run directory that holds one.

use std::fs;
use std::path::Path;

use darts_core::{BUILTIN_NAMES, Genotype, GenotypeError};
use darts_host::run_directory;

use super::common::FileError;

/// Why an argument is no genotype.
#[derive(Debug, thiserror::Error)]
pub enum NotAGenotype {
    /// It is neither a name, nor a file, nor text.
    #[error(
        "unknown genotype '{argument}': give a name ({}), a file, a run directory, or the text itself, \
         such as \"Genotype(normal=[('sep_conv_3x3', 0), …], …)\"",
        BUILTIN_NAMES.join(", ")
    )]
    Unknown { argument: String },
    /// It looks like a path.
    #[error("there is no file or folder {0}: correct the path, or give a name ({names})", names = BUILTIN_NAMES.join(", "))]
    NoSuchFile(String),
    /// The text has an error.
    #[error("{0}{hint}", hint = hint(.0))]
    Text(GenotypeError),
    /// The text of a file has an error.
    #[error("{error} (file {path}){hint}", hint = hint(error))]
    FileText { path: String, error: GenotypeError },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What to do about the error.
fn hint(error: &GenotypeError) -> &'static str {
    match error {
        GenotypeError::Cell { .. } => "; correct this cell's list",
        _ => "; correct the text",
    }
}

/// The genotype that `argument` names.
pub fn resolve(argument: &str) -> Result<Genotype, NotAGenotype> {
    if let Some(genotype) = Genotype::builtin(argument) {
        return Ok(genotype);
    }
    let path = Path::new(argument);
    if !path.exists() {
        return if argument.contains(['(', '{']) {
            Genotype::parse(argument).map_err(NotAGenotype::Text)
        } else if argument.contains(['/', '\\', '.']) {
            Err(NotAGenotype::NoSuchFile(argument.to_owned()))
        } else {
            Err(NotAGenotype::Unknown { argument: argument.to_owned() })
        };
    }
    let path = if path.is_dir() { path.join(run_directory::GENOTYPE) } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(FileError::new("read the genotype", &path))?;
    Genotype::parse(text.trim()).map_err(|error| NotAGenotype::FileText { path: path.display().to_string(), error })
}
