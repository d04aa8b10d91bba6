use std::fs;

use tempfile::tempdir;

use super::files::{IDX_NAMES, gzip, idx, load, refused, write_idx_set};

const TRAIN_IMAGES: &str = IDX_NAMES[0];
const TRAIN_LABELS: &str = IDX_NAMES[1];
const TEST_IMAGES: &str = IDX_NAMES[2];
const TEST_LABELS: &str = IDX_NAMES[3];

#[test]
fn plain_and_gzipped_files_load_alike() {
    let folder = tempdir().expect("a folder");
    write_idx_set(folder.path());
    let plain = load(folder.path());
    assert_eq!((plain.train.len(), plain.test.len(), plain.classes()), (3, 2, 10));
    assert_eq!((plain.shape().height, plain.shape().width, plain.shape().channels), (2, 3, 1));
    assert_eq!(plain.train.image(1), [6, 7, 8, 9, 10, 11]);
    assert_eq!(plain.train.labels(), [7, 0, 9]);
    assert_eq!(plain.test.labels(), [1, 2]);
    assert_eq!(plain.train.class_names()[7], "7");
    for name in IDX_NAMES {
        let path = folder.path().join(name);
        fs::write(folder.path().join(format!("{name}.gz")), gzip(&fs::read(&path).expect("readable")))
            .expect("writable");
        fs::remove_file(path).expect("removable");
    }
    let gzipped = load(folder.path());
    assert_eq!(gzipped, plain);
    assert_eq!(gzipped.fingerprint(), plain.fingerprint());
}

#[test]
fn the_training_labels_tell_the_number_of_classes() {
    let cases = [
        ("letters", [26_u8, 1, 3], [25_u8, 26], 27_usize, "26"),
        ("letters", [255, 0, 0], [255, 0], 256, "255"),
        ("letters", [0, 0, 0], [0, 1], 2, "1"),
        ("Fashion-mnist", [9, 0, 0], [0, 9], 10, "Ankle boot"),
        ("Fashion-mnist", [8, 0, 0], [0, 8], 9, "8"),
    ];
    for (name, train, test, classes, last) in cases {
        let parent = tempdir().expect("a folder");
        let folder = parent.path().join(name);
        fs::create_dir(&folder).expect("creatable");
        write_idx_set(&folder);
        fs::write(folder.join(TRAIN_LABELS), idx(&[3], &train)).expect("writable");
        fs::write(folder.join(TEST_LABELS), idx(&[2], &test)).expect("writable");
        let source = load(&folder);
        assert_eq!((source.train.classes(), source.test.classes()), (classes, classes));
        assert_eq!(source.train.class_names().last().map(String::as_str), Some(last));
        if classes < 256 {
            fs::write(folder.join(TEST_LABELS), idx(&[2], &[0, classes as u8])).expect("writable");
            refused(&folder, &[TEST_LABELS, "byte 9:", &format!("label {classes} of image 1 is not below {classes}")]);
        }
    }
}

#[test]
fn every_fault_is_named_with_file_and_offset() {
    let pixels: Vec<u8> = (0..18).collect();
    let images = idx(&[3, 2, 3], &pixels);
    let mut wrong_magic = images.clone();
    wrong_magic[2] = 0x0d;
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        (TRAIN_IMAGES, wrong_magic, &["byte 0:", "magic", "0x00000d03", "0x00000803"]),
        (TRAIN_IMAGES, idx(&[18], &pixels), &["byte 0:", "magic"]),
        (TRAIN_IMAGES, images[..0].to_vec(), &["byte 0:", "header"]),
        (TRAIN_IMAGES, images[..11].to_vec(), &["byte 11:", "header"]),
        (TRAIN_IMAGES, images[..33].to_vec(), &["byte 4:", "[3, 2, 3] = 18 values"]),
        (TRAIN_IMAGES, [&images[..], &[0]].concat(), &["byte 34:", "goes on"]),
        (TRAIN_IMAGES, idx(&[3, 0, 3], &pixels), &["byte 8:", "size 0"]),
        (TRAIN_IMAGES, idx(&[u32::MAX; 3], &pixels), &["byte 4:", "more than the file can hold"]),
        (TEST_LABELS, idx(&[2], &[9, 10]), &["byte 9:", "label 10", "image 1", "not below 10"]),
        (TRAIN_LABELS, idx(&[2], &[7, 9]), &["byte 4:", "2 labels", "3 images", TRAIN_IMAGES]),
        (TRAIN_LABELS, images.clone(), &["byte 0:", "0x00000803", "0x00000801"]),
        (
            TEST_IMAGES,
            idx(&[2, 3, 2], &pixels[..12]),
            &["byte 8:", "are 3×2×1 (height, width, channels)", "images 2×3×1"],
        ),
    ];
    for (name, content, parts) in cases {
        let folder = tempdir().expect("a folder");
        write_idx_set(folder.path());
        fs::write(folder.path().join(name), content).expect("writable");
        refused(folder.path(), &[parts, &[name]].concat());
    }
}

#[test]
fn every_truncation_of_a_gzipped_file_is_refused() {
    let folder = tempdir().expect("a folder");
    write_idx_set(folder.path());
    let path = folder.path().join(TRAIN_IMAGES);
    let whole = gzip(&fs::read(&path).expect("readable"));
    fs::remove_file(&path).expect("removable");
    let gzipped = folder.path().join(format!("{TRAIN_IMAGES}.gz"));
    for length in 0..whole.len() {
        fs::write(&gzipped, &whole[..length]).expect("writable");
        refused(folder.path(), &["train-images-idx3-ubyte.gz: byte ", "fetch it again"]);
    }
    // The checksum at the end is held against the content.
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    fs::write(&gzipped, damaged).expect("writable");
    refused(folder.path(), &["train-images-idx3-ubyte.gz", "decompressed"]);
}

#[test]
fn a_gzipped_header_cannot_promise_more_than_the_file_can_hold() {
    let folder = tempdir().expect("a folder");
    write_idx_set(folder.path());
    fs::remove_file(folder.path().join(TRAIN_IMAGES)).expect("removable");
    let bomb = gzip(&idx(&[60_000, 60_000, 60_000], &[0; 100]));
    fs::write(folder.path().join(format!("{TRAIN_IMAGES}.gz")), bomb).expect("writable");
    refused(folder.path(), &["byte 4:", "more than the file can hold"]);
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempdir().expect("a folder");
    write_idx_set(folder.path());
    fs::remove_file(folder.path().join(TEST_IMAGES)).expect("removable");
    refused(folder.path(), &[TEST_IMAGES, "the folder needs"]);
}

#[test]
fn what_is_no_data_set_is_refused() {
    let folder = tempdir().expect("a folder");
    refused(folder.path(), &["no data set of a known form"]);
    refused(&folder.path().join("missing"), &["missing", "no such folder", "embedded"]);
}
