//! The files of a data set out of an archive whose digest is right.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use flate2::bufread::GzDecoder;
use tar::Archive;

use super::FetchError;
use crate::atomic;
use crate::data::catalogue::Content;

/// Writes `contents` and the files `beside`, from whatever folders of the archive, into `folder`.
pub(super) fn archive(path: &Path, contents: &[Content], beside: &[&str], folder: &Path) -> Result<(), FetchError> {
    let unfit = |problem| FetchError::Archive { path: path.to_owned(), problem };
    let failed = |error: io::Error| unfit(format!("cannot be read: {error}"));
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(File::open(path).map_err(failed)?)));
    let mut missing: Vec<&str> = contents.iter().map(|content| content.name).chain(beside.iter().copied()).collect();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        // Only names that are known are written: no path of the archive leads out of the folder.
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let Some(at) = missing.iter().position(|&missing| name.as_deref() == Some(missing)) else {
            continue;
        };
        let name = missing.swap_remove(at);
        let bytes = contents.iter().find(|content| content.name == name).map(|content| content.bytes);
        if !entry.header().entry_type().is_file() || bytes.is_some_and(|bytes| bytes != entry.size()) {
            return Err(unfit(format!("{name} is no file of the right size in there")));
        }
        atomic::write_with(&folder.join(name), |file| io::copy(&mut entry, file).map(drop))?;
    }
    match missing.first() {
        Some(name) => Err(unfit(format!("{name} is not in there"))),
        None => Ok(()),
    }
}
