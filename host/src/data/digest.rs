//! SHA-256 of files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

/// The SHA-256 of all that `reader` gives, in hexadecimal digits.
fn sha256(mut reader: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(read) => digest.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// That of the file as it lies there.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    sha256(File::open(path)?)
}

/// That of what is in the file: decompressed, if its name ends in `.gz`.
///
/// # Errors
/// If the file cannot be read or decompressed.
pub(super) fn of_content(path: &Path) -> io::Result<String> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        sha256(GzDecoder::new(BufReader::new(File::open(path)?)))
    } else {
        of_file(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// FIPS 180-2, appendix B.1.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn of_a_published_example_plain_and_gzipped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (plain, gzipped) = (folder.path().join("abc"), folder.path().join("abc.gz"));
        fs::write(&plain, "abc").expect("writable");
        let mut encoder = GzEncoder::new(File::create(&gzipped).expect("creatable"), Compression::fast());
        encoder.write_all(b"abc").and_then(|()| encoder.try_finish()).expect("writable");
        assert_eq!(of_file(&plain).expect("readable"), OF_ABC);
        assert_eq!(of_content(&plain).expect("readable"), OF_ABC);
        assert_eq!(of_content(&gzipped).expect("readable"), OF_ABC);
        assert_ne!(of_file(&gzipped).expect("readable"), OF_ABC);
    }
}
