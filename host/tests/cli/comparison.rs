//! Several searches, random cells, and what is said of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use darts_core::Genotype;
use serde_json::Value;

use super::{USAGE, contains, darts, failure, interrupt_when_there_is, json, lines, read, run, success};

/// Options of little work for every training.
const TRAINING: [&str; 5] = [
    "--limit",
    "60",
    "--train-options",
    "--batch 10 --channels 1 --layers 1 --validation 20 --auxiliary 0 --drop-path 0",
    "--json",
];

/// The same for searches.
const SEARCHES: [&str; 4] = [
    "--search-epochs",
    "1",
    "--search-options",
    "--batch 10 --channels 1 --layers 1 --nodes 1 --multiplier 1 --order first",
];

fn seeds(out: &Path, more: &[&str]) -> Command {
    let mut command = darts(&["seeds"]);
    command.args(TRAINING).args(SEARCHES).args(more).arg("--out").arg(out);
    command
}

fn random(out: &Path, more: &[&str]) -> Command {
    let mut command = darts(&["random"]);
    command.args(TRAINING).args(more).arg("--out").arg(out);
    command
}

fn cells<'a>(summary: &'a Value, origin: &str) -> Vec<&'a Value> {
    let cells = summary["cells"].as_array().expect("a list");
    cells.iter().filter(|cell| cell["origin"] == origin).collect()
}

fn numbers(cells: &[&Value], key: &str) -> Vec<f64> {
    cells.iter().map(|cell| cell[key].as_f64().unwrap_or_else(|| panic!("{key} of {cell}"))).collect()
}

