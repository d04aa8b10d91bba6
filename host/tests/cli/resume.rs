//! Runs that end before their time and are gone on with.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use darts_host::checkpoint::{Checkpoint, latest};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{
    TINY_SEARCH, contains, darts, failure, interrupt_when_there_is, json, measurements, read, run, success, write_idx,
};

/// A training of little work, with everything on that draws or remembers.
const TINY_TRAINING: [&str; 20] = [
    "train",
    "--genotype",
    "DARTS_V2",
    "--limit",
    "40",
    "--batch",
    "9",
    "--epochs",
    "3",
    "--channels",
    "1",
    "--layers",
    "3",
    "--drop-path",
    "0.3",
    "--auxiliary",
    "0.4",
    "--cutout",
    "8",
    "--json",
];

/// The last checkpoint of a run that is whole.
pub fn last_checkpoint(run: &Path) -> (PathBuf, Checkpoint) {
    latest(&run.join("checkpoints"), |path, damage| panic!("{}: {damage}", path.display()))
        .expect("the checkpoints are whole")
        .expect("there is a checkpoint")
}

/// That two runs ended with the same weights, statistics, optimizers, files and log.
#[track_caller]
pub fn assert_same(run: &Path, unbroken: &Path, files: &[&str]) {
    assert_eq!(measurements(run), measurements(unbroken));
    for file in files {
        assert!(fs::read(run.join(file)).expect(file) == fs::read(unbroken.join(file)).expect(file), "{file}");
    }
    let (mut checkpoint, expected) = (last_checkpoint(run).1, last_checkpoint(unbroken).1);
    assert_eq!(checkpoint.header.position.epoch, expected.header.position.epoch);
    // The time in the records, and with it the length of the log, is another.
    checkpoint.header = expected.header.clone();
    assert!(checkpoint == expected, "the last checkpoints differ");
}

