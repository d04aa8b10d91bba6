//! Reading of the files: a description in JSON, tensors in safetensors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One tensor, whatever its type in the file.
#[derive(Debug)]
pub struct Tensor {
    /// Shape; images are `[N, C, H, W]`, filters `[O, I, H, W]`.
    pub shape: Vec<usize>,
    /// Elements, row by row.
    pub values: Vec<f64>,
    /// How far the original's run in single precision is from the one in double precision.
    pub deviation: f64,
}

/// One file of vectors.
#[derive(Debug)]
pub struct Vectors {
    /// Name of the file without its extension.
    pub name: String,
    /// The description.
    pub json: Value,
    tensors: BTreeMap<String, Tensor>,
    /// Names of tensors that were asked for as inputs.
    inputs: RefCell<BTreeSet<String>>,
}

/// The descriptions in `folder`, by name.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

impl Vectors {
    /// Reads a description and, where it lists tensors, the tensors.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let json: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        let tensors = match &json["tensors"] {
            Value::Object(listed) => read_tensors(&path.with_extension("safetensors"), listed),
            _ => BTreeMap::new(),
        };
        Self { name, json, tensors, inputs: RefCell::default() }
    }

    /// What the file holds.
    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or("none")
    }

    /// A size of the configuration.
    pub fn size(&self, key: &str) -> usize {
        let value = self.json["config"][key].as_u64();
        value.unwrap_or_else(|| panic!("config.{key} is no size")) as usize
    }

    /// A hyper-parameter.
    pub fn hyper(&self, key: &str) -> f64 {
        self.json["hyper"][key].as_f64().unwrap_or_else(|| panic!("hyper.{key} is no number"))
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor that is given to the computation.
    pub fn input(&self, name: &str) -> &Tensor {
        let tensor = self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        self.inputs.borrow_mut().insert(name.to_owned());
        tensor
    }

    /// The values of an input in single precision, which all inputs have.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.input(name).values.iter().map(|&value| value as f32).collect()
    }

    /// Class indices.
    pub fn targets(&self, name: &str) -> Vec<u32> {
        self.input(name).values.iter().map(|&value| value as u32).collect()
    }

    /// Number of tensors that were used as inputs.
    pub fn inputs(&self) -> usize {
        self.inputs.borrow().len()
    }

    /// The tensors that are no inputs: results to compare with.
    pub fn results(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let inputs = self.inputs.borrow().clone();
        let results = self.tensors.iter().filter(move |(name, _)| !inputs.contains(*name));
        results.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The first components of all names (up to the first `/`) that `keep`.
    pub fn tags(&self, keep: impl Fn(&str) -> bool) -> Vec<&str> {
        let tags: BTreeSet<&str> = self.names().filter_map(|name| name.split_once('/')).map(|(tag, _)| tag).collect();
        tags.into_iter().filter(|tag| keep(tag)).collect()
    }
}

fn read_tensors(path: &Path, listed: &serde_json::Map<String, Value>) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stored: BTreeSet<&str> = file.names().into_iter().collect();
    let described: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
    assert!(stored == described, "{}: its tensors are not those of the description", path.display());
    let read = |(name, description): (&String, &Value)| {
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let values = match view.dtype() {
            Dtype::F32 => elements(view.data(), |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F64 => elements(view.data(), f64::from_le_bytes),
            Dtype::I64 => elements(view.data(), |bytes| i64::from_le_bytes(bytes) as f64),
            other => panic!("{name}: unknown type {other:?}"),
        };
        let deviation = description["f32_run_max_abs_dev"].as_f64().unwrap_or(0.0);
        (name.clone(), Tensor { shape: view.shape().to_vec(), values, deviation })
    };
    listed.iter().map(read).collect()
}

fn elements<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| convert(bytes)).collect()
}
