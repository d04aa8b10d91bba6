//! One file from the first mirror that has it: resumed where it broke off, checked, moved to its place.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Broken, Connection};
use super::part::Part;
use super::{FetchError, FetchOptions};
use crate::atomic::WriteError;
use crate::data::catalogue::{KnownSet, RemoteFile};
use crate::data::digest;
use crate::interrupt;
use crate::progress::Task;

/// So often in a row may an attempt bring nothing new before the mirror is given up.
const FRUITLESS_ATTEMPTS: u32 = 3;

/// Why an attempt did not bring the whole file.
enum Fault {
    /// The same server may do better next time.
    Passing(String),
    /// It will not.
    Lasting(String),
    /// Nor will any other.
    Fatal(FetchError),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Failed(reason) => Self::Passing(reason),
            Broken::Interrupted(interrupted) => Self::Fatal(interrupted.into()),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Fatal(error.into())
    }
}

/// Fetches `file` of `set` into `folder`, unless it is there already. Returns where it lies.
pub(super) fn file(
    set: &KnownSet,
    file: &'static RemoteFile,
    folder: &Path,
    options: &FetchOptions,
) -> Result<PathBuf, FetchError> {
    let target = folder.join(file.name);
    let mut part = Part::open(&target)?;
    if digest::of_file(&target).is_ok_and(|found| found == file.sha256) {
        part.remove()?;
        return Ok(target);
    }
    let own: Vec<String> = set.mirrors.iter().map(|&mirror| mirror.to_owned()).collect();
    let mirrors = if options.mirrors.is_empty() { &own } else { &options.mirrors };
    let mut reasons = Vec::new();
    for mirror in mirrors {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
        let task = options.progress.bytes(file.name, file.bytes);
        match from_mirror(&url, file, &mut part, options, &task) {
            Ok(()) => {
                part.finish(&target)?;
                return Ok(target);
            }
            Err(Fault::Passing(reason) | Fault::Lasting(reason)) => reasons.push((url, reason)),
            Err(Fault::Fatal(error)) => return Err(error),
        }
    }
    if part.len() == 0 {
        part.remove()?;
    }
    Err(FetchError::NoMirror { file: file.name, reasons, remedy: remedy(set, folder) })
}

fn remedy(set: &KnownSet, folder: &Path) -> String {
    let debian = set.debian.as_ref().map(|package| format!(", or on Debian: apt-get install {}", package.name));
    format!(
        "try again later (what came so far is gone on with), give another place with --mirror, put the file into {} \
         yourself{}",
        folder.display(),
        debian.unwrap_or_default()
    )
}

/// Asks one server until the file is whole or it is no use.
fn from_mirror(
    url: &str,
    file: &RemoteFile,
    part: &mut Part,
    options: &FetchOptions,
    task: &Task,
) -> Result<(), Fault> {
    let mut most = part.len();
    let mut fruitless = 0;
    // What an earlier attempt left may be of another file: then everything is fetched once more.
    let mut pure = part.len() == 0;
    let mut answered = false;
    loop {
        match attempt(url, file, part, options, task, &mut answered) {
            Ok(()) => match verify(file, part) {
                Err(Fault::Passing(_)) if !pure => (pure, most, fruitless) = (true, 0, 0),
                Err(Fault::Passing(reason)) => return Err(Fault::Lasting(reason)),
                verified => return verified,
            },
            Err(Fault::Passing(reason)) => {
                fruitless = if part.len() > most { 0 } else { fruitless + 1 };
                most = most.max(part.len());
                if fruitless == FRUITLESS_ATTEMPTS {
                    return Err(Fault::Lasting(reason));
                }
                pause(options.pause)?;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Whether what came is the file; if not, it is thrown away.
fn verify(file: &RemoteFile, part: &mut Part) -> Result<(), Fault> {
    let found = digest::of_file(part.path()).map_err(|source| WriteError { path: part.path().to_owned(), source })?;
    if found == file.sha256 {
        return Ok(());
    }
    part.clear()?;
    Err(Fault::Passing(format!("what came has the SHA-256 {found} and should have {}", file.sha256)))
}

/// One request. `answered` says whether the server has ever answered.
fn attempt(
    url: &str,
    file: &RemoteFile,
    part: &mut Part,
    options: &FetchOptions,
    task: &Task,
    answered: &mut bool,
) -> Result<(), Fault> {
    if part.len() > file.bytes {
        part.clear()?;
    }
    if part.len() == file.bytes {
        return Ok(());
    }
    let connection = Connection::open(url, part.len(), options.silence)?;
    let head = connection.head().map_err(|broken| match broken {
        // Who could not be reached from the start is not tried again: another mirror may be.
        Broken::Failed(reason) if !*answered => Fault::Lasting(reason),
        broken => broken.into(),
    })?;
    *answered = true;
    match head.status {
        200 => part.clear()?,
        206 if head.start == part.len() => {}
        206 => return Err(Fault::Lasting(format!("answers with byte {} for byte {}", head.start, part.len()))),
        // It has nothing behind what is there, so that is of another file.
        416 => {
            part.clear()?;
            return Err(Fault::Passing("does not have this part of the file".into()));
        }
        status @ (408 | 429 | 500..) => return Err(Fault::Passing(format!("answers with status {status}"))),
        status => return Err(Fault::Lasting(format!("answers with status {status}"))),
    }
    if let Some(total) = head.total.filter(|&total| total != file.bytes) {
        let problem = format!("has {total} bytes there, not {}: it is another file", file.bytes);
        return Err(Fault::Lasting(problem));
    }
    task.set(part.len());
    let broke_off = |part: &Part| format!("breaks off after {} of {} bytes", part.len(), file.bytes);
    loop {
        match connection.piece() {
            Ok(Some(piece)) => part.append(&piece)?,
            Ok(None) if part.len() == file.bytes => return Ok(()),
            Ok(None) => return Err(Fault::Passing(broke_off(part))),
            Err(Broken::Failed(reason)) => return Err(Fault::Passing(format!("{} ({reason})", broke_off(part)))),
            Err(broken) => return Err(broken.into()),
        }
        if part.len() > file.bytes {
            part.clear()?;
            return Err(Fault::Lasting(format!("has more than {} bytes there: it is another file", file.bytes)));
        }
        task.set(part.len());
    }
}

/// Waits, but not for Ctrl-C.
fn pause(duration: Duration) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < duration {
        interrupt::check().map_err(|interrupted| Fault::Fatal(interrupted.into()))?;
        thread::sleep(Duration::from_millis(50).min(duration));
    }
    Ok(())
}
