//! Fetching from a server that truncates, corrupts, stalls and redirects.

use std::fs;
use std::path::Path;
use std::time::Duration;

use darts_host::data::catalogue::{Content, DebianPackage, KnownSet, Packing, RemoteFile};
use darts_host::data::fetch::{FetchError, FetchOptions, Fetched, get};
use sha2::{Digest, Sha256};
use tempfile::tempdir;

use super::files::gzip;
use super::web_server::Behaviour::*;
use super::web_server::{Behaviour, WebServer};

const PLAIN: &str = "images";
const NAME: &str = "images.gz";
const BYTES: usize = 300_000;

fn sha256(bytes: &[u8]) -> &'static str {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.leak()
}

/// Bytes that do not repeat, and that gzip makes no smaller.
fn content() -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..BYTES).map(|_| next()).collect()
}

fn known(packing: Packing, remote: (&'static str, &[u8]), contents: &[(&'static str, &[u8])]) -> KnownSet {
    let remote = RemoteFile { name: remote.0, bytes: remote.1.len() as u64, sha256: sha256(remote.1) };
    let contents: Vec<Content> = contents
        .iter()
        .map(|&(name, bytes)| Content { name, bytes: bytes.len() as u64, sha256: sha256(bytes) })
        .collect();
    KnownSet {
        name: "test",
        title: "Test",
        summary: "a file",
        remote: vec![remote].leak(),
        packing,
        contents: contents.leak(),
        mirrors: &[],
        debian: Some(DebianPackage { name: "dataset-test", folder: "/nowhere" }),
        remedy: "none",
    }
}

/// One gzipped file.
fn gzipped_set() -> (KnownSet, Vec<u8>) {
    let content = content();
    let file = gzip(&content);
    (known(Packing::Gzipped, (NAME, &file), &[(PLAIN, &content)]), file)
}

