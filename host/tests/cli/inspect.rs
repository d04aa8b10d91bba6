//! `darts inspect`, and genotypes wherever they are given.

use std::fs;

use super::{contains, darts, failure, json, read, success};

#[test]
fn inspect_counts() {
    let v2 = json(&mut darts(&["inspect", "DARTS_V2", "--json"]));
    assert_eq!(v2["parameters"], 3_349_342);
    assert_eq!(v2["auxiliary_parameters"], 476_426);
    assert_eq!(v2["multiply_adds"], 528_359_040);
    let small = json(&mut darts(&["inspect", "DARTS_V2", "--channels", "8", "--layers", "5", "--json"]));
    assert_eq!((&small["parameters"], &small["multiply_adds"]), (&37_018.into(), &7_392_512.into()));
    let imagenet = json(&mut darts(&["inspect", "DARTS_V2", "--network", "imagenet", "--json"]));
    assert_eq!((&imagenet["parameters"], &imagenet["auxiliary_parameters"]), (&4_718_752.into(), &1_260_776.into()));
    let supernet = json(&mut darts(&["inspect", "supernet", "--json"]));
    assert_eq!((&supernet["parameters"], &supernet["multiply_adds"]), (&1_930_618.into(), &300_255_744.into()));
    let layers = supernet["layers"].as_array().expect("a list");
    let sum: u64 = layers.iter().filter_map(|layer| layer["parameters"].as_u64()).sum();
    assert_eq!(sum, 1_930_618);
}

#[test]
fn inspect_prints_a_table_and_the_cells() {
    let text = success(&mut darts(&["inspect", "NASNet", "--channels", "16", "--layers", "5"]));
    contains(&text, &["cells.4", "multiply-adds", "normal cell", "c_{k} = [2, 3, 4]", "normal_concat=range(2, 7)"]);
    let layers = success(&mut darts(&["inspect", "supernet", "--layers", "3", "--all-layers"]));
    contains(&layers, &["cells.2._ops.13", "dw5x5"]);
}

#[test]
fn a_genotype_is_a_name_a_text_a_file_or_a_run_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let genotype = darts_core::Genotype::builtin("DARTS_V1").expect("a built-in name");
    let file = folder.path().join("genotype.txt");
    fs::write(&file, format!("{genotype}\n")).expect("written");
    let text = genotype.to_string();
    let as_json = serde_json::to_string(&genotype).expect("a genotype has a JSON form");
    for argument in ["DARTS_V1", &text, &as_json, &file.to_string_lossy(), &folder.path().to_string_lossy()] {
        assert_eq!(json(&mut darts(&["inspect", argument, "--json"]))["parameters"], 3_169_414, "{argument}");
    }
}

#[test]
fn a_bad_genotype_is_told_what_is_wrong() {
    contains(&failure(&mut darts(&["inspect", "DARTS_V3"])), &["DARTS_V3", "DARTS_V2", "AmoebaNet"]);
    contains(&failure(&mut darts(&["inspect", "runs/none/model.darts"])), &["no file", "runs/none/model.darts"]);
    contains(&failure(&mut darts(&["inspect", "{}"])), &["normal is missing", "correct the text"]);
    contains(&failure(&mut darts(&["inspect", "{\"normal\": 3}"])), &["byte 11", "[ and edges"]);
    let text = "Genotype(normal=[('sep_conv_3x3', 0), ('OPERATION', SOURCE)], normal_concat=[2], \
                reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])";
    let unknown = text.replace("OPERATION", "conv_9x9").replace("SOURCE", "1");
    contains(&failure(&mut darts(&["inspect", &unknown])), &["conv_9x9", "sep_conv_3x3"]);
    let future = text.replace("OPERATION", "skip_connect").replace("SOURCE", "2");
    contains(&failure(&mut darts(&["inspect", &future])), &["normal cell", "edge 1", "state 2", "correct"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cell.txt");
    for content in [&b""[..], b"Genotype(normal=[('sep_conv_3x3', 0)", b"\xff\xfe", future.as_bytes()] {
        fs::write(&file, content).expect("written");
        contains(&failure(&mut darts(&["inspect", &file.to_string_lossy()])), &["cell.txt"]);
    }
    contains(&failure(&mut darts(&["inspect", &folder.path().to_string_lossy()])), &["genotype.txt"]);
}

#[test]
fn sizes_that_no_network_can_have_are_refused() {
    contains(&failure(&mut darts(&["inspect", "supernet", "--layers", "0"])), &["number of cells", "from 1"]);
    contains(&failure(&mut darts(&["inspect", "supernet", "--nodes", "99"])), &["number of nodes"]);
    contains(&failure(&mut darts(&["inspect", "supernet", "--nodes", "3", "--multiplier", "9"])), &["multiplier"]);
    contains(&failure(&mut darts(&["inspect", "DARTS", "--network", "imagenet", "--channels", "7"])), &["even"]);
}

#[test]
fn inspect_draws_both_cells() {
    let folder = tempfile::tempdir().expect("a folder");
    let pictures = folder.path().join("new/pictures");
    let argument = pictures.to_string_lossy();
    let text = success(&mut darts(&["inspect", "AmoebaNet", "--svg", &argument, "--dot", &argument]));
    for (name, operation) in [("normal", "sep_conv_5x5"), ("reduce", "conv_7x1_1x7")] {
        let svg = read(&pictures.join(format!("{name}.svg")));
        contains(&svg, &["<svg", "</svg>", "c_{k-2}", operation]);
        let dot = read(&pictures.join(format!("{name}.dot")));
        contains(&dot, &["digraph", "rankdir=LR", operation]);
        contains(&text, &[&format!("{name}.svg"), &format!("{name}.dot")]);
    }
}
