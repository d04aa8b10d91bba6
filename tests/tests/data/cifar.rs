use std::fs;
use std::path::Path;

use tempfile::tempdir;

use super::files::{load, refused};

const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// A record with these label bytes; every plane counts up from its own start.
fn record(labels: &[u8]) -> Vec<u8> {
    let planes = [0, 80, 160].into_iter().flat_map(|start| (0..1024).map(move |at| start + (at % 79) as u8));
    labels.iter().copied().chain(planes).collect()
}

fn write_cifar_10(folder: &Path) {
    for (index, name) in BATCHES.iter().enumerate() {
        fs::write(folder.join(name), [record(&[index as u8]), record(&[9])].concat()).expect("writable");
    }
}

#[test]
fn cifar_10_is_read_from_its_six_files_with_channels_last() {
    let folder = tempdir().expect("a folder");
    write_cifar_10(folder.path());
    let source = load(folder.path());
    assert_eq!((source.shape().height, source.shape().width, source.shape().channels), (32, 32, 3));
    assert_eq!(source.train.labels(), [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
    assert_eq!(source.test.labels(), [5, 9]);
    assert_eq!(source.train.class_names()[9], "truck");
    let expected: Vec<u8> = (0..1024).flat_map(|at| [0, 80, 160].map(|start| start + (at % 79) as u8)).collect();
    assert_eq!(source.train.image(3), expected);
}

#[test]
fn cifar_100_has_fine_labels_and_the_names_beside_it() {
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("train.bin"), [record(&[19, 99]), record(&[0, 3])].concat()).expect("writable");
    fs::write(folder.path().join("test.bin"), record(&[4, 42])).expect("writable");
    let source = load(folder.path());
    assert_eq!(source.classes(), 100);
    assert_eq!(source.train.labels(), [99, 3]);
    assert_eq!(source.test.labels(), [42]);
    assert_eq!(source.train.class_names()[42], "42");
    let names: String = (0..100).map(|class| format!("name{class}\n")).collect();
    fs::write(folder.path().join("fine_label_names.txt"), names).expect("writable");
    assert_eq!(load(folder.path()).train.class_names()[42], "name42");
}

#[test]
fn every_fault_is_named_with_file_and_offset() {
    let good = record(&[1]);
    let cases: [(Vec<u8>, &[&str]); 4] = [
        ([&good[..], &good[..], &[10], &good[1..]].concat(), &["byte 6146:", "label 10", "image 2", "not below 10"]),
        ([&good[..], &good[..3000]].concat(), &["byte 3073:", "ends 3000 bytes into a record of 3073"]),
        (vec![], &["byte 0:", "ends"]),
        ([&good[..], &[1]].concat(), &["byte 3073:", "ends 1 bytes"]),
    ];
    for (content, parts) in cases {
        let folder = tempdir().expect("a folder");
        write_cifar_10(folder.path());
        fs::write(folder.path().join(BATCHES[3]), content).expect("writable");
        refused(folder.path(), &[parts, &[BATCHES[3]]].concat());
    }
    for (labels, parts) in [([20, 0], ["byte 3074:", "label 20"]), ([0, 100], ["byte 3075:", "label 100"])] {
        let folder = tempdir().expect("a folder");
        fs::write(folder.path().join("train.bin"), [record(&[0, 0]), record(&labels)].concat()).expect("writable");
        fs::write(folder.path().join("test.bin"), record(&[0, 0])).expect("writable");
        refused(folder.path(), &[&parts[..], &["train.bin"]].concat());
    }
}

#[test]
fn a_file_cut_between_two_records_is_named_with_both_counts() {
    for short in 0..5 {
        let folder = tempdir().expect("a folder");
        write_cifar_10(folder.path());
        fs::write(folder.path().join(BATCHES[short]), record(&[1])).expect("writable");
        let whole = BATCHES[usize::from(short == 0)];
        let parts = [&format!("{}: byte 3073:", BATCHES[short]), "after 1 images", &format!("{whole} has 2")];
        refused(folder.path(), &parts);
    }
    // The test set has a size of its own.
    let folder = tempdir().expect("a folder");
    write_cifar_10(folder.path());
    fs::write(folder.path().join(BATCHES[5]), record(&[1])).expect("writable");
    assert_eq!(load(folder.path()).test.len(), 1);
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempdir().expect("a folder");
    write_cifar_10(folder.path());
    fs::remove_file(folder.path().join(BATCHES[1])).expect("removable");
    refused(folder.path(), &["data_batch_2.bin", "CIFAR-10 needs"]);
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("test.bin"), record(&[0, 0])).expect("writable");
    refused(folder.path(), &["train.bin", "CIFAR-100 needs"]);
}