fn from(servers: &[&WebServer]) -> FetchOptions {
    let mirrors = servers.iter().map(|server| server.address.clone()).collect();
    FetchOptions { mirrors, pause: Duration::ZERO, ..FetchOptions::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Fetches from a server that behaves so, with `before` as what an earlier attempt left; the file must come whole.
/// Returns where the requests began.
#[track_caller]
fn comes_whole(behaviours: &[Behaviour], before: &[u8], silence: Duration) -> Vec<usize> {
    from_server(behaviours, before, silence).starts()
}

/// The same, with the server.
#[track_caller]
fn from_server(behaviours: &[Behaviour], before: &[u8], silence: Duration) -> WebServer {
    let (set, file) = gzipped_set();
    let server = WebServer::start(&[(NAME, file.clone())], behaviours);
    let folder = tempdir().expect("a folder");
    if !before.is_empty() {
        fs::write(folder.path().join("images.gz.part"), before).expect("writable");
    }
    let options = FetchOptions { silence, ..from(&[&server]) };
    assert_eq!(get(&set, folder.path(), &options).expect("it comes"), Fetched::Now);
    assert_eq!(fs::read(folder.path().join(NAME)).expect("there"), file);
    assert_eq!(names(folder.path()), [NAME], "nothing else is left");
    server
}

const PATIENT: Duration = Duration::from_secs(60);

#[test]
fn a_good_server_is_asked_once_and_what_is_there_is_not_fetched_again() {
    assert_eq!(comes_whole(&[], &[], PATIENT), [0]);
    let (set, file) = gzipped_set();
    let server = WebServer::start(&[(NAME, file)], &[]);
    let folder = tempdir().expect("a folder");
    let folder = folder.path().join("new/folder");
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it comes"), Fetched::Now);
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it is there"), Fetched::Already);
    assert_eq!(server.starts(), [0]);
    // A file that was damaged since is fetched again.
    fs::write(folder.join(NAME), "damaged").expect("writable");
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it comes"), Fetched::Now);
    assert_eq!(server.starts(), [0, 0]);
}

#[test]
fn a_file_that_breaks_off_is_gone_on_with() {
    assert_eq!(comes_whole(&[Truncates(100_000), Truncates(50_000)], &[], PATIENT), [0, 100_000, 150_000]);
    // A server that cannot begin in the middle begins again.
    let behaviours = [IgnoresRangeAndTruncates(100_000), IgnoresRangeAndTruncates(200_000)];
    assert_eq!(comes_whole(&behaviours, &[], PATIENT), [0, 100_000, 200_000]);
}

#[test]
fn a_server_that_hangs_up_is_asked_again_if_it_has_answered_before() {
    let starts = comes_whole(&[Truncates(100_000), HangsUp, HangsUp], &[], PATIENT);
    assert_eq!(starts, [0, 100_000, 100_000, 100_000]);
    let (set, file) = gzipped_set();
    let server = WebServer::start(&[(NAME, file.clone())], &vec![HangsUp; 50]);
    refused(&set, &server, &[]);
    assert_eq!(server.starts(), [0]);
    let server = WebServer::start(&[(NAME, file)], &[&[Truncates(0)][..], &vec![HangsUp; 50]].concat());
    refused(&set, &server, &[]);
    assert_eq!(server.starts(), [0; 3], "three attempts that bring nothing");
}

#[test]
fn a_server_that_stalls_is_given_up_and_asked_again() {
    let server = from_server(&[Stalls(100_000)], &[], Duration::from_secs(2));
    let starts = server.starts();
    assert_eq!(starts[0], 0);
    assert!(starts.len() > 1 && starts[1] > 0, "what came before the silence is kept: {starts:?}");
    // The connection does not stay as long as this process.
    server.wait_for_closed();
}

#[test]
fn redirections_are_followed_and_an_endless_one_is_not() {
    let (set, file) = gzipped_set();
    let target = WebServer::start(&[(NAME, file.clone())], &[]);
    let place = format!("{}/{NAME}", target.address);
    let server = WebServer::start(&[], &[Redirects(place.clone()), Redirects(place)]);
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("images.gz.part"), &file[..1000]).expect("writable");
    get(&set, folder.path(), &from(&[&server])).expect("it comes");
    assert_eq!(fs::read(folder.path().join(NAME)).expect("there"), file);
    assert_eq!((server.starts(), target.starts()), (vec![1000], vec![1000]), "the part asked for goes along");

    let circle = vec![Redirects(format!("/{NAME}")); 50];
    refused(&set, &WebServer::start(&[], &circle), &["redirect"]);
}

#[test]
fn an_unfinished_file_of_an_earlier_run_is_gone_on_with_or_thrown_away() {
    let (_, file) = gzipped_set();
    assert_eq!(comes_whole(&[], &file[..1234], PATIENT), [1234]);
    assert_eq!(comes_whole(&[], &file, PATIENT), [0; 0], "only its name was missing");
    assert_eq!(comes_whole(&[], &vec![0; file.len() + 1], PATIENT), [0], "longer than the file");
    // The digest tells at the end that the beginning was of something else.
    assert_eq!(comes_whole(&[], b"something else", PATIENT), [14, 0]);
    assert_eq!(comes_whole(&[Status(416)], &file[..1234], PATIENT), [1234, 0]);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_without_the_file_is_not() {
    assert_eq!(comes_whole(&[Status(503), Status(429)], &[], PATIENT), [0, 0, 0]);
    let (set, file) = gzipped_set();
    let busy = WebServer::start(&[(NAME, file.clone())], &vec![Status(503); 50]);
    refused(&set, &busy, &["status 503"]);
    assert_eq!(busy.starts(), [0; 3]);
    let (without, with) = (WebServer::start(&[], &[]), WebServer::start(&[(NAME, file)], &[]));
    let folder = tempdir().expect("a folder");
    get(&set, folder.path(), &from(&[&without, &with])).expect("the second has it");
    assert_eq!((without.starts(), with.starts()), (vec![0], vec![0]));
}

/// The file must not come from `server`, with a message that has all of `parts`, and nothing of it may be left.
#[track_caller]
fn refused(set: &KnownSet, server: &WebServer, parts: &[&str]) {
    let folder = tempdir().expect("a folder");
    let folder = folder.path().join("cache");
    let error = get(set, &folder, &from(&[server])).expect_err("it does not come").to_string();
    for part in parts.iter().chain(&["cannot fetch images.gz", server.address.as_str(), "--mirror", "dataset-test"]) {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.contains('\n') && !folder.exists(), "{error}");
}

#[test]
fn a_wrong_file_never_takes_its_place() {
    let (set, file) = gzipped_set();
    refused(&set, &WebServer::start(&[(NAME, file.clone())], &[Corrupts]), &["SHA-256", set.remote[0].sha256]);
    refused(&set, &WebServer::start(&[(NAME, b"<html>Log in</html>".to_vec())], &[]), &["has 19 bytes there"]);
    refused(&set, &WebServer::start(&[(NAME, file)], &[SendsTooMuch]), &["more than", "bytes"]);
    refused(&set, &WebServer::start(&[], &[]), &["status 404"]);
}

#[test]
fn what_came_from_a_server_that_always_breaks_off_is_kept() {
    let (set, file) = gzipped_set();
    let behaviours = [&[Truncates(5000)][..], &vec![Truncates(0); 50]].concat();
    let server = WebServer::start(&[(NAME, file.clone())], &behaviours);
    let folder = tempdir().expect("a folder");
    let error = get(&set, folder.path(), &from(&[&server])).expect_err("it does not come").to_string();
    assert!(error.contains("breaks off after 5000 of"), "{error}");
    assert_eq!(server.starts(), [0, 5000, 5000, 5000], "three attempts without anything new are enough");
    assert_eq!(names(folder.path()), ["images.gz.part"]);
    assert_eq!(fs::read(folder.path().join("images.gz.part")).expect("there"), file[..5000]);
    let wrong_range = WebServer::start(&[(NAME, file)], &[AnswersWithAnotherRange]);
    let error = get(&set, folder.path(), &from(&[&wrong_range])).expect_err("it does not come").to_string();
    assert!(error.contains("answers with byte 5001 for byte 5000"), "{error}");
}

#[test]
fn without_a_server_the_error_comes_at_once_and_says_what_to_do() {
    let (set, _) = gzipped_set();
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let folder = tempdir().expect("a folder");
    let options = FetchOptions { mirrors: vec![address.clone()], ..FetchOptions::default() };
    let error = get(&set, &folder.path().join("cache"), &options).expect_err("nobody there").to_string();
    for part in ["Connection refused", &address, "on Debian: apt-get install dataset-test", "put the file into"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_file_that_another_process_fetches_is_left_alone() {
    let (set, file) = gzipped_set();
    let server = WebServer::start(&[(NAME, file)], &[]);
    let folder = tempdir().expect("a folder");
    let other = fs::File::create(folder.path().join("images.gz.part")).expect("creatable");
    other.lock().expect("lockable");
    let error = get(&set, folder.path(), &from(&[&server])).expect_err("in use");
    assert!(matches!(error, FetchError::InUse { .. }), "{error}");
    assert!(server.requests().is_empty());
}

/// A `tar.gz` of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // Not through set_path, which refuses paths that lead out of the folder.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).expect("memory");
    }
    gzip(&archive.into_inner().expect("memory"))
}

#[test]
fn of_an_archive_the_known_files_are_unpacked_and_nothing_else() {
    let train = content();
    let packed = archive(&[
        ("set/readme.html", b"read me"),
        ("set/train.bin", &train),
        ("../../test.bin", b"test"),
        ("/etc/names.txt", b"names"),
    ]);
    let packing = Packing::Archive(&["names.txt"]);
    let set = known(packing, ("set.tar.gz", &packed), &[("train.bin", &train), ("test.bin", b"test")]);
    let server = WebServer::start(&[("set.tar.gz", packed)], &[Truncates(10_000)]);
    let above = tempdir().expect("a folder");
    let folder = above.path().join("cache/test");
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it comes"), Fetched::Now);
    assert_eq!(names(&folder), ["names.txt", "test.bin", "train.bin"], "the archive is removed");
    assert_eq!(fs::read(folder.join("train.bin")).expect("there"), train);
    assert_eq!(names(above.path()), ["cache"]);
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it is there"), Fetched::Already);
    assert_eq!(server.starts(), [0, 10_000]);
    // One file less: the archive is fetched again.
    fs::remove_file(folder.join("names.txt")).expect("removable");
    assert_eq!(get(&set, &folder, &from(&[&server])).expect("it comes"), Fetched::Now);
}

#[test]
fn an_archive_with_other_files_is_refused() {
    for (files, problem) in [
        (&[("set/train.bin", &b"train"[..])][..], "test.bin is not in there"),
        (&[("set/train.bin", b"trai"), ("set/test.bin", b"test")], "train.bin is no file of the right size"),
    ] {
        let packed = archive(files);
        let set =
            known(Packing::Archive(&[]), ("set.tar.gz", &packed), &[("train.bin", b"train"), ("test.bin", b"test")]);
        let server = WebServer::start(&[("set.tar.gz", packed)], &[]);
        let folder = tempdir().expect("a folder");
        let error = get(&set, folder.path(), &from(&[&server])).expect_err("it does not fit").to_string();
        assert!(error.contains(problem), "{error}");
    }
}
