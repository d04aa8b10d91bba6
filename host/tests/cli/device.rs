//! `darts inspect --memory` and `--target`: the plan of the workspace, and what a device must have.

use std::fs;
use std::ops::Range;

use serde_json::Value;

use super::{FAILURE, USAGE, contains, darts, json, run, success};

/// A network for a microcontroller.
const NETWORK: [&str; 8] = ["inspect", "DARTS_V2", "--channels", "8", "--layers", "5", "--input", "1x28x28"];

fn inspect(options: &[&str]) -> std::process::Command {
    let mut command = darts(&NETWORK);
    command.args(options);
    command
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

#[test]
fn the_memory_plan_is_tight_and_its_slots_never_overlap() {
    let report = json(&mut inspect(&["--memory", "--json"]));
    let (memory, workspace) = (&report["memory"], number(&report, "workspace_bytes"));
    assert_eq!(number(memory, "lower_bound_bytes"), workspace);
    let slots: Vec<(Range<u64>, Range<u64>)> = memory["slots"]
        .as_array()
        .expect("slots")
        .iter()
        .map(|slot| {
            let (offset, first) = (number(slot, "offset"), number(slot, "first_step"));
            (offset..offset + number(slot, "bytes"), first..number(slot, "last_step") + 1)
        })
        .collect();
    let meet = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    for (index, (bytes, steps)) in slots.iter().enumerate() {
        for (other_bytes, other_steps) in &slots[..index] {
            assert!(!meet(bytes, other_bytes) || !meet(steps, other_steps), "{bytes:?} and {other_bytes:?}");
        }
    }
    assert_eq!(slots.iter().map(|(bytes, _)| bytes.end).max(), Some(workspace));
    let peak = number(&memory["peak_step"], "step");
    let live: u64 =
        slots.iter().filter(|(_, steps)| steps.contains(&peak)).map(|(bytes, _)| bytes.end - bytes.start).sum();
    assert_eq!(live, workspace);
}

#[test]
fn the_memory_plan_is_printed_and_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.svg");
    let text = success(inspect(&["--memory"]).arg(&file));
    contains(&text, &["memory plan", "175,616 bytes", "the peak is 1.000 times that", "of 98, dense", "plan.svg"]);
    let svg = fs::read_to_string(&file).expect("a picture");
    contains(&svg, &["<svg", "171.5 KiB", "prefers-color-scheme: dark", "separable", "</svg>"]);

    // A supernet has a plan, too; a network is not taken for the name of the picture.
    contains(
        &success(&mut darts(&["inspect", "supernet", "--layers", "3", "--memory"])),
        &["memory plan", "lower bound"],
    );
    let output = run(&mut darts(&["inspect", "--memory", "DARTS_V2"]));
    assert_eq!(output.status.code(), Some(USAGE));
    contains(&String::from_utf8_lossy(&output.stderr), &[".svg"]);
}

#[test]
fn a_device_that_has_one_byte_fewer_is_too_small() {
    let needs = json(&mut inspect(&["--target", "cortex-m4", "--json"]));
    let device = &needs["device"];
    assert_eq!(device["target"], "cortex-m4");
    let [flash, ram] = ["flash_bytes", "ram_bytes"].map(|key| number(device, key));
    assert_eq!(flash, number(&needs, "model_bytes") + number(device, "code_bytes"));
    let buffers = number(&needs, "workspace_bytes") + 4 * 28 * 28 + 4 * 10;
    assert_eq!(number(device, "static_bytes"), buffers);
    assert_eq!(ram, buffers + number(device, "stack_bytes"));

    let budget = |flash: u64, ram: u64| {
        inspect(&["--target", "cortex-m7", "--flash", &flash.to_string(), "--ram", &ram.to_string(), "--json"])
    };
    assert_eq!(json(&mut budget(flash, ram))["device"]["target"], "cortex-m7");
    let output = run(&mut budget(flash - 1, ram - 2));
    assert_eq!(output.status.code(), Some(FAILURE));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = errors.lines().collect();
    assert!(lines[0].starts_with("error: flash is over by 1 bytes: "), "{errors}");
    assert!(lines[1].starts_with("error: RAM is over by 2 bytes: "), "{errors}");
    assert_eq!(lines.len(), 2, "{errors}");
    // What it takes is printed all the same.
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(number(&printed["device"], "flash_bytes"), flash);
}

#[test]
fn devices_without_a_measured_program_say_so() {
    let text = success(&mut inspect(&["--target", "host", "--flash", "1M", "--ram", "256K"]));
    contains(&text, &["host", "not measured", "workspace  175,616"]);
    for device in ["cortex-m4", "cortex-m7", "cortex-a53"] {
        let text = success(&mut inspect(&["--target", device]));
        contains(&text, &[device, "stack", "firmware example", "instructions", "estimated"]);
        assert!(!text.contains("not measured"), "{text}");
    }
}

#[test]
fn budgets_need_a_device_and_devices_a_network() {
    for arguments in [
        &["inspect", "DARTS_V2", "--flash", "256K"][..],
        &["inspect", "DARTS_V2", "--target", "cortex-m4", "--ram", "64KB"],
        &["inspect", "DARTS_V2", "--target", "cortex-m4", "--flash", "0"],
        &["inspect", "DARTS_V2", "--target", "z80"],
        &["inspect", "supernet", "--target", "host"],
    ] {
        assert_eq!(run(&mut darts(arguments)).status.code(), Some(USAGE), "{arguments:?}");
    }
    let negative = run(&mut darts(&["inspect", "DARTS_V2", "--target", "cortex-m4", "--flash", "-1"]));
    contains(&String::from_utf8_lossy(&negative.stderr), &["'-1'", "a number of bytes from 1 up"]);
}
