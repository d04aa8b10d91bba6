use std::path::Path;

use darts_host::data::{self, LoadOptions, Normalization};

use super::files::load;

#[test]
fn the_embedded_set_is_balanced_real_and_the_one_in_the_repository() {
    let source = data::load("embedded", &LoadOptions::default()).expect("it is inside the program");
    assert_eq!(source.train.class_counts(), [400; 10]);
    assert_eq!(source.test.class_counts(), [100; 10]);
    assert_eq!((source.shape().height, source.shape().width, source.shape().channels), (28, 28, 1));
    let mut folder = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/data/fashion-mnist"));
    folder.name = source.name.clone();
    assert_eq!(folder, source);
    // Of the full set: 0.2860 and 0.3530.
    let Normalization { mean, std } = Normalization::of(&source.train);
    assert!((mean[0] - 0.286).abs() < 0.005 && (std[0] - 0.353).abs() < 0.005, "{mean:?} {std:?}");
}

#[test]
fn the_summary_names_what_a_run_depends_on() {
    let source = data::load("embedded", &LoadOptions::default()).expect("it is inside the program");
    let summary = source.to_string();
    let fingerprint = format!("{:016x}", source.fingerprint());
    for part in ["4000 training, 1000 test", "1×28×28", "10: T-shirt/top", "400 to 400", "mean 0.28", &fingerprint] {
        assert!(summary.contains(part), "{part:?} is not in:\n{summary}");
    }
}

#[test]
fn the_fingerprint_depends_on_pixels_labels_and_order() {
    let source = data::load("embedded", &LoadOptions::default()).expect("it is inside the program");
    let some = source.train.subset(&[0, 1, 2, 3]);
    assert_eq!(some.fingerprint(), source.train.subset(&[0, 1, 2, 3]).fingerprint());
    assert_ne!(some.fingerprint(), source.train.subset(&[1, 0, 2, 3]).fingerprint());
    let mut labels = some.labels().to_vec();
    labels[0] ^= 1;
    let names = some.class_names().to_vec();
    let relabelled = data::Dataset::new(some.shape(), some.images().to_vec(), labels, names);
    assert_ne!(some.fingerprint(), relabelled.fingerprint());
}
