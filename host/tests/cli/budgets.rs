//! Searches with limits and penalties.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{contains, darts, failure, json, success};

/// A search of two steps, in the folder `out`.
fn search<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["search", "--preset", "quick", "--limit", "80", "--batch", "20", "--epochs", "1", "--channels", "2"];
    [&small[..], &["--layers", "3", "--json", "--out", out], more].concat()
}

/// The last line of the log of a run.
fn last_epoch(out: &str) -> Value {
    let log = fs::read_to_string(Path::new(out).join("metrics.jsonl")).expect("it has a log");
    serde_json::from_str(log.lines().last().expect("an epoch")).expect("a line is JSON")
}

#[test]
fn what_is_derived_keeps_within_the_limits_as_inspect_counts_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let inspect = |run: &str, channels: &str, layers: &str| {
        json(&mut darts(&["inspect", run, "--channels", channels, "--layers", layers, "--input", "1x28x28", "--json"]))
    };
    let free = out("free");
    success(&mut darts(&search(&free, &[])));
    assert_eq!(last_epoch(&free).get("budget"), None);
    let number = |report: &Value, key: &str| report[key].as_u64().expect("a number");
    let found = inspect(&free, "2", "3");
    let limit = (number(&found, "parameters") - 1).to_string();
    let limited = out("limited");
    let config = ["--max-params", limit.as_str(), "--max-macs", "4M", "--max-ram", "1M", "--macs-penalty", "0.1"];
    success(&mut darts(&search(&limited, &config)));
    let inspected = inspect(&limited, "2", "3");
    assert!(number(&inspected, "parameters") < number(&found, "parameters"), "{inspected}");
    let budget = &last_epoch(&limited)["budget"];
    for (key, inspected_key) in [("params", "parameters"), ("macs", "multiply_adds"), ("ram", "workspace_bytes")] {
        assert_eq!(budget[key], inspected[inspected_key], "{budget}");
    }
    assert!(budget["expected_params"].is_number() && budget["expected_macs"].is_number(), "{budget}");
    let text = fs::read_to_string(Path::new(&limited).join("config.toml")).expect("it has a configuration");
    contains(&text, &["max_macs = 4000000", "max_ram = 1048576", "macs_penalty = 0.1"]);
    assert!(!text.contains("params_penalty") && !text.contains("ram_precision"), "{text}");
    let report = fs::read_to_string(Path::new(&limited).join("report.html")).expect("it has a report");
    contains(&report, &["parameters (expected)", "workspace"]);
    // It is finished, and its limits are those of its folder.
    success(&mut darts(&["search", "--resume", &limited, "--json"]));
    let other = failure(&mut darts(&["search", "--resume", &limited, "--json", "--max-params", "1K"]));
    contains(&other, &["max_params was", "is 1000"]);

    // The same of the network that will be trained.
    let target = out("target");
    let sizes = ["--budget-channels", "8", "--budget-layers", "5", "--max-ram", "64K", "--ram-precision", "int8"];
    success(&mut darts(&search(&target, &sizes)));
    let budget = &last_epoch(&target)["budget"];
    assert_eq!(budget["params"], inspect(&target, "8", "5")["parameters"]);
    assert!(budget["ram"].as_u64().is_some_and(|bytes| bytes <= 65_536), "{budget}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run").to_str().expect("UTF-8").to_owned();
    for (options, parts) in [
        (&["--max-params", "100"][..], &["--max-params", "2 channels and 3 cells", "parameters", "more than 100"][..]),
        (&["--max-macs", "1K"], &["--max-macs", "multiply-adds", "more than 1000"]),
        (&["--max-ram", "1K"], &["--max-ram", "bytes of workspace", "more than 1024"]),
        (&["--params-penalty", "0.5"], &["--params-target", "--max-params"]),
        (&["--max-params", "1M", "--select", "perturbation"], &["perturbations"]),
        (&["--max-params", "1M", "--budget-channels", "9999"], &["channels is 9999"]),
    ] {
        contains(&failure(&mut darts(&search(&out, options))), parts);
        assert!(!Path::new(&out).exists(), "{options:?} left something behind");
    }
}
