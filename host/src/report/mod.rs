//! The report of a run: one HTML file that needs nothing else, its figures as files of their own, and its
//! measurements for TensorBoard.

mod curves;
mod events;
mod figure;
mod figures;
mod heat_map;
mod page;
mod png;
mod record;

use std::fs;
use std::path::Path;

pub use events::Events;
pub use figure::Figure;
pub use figures::{Section, sections};
pub use png::{Fonts, NoFont};
pub use record::{CellRecord, EpochRecord, ProcessRecord, RunRecord, RunRecordError, RunState};

use crate::atomic::{self, WriteError};
use crate::run_directory::REPORT;

/// Writes the report of a run to its folder.
///
/// # Errors
/// If it cannot be written.
pub fn write(run: &RunRecord) -> Result<(), WriteError> {
    let path = run.path.join(REPORT);
    let html = page::html(run).map_err(|source| WriteError { path: path.clone(), source })?;
    atomic::write(&path, html.as_bytes())
}

/// Writes all figures of a run to the folder `path`, as SVG documents and, with fonts, as PNG images beside them.
///
/// # Errors
/// If a file cannot be written.
pub fn write_figures(run: &RunRecord, path: &Path, fonts: Option<&Fonts>) -> Result<usize, WriteError> {
    fs::create_dir_all(path).map_err(|source| WriteError { path: path.to_owned(), source })?;
    let mut written = 0;
    for figure in sections(run).iter().flat_map(|section| &section.figures) {
        atomic::write(&path.join(format!("{}.svg", figure.name)), figure.document.as_bytes())?;
        written += 1;
        if let Some(fonts) = fonts {
            let file = path.join(format!("{}.png", figure.name));
            let png = fonts.png(&figure.document).map_err(|source| WriteError { path: file.clone(), source })?;
            atomic::write(&file, &png)?;
            written += 1;
        }
    }
    Ok(written)
}
