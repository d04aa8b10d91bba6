//! The file of a case and the file of its results: safetensors with names and layouts of the original's state dict.

use std::error::Error;
use std::fs;
use std::path::Path;

use darts_host::data::Batch;
use darts_host::engine::RunningStatistics;
use darts_host::graph::Graph;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Forward and backward pass of a supernet, gradients of weights and α.
    Gradient,
    /// Search step of the first order.
    First,
    /// Search step of the second order.
    Second,
    /// Training step of a derived network.
    Train,
    /// Inference of an exported derived network.
    Infer,
}

/// The entry `case` of the file's metadata.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    /// What is to be done.
    pub work: Kind,
    /// `[C, H, W]`.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// Channels of the first cell.
    pub channels: usize,
    /// Cells.
    pub layers: usize,
    /// Threads.
    pub threads: usize,
    /// Cells of a derived network, in the original's notation; empty for a supernet.
    pub genotype: String,
    /// Learning rate of the weights.
    pub learning_rate: f32,
}

/// A case, read from its file.
pub struct Case {
    /// What is to be done.
    pub description: Description,
    bytes: Vec<u8>,
}

impl Case {
    /// Reads the file `path`.
    pub fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let bytes = fs::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let description = metadata.metadata().as_ref().and_then(|metadata| metadata.get("case"));
        let description = serde_json::from_str(description.ok_or("no metadata entry \"case\"")?)?;
        Ok(Self { description, bytes })
    }

    /// Shape and elements of the tensor `name`.
    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let tensor = tensors.tensor(name).map_err(|error| format!("{name}: {error}"))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("{name}: {:?}, not F32", tensor.dtype()).into());
        }
        let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        Ok((tensor.shape().to_vec(), values))
    }

    /// The two matrices of α, one behind the other.
    pub fn alpha(&self) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok([self.tensor("alpha/normal")?.1, self.tensor("alpha/reduce")?.1].concat())
    }

    /// The batch `name`, its images turned from `[N, C, H, W]` to `[N, H, W, C]`.
    pub fn batch(&self, name: &str) -> Result<Batch, Box<dyn Error>> {
        let [channels, height, width] = self.description.input;
        let pixels = height * width;
        let (_, values) = self.tensor(&format!("{name}/images"))?;
        let mut images = Vec::with_capacity(values.len());
        for image in values.chunks_exact(channels * pixels) {
            for pixel in 0..pixels {
                images.extend(image.iter().skip(pixel).step_by(pixels));
            }
        }
        let (_, labels) = self.tensor(&format!("{name}/labels"))?;
        Ok(Batch { images, labels: labels.into_iter().map(|label| label as u32).collect() })
    }

    /// Weights and running statistics of `graph`.
    pub fn state(&self, graph: &Graph) -> Result<(Vec<f32>, RunningStatistics), Box<dyn Error>> {
        let mut weights = vec![0.0; graph.weights()];
        for parameter in &graph.parameters {
            let (shape, values) = self.tensor(&format!("state/{}", parameter.name))?;
            if shape != parameter.original_shape() {
                return Err(format!("{}: {shape:?}, not {:?}", parameter.name, parameter.original_shape()).into());
            }
            parameter.from_original(&values, &mut weights[parameter.range.clone()]);
        }
        let mut statistics = RunningStatistics::new(graph);
        for norm in &graph.norms {
            let RunningStatistics { mean, variance } = &mut statistics;
            for (kind, values) in [("mean", mean), ("var", variance)] {
                let (_, stored) = self.tensor(&format!("state/{}.running_{kind}", norm.name))?;
                values[norm.range.clone()].copy_from_slice(&stored);
            }
        }
        Ok((weights, statistics))
    }
}

/// Tensors by name, on their way into a file.
#[derive(Default)]
pub struct Results {
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Results {
    /// Adds a tensor.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: &[f32]) {
        self.tensors.push((name.into(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }

    /// Adds a number.
    pub fn insert_number(&mut self, name: &str, value: f64) {
        self.insert(name, vec![1], &[value as f32]);
    }

    /// Adds every parameter's part of `values` as `{prefix}/{name}`.
    pub fn insert_parameters(&mut self, prefix: &str, graph: &Graph, values: &[f32]) {
        for parameter in &graph.parameters {
            let original = parameter.to_original(&values[parameter.range.clone()]);
            self.insert(format!("{prefix}/{}", parameter.name), parameter.original_shape(), &original);
        }
    }

    /// Adds every norm's running statistics.
    pub fn insert_statistics(&mut self, graph: &Graph, statistics: &RunningStatistics) {
        for norm in &graph.norms {
            for (kind, values) in [("mean", &statistics.mean), ("var", &statistics.variance)] {
                let name = format!("statistics/{}.running_{kind}", norm.name);
                self.insert(name, vec![norm.range.len()], &values[norm.range.clone()]);
            }
        }
    }

    /// Writes the file `path`.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut views = Vec::new();
        for (name, shape, bytes) in &self.tensors {
            views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        fs::write(path, safetensors::serialize(views, None)?)?;
        Ok(())
    }
}
