//! What can go wrong around a run (docs/reliability.md): each case ends with one clear line and keeps what was good.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::resume::{assert_same, killed_behind_a_checkpoint, last_checkpoint};
use super::{TINY_SEARCH, contains, darts, failure, lines, run, success};

/// A run that can be gone on with, and how it ends.
struct Broken {
    _folder: tempfile::TempDir,
    /// Killed on its way.
    out: PathBuf,
    /// The same one, never killed.
    unbroken: PathBuf,
}

impl Broken {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [out, unbroken] = ["broken", "unbroken"].map(|name| folder.path().join(name));
        let arguments = [&TINY_SEARCH[..], &["--epochs", "20"]].concat();
        success(darts(&arguments).args(["--json", "--out"]).arg(&unbroken));
        killed_behind_a_checkpoint(&arguments, &out, 4);
        Self { _folder: folder, out, unbroken }
    }

    /// The command that goes on with it.
    fn resume(&self) -> Command {
        let mut command = darts(&["search", "--json", "--resume"]);
        command.arg(&self.out);
        command
    }

    /// Goes on with it to its end, and checks that nothing came of the fault. Returns what is said on stderr.
    #[track_caller]
    fn ends_well(&self) -> String {
        let output = run(&mut self.resume());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        assert_same(&self.out, &self.unbroken, &["alpha.json", "genotype.txt"]);
        errors
    }
}

/// Changes the file `path`.
fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("readable");
    change(&mut bytes);
    fs::write(path, bytes).expect("writable");
}

#[test]
fn a_cut_off_or_flipped_checkpoint_gives_way_to_the_one_before() {
    let changes: [fn(&mut Vec<u8>); 2] =
        [|bytes| bytes.truncate(bytes.len() / 2), |bytes| *bytes.last_mut().expect("not empty") ^= 1];
    for change in changes {
        let broken = Broken::new();
        let (last, _) = last_checkpoint(&broken.out);
        damage(&last, change);
        let name = last.file_name().expect("it has a name").to_string_lossy().into_owned();
        contains(&broken.ends_well(), &["warning: ", &name, "left out"]);
        assert!(!last.exists(), "the damaged one went when the run went on");
    }
}

#[test]
fn a_run_without_a_whole_checkpoint_is_not_begun_anew_by_itself() {
    let broken = Broken::new();
    for entry in fs::read_dir(broken.out.join("checkpoints")).expect("readable") {
        damage(&entry.expect("readable").path(), |bytes| bytes[0] ^= 1);
    }
    let output = run(&mut broken.resume());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(super::FAILURE));
    contains(errors.lines().last().expect("it says why"), &["error: no checkpoint", "is whole", "start a new run"]);
    assert!(broken.out.join("metrics.jsonl").exists());
}

