//! Models on 8-bit integers.

use super::{USAGE, contains, darts, failure, json, run, success};

#[test]
fn an_exported_model_on_integers_agrees_with_its_network() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let train = ["train", "--preset", "quick", "--genotype", "DARTS_V2", "--limit", "200", "--epochs", "2", "--out"];
    json(darts(&train).arg(&out).args(["--channels", "4", "--layers", "3", "--json"]));
    let exported = json(darts(&["export", "--json"]).arg(&out));
    for calibration in ["minmax", "percentile", "mse"] {
        let arguments = [
            "export",
            "--int8",
            "--calibrate",
            "embedded",
            "--calibration-images",
            "100",
            "--calibration",
            calibration,
        ];
        let quantized = json(darts(&arguments).arg("--json").arg(&out));
        assert_eq!(quantized["model"], out.join("model-int8.darts").to_string_lossy().as_ref());
        let bytes = |value: &serde_json::Value, key: &str| value[key].as_u64().expect("a number");
        assert!(bytes(&quantized, "model_bytes") < bytes(&exported, "model_bytes"));
        assert!(bytes(&quantized, "workspace_bytes") < bytes(&exported, "workspace_bytes") / 2);
        let evaluated = json(darts(&["eval", "--json"]).arg(out.join("model-int8.darts")));
        let agreement = evaluated["agreement"].as_f64().expect("the weights are beside the model");
        assert!(agreement > 0.9, "{calibration}: {agreement}");
    }
}

#[test]
fn calibration_needs_images_of_the_network() {
    for arguments in [
        &["export", "run", "--int8"][..],
        &["export", "run", "--calibrate", "embedded"],
        &["export", "run", "--int8", "--f16", "--calibrate", "embedded"],
        &["export", "run", "--int8", "--calibrate", "embedded", "--calibration-images", "0"],
        &["export", "run", "--int8", "--calibrate", "embedded", "--calibration", "best"],
    ] {
        assert_eq!(run(&mut darts(arguments)).status.code(), Some(USAGE), "{arguments:?}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, empty) = (folder.path().join("run"), folder.path().join("empty"));
    std::fs::create_dir(&empty).expect("a writable folder");
    let train = ["train", "--preset", "quick", "--genotype", "DARTS_V1", "--limit", "20", "--epochs", "1", "--out"];
    json(darts(&train).arg(&out).args(["--batch", "9", "--channels", "2", "--layers", "3", "--json"]));
    let error = failure(darts(&["export", "--int8", "--calibrate"]).arg(&empty).arg(&out));
    contains(&error, &["empty"]);
    assert!(!out.join("model-int8.darts").exists());
}

#[test]
fn accuracy_compares_forms_and_layers_and_a_mixed_model_is_exported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let train = ["train", "--preset", "quick", "--genotype", "DARTS_V1", "--limit", "60", "--epochs", "1", "--out"];
    json(darts(&train).arg(&out).args(["--batch", "20", "--channels", "2", "--layers", "3", "--json"]));

    let arguments =
        ["accuracy", "--calibration-images", "40", "--layer-images", "8", "--mixed", "cells=f32,classifier=f16"];
    let report = json(darts(&arguments).arg("--json").arg(&out));
    let models = report["models"].as_array().expect("a list");
    let names: Vec<_> = models.iter().map(|row| row["model"].as_str().expect("a name")).collect();
    assert_eq!(names, ["f32", "f16", "int8", "mixed"]);
    let number = |row: usize, key: &str| models[row][key].as_f64().expect("a number");
    assert!(models[0]["sqnr"].is_null() && number(0, "agreement") == 1.0);
    assert!(number(1, "sqnr") > number(2, "sqnr") && number(3, "sqnr") >= number(2, "sqnr"));
    assert!(number(2, "model_bytes") < number(3, "model_bytes"));
    let layers = report["layers"].as_array().expect("a list");
    let named = |name: &str| layers.iter().find(|row| row["layer"] == name).expect("a layer");
    assert!(named("stem")["alone_sqnr"].is_f64() && named("cells.1._ops.0")["mixed_sqnr"].is_f64());
    assert_eq!(layers.last().expect("layers")["layer"], "classifier");
    let worst = report["worst"].as_str().expect("a layer");
    let text = success(darts(&arguments).arg(&out));
    contains(&text, &["accuracy", "mixed dB", "stem", "worst", &format!("--mixed {worst}=f32")]);
    let short = success(darts(&["accuracy", "--layer-images", "0", "--calibration-images", "40"]).arg(&out));
    assert!(!short.contains("stem") && short.contains("int8"));

    let export = ["export", "--int8", "--calibrate", "embedded", "--calibration-images", "40"];
    let mixed = json(darts(&export).args(["--mixed", "cells=f32,classifier=f16", "--json"]).arg(&out));
    assert_eq!(mixed["model_bytes"].as_f64(), Some(number(3, "model_bytes")));
    let file = out.join("model-int8.darts");
    let evaluated = json(darts(&["eval", "--json"]).arg(&file));
    assert_eq!(evaluated["correct"], models[3]["correct"]);
    // The folder of a training is its network, whatever it has been exported to.
    assert_eq!(json(darts(&["inspect", "--json"]).arg(&out))["input"], serde_json::json!([1, 28, 28]));
    // A device needs the code for floating point, and for pixels that are quantized no image of numbers.
    let device = || json(darts(&["inspect", "--target", "cortex-m4", "--json"]).arg(&file))["device"].clone();
    let [floating, integers] = [device(), {
        json(darts(&export).arg("--json").arg(&out));
        device()
    }];
    assert!(floating["code_bytes"].as_u64() > integers["code_bytes"].as_u64(), "{floating} {integers}");
    // The stem is on integers in both.
    assert_eq!([&integers["input_bytes"], &floating["input_bytes"]], [0, 0]);
    let error = failure(darts(&export).args(["--mixed", "cells.9=f32"]).arg(&out));
    contains(&error, &["cells.9", "darts accuracy"]);
    let onnx = folder.path().join("int8.onnx");
    let written = json(darts(&export).arg("--onnx").arg(&onnx).arg("--json").arg(&out));
    assert_eq!(written["onnx_bytes"].as_u64(), Some(std::fs::metadata(&onnx).expect("the model").len()));
    for wrong in [&["--mixed", "stem"][..], &["--mixed", "stem=f32", "--onnx", "x.onnx"]] {
        assert_eq!(run(darts(&export).args(wrong).arg(&out)).status.code(), Some(USAGE), "{wrong:?}");
    }
}