fn close(value: &Value, expected: f64) {
    let value = value.as_f64().expect("a number");
    assert!((value - expected).abs() < 1e-12, "{value} and {expected}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean(values)).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

fn check_group(group: &Value, cells: &[&Value]) {
    for key in ["valid_accuracy", "test_accuracy"] {
        let values = numbers(cells, key);
        assert_eq!(group[key]["count"], cells.len());
        close(&group[key]["mean"], mean(&values));
        close(&group[key]["deviation"], deviation(&values));
        close(&group[key]["standard_error"], deviation(&values) / (values.len() as f64).sqrt());
    }
}

/// The summary without times and folders.
fn timeless(mut summary: Value) -> Value {
    for key in ["cells", "finals"] {
        for cell in summary[key].as_array_mut().expect("a list") {
            let cell = cell.as_object_mut().expect("an object");
            ["search_seconds", "train_seconds", "out"].iter().for_each(|key| drop(cell.remove(*key).expect(key)));
        }
    }
    summary.as_object_mut().expect("an object").remove("out");
    summary
}

fn accuracy(run: &Path) -> Value {
    lines(&run.join("metrics.jsonl")).last().expect("there are epochs")["valid_accuracy"].clone()
}

#[test]
fn searches_and_random_cells_are_trained_alike_and_told_with_mean_and_deviation() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("seeds");
    let options = ["--seeds", "2", "--random", "2", "--short-epochs", "2", "--final-epochs", "1", "--seed", "3"];
    let summary = json(seeds(&out, &options).args(["--jobs", "2"]));
    let (searched, random) = (cells(&summary, "searched"), cells(&summary, "random"));
    assert_eq!((searched.len(), random.len()), (2, 2));
    for cell in searched.iter().chain(&random) {
        let train = out.join(cell["name"].as_str().expect("a name")).join("train");
        assert_eq!(accuracy(&train), cell["valid_accuracy"]);
        assert_eq!(read(&train.join("genotype.txt")).trim(), cell["genotype"]);
        let config: toml::Table = read(&train.join("config.toml")).parse().expect("TOML");
        let expected = [("epochs", 2), ("seed", 0), ("held_out", 20), ("layers", 1), ("channels", 1)];
        expected.iter().for_each(|&(key, value)| assert_eq!(config["settings"][key], value.into(), "{key}"));
        // What `darts train` itself measures on the test set.
        let report = json(darts(&["train", "--json", "--resume"]).arg(&train));
        assert_eq!(report["test_accuracy"], cell["test_accuracy"]);
    }
    for (seed, cell) in [(3, searched[0]), (4, searched[1])] {
        let search = out.join(format!("seed-{seed}/search"));
        let config: toml::Table = read(&search.join("config.toml")).parse().expect("TOML");
        assert_eq!(config["settings"]["seed"], seed.into());
        assert_eq!(read(&search.join("genotype.txt")).trim(), cell["genotype"]);
    }
    check_group(&summary["searched"], &searched);
    check_group(&summary["random"], &random);

    let chosen = searched.iter().find(|cell| cell["name"] == summary["chosen"]).expect("it is one of them");
    let valid = numbers(&searched, "valid_accuracy");
    assert!(valid.iter().all(|&accuracy| chosen["valid_accuracy"].as_f64() >= Some(accuracy)));
    for key in ["valid_accuracy", "test_accuracy"] {
        let against = &summary["against_random"];
        let (own, others) = (chosen[key].as_f64().expect("a number"), numbers(&random, key));
        close(&against[key]["difference"], own - mean(&others));
        close(&against[key]["standard_error"], deviation(&others) / 2.0_f64.sqrt());
        close(&against[format!("mean_{key}")]["difference"], mean(&numbers(&searched, key)) - mean(&others));
    }
    let finals = summary["finals"].as_array().expect("a list");
    assert_eq!(finals.len(), 2);
    assert_eq!(finals[0]["name"], format!("{}/final", summary["chosen"].as_str().expect("a name")));
    assert!(finals.iter().all(|last| last["test_accuracy"].is_number() && last["epochs"] == 1));

    let file: Value = serde_json::from_str(&read(&out.join("summary.json"))).expect("JSON");
    assert_eq!(file, summary);
    // It is listed beside its runs, and is none that a report could be made of.
    let listed = json(darts(&["runs", "--json"]).arg(folder.path()));
    let listed = listed["runs"].as_array().expect("a list");
    let whole = listed.iter().find(|run| run["command"] == "seeds").expect("it is listed");
    assert_eq!((&whole["state"], &whole["planned_epochs"]), (&"finished".into(), &Value::Null));
    // Two searches, a training of each of the four cells, and those of the two that were chosen.
    assert_eq!(listed.len(), 1 + 2 + 4 + 2);
    assert!(listed.iter().all(|run| run["state"] == "finished"), "{listed:?}");
    contains(&failure(darts(&["report"]).arg(&out)), &["is of darts seeds", "give one of those"]);
    contains(&failure(darts(&["compare"]).args([&out, &out])), &["is of darts seeds"]);
    // A table of the same, without any more work.
    let table = success(darts(&["seeds", "--resume"]).arg(&out));
    contains(&table, &["seed-3", "random-2", "searched, test", "less the mean of random", "±", "Genotype(normal="]);

    // The comparison with the chosen one's training has the same settings without being told.
    let again = folder.path().join("random");
    let mut command = darts(&["random", "--cells", "2", "--seed", "3", "--json", "--against"]);
    let against = json(command.arg(&out).arg("--out").arg(&again));
    assert_eq!(cells(&against, "searched")[0]["test_accuracy"], chosen["test_accuracy"]);
    for (one, other) in cells(&against, "random").iter().zip(&random) {
        assert_eq!((&one["genotype"], &one["test_accuracy"]), (&other["genotype"], &other["test_accuracy"]));
    }
}

#[test]
fn without_random_cells_only_the_chosen_one_sees_the_test_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let summary = json(&mut seeds(&folder.path().join("seeds"), &["--seeds", "2", "--short-epochs", "1"]));
    for cell in cells(&summary, "searched") {
        assert_eq!(cell["test_accuracy"].is_number(), cell["name"] == summary["chosen"], "{cell}");
    }
    assert!(summary["searched"]["test_accuracy"].is_null() && summary["against_random"].is_null());
}

/// A comparison of one search with these options, whose cells are not those of its last epoch; its search directory.
fn with_search_options(out: &Path, epochs: &str, options: &str) -> PathBuf {
    let mut command = darts(&["seeds", "--seeds", "1", "--short-epochs", "1", "--search-epochs", epochs]);
    let search = format!("--batch 10 --channels 1 --layers 1 --nodes 2 --multiplier 1 --order first {options}");
    let summary = json(command.args(TRAINING).args(["--search-options", &search, "--out"]).arg(out));
    let search = out.join("seed-1/search");
    let (genotype, last) = (read(&search.join("genotype.txt")), lines(&search.join("metrics.jsonl")));
    assert_eq!(cells(&summary, "searched")[0]["genotype"], genotype.trim());
    assert_ne!(last.last().expect("there are epochs")["genotype"], genotype.trim());
    search
}

