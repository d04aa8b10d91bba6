use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use super::{USAGE, contains, darts, failure, json, run, success};

/// `darts` with the cache in `folder`, and without the proxies of whoever runs the tests.
fn darts_with_cache(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = darts(arguments);
    for proxy in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    command.env("XDG_CACHE_HOME", folder);
    command
}

/// An IDX set of two classes, `[2, 2]` each, with the given training labels.
fn write_set(folder: &Path, labels: &[u8; 2]) {
    let idx = |sizes: &[u32], values: &[u8]| -> Vec<u8> {
        let header = [0x0800 + sizes.len() as u32].into_iter().chain(sizes.iter().copied());
        header.flat_map(u32::to_be_bytes).chain(values.iter().copied()).collect()
    };
    fs::create_dir_all(folder).expect("creatable");
    for (name, labels) in [("train", labels), ("t10k", &[0, 1])] {
        let images = idx(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
        fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).expect("writable");
        fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), idx(&[2], labels)).expect("writable");
    }
}

#[test]
fn the_list_says_what_is_there_and_a_name_stands_for_it() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let listed = |name: &str| {
        let list = json(&mut darts_with_cache(cache.path(), &["data", "list", "--json"]));
        let sets = list["sets"].as_array().expect("a list");
        sets.iter().find(|set| set["name"] == name).expect("in the list").clone()
    };
    let mnist = listed("mnist");
    assert!(mnist["place"].is_null() && mnist["debian_package"].is_null());
    assert_eq!(mnist["remote_bytes"], 11_594_722);
    assert_eq!(listed("fashion-mnist")["debian_package"], "dataset-fashion-mnist");
    let text = success(&mut darts_with_cache(cache.path(), &["data", "list"]));
    contains(&text, &["fashion-mnist", "cifar-10 ", "cifar-100", "11.06 MiB", "dataset-fashion-mnist", "not here"]);

    let missing = failure(&mut darts_with_cache(cache.path(), &["search", "--data", "mnist", "--json"]));
    contains(&missing, &["MNIST is not in the cache", "darts data get mnist"]);
    let folder = cache.path().join("darts/mnist");
    write_set(&folder, &[0, 1]);
    assert_eq!(listed("mnist")["place"], folder.to_str().expect("UTF-8"));
    let checked = json(&mut darts_with_cache(cache.path(), &["data", "check", "MNIST", "--json"]));
    assert_eq!((&checked["training_images"], &checked["published"]), (&2.into(), &serde_json::Value::Null));
}

#[test]
fn a_check_tells_form_sizes_and_faults() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = folder.path().join("set");
    write_set(&set, &[1, 1]);
    let set = set.to_str().expect("UTF-8");
    let text = success(&mut darts(&["data", "check", set]));
    contains(
        &text,
        &["IDX files", "2 training, 2 test", "1×2×2", "as published not known", "no images of 0 in training"],
    );
    assert_eq!(json(&mut darts(&["data", "check", set, "--json"]))["empty_classes"], serde_json::json!(["0"]));
    contains(&success(&mut darts(&["data", "check", "embedded"])), &["4000 training", "a subset of Fashion-MNIST"]);
    let labels = Path::new(set).join("train-labels-idx1-ubyte");
    fs::write(&labels, &fs::read(&labels).expect("readable")[..9]).expect("writable");
    contains(&failure(&mut darts(&["data", "check", set])), &["train-labels-idx1-ubyte: byte 4", "fetch it again"]);
    contains(&failure(&mut darts(&["data", "check", "nowhere"])), &["no such folder", "darts data list"]);
}

#[test]
fn offline_the_error_names_the_package_of_debian() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mirror = format!("http://{}/data", listener.local_addr().expect("an address"));
    drop(listener);
    let error = failure(&mut darts_with_cache(cache.path(), &["data", "get", "fashion-mnist", "--mirror", &mirror]));
    contains(&error, &["cannot fetch train-images-idx3-ubyte.gz", &mirror, "apt-get install dataset-fashion-mnist"]);
    let error = failure(&mut darts_with_cache(cache.path(), &["data", "get", "cifar10", "--mirror", &mirror]));
    contains(&error, &["cifar-10-binary.tar.gz", "Connection refused", "darts/cifar-10 yourself"]);
    assert_eq!(fs::read_dir(cache.path().join("darts")).expect("there").count(), 0, "nothing is left behind");
}

#[test]
fn a_server_that_stalls_or_has_another_file_is_named() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mirror = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for (index, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            if index == 0 {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin");
            } else {
                // Silent until the client is gone.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    let get = ["data", "get", "mnist", "--mirror", &mirror];
    contains(&failure(&mut darts_with_cache(cache.path(), &get)), &["has 5 bytes there, not 9912422"]);
    let impatient = [&get[..], &["--timeout", "1"]].concat();
    contains(&failure(&mut darts_with_cache(cache.path(), &impatient)), &["silent for 1 s"]);
}

#[test]
fn data_sets_and_mirrors_that_do_not_exist_are_wrong_usage() {
    for arguments in [
        &["data"][..],
        &["data", "get", "imagenet"],
        &["data", "get", "mnist", "--mirror", "ftp://example.org"],
        &["data", "get", "mnist", "--timeout", "0"],
        &["data", "check", ""],
    ] {
        let output = run(&mut darts(arguments));
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}");
    }
    contains(&success(&mut darts(&["data", "get", "--help"])), &["SHA-256", "--mirror", "HTTPS_PROXY"]);
}
