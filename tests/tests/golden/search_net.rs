//! Kind `search_net`: the supernet, forward and backward.

use darts_host::engine::{Engine, Gradients, Inputs, Mode};
use darts_host::graph::supernet::{SupernetConfig, supernet};
use darts_host::search::alpha::{softmax_backward, softmax_rows};

use super::Machine;
use super::layout::{activations, image_shape, images, insert_parameters, insert_statistics, state};
use super::report::Checks;
use super::vectors::{Tensor, Vectors};

/// The supernet's size, on images as in `x`.
pub fn config(vectors: &Vectors, x: &Tensor) -> SupernetConfig {
    let image = image_shape(x);
    SupernetConfig {
        input: [image.channels, image.height, image.width],
        classes: vectors.size("classes"),
        channels: vectors.size("C"),
        layers: vectors.size("layers"),
        nodes: vectors.size("steps"),
        multiplier: vectors.size("multiplier"),
    }
}

/// α of normal and of reduction cells, one behind the other.
pub fn alpha(vectors: &Vectors, prefix: &str) -> Vec<f32> {
    [vectors.floats(&format!("{prefix}alphas_normal")), vectors.floats(&format!("{prefix}alphas_reduce"))].concat()
}

/// Adds the two matrices of `values` as `{prefix}_normal{suffix}` and `{prefix}_reduce{suffix}`.
pub fn insert_alpha(checks: &mut Checks, prefix: &str, suffix: &str, values: &[f32]) {
    let (normal, reduce) = values.split_at(values.len() / 2);
    checks.insert(format!("{prefix}_normal{suffix}"), normal);
    checks.insert(format!("{prefix}_reduce{suffix}"), reduce);
}

/// Runs the network at every α of the file, from the same weights and running statistics.
pub fn run(machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let x = vectors.input("x");
    let graph = supernet(&config(vectors, x)).expect("a valid size");
    let mut engine = Engine::new(graph, x.shape[0], machine.kernels);
    let tags = vectors.tags(|tag| vectors.has(&format!("{tag}/alphas_normal")));
    checks.cases = tags.len();
    tags.iter().for_each(|tag| run_at(machine, vectors, checks, &mut engine, tag));
}

fn run_at(machine: &Machine, vectors: &Vectors, checks: &mut Checks, engine: &mut Engine, tag: &str) {
    let graph = engine.graph().clone();
    let (weights, mut statistics) = state(vectors, &graph, |name| Some(format!("w/{name}")));
    let mix_weights = softmax_rows(&alpha(vectors, &format!("{tag}/")));
    let images = images(vectors.input("x"));
    let inputs = Inputs { weights: &weights, mix_weights: &mix_weights, images: &images, drop_path: None };
    engine.forward(&machine.workers, inputs, Mode::Batch);
    engine.update_running(&mut statistics);

    let mut dlogits = vec![0.0; engine.logits().len()];
    let targets = vectors.targets("target");
    let loss = machine.kernels.softmax_cross_entropy(engine.logits(), &targets, 0.0, &mut dlogits);
    checks.insert(format!("{tag}/logits"), engine.logits());
    checks.insert_number(format!("{tag}/loss"), loss);
    for (index, tensors) in graph.cell_outputs.iter().enumerate() {
        let name = if index == 0 { "stem".to_owned() } else { format!("cell{}", index - 1) };
        checks.insert(format!("{tag}/act/{name}"), &activations(engine, tensors));
    }
    let (mut dw, mut dalpha) = (vec![0.0; weights.len()], vec![0.0; mix_weights.len()]);
    let gradients = Gradients { weights: Some(&mut dw), mix_weights: &mut dalpha };
    engine.backward(&machine.workers, inputs, &dlogits, None, gradients);
    softmax_backward(&mix_weights, &mut dalpha);
    insert_parameters(checks, &graph, &format!("{tag}/grad/"), &dw);
    insert_alpha(checks, &format!("{tag}/grad_alphas"), "", &dalpha);
    insert_statistics(checks, &graph, &format!("{tag}/after/"), &statistics);

    engine.forward(&machine.workers, inputs, Mode::Running(&statistics));
    checks.insert(format!("{tag}/logits_eval_after"), engine.logits());
}