#[test]
fn the_cells_of_a_selection_are_trained_and_not_those_of_the_last_alpha() {
    let folder = tempfile::tempdir().expect("a folder");
    with_search_options(&folder.path().join("seeds"), "1", "--select perturbation");
}

#[test]
fn a_search_that_stops_early_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("seeds");
    // At a factor of 0 it stops behind the seventeenth epoch and goes back to the eleventh; α learns fast, so that
    // cells differ.
    let search = with_search_options(&out, "19", "--space s2 --arch-learning-rate 0.3 --stop-eigenvalue 0");
    assert_eq!(lines(&search.join("metrics.jsonl")).len(), 17);
    let resumed = run(darts(&["search", "--resume"]).arg(&search));
    contains(&String::from_utf8_lossy(&resumed.stderr), &["is finished: it stopped behind epoch 17 of 19"]);
}

#[test]
fn random_cells_are_valid_different_and_a_function_of_the_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    let genotypes = |name: &str, seed: &str| {
        let out = folder.path().join(name);
        success(&mut random(&out, &["--cells", "5", "--seed", seed, "--prepare"]));
        let config = |number| out.join(format!("random-{number}/train/config.toml"));
        let genotype = |number| {
            let config: toml::Table = read(&config(number)).parse().expect("TOML");
            Genotype::parse(config["genotype"].as_str().expect("a text")).expect("a genotype")
        };
        (1..=5).map(genotype).collect::<Vec<_>>()
    };
    let drawn = genotypes("one", "1");
    assert_eq!(drawn, genotypes("again", "1"));
    let others = genotypes("other", "2");
    for (index, genotype) in drawn.iter().enumerate() {
        assert!(!drawn[..index].contains(genotype) && !others.contains(genotype));
    }
}

/// Cells of one node.
const CELLS: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], \
                     reduce=[('sep_conv_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])";

#[test]
fn a_tolerance_of_parameters_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--cells", "3", "--short-epochs", "1", "--against", CELLS, "--params-within", "20%"];
    let summary = json(&mut random(&folder.path().join("random"), &options));
    let parameters = cells(&summary, "searched")[0]["parameters"].as_f64().expect("a number");
    for other in numbers(&cells(&summary, "random"), "parameters") {
        assert!((other / parameters - 1.0).abs() <= 0.2, "{other} and {parameters}");
    }
    assert_eq!(summary["against_random"]["test_accuracy"]["of"], 3);
}

#[cfg(unix)]
#[test]
fn an_interrupted_comparison_goes_on_to_the_same_summary() {
    let folder = tempfile::tempdir().expect("a folder");
    let [unbroken, broken] = ["unbroken", "broken"].map(|name| folder.path().join(name));
    let options = ["--seeds", "2", "--random", "2", "--short-epochs", "40"];
    let expected = timeless(json(&mut seeds(&unbroken, &options)));
    interrupt_when_there_is(&broken.join("seed-2/train/metrics.jsonl"), seeds(&broken, &options).args(["--jobs", "1"]));
    assert!(!broken.join("summary.json").exists());
    // What was stopped was stopped with its state saved, and nobody holds its folder any more.
    let (_, checkpoint) = super::resume::last_checkpoint(&broken.join("seed-2/train"));
    assert!(checkpoint.header.position.epoch < 40);
    let finished = fs::read(broken.join("seed-1/train/metrics.jsonl")).expect("readable");
    let summary = json(darts(&["seeds", "--json", "--resume"]).arg(&broken));
    assert_eq!(timeless(summary), expected);
    assert_eq!(fs::read(broken.join("seed-1/train/metrics.jsonl")).expect("readable"), finished);
}

#[test]
fn runs_that_are_laid_out_are_those_of_ordinary_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, apart] = ["whole", "apart"].map(|name| folder.path().join(name));
    let options = ["--seeds", "1", "--random", "1", "--short-epochs", "1"];
    let expected = timeless(json(&mut seeds(&whole, &options)));
    let prepared = json(seeds(&apart, &options).arg("--prepare"));
    let runs: Vec<PathBuf> =
        prepared["runs"].as_array().expect("a list").iter().map(|run| run.as_str().expect("a path").into()).collect();
    assert_eq!(runs, ["seed-1/search", "seed-1/train", "random-1/train"].map(|run| apart.join(run)));
    contains(&failure(darts(&["train", "--resume"]).arg(&runs[1])), &["cells", "not known yet", "--genotype"]);
    success(darts(&["search", "--json", "--resume"]).arg(&runs[0]));
    success(darts(&["train", "--json", "--no-test", "--resume"]).arg(&runs[1]).arg("--genotype").arg(&runs[0]));
    let report = json(darts(&["train", "--json", "--no-test", "--resume"]).arg(&runs[2]));
    assert!(report["test_accuracy"].is_null() && report["valid_accuracy"].is_number());
    let logs = runs.iter().map(|run| run.with_extension("log"));
    let summary = json(darts(&["seeds", "--json", "--resume"]).arg(&apart));
    assert!(logs.into_iter().all(|log| !log.exists()), "nothing is left to do");
    assert_eq!(timeless(summary), expected);
}

