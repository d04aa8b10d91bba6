//! The binary as a user runs it: what it prints, what it says when something is wrong, and its exit status.

mod budgets;
mod comparison;
mod data;
mod device;
mod export;
mod faults;
mod inspect;
mod int8;
mod module;
mod report;
mod resume;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use darts_host::isa;
use darts_host::model_file::ModelFile;
use serde_json::Value;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

fn darts(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_darts"));
    command.args(arguments).env_remove(isa::VARIABLE).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

#[track_caller]
fn success(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

#[track_caller]
fn json(command: &mut Command) -> Value {
    let text = success(command);
    assert_eq!(text.trim_end().lines().count(), 1, "one object on one line: {text}");
    serde_json::from_str(&text).expect("the output is JSON")
}

/// The single line that a failing command prints on stderr, after checking status and that stdout is empty.
#[track_caller]
fn failure(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(FAILURE), "{command:?}: {errors}");
    assert!(output.stdout.is_empty(), "{command:?} printed {}", String::from_utf8_lossy(&output.stdout));
    assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{command:?}: {errors}");
    errors
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is missing in: {text}");
    }
}

#[test]
fn help_names_every_command_and_every_command_shows_examples() {
    let help = success(&mut darts(&["--help"]));
    let commands = [
        "search", "train", "export", "eval", "inspect", "run", "seeds", "random", "report", "runs", "compare", "data",
        "bench", "info",
    ];
    for command in commands {
        contains(&help, &[command]);
        contains(&success(&mut darts(&[command, "--help"])), &["Examples:", &format!("darts {command}")]);
    }
    contains(&success(&mut darts(&["--version"])), &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn wrong_usage_has_its_own_status() {
    for arguments in [
        &["search-for-it"][..],
        &["info", "--no-such-flag"],
        &["info", "--threads", "-1"],
        &["search", "--order", "third"],
        &["search", "--epochs", "0"],
        &["search", "--seed", "9223372036854775808"],
        &["search", "--learning-rate", "NaN"],
        &["search", "--no-augment", "--cutout", "4"],
        &["search", "--mean", "0.5"],
        &["search", "--data", ""],
        &["search", "--primitives", "skip_connect,noise"],
        &["search", "--primitives", "none"],
        &["search", "--stop-eigenvalue", "-1"],
        &["search", "--smooth", "everything"],
        &["search", "--smooth-epsilon", "0.1"],
        &["search", "--select-tune-epochs", "1"],
        &["search", "--primitives", "skip_connect", "--space", "s2"],
        &["search", "--max-params", "0"],
        &["search", "--max-params", "40KiB"],
        &["search", "--max-macs", "1.5M"],
        &["search", "--max-ram", "-1"],
        &["search", "--max-ram", "64KB"],
        &["search", "--params-penalty", "-1"],
        &["search", "--macs-penalty", "NaN"],
        &["search", "--params-target", "40K"],
        &["search", "--ram-target", "40K", "--max-ram", "64K"],
        &["search", "--budget-layers", "0"],
        &["search", "--ram-precision", "int4"],
        &["train"],
        &["train", "--genotype", "DARTS_V2", "--drop-path", "1"],
        &["run", "--train-epochs", "0"],
        &["export"],
        &["eval"],
        &["inspect"],
        &["report"],
        &["report", "runs/search-1", "--png"],
        &["compare", "runs/search-1"],
        &["inspect", "DARTS_V2", "--input", "3x32"],
        &["inspect", "DARTS_V2", "--input", "0x32x32"],
        &["inspect", "DARTS_V2", "--network", "mnist"],
        &["inspect", "DARTS_V2", "--nodes", "3"],
        &["inspect", "supernet", "--network", "imagenet"],
        &["inspect", "supernet", "--svg", "pictures"],
        &["bench", "--isa", "sse"],
        &["bench", "--json", "step"],
        &["bench", "step", "--order", "third"],
        &["bench", "step", "--batch", "0"],
        &["bench", "step", "--genotype", "DARTS_V2", "--order", "first"],
    ] {
        let output = run(&mut darts(arguments));
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn info_is_one_object_with_the_choice_and_what_there_is() {
    let info = json(&mut darts(&["info", "--json", "--threads", "3"]));
    assert_eq!(info["threads"], 3);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let isas: Vec<&str> = info["isas"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(isas.contains(&"scalar"));
    assert_eq!(info["isa"], *isas.last().expect("not empty"));
    for isa in isas {
        assert_eq!(json(darts(&["info", "--json"]).env(isa::VARIABLE, isa))["isa"], isa);
    }
}

#[test]
fn an_instruction_set_that_is_not_there_is_an_error_that_names_those_that_are() {
    let missing = ["neon", "avx512"].into_iter().find(|name| !isa::available().contains(name));
    for name in missing.into_iter().chain(["AVX2", "sse", " "]) {
        contains(&failure(darts(&["info"]).env(isa::VARIABLE, name)), &[name, isa::VARIABLE, "scalar"]);
    }
}

#[test]
fn what_is_no_model_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.darts");
    let argument = file.to_string_lossy();
    contains(&failure(&mut darts(&["eval", &argument])), &["model.darts", "cannot read", "darts export"]);
    contains(&failure(&mut darts(&["export", &argument])), &["model.darts", "cannot read", "darts train"]);
    fs::write(&file, "no model").expect("written");
    contains(&failure(&mut darts(&["eval", &argument])), &["model.darts"]);
    fs::write(&file, b"DARTSMDL cut off").expect("written");
    for command in ["eval", "inspect"] {
        contains(&failure(&mut darts(&[command, &argument])), &["model.darts", "bytes"]);
        contains(&failure(&mut darts(&[command, &folder.path().to_string_lossy()])), &["model.darts", "bytes"]);
    }
}

#[test]
fn a_bench_has_the_roof_and_a_row_for_each_instruction_set() {
    let report = json(&mut darts(&["bench", "--filter", "depthwise 3x3 16x32x32", "--threads", "1", "--json"]));
    let rows = report["rows"].as_array().expect("a list");
    let isas: Vec<&str> = rows.iter().filter_map(|row| row["isa"].as_str()).collect();
    for isa in isa::available() {
        assert_eq!(isas.iter().filter(|&&name| name == isa).count(), 3, "{isa}");
    }
    let directions: Vec<&str> = rows.iter().filter_map(|row| row["direction"].as_str()).collect();
    for direction in ["forward", "input gradient", "weight gradient"] {
        assert!(directions.contains(&direction), "{direction}");
    }
    for row in rows {
        assert_eq!((&row["name"], &row["shape"]), (&"depthwise 3x3".into(), &"16x32x32".into()));
        for key in ["seconds", "gflops", "gbytes_per_second", "fraction_of_peak"] {
            assert!(row[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {row}");
        }
    }
    for (part, key) in [("multiply_adds", "gflops"), ("bandwidth", "gbytes_per_second")] {
        let roof = report["roof"][part].as_array().expect("a list");
        assert!(
            !roof.is_empty() && roof.iter().all(|row| row[key].as_f64().is_some_and(|speed| speed > 0.0)),
            "{part}"
        );
    }
    for pattern in ["triad", "read"] {
        let bandwidths = report["roof"]["bandwidth"].as_array().expect("a list");
        assert!(bandwidths.iter().any(|row| (&row["level"], &row["pattern"]) == (&"memory".into(), &pattern.into())));
    }
    let table = success(&mut darts(&["bench", "--filter", "Cross-Entropy", "--isa", "scalar"]));
    contains(&table, &["multiply-adds", "bandwidth", "memory", "memory, reading", "softmax cross-entropy", "scalar"]);
    contains(&failure(&mut darts(&["bench", "--filter", "winograd"])), &["winograd", "darts bench"]);
    if let Some(missing) = ["neon", "avx512"].into_iter().find(|name| !isa::available().contains(name)) {
        contains(&failure(&mut darts(&["bench", "--isa", missing])), &[missing, "scalar"]);
    }
}

#[test]
fn a_step_is_timed_and_counted() {
    let tiny = ["bench", "step", "--channels", "2", "--layers", "2", "--batch", "2", "--input", "1x8x8"];
    let step = |more: &[&str]| json(&mut darts(&[&tiny[..], &["--steps", "1", "--json"], more].concat()));
    let number = |report: &Value, key: &str| report[key].as_f64().expect("a number");
    let weights = step(&["--order", "weights", "--threads", "1"]);
    let flops = number(&weights, "flops");
    assert!(flops > 0.0 && number(&weights, "seconds") > 0.0 && number(&weights, "fraction_of_peak") > 0.0);
    assert_eq!((&weights["order"], &weights["threads"]), (&"weights".into(), &1.into()));
    assert_eq!(weights["peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0), cfg!(target_os = "linux"));
    assert_eq!(number(&step(&[]), "flops"), 2.0 * flops);
    assert_eq!(number(&step(&["--order", "second"]), "flops"), 5.0 * flops);
    let derived = step(&["--genotype", "DARTS_V2"]);
    assert_eq!(derived["order"], "weights");
    let inspected =
        json(&mut darts(&["inspect", "DARTS_V2", "--channels", "2", "--layers", "2", "--input", "1x8x8", "--json"]));
    assert_eq!(number(&derived, "flops"), 2.0 * 6.0 * number(&inspected, "multiply_adds"));
    contains(&success(&mut darts(&[&tiny[..], &["--steps", "2"]].concat())), &["GFLOP/s", "instruction set"]);
    contains(&failure(&mut darts(&["bench", "step", "--layers", "0"])), &["cells"]);
    contains(&failure(&mut darts(&["bench", "step", "--genotype", "DARTS_V9"])), &["DARTS_V9", "DARTS_V2"]);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a-file");
    fs::write(&file, "").expect("written");
    let below = file.join("pictures");
    contains(&failure(&mut darts(&["inspect", "DARTS_V2", "--svg", &below.to_string_lossy()])), &["a-file"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = darts(&["inspect", "supernet", "--all-layers", "--layers", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nobody_who_reads_stderr_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = darts(&TINY_SEARCH);
    command.arg("--out").arg(folder.path().join("run")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stderr.take());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_full_stdout_is_named() {
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let output =
            darts(&["info"]).stdout(full).stderr(Stdio::piped()).spawn().expect("it starts").wait_with_output();
        let output = output.expect("it ends");
        assert_eq!(output.status.code(), Some(FAILURE));
        contains(&String::from_utf8_lossy(&output.stderr), &["error: ", "stdout", "space"]);
    }
}

/// The smallest search: one cell of one node, one channel, few images.
const TINY_SEARCH: [&str; 14] = [
    "search",
    "--limit",
    "40",
    "--batch",
    "10",
    "--epochs",
    "2",
    "--channels",
    "1",
    "--layers",
    "1",
    "--nodes",
    "1",
    "--multiplier=1",
];

fn lines(path: &Path) -> Vec<Value> {
    read(path).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The measurements of every epoch, without what depends on the process: times and memory.
fn measurements(run: &Path) -> Vec<Value> {
    let mut records = lines(&run.join("metrics.jsonl"));
    for record in &mut records {
        let record = record.as_object_mut().expect("an object");
        for key in ["seconds", "unix_time", "checkpoint_seconds", "report_seconds"] {
            assert!(record.remove(key).is_some_and(|value| value.is_number()), "{key} of {record:?}");
        }
        record.remove("peak_rss_bytes");
    }
    records
}

#[test]
fn a_search_leaves_configuration_metrics_and_genotype_which_do_not_depend_on_the_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = ["1", "3"].map(|threads| {
        let out = folder.path().join(threads);
        let report = json(darts(&TINY_SEARCH).args(["--threads", threads, "--json", "--out"]).arg(&out));
        assert_eq!(report["epochs"], 2);
        assert_eq!(read(&out.join("genotype.txt")).trim(), report["genotype"]);
        let config: toml::Table = read(&out.join("config.toml")).parse().expect("TOML");
        assert_eq!(config["settings"]["batch_size"], 10.into());
        assert_eq!(config["settings"]["momentum"], 0.9.into());
        measurements(&out)
    });
    assert_eq!(metrics[0].len(), 2);
    assert_eq!(metrics[0], metrics[1]);
    let last = &metrics[0][1];
    assert!(last["alpha_normal"].is_array() && last["normal"]["entropy"].is_number(), "{last}");
}

#[test]
fn guards_that_are_given_as_off_change_no_bit_and_are_not_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let off = [
        ["--space", "darts"],
        ["--warm-up", "0"],
        ["--select", "alpha"],
        ["--skip-dropout", "0"],
        ["--auxiliary-skip", "off"],
        ["--partial", "1"],
    ];
    let [plain, off] = [("plain", &[][..]), ("off", off.as_flattened())].map(|(name, options)| {
        let out = folder.path().join(name);
        success(darts(&TINY_SEARCH).args(options).arg("--out").arg(&out));
        (measurements(&out), ["alpha.json", "genotype.txt", "config.toml"].map(|file| read(&out.join(file))))
    });
    assert_eq!(plain, off);
}

#[test]
fn training_ends_with_weights_and_the_accuracy_on_the_test_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let arguments = ["train", "--preset", "quick", "--genotype", "DARTS_V1", "--limit", "50", "--validation", "10"];
    let size = ["--batch", "10", "--epochs", "1", "--channels", "2", "--layers", "3", "--json", "--out"];
    let report = json(darts(&arguments).args(size).arg(&out));
    assert!(report["test_accuracy"].as_f64().is_some_and(|accuracy| (0.0..=1.0).contains(&accuracy)), "{report}");
    assert!(report["valid_accuracy"].is_number());
    assert_eq!(lines(&out.join("metrics.jsonl")).len(), 1);
    let network = darts_host::weights::TrainedNetwork::load(&out).expect("the weights can be read");
    assert_eq!((network.config.channels, network.config.layers), (2, 3));
    contains(&failure(darts(&arguments).args(size).arg(&out)), &["not empty", "--out"]);

    // An export overwrites neither its own model nor its input.
    let weights = out.join("weights.safetensors");
    let before = fs::read(&weights).expect("readable");
    contains(&failure(darts(&["export", "--out"]).arg(out.join("x.rs")).arg(&out)), &["x.rs", "extension"]);
    contains(&failure(darts(&["export", "--out"]).arg(&weights).arg(&out)), &["weights.safetensors", "overwrite"]);
    assert_eq!(fs::read(&weights).expect("readable"), before);

    // What is inspected before the training is what is exported after it.
    let exported = json(darts(&["export", "--json"]).arg(&out));
    let size = ["--channels", "2", "--layers", "3", "--input", "1x28x28", "--json"];
    let planned = json(darts(&["inspect", "DARTS_V1"]).args(size));
    for key in ["model_bytes", "weight_bytes", "workspace_bytes"] {
        assert_eq!(planned[key], exported[key], "{key}");
    }

    // Those of another network are no reference.
    let model = out.join("model.darts");
    let other = folder.path().join("other");
    let size = ["--batch", "10", "--epochs", "1", "--channels", "1", "--layers", "1", "--json", "--out"];
    json(darts(&arguments).args(size).arg(&other));
    contains(
        &failure(darts(&["eval", "--json", "--weights"]).arg(&other).arg(&model)),
        &["other", "model.darts", "--weights"],
    );
    assert_eq!(run(darts(&["inspect", "--channels", "4"]).arg(&model)).status.code(), Some(USAGE));

    // Weights whose sums are no numbers.
    let diverged = folder.path().join("diverged.safetensors");
    let mut network = network;
    network.weights.fill(1e30);
    network.save(&diverged).expect("writable");
    contains(
        &failure(darts(&["eval", "--json", "--weights"]).arg(&diverged).arg(&model)),
        &["loss", "images", "NaN", "learning rate"],
    );
}

#[test]
fn a_run_that_cannot_start_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--batch", "21"], &["batch of 21", "20 images"]),
        (&["--layers", "0"], &["number of cells"]),
        (&["--mean", "0.5,0.5", "--std", "1,1"], &["normalisation"]),
        (&["--data", "/no/such/folder"], &["/no/such/folder"]),
        (&["--limit", "1"], &["1 training image", "more images"]),
        (&["--learning-rate", "1e30"], &["loss", "epoch", "learning rate"]),
    ];
    let file = folder.path().join("a-file");
    fs::write(&file, "").expect("writable");
    contains(&failure(darts(&TINY_SEARCH).args(["--json", "--out"]).arg(file.join("run"))), &["a-file", "--out"]);
    fs::create_dir(folder.path().join("mine")).expect("writable");
    for (out, remains) in [("mine", "mine"), ("a/b/c", "a")] {
        let out = folder.path().join(out);
        failure(darts(&TINY_SEARCH).args(["--learning-rate", "1e30", "--json", "--out"]).arg(&out));
        assert_eq!(folder.path().join(remains).exists(), remains == "mine");
    }
    failure(darts(&TINY_SEARCH).args(["--batch", "21", "--json"]).current_dir(&folder));
    assert!(!folder.path().join("runs").exists());
    for (change, message) in cases {
        let mut command = darts(&TINY_SEARCH);
        contains(&failure(command.args(change).args(["--json", "--out"]).arg(&out)), message);
        assert!(!out.exists(), "{change:?}");
    }
}

/// Starts `command`, presses Ctrl-C once the file `path` has something in it, and checks the exit status and that
/// nothing was printed on stdout.
#[cfg(unix)]
#[track_caller]
fn interrupt_when_there_is(path: &Path, command: &mut Command) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    while fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended too early");
        std::thread::yield_now();
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(signal.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stdout.is_empty());
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_a_search_saves_the_alpha_of_that_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let metrics = out.join("metrics.jsonl");
    interrupt_when_there_is(&metrics, darts(&TINY_SEARCH).args(["--epochs", "100000", "--out"]).arg(&out));
    let genotype = read(&out.join("genotype.txt"));
    assert!(darts_core::Genotype::parse(genotype.trim()).is_ok(), "{genotype}");
    let alpha: Value = serde_json::from_str(&read(&out.join("alpha.json"))).expect("JSON");
    let epochs = lines(&metrics);
    assert_eq!(alpha["complete_epochs"], epochs.len());
    assert_eq!(alpha["finished"], false);
    assert_eq!(alpha["normal"].as_array().map(Vec::len), Some(2));
    assert!(epochs.iter().all(|epoch| epoch["alpha_normal"] != alpha["normal"]), "{alpha}");
    let (_, checkpoint) = resume::last_checkpoint(&out);
    assert_eq!(checkpoint.header.position.epoch, epochs.len());
}

#[cfg(unix)]
#[test]
fn a_training_saves_every_epoch_and_at_ctrl_c() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let mut command = darts(&["train", "--preset", "quick", "--genotype", "DARTS_V2", "--limit", "20", "--batch", "9"]);
    command.args(["--channels", "1", "--layers", "1", "--epochs", "100000", "--out"]).arg(&out);
    interrupt_when_there_is(&out.join("weights.safetensors"), &mut command);
    let epochs = lines(&out.join("metrics.jsonl"));
    assert!(!epochs.is_empty() && epochs[0]["valid_accuracy"].is_number(), "two of twenty images are held out");
    darts_host::weights::TrainedNetwork::load(&out).expect("the weights can be read");
    let config: toml::Table = read(&out.join("config.toml")).parse().expect("TOML");
    assert_eq!(config["settings"]["held_out"], 2.into());
}

#[cfg(unix)]
#[test]
fn ctrl_c_after_the_last_step_stops_the_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let data = folder.path().join("data");
    write_idx(&data, 28, 6000);
    let mut command = darts(&["train", "--preset", "quick", "--genotype", "DARTS_V2", "--limit", "20"]);
    command.args(["--batch", "20", "--validation", "0", "--epochs", "1", "--json", "--data"]).arg(&data);
    interrupt_when_there_is(&out.join("weights.safetensors"), command.arg("--out").arg(&out));
}

#[test]
fn the_whole_pipeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let epochs = ["--search-epochs", "1", "--train-epochs", "2", "--limit", "260", "--json", "--out"];
    let report = json(darts(&["run"]).args(epochs).arg(&out));
    let accuracy = |which: &str| report["accuracy"][which].as_f64().expect("a number");
    assert!((accuracy("host") - accuracy("core_f32")).abs() < 0.002, "{report}");
    assert!((accuracy("host") - accuracy("core_f16")).abs() < 0.01, "{report}");
    assert!(report["seconds"].is_number());
    for file in report["files"].as_array().expect("a list") {
        assert!(fs::metadata(file.as_str().expect("a path")).expect("it is there").len() > 0, "{file}");
    }

    // It is listed beside its search and its training.
    let listed = json(darts(&["runs", "--json"]).arg(folder.path()));
    let mut states: Vec<_> = listed["runs"].as_array().expect("a list").iter().collect();
    states.sort_by_key(|run| run["command"].to_string());
    let states: Vec<_> = states.into_iter().map(|run| (&run["command"], &run["state"])).collect();
    let finished = Value::from("finished");
    assert_eq!(states, ["run", "search", "train"].map(Value::from).each_ref().map(|command| (command, &finished)));
    contains(&failure(darts(&["report"]).arg(&out)), &["is of darts run", "give one of those"]);

    // The model file says the same of itself as the pipeline did.
    let model = out.join("model.darts");
    let inspected = json(darts(&["inspect", "--json"]).arg(&model));
    for key in ["genotype", "parameters", "multiply_adds", "model_bytes", "workspace_bytes"] {
        assert_eq!(inspected[key], report[key], "{key}");
    }
    assert_eq!(fs::metadata(&model).expect("it is there").len(), report["model_bytes"].as_u64().expect("a number"));
    let constants = read(&out.join("model.rs"));
    contains(
        &constants,
        &[&format!("WORKSPACE_BYTES: usize = {};", report["workspace_bytes"]), "\"model.darts\"", "Ankle boot"],
    );

    // The core agrees with the host, whose weights are named or lie beside the model.
    let evaluated = json(darts(&["eval", "--json", "--weights"]).arg(out.join("train")).arg(&model));
    assert_eq!((&evaluated["images"], &evaluated["accuracy"]), (&1000.into(), &report["accuracy"]["core_f32"]));
    assert!(evaluated["agreement"].as_f64().is_some_and(|agreement| agreement >= 0.999), "{evaluated}");
    assert!(json(darts(&["eval", "--json"]).arg(&model))["agreement"].is_null());

    // Exported again, it is the same file; half precision agrees nearly always.
    let exported = json(darts(&["export", "--json"]).arg(out.join("train")));
    let again = out.join("train/model.darts");
    assert_eq!(exported["model"], again.to_string_lossy().as_ref());
    assert_eq!(fs::read(&again).expect("readable"), fs::read(&model).expect("readable"));
    success(darts(&["export", "--f16"]).arg(out.join("train/weights.safetensors")));
    let half = out.join("train/model-f16.darts");
    contains(&read(&half.with_extension("rs")), &["`#[path = \"model-f16.rs\"] pub mod model_f16;`"]);
    let sizes = json(darts(&["inspect", "--json"]).arg(&half));
    let file = ModelFile::read(&half).expect("readable");
    assert_eq!(sizes["workspace_bytes"], file.network().expect("a model").required_bytes());
    let half = json(darts(&["eval", "--json"]).arg(half));
    assert!(half["agreement"].as_f64().is_some_and(|agreement| agreement >= 0.99), "{half}");

    if Path::new("/dev/full").exists() {
        let full = darts(&["export", "--out", "/dev/full"]).arg(out.join("train")).output().expect("it starts");
        assert_eq!(full.status.code(), Some(FAILURE));
        contains(&String::from_utf8_lossy(&full.stderr), &["error: ", "/dev/full", "space"]);
    }

    // A damaged model, and images of another size.
    let other = folder.path().join("other");
    write_idx(&other, 2, 6);
    contains(&failure(darts(&["eval", "--json"]).arg(&model).arg("--data").arg(&other)), &["1x28x28", "1x2x2"]);
    let mut bytes = fs::read(&model).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&again, bytes).expect("writable");
    contains(&failure(darts(&["eval", "--json"]).arg(&again)), &["model.darts", "checksum"]);
}

/// A data set of `images` grey images of `side`×`side` in both sets, as IDX files.
fn write_idx(folder: &Path, side: u32, images: u32) {
    fs::create_dir_all(folder).expect("writable");
    for set in ["train", "t10k"] {
        let pixels = vec![7; (images * side * side) as usize];
        let labels = (0..images).map(|image| image as u8 % 10).collect();
        let sizes = [images, side, side];
        for (name, magic, sizes, data) in
            [("images-idx3", 0x803_u32, &sizes[..], pixels), ("labels-idx1", 0x801, &sizes[..1], labels)]
        {
            let header = [magic].iter().chain(sizes).flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
            fs::write(folder.join(format!("{set}-{name}-ubyte")), [header, data].concat()).expect("writable");
        }
    }
}

#[cfg(unix)]
#[test]
fn without_arguments_the_pipeline_starts_in_a_folder_of_its_own_and_can_be_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let search = folder.path().join("runs/run-1/search");
    interrupt_when_there_is(&search.join("config.toml"), darts(&[]).current_dir(&folder));
    assert!(search.join("genotype.txt").exists());
    assert!(search.join("alpha.json").exists());
}