/// Starts the run `arguments` in `out`, or goes on with it if there is one.
fn start(arguments: &[&str], out: &Path) -> Child {
    let mut command = darts(arguments);
    command.args(["--checkpoint-minutes", "0", "--json"]);
    command.arg(if out.join("config.toml").exists() { "--resume" } else { "--out" }).arg(out);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Kills the run `arguments` `kills` times at random instants, goes on with it each time, and at last lets it end. One
/// kill in four may come before the run has read its data; the others come some steps later.
fn run_with_kills(arguments: &[&str], out: &Path, kills: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut killed, mut went_on) = (0, 0);
    for kill in 0..kills {
        let first = checkpoint_files(out);
        let mut child = start(arguments, out);
        let (changes, longest) = if kill % 4 == 0 { (0, 100_000) } else { (1 + (rng.next_u64() % 5) as usize, 10_000) };
        wait_for_checkpoints(&mut child, out, changes);
        thread::sleep(Duration::from_micros(rng.next_u64() % longest));
        child.kill().expect("it can be killed");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        killed += usize::from(output.status.code().is_none());
        went_on += usize::from(checkpoint_files(out) != first);
    }
    println!("{killed} of {kills} times killed before the end, {went_on} times behind a checkpoint of its own");
    assert!(killed > 0 && went_on > 0);
    let output = start(arguments, out).wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The names of the checkpoints of the run in `out`.
fn checkpoint_files(out: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(out.join("checkpoints")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().starts_with("epoch-"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Starts the run `arguments` in `out` and kills it when its checkpoints have changed `changes` times.
pub fn killed_behind_a_checkpoint(arguments: &[&str], out: &Path, changes: usize) {
    let mut child = start(arguments, out);
    wait_for_checkpoints(&mut child, out, changes);
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
}

/// Waits until the checkpoints in `out` have changed `changes` times, or the run has ended.
fn wait_for_checkpoints(child: &mut Child, out: &Path, changes: usize) {
    let (mut before, mut left) = (checkpoint_files(out), changes);
    while left > 0 && child.try_wait().expect("it can be asked").is_none() {
        let now = checkpoint_files(out);
        left -= usize::from(now != before);
        before = now;
    }
}

/// How often a run is killed; more by hand (docs/reliability.md).
fn kills() -> usize {
    std::env::var("DARTS_TEST_KILLS").map_or(8, |kills| kills.parse().expect("a number"))
}

#[test]
fn a_search_that_is_killed_again_and_again_ends_as_one_that_never_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [unbroken, broken] = ["unbroken", "broken"].map(|name| folder.path().join(name));
    let epochs = (10 + 4 * kills()).to_string();
    let arguments = [&TINY_SEARCH[..], &["--epochs", &epochs]].concat();
    success(darts(&arguments).args(["--json", "--out"]).arg(&unbroken));
    run_with_kills(&arguments, &broken, kills());
    assert_eq!(measurements(&unbroken).len().to_string(), epochs);
    assert_same(&broken, &unbroken, &["alpha.json", "genotype.txt"]);
    // Nothing is left of the files that were being written.
    let files = fs::read_dir(broken.join("checkpoints")).expect("readable");
    assert_eq!(files.count(), 3, "the last two and the best");
}

#[test]
fn a_training_that_is_killed_again_and_again_ends_as_one_that_never_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [unbroken, broken] = ["unbroken", "broken"].map(|name| folder.path().join(name));
    let epochs = (10 + 2 * kills()).to_string();
    let arguments = [&TINY_TRAINING[..], &["--epochs", &epochs]].concat();
    success(darts(&arguments).arg("--out").arg(&unbroken));
    run_with_kills(&arguments, &broken, kills());
    assert_same(&broken, &unbroken, &["weights.safetensors", "genotype.txt"]);
}

#[test]
fn a_finished_run_says_so_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for (command, arguments, file) in
        [("search", &TINY_SEARCH[..], "alpha.json"), ("train", &TINY_TRAINING, "weights.safetensors")]
    {
        let out = folder.path().join(command);
        let report = json(darts(arguments).args(["--json", "--out"]).arg(&out));
        let before = [file, "metrics.jsonl", "config.toml"].map(|file| fs::read(out.join(file)).expect("readable"));
        let output = run(darts(&[command, "--resume"]).arg(&out));
        contains(&String::from_utf8_lossy(&output.stderr), &["is finished", "epochs are done"]);
        let after = [file, "metrics.jsonl", "config.toml"].map(|file| fs::read(out.join(file)).expect("readable"));
        assert!(output.status.success() && before == after);
        let again = json(darts(&[command, "--json", "--resume"]).arg(&out));
        for key in ["genotype", "epochs", "valid_accuracy", "test_accuracy"] {
            assert_eq!(again.get(key), report.get(key), "{key}");
        }
    }
}

#[test]
fn a_run_is_not_gone_on_with_as_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, data) = (folder.path().join("run"), folder.path().join("data"));
    write_idx(&data, 8, 40);
    let mut begin = darts(&TINY_SEARCH);
    success(begin.args(["--preset", "quick", "--json", "--out"]).arg(&out).arg("--data").arg(&data));
    let resume = |more: &[&str]| {
        let mut command = darts(&["search", "--json"]);
        command.args(more).arg("--resume").arg(&out);
        command
    };
    // What says the same is no change; the folder of the data may be another.
    let same = ["--epochs", "2", "--batch", "10", "--limit", "40", "--channels", "1", "--layers", "1", "--nodes", "1"];
    success(resume(&same).args(["--multiplier", "1", "--preset", "quick"]));
    let moved = folder.path().join("moved");
    write_idx(&moved, 8, 40);
    success(resume(&[]).arg("--data").arg(&moved));

    contains(
        &failure(&mut resume(&["--epochs", "4", "--zero-alpha"])),
        &["begun otherwise", "epochs was 2 and is 4", "zero_alpha was false and is true", "--out"],
    );
    contains(
        &failure(&mut resume(&["--preset", "paper"])),
        &["order was first and is second", "channels was 1 and is 16"],
    );
    contains(&failure(&mut resume(&["--limit", "30"])), &["data.limit was 40 and is 30", "data.fingerprint was"]);
    let pixels = data.join("train-images-idx3-ubyte");
    let (mut bytes, config) = (fs::read(&pixels).expect("readable"), read(&out.join("config.toml")));
    bytes[100] ^= 1;
    fs::write(&pixels, bytes).expect("writable");
    contains(&failure(&mut resume(&[])), &["data.fingerprint was"]);

    // The file says otherwise than the checkpoint.
    fs::write(out.join("config.toml"), config.replace("momentum = 0.9", "momentum = 0.8")).expect("writable");
    contains(&failure(resume(&[]).arg("--data").arg(&moved)), &["momentum was 0.9 and is 0.8"]);
    fs::write(out.join("config.toml"), config.replace("momentum = 0.9", "momentum 0.9")).expect("writable");
    contains(&failure(&mut resume(&[])), &["config.toml line "]);
    fs::remove_file(out.join("config.toml")).expect("it is there");
    contains(&failure(&mut resume(&[])), &["cannot go on", "folder of a run"]);
}