#[test]
fn a_failure_of_a_run_names_its_folder_and_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("random");
    success(&mut random(&out, &["--cells", "2", "--short-epochs", "1", "--prepare"]));
    // A folder in the way of the weights.
    fs::create_dir(out.join("random-2/train/weights.safetensors")).expect("writable");
    let output = run(darts(&["random", "--json", "--resume"]).arg(&out));
    assert_eq!(output.status.code(), Some(super::FAILURE));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    contains(&errors, &["1 of 2 cells failed", "random-2/train failed", "random-2/train.log", "darts random --resume"]);
    contains(&read(&out.join("random-2/train.log")), &["error: ", "weights.safetensors"]);
    // The other one was not held up.
    assert_eq!(lines(&out.join("random-1/train/metrics.jsonl")).len(), 1);
}

#[test]
fn what_cannot_be_compared_is_told_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let train = ["--train-options", "--validation 0"];
    contains(
        &failure(darts(&["random", "--json"]).args(train).arg("--out").arg(&out)),
        &["--validation 0", "leave it out"],
    );
    contains(&failure(darts(&["random", "--json", "--against", "DARTS_V9"]).arg("--out").arg(&out)), &["DARTS_V9"]);
    assert!(!out.exists());
    for (command, option, text) in [
        ("seeds", "--search-options", "--seed 3"),
        ("seeds", "--train-options", "--no-such-option"),
        ("random", "--train-options", "--channels many"),
    ] {
        let output = run(&mut darts(&[command, "--json", option, text]));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), errors.lines().count()), (Some(USAGE), 1), "{errors}");
        contains(&errors, &[option]);
    }
    for arguments in [
        &["seeds", "--resume", "a", "--seeds", "3"][..],
        &["seeds", "--resume", "a", "--short-epochs", "3"],
        &["seeds", "--params-within", "20"],
        &["seeds", "--params-within", "20%"],
        &["random", "--params-within", "20%"],
        &["random", "--cells", "0"],
        &["random", "--cells", "1001"],
        &["random", "--resume", "a", "--out", "b"],
    ] {
        assert_eq!(run(&mut darts(arguments)).status.code(), Some(USAGE), "{arguments:?}");
    }
}

#[test]
fn a_comparison_is_not_gone_on_with_as_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("random");
    success(&mut random(&out, &["--cells", "1", "--short-epochs", "1", "--prepare"]));
    contains(&failure(darts(&["seeds", "--json", "--resume"]).arg(&out)), &["darts random --resume"]);
    contains(
        &failure(darts(&["random", "--json", "--limit", "50", "--resume"]).arg(&out)),
        &["data.limit was 60 and is 50"],
    );
    let config = out.join("random-1/train/config.toml");
    let text = read(&config).replace("batch_size = 10", "batch_size = 12");
    fs::write(&config, text).expect("writable");
    contains(&failure(darts(&["random", "--json", "--resume"]).arg(&out)), &["batch_size was 12 and is 10"]);
}
