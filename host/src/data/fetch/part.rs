//! A file that is not whole yet: it lies beside its place under another name, and takes it when it is whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::FetchError;
use crate::atomic::{self, WriteError};

/// The unfinished file, locked against other processes.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Part {
    /// Goes on with what an earlier attempt left of `target`, or begins with nothing.
    pub fn open(target: &Path) -> Result<Self, FetchError> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let opened = File::options().append(true).create(true).open(&path);
        let file = opened.map_err(|source| WriteError { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(WriteError { path, source }.into()),
        }
        let mut part = Self { path, file, length: 0 };
        part.length = part.file.metadata().map_err(part.failed())?.len();
        Ok(part)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Writes on.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(self.failed())?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins again with nothing.
    pub fn clear(&mut self) -> Result<(), WriteError> {
        self.file.set_len(0).map_err(self.failed())?;
        self.length = 0;
        Ok(())
    }

    /// Puts the whole file at its place.
    pub fn finish(self, target: &Path) -> Result<(), WriteError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        let moved = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        moved.and_then(|()| atomic::sync_folder(folder)).map_err(self.failed())
    }

    /// Removes it.
    pub fn remove(self) -> Result<(), WriteError> {
        fs::remove_file(&self.path).map_err(self.failed())
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> WriteError + use<> {
        let path = self.path.clone();
        move |source| WriteError { path, source }
    }
}