#[cfg(unix)]
#[test]
fn a_pipeline_that_was_stopped_ends_as_one_that_never_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [unbroken, broken] = ["unbroken", "broken"].map(|name| folder.path().join(name));
    let pipeline = |out: &Path| {
        let mut command =
            darts(&["run", "--limit", "130", "--search-epochs", "3", "--train-epochs", "4", "--json", "--out"]);
        command.arg(out);
        command
    };
    let resume = || {
        let mut command = darts(&["run", "--json", "--resume"]);
        command.arg(&broken);
        command
    };
    let expected = json(&mut pipeline(&unbroken));
    interrupt_when_there_is(&broken.join("search/metrics.jsonl"), &mut pipeline(&broken));
    interrupt_when_there_is(&broken.join("train/metrics.jsonl"), &mut resume());
    contains(&failure(resume().args(["--train-epochs", "5"])), &["train.epochs was 4 and is 5"]);
    let report = json(&mut resume());
    for key in ["genotype", "accuracy", "model_bytes"] {
        assert_eq!(report[key], expected[key], "{key}");
    }
    assert_same(&broken.join("search"), &unbroken.join("search"), &["alpha.json", "genotype.txt"]);
    assert_same(&broken.join("train"), &unbroken.join("train"), &["weights.safetensors"]);
    let model = |out: &Path| fs::read(out.join("model.darts")).expect("readable");
    assert!(model(&broken) == model(&unbroken));
}

#[test]
fn a_run_of_another_command_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    success(darts(&TINY_SEARCH).args(["--json", "--out"]).arg(&out));
    contains(&failure(darts(&["train", "--json", "--resume"]).arg(&out)), &["darts search --resume"]);
}

#[test]
fn two_processes_in_one_folder_are_one_too_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let mut first = start(&[&TINY_SEARCH[..], &["--epochs", "100000"]].concat(), &out);
    while checkpoint_files(&out).is_empty() {
        assert!(first.try_wait().expect("it can be asked").is_none(), "it ended too early");
        thread::yield_now();
    }
    let number = first.id().to_string();
    contains(&failure(darts(&["search", "--resume"]).arg(&out)), &["in use", &number]);
    contains(&failure(darts(&TINY_SEARCH).args(["--json", "--out"]).arg(&out)), &["in use", &number, "--out"]);
    first.kill().expect("it can be killed");
    first.wait().expect("it ends");
    // Its lock went with it: what is wrong now is something else.
    contains(&failure(darts(&["search", "--json", "--epochs", "3", "--resume"]).arg(&out)), &["epochs was 100000"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_a_training_writes_a_checkpoint_of_that_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let mut command = darts(&[&TINY_TRAINING[..], &["--epochs", "100000", "--out"]].concat());
    interrupt_when_there_is(&out.join("metrics.jsonl"), command.arg(&out));
    let network = darts_host::weights::TrainedNetwork::load(&out).expect("the weights can be read");
    let (_, checkpoint) = last_checkpoint(&out);
    let mut weights = vec![0.0; network.weights.len()];
    let values = &mut [darts_host::state::Values::f32("weights", &mut weights)];
    checkpoint.restore(values).expect("it has weights");
    assert_eq!(weights, network.weights);
    assert_eq!(measurements(&out).len(), checkpoint.header.position.epoch);
}

#[test]
fn wrong_usage_of_resume() {
    for arguments in
        [&["--resume", "a", "--out", "b"][..], &["--keep-checkpoints", "0"], &["--checkpoint-minutes", "-1"]]
    {
        let mut command: Command = darts(&["search"]);
        assert_eq!(run(command.args(arguments)).status.code(), Some(super::USAGE), "{arguments:?}");
    }
}
