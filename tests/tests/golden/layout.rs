//! The files' layouts (images `[N, C, H, W]`, weights by state-dict name) and this implementation's.

use darts_host::engine::{Engine, RunningStatistics};
use darts_host::graph::{Graph, TensorId};
use darts_kernels_simd::ImageShape;

use super::report::Checks;
use super::vectors::{Tensor, Vectors};

/// Images `[N, H, W, C]` from `[N, C, H, W]`.
pub fn images(tensor: &Tensor) -> Vec<f32> {
    let shape = image_shape(tensor);
    let mut values = Vec::with_capacity(tensor.values.len());
    for image in tensor.values.chunks_exact(shape.len()) {
        for pixel in 0..shape.pixels() {
            values.extend((0..shape.channels).map(|channel| image[channel * shape.pixels() + pixel] as f32));
        }
    }
    values
}

/// Shape of one image of `[N, C, H, W]`.
pub fn image_shape(tensor: &Tensor) -> ImageShape {
    let &[_, channels, height, width] = tensor.shape.as_slice() else { panic!("no images: {:?}", tensor.shape) };
    ImageShape::new(height, width, channels)
}

/// Images `[N, C, H, W]` from `[N, H, W, C]`; `parts` of equal height and width are concatenated along channels.
pub fn channels_first(parts: &[(&[f32], ImageShape)]) -> Vec<f32> {
    let count = parts[0].0.len() / parts[0].1.len();
    let mut values = Vec::new();
    for image in 0..count {
        for &(all, shape) in parts {
            let one = &all[image * shape.len()..][..shape.len()];
            for channel in 0..shape.channels {
                values.extend(one.iter().skip(channel).step_by(shape.channels));
            }
        }
    }
    values
}

/// The last forward pass's `tensors`, concatenated, as `[N, C, H, W]`.
pub fn activations(engine: &Engine, tensors: &[TensorId]) -> Vec<f32> {
    let values: Vec<_> = tensors.iter().map(|&tensor| engine.activation(tensor)).collect();
    let shapes = tensors.iter().map(|&tensor| engine.graph().tensors[tensor]);
    let parts: Vec<_> = values.iter().map(Vec::as_slice).zip(shapes).collect();
    channels_first(&parts)
}

/// Weights and running statistics (0 and 1 where the file has none) of `graph`. `name` turns a name of the graph into
/// the file's; parameters for which it gives `None` are zero.
pub fn state(vectors: &Vectors, graph: &Graph, name: impl Fn(&str) -> Option<String>) -> (Vec<f32>, RunningStatistics) {
    let mut weights = vec![0.0; graph.weights()];
    for parameter in &graph.parameters {
        if let Some(name) = name(&parameter.name) {
            assert_eq!(vectors.input(&name).shape, parameter.original_shape(), "{name}");
            parameter.from_original(&vectors.floats(&name), &mut weights[parameter.range.clone()]);
        }
    }
    let mut statistics = RunningStatistics::new(graph);
    for norm in &graph.norms {
        let RunningStatistics { mean, variance } = &mut statistics;
        for (kind, values) in [("running_mean", mean), ("running_var", variance)] {
            let name = name(&format!("{}.{kind}", norm.name));
            if let Some(name) = name.filter(|name| vectors.has(name)) {
                values[norm.range.clone()].copy_from_slice(&vectors.floats(&name));
            }
        }
    }
    (weights, statistics)
}

/// Adds every parameter's part of `values` as `{prefix}{name}`.
pub fn insert_parameters(checks: &mut Checks, graph: &Graph, prefix: &str, values: &[f32]) {
    for parameter in &graph.parameters {
        let original = parameter.to_original(&values[parameter.range.clone()]);
        checks.insert(format!("{prefix}{}", parameter.name), &original);
    }
}

/// Adds every norm's running statistics as `{prefix}{name}.running_mean` and `….running_var`.
pub fn insert_statistics(checks: &mut Checks, graph: &Graph, prefix: &str, statistics: &RunningStatistics) {
    for norm in &graph.norms {
        checks.insert(format!("{prefix}{}.running_mean", norm.name), &statistics.mean[norm.range.clone()]);
        checks.insert(format!("{prefix}{}.running_var", norm.name), &statistics.variance[norm.range.clone()]);
    }
}

/// The L2 norm.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