#[test]
fn a_log_that_was_changed_is_refused_and_stays() {
    let broken = Broken::new();
    let metrics = broken.out.join("metrics.jsonl");
    let before = fs::read(&metrics).expect("readable");
    damage(&metrics, |bytes| bytes.truncate(10));
    contains(&failure(&mut broken.resume()), &["metrics.jsonl", "10 bytes of the", "put it back"]);
    assert_eq!(fs::read(&metrics).expect("readable").len(), 10);
    damage(&metrics, |bytes| *bytes = [b"x", &before[1..]].concat());
    contains(&failure(&mut broken.resume()), &["metrics.jsonl", "line 1 is no record"]);
    fs::write(&metrics, before).expect("writable");
    assert_eq!(broken.ends_well(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_which_can_be_gone_on_with() {
    use std::os::unix::fs::symlink;
    let broken = Broken::new();
    let genotype = broken.out.join("genotype.txt");
    fs::remove_file(&genotype).expect("it is there");
    symlink("/dev/full", &genotype).expect("it can be linked");
    let error = failure(&mut broken.resume());
    contains(&error, &["cannot write", "genotype.txt", "No space left on device", "go on with darts search --resume"]);
    fs::remove_file(&genotype).expect("it is there");
    assert_eq!(broken.ends_well(), "");
}

/// `command` under a shell's `limit`.
#[cfg(unix)]
fn limited(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
    shell
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    // What a full disk does to a file that is half written, without one: files end at 2 KiB.
    let limit = "trap '' XFSZ; ulimit -f 4";
    let broken = Broken::new();
    let (last, before) = last_checkpoint(&broken.out);
    damage(&broken.out.join("metrics.jsonl"), |bytes| bytes.truncate(before.header.log_bytes as usize));
    let error = failure(&mut limited(limit, broken.resume().args(["--checkpoint-minutes", "0"])));
    contains(&error, &["cannot write", "checkpoints", "too large", "go on with darts search --resume"]);
    assert_eq!(last_checkpoint(&broken.out), (last, before));
    assert_eq!(broken.ends_well(), "");

    // Before there is anything worth keeping nothing is left.
    let new = broken.out.with_file_name("new");
    let mut command = darts(&TINY_SEARCH);
    command.args(["--checkpoint-minutes", "0", "--json", "--out"]).arg(&new);
    contains(&failure(&mut limited(limit, &command)), &["cannot write", "new", "too large"]);
    assert!(!new.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    // Permissions do not bind who has all capabilities.
    let bound = |command: &Command| {
        let mut bound = Command::new("setpriv");
        bound.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(command.get_program());
        bound.args(command.get_args());
        let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if root { bound } else { limited(":", command) }
    };
    let set = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    let broken = Broken::new();
    let parent = tempfile::tempdir().expect("a folder");
    set(parent.path(), 0o555);
    for name in ["run", "."] {
        let mut command = darts(&TINY_SEARCH);
        command.args(["--json", "--out"]).arg(parent.path().join(name));
        contains(&failure(&mut bound(&command)), &["cannot use the folder", "ermission denied", "--out"]);
    }
    let checkpoints = broken.out.join("checkpoints");
    for (folder, part) in [(&checkpoints, "checkpoints"), (&broken.out, "genotype.txt")] {
        set(folder, 0o555);
        let error = failure(&mut bound(&broken.resume()));
        contains(&error, &["cannot ", part, "ermission denied"]);
        set(folder, 0o755);
    }
    assert_eq!(broken.ends_well(), "");
}

#[test]
fn a_loss_that_explodes_ends_the_run_with_the_last_good_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    // Each step multiplies the weights by about minus four.
    let explosive = ["--weight-decay", "200", "--epochs", "100", "--json", "--out"];
    let error = failure(darts(&TINY_SEARCH).args(explosive).arg(&out));
    let (last, checkpoint) = last_checkpoint(&out);
    let epoch = checkpoint.header.position.epoch;
    contains(&error, &["loss is ", "after step ", "learning rate", "the last good state is", &last.to_string_lossy()]);
    assert!(error.contains(&format!("of epoch {}:", epoch + 1)), "{error}");
    assert_eq!(lines(&out.join("metrics.jsonl")).len(), epoch);
    assert!(epoch > 0);
}

#[cfg(unix)]
#[test]
fn memory_that_a_limit_does_not_allow_is_foreseen() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = darts(&["search", "--threads", "2", "--json", "--out"]);
    command.arg(folder.path().join("run"));
    let error = failure(&mut limited("ulimit -v 1000000", &command));
    contains(&error, &["takes at least", "of memory", "available", "batch"]);
    assert_eq!(fs::read_dir(&folder).expect("readable").count(), 0, "nothing was made");
}

#[cfg(target_os = "linux")]
#[test]
fn a_network_that_the_memory_has_no_room_for_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = ["--channels", "4096", "--layers", "1000", "--limit", "100"];
    for command in [&["train", "--genotype", "DARTS_V2"][..], &["search"]] {
        let error = failure(darts(command).args(size).arg("--json").current_dir(&folder));
        contains(&error, &["memory", "available", "channels"]);
        assert_eq!(fs::read_dir(&folder).expect("readable").count(), 0, "nothing was made");
    }
}
