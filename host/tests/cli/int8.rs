//! Models on 8-bit integers.

use super::{USAGE, contains, darts, failure, json, run};

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
