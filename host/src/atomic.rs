//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the names of temporary files begin and end with.
const PREFIX: &str = ".darts-";
const SUFFIX: &str = ".tmp";

/// A file that could not be written; what stood in its place before still does.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; check that the folder exists and is writable, and the space on the disk", path.display())]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// Writes the file `path` by way of a temporary file beside it, which takes its place when it is complete and on the
/// disk. What is no regular file (a device, a pipe) is written to as it is, since it must not be replaced.
///
/// # Errors
/// If `content` fails or the file cannot be written; then nothing is left behind.
pub fn write_with(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), WriteError> {
    // A symbolic link stays one: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let special = fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    let written = if special { write_special(&target, content) } else { write_regular(&target, content) };
    written.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Writes `bytes` to the file `path`, as [`write_with`] does.
///
/// # Errors
/// As [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_with(path, |file| file.write_all(bytes))
}

fn write_special(target: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::options().write(true).open(target)?);
    content(&mut file)?;
    file.flush()
}

fn write_regular(target: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = BufWriter::new(builder.prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)?);
    content(&mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    sync_folder(folder)
}

/// Removes the temporary files that killed processes left in `folder`, if that is there.
///
/// # Errors
/// If the folder cannot be read or a file not be removed.
pub fn remove_left_over(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The new name too survives a power failure.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened as files there.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder is there");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_is_written_and_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.txt");
        write(&path, b"one").expect("writable");
        write(&path, b"two").expect("writable");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.txt");
        write(&path, b"old").expect("writable");
        let error = write_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .expect_err("the content failed");
        assert!(error.to_string().contains("a.txt"), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_errors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(write(&folder.path().join("missing/a.txt"), b"x").is_err());
        fs::create_dir(folder.path().join("a.txt")).expect("creatable");
        assert!(write(&folder.path().join("a.txt"), b"x").is_err());
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_files_are_ordinary_and_devices_are_written_through() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, link) = (folder.path().join("a.txt"), folder.path().join("link"));
        write(&path, b"one").expect("writable");
        symlink(&path, &link).expect("linkable");
        write(&link, b"two").expect("writable");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        // Readable by its owner at least, and as open as any new file of this process.
        fs::write(folder.path().join("plain"), b"").expect("writable");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode("a.txt"), mode("plain"));
        write(Path::new("/dev/null"), b"gone").expect("writable");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
    }
}
