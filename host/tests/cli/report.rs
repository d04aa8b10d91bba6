//! What a run leaves for people to look at: the report, genotypes, events; `darts report`, `darts runs` and
//! `darts compare`.

use std::fs;
use std::path::Path;

use crc::{CRC_32_ISCSI, Crc};

use super::{TINY_SEARCH, contains, darts, failure, json, read, success};

/// A run of two epochs.
fn search(out: &Path, arguments: &[&str]) {
    success(darts(&TINY_SEARCH).args(arguments).args(["--json", "--out"]).arg(out));
}

/// The steps of the events in a file, after a check of the frame of each.
fn steps(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).expect("readable");
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    let masked = |bytes: &[u8]| (crc.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes();
    let (mut rest, mut steps) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (length, behind) = rest.split_at(8);
        let (length_crc, behind) = behind.split_at(4);
        assert_eq!(length_crc, masked(length));
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        let (content, behind) = behind.split_at(length);
        let (content_crc, behind) = behind.split_at(4);
        assert_eq!(content_crc, masked(content));
        rest = behind;
        // Field 1, the time, then field 2, the step, which is not there where it is 0.
        assert_eq!(content[0], 0x09);
        steps.push(if content[9] == 0x10 { content[10] } else { 0 });
    }
    steps
}

#[test]
fn a_search_leaves_a_report_a_genotype_an_epoch_and_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    search(&out, &["--epochs", "3"]);
    let report = read(&out.join("report.html"));
    contains(
        &report,
        &["<!DOCTYPE html>", "finished", "id=\"loss\"", "id=\"alpha-normal\"", "id=\"cell-reduce\"", "batch_size"],
    );
    // Nothing that a browser would load; names of namespaces are no addresses.
    let addresses = report.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for part in ["http:", "https:", "<script", "<link rel=\"stylesheet\"", "NaN"] {
        assert!(!addresses.contains(part), "{part} in the report");
    }
    for epoch in 1..=3 {
        let genotype = read(&out.join(format!("genotypes/epoch-000{epoch}.txt")));
        assert!(genotype.starts_with("Genotype("), "{genotype}");
    }
    assert_eq!(read(&out.join("genotypes/epoch-0003.txt")), read(&out.join("genotype.txt")));
    let events = out.join("events.out.tfevents.darts");
    assert_eq!(steps(&events), [0, 1, 2, 3]);

    // As if it had been killed in its last epoch, behind the events of that.
    let checkpoints = out.join("checkpoints");
    for entry in fs::read_dir(&checkpoints).expect("readable") {
        let path = entry.expect("readable").path();
        if !path.ends_with("epoch-0002-step-000000.safetensors") {
            fs::remove_file(path).expect("removable");
        }
    }
    success(darts(&["search", "--json", "--resume"]).arg(&out));
    assert_eq!(steps(&events), [0, 1, 2, 3]);
    contains(&read(&out.join("report.html")), &["finished"]);
}

#[test]
fn a_training_has_a_report_without_alpha() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let size =
        ["--limit", "40", "--batch", "10", "--epochs", "1", "--channels", "1", "--layers", "1", "--json", "--out"];
    success(darts(&["train", "--preset", "quick", "--genotype", "DARTS_V1"]).args(size).arg(&out));
    let report = read(&out.join("report.html"));
    contains(&report, &["id=\"accuracy\"", "id=\"learning-rate\"", "id=\"cell-normal\""]);
    assert!(!report.contains("id=\"alpha-normal\"") && !report.contains("id=\"entropy\""));
    assert_eq!(steps(&out.join("events.out.tfevents.darts")), [0, 1]);
}

#[test]
fn a_report_can_be_made_of_a_run_of_an_older_version_that_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    search(&out, &[]);
    fs::remove_file(out.join("report.html")).expect("it is there");
    let old = "{\"epoch\":0,\"learning_rate\":0.025,\"train_loss\":0.5,\"eigenvalue\":0.25}\n{\"epoch\":1,\"train_loss\":0.25}\n{\"epo";
    fs::write(out.join("metrics.jsonl"), old).expect("writable");
    fs::remove_file(out.join("genotype.txt")).expect("it is there");
    let figures = folder.path().join("figures");
    let report = json(darts(&["report", "--json"]).arg(&out).arg("--figures").arg(&figures));
    assert_eq!(report["report"], out.join("report.html").to_string_lossy().as_ref());
    contains(&read(&out.join("report.html")), &["id=\"loss\"", "id=\"lambda-max\"", "finished"]);
    let mut names: Vec<_> =
        fs::read_dir(&figures).expect("readable").map(|entry| entry.expect("readable").file_name()).collect();
    names.sort();
    assert_eq!(names, ["lambda-max.svg", "learning-rate.svg", "loss.svg"]);
    assert_eq!(report["figures"], 3);

    // Before the first epoch is over.
    fs::remove_file(out.join("metrics.jsonl")).expect("it is there");
    success(darts(&["report"]).arg(&out));
    contains(&read(&out.join("report.html")), &["interrupted", "No epoch is complete yet"]);
    contains(&failure(darts(&["report"]).arg(&figures)), &["config.toml", "give the folder of a run"]);
}

#[test]
fn runs_are_listed_with_what_they_came_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join("runs");
    search(&runs.join("a/search"), &[]);
    search(&runs.join("b"), &["--seed", "7"]);
    // Cut off in its second epoch.
    let metrics = runs.join("b/metrics.jsonl");
    let first = read(&metrics).lines().next().map(|line| format!("{line}\n")).expect("an epoch");
    fs::write(&metrics, first).expect("writable");
    fs::create_dir(runs.join("other")).expect("writable");
    fs::write(runs.join("other/config.toml"), "name = \"something else\"").expect("writable");

    let report = json(darts(&["runs", "--json"]).arg(&runs));
    let rows = report["runs"].as_array().expect("a list");
    assert_eq!(rows.len(), 2, "{report}");
    let row = |end: &str| rows.iter().find(|row| row["path"].as_str().is_some_and(|path| path.ends_with(end)));
    let (a, b) = (row("search").expect("it is listed"), row("b").expect("it is listed"));
    assert_eq!((&a["state"], &a["epochs"], &a["command"]), (&"finished".into(), &2.into(), &"search".into()));
    assert_eq!((&b["state"], &b["epochs"], &b["planned_epochs"]), (&"interrupted".into(), &1.into(), &2.into()));
    assert!(a["bytes"].as_u64() > Some(1000) && a["valid_accuracy"].is_number() && a["skips_normal"].is_number());

    let text = success(darts(&["runs"]).current_dir(folder.path()));
    contains(&text, &["a/search", "finished", "2/2", "interrupted", "1/2", "ago"]);
    contains(&failure(darts(&["runs"]).arg(folder.path().join("none"))), &["none", "list the folder"]);
    contains(&success(darts(&["runs"]).arg(runs.join("other"))), &["no runs below"]);
}

#[test]
fn a_search_whose_cells_are_not_selected_yet_is_not_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    search(&out, &["--select", "perturbation"]);
    let state = || json(darts(&["runs", "--json"]).arg(folder.path()))["runs"][0]["state"].clone();
    assert_eq!(state(), "finished");
    // As a process leaves it that ends between the last epoch and the selection.
    let alpha = out.join("alpha.json");
    let (text, stopped) = (read(&alpha), read(&alpha).replace("\"finished\": true", "\"finished\": false"));
    assert_ne!(text, stopped);
    fs::write(&alpha, stopped).expect("writable");
    assert_eq!(state(), "interrupted");
    fs::remove_file(&alpha).expect("it is there");
    assert_eq!(state(), "interrupted");
    success(darts(&["search", "--json", "--resume"]).arg(&out));
    assert_eq!((state(), read(&alpha)), ("finished".into(), text));
}

#[test]
fn runs_are_set_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    search(&a, &[]);
    search(&b, &["--seed", "7", "--epochs", "1", "--nodes", "2"]);
    let report = json(darts(&["compare", "--json"]).args([&a, &b]));
    let names = |key: &str| -> Vec<String> {
        let entries = report[key].as_array().expect("a list");
        entries.iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("settings"), ["epochs", "nodes", "seed"]);
    assert_eq!(report["settings"][2]["values"], serde_json::json!(["2", "7"]));
    assert!(names("metrics").contains(&"valid_accuracy".to_owned()));
    assert_eq!(report["metrics"][0]["values"], serde_json::json!([2.0, 1.0]));
    let nodes = report["genotypes"].as_array().expect("a list");
    let second = nodes.iter().find(|node| node["cell"] == "normal" && node["node"] == 1).expect("only one has it");
    assert_eq!(second["values"][0], serde_json::json!([]));
    assert_eq!(second["values"][1].as_array().map(Vec::len), Some(2));
    contains(&success(darts(&["compare"]).args([&a, &b])), &["seed", "valid accuracy", "normal 1", "of c_{k-2}"]);
    contains(&success(darts(&["compare"]).args([&a, &a])), &["settings are the same", "genotypes are the same"]);
    contains(&failure(darts(&["compare"]).args([&a, folder.path()])), &["config.toml"]);
}
