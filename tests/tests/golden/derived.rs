//! Kind `derived`: the network of a genotype with its auxiliary head, in evaluation and in training.

use darts_core::Genotype;
use darts_host::engine::{Engine, Gradients, Inputs, Mode, RunningStatistics};
use darts_host::graph::Graph;
use darts_host::graph::derived::{DerivedConfig, NetworkKind, derived};

use super::Machine;
use super::layout::{activations, image_shape, images, insert_parameters, insert_statistics, norm, state};
use super::report::Checks;
use super::vectors::Vectors;

/// Weight of the auxiliary head's loss.
const AUXILIARY: f32 = 0.4;

struct Network<'a> {
    machine: &'a Machine,
    graph: Graph,
    weights: Vec<f32>,
    statistics: RunningStatistics,
    images: Vec<f32>,
    targets: Vec<u32>,
}

/// Runs evaluation, and training with and without drop-path.
pub fn run(machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let x = vectors.input("x");
    let image = image_shape(x);
    let config = DerivedConfig {
        kind: if vectors.has("state/stem0.0.weight") { NetworkKind::ImageNet } else { NetworkKind::Cifar },
        input: [image.channels, image.height, image.width],
        classes: vectors.size("classes"),
        channels: vectors.size("C"),
        layers: vectors.size("layers"),
        auxiliary: vectors.names().any(|name| name.starts_with("state/auxiliary_head.")),
    };
    let genotype: Genotype = serde_json::from_value(vectors.json["genotype"].clone()).expect("a genotype");
    let graph = derived(&genotype, &config).expect("a valid size");
    if let Some(parameters) = vectors.json["params"].as_u64() {
        checks.exact("the number of parameters", &(graph.weights() as u64), &parameters);
    }
    let (weights, statistics) = state(vectors, &graph, |name| Some(format!("state/{name}")));
    let mut network =
        Network { machine, graph, weights, statistics, images: images(x), targets: vectors.targets("target") };
    network.evaluate(checks);
    // The original's auxiliary head rectifies the output of its cell in place: where that is the last cell, the
    // classifier sees it rectified in training.
    network.graph.head.relu = config.auxiliary && 2 * config.layers / 3 == config.layers - 1;
    network.train(checks, "train", None);
    let drop_paths = vectors.tags(|tag| tag.starts_with("drop_path"));
    checks.cases = 2 + drop_paths.len();
    for tag in drop_paths {
        let probability: f64 = tag["drop_path".len()..].parse().expect("a probability");
        let masks = vectors.floats(&format!("{tag}/masks"));
        let factors: Vec<f32> = masks.iter().map(|mask| mask / (1.0 - probability) as f32).collect();
        network.train(checks, tag, Some(&factors));
    }
}

impl Network<'_> {
    fn engine(&self) -> Engine {
        let images = self.images.len() / self.graph.input.len();
        Engine::new(self.graph.clone(), images, self.machine.kernels)
    }

    fn evaluate(&self, checks: &mut Checks) {
        let mut engine = self.engine();
        let inputs = Inputs { weights: &self.weights, mix_weights: &[], images: &self.images, drop_path: None };
        engine.forward(&self.machine.workers, inputs, Mode::Running(&self.statistics));
        checks.insert("eval/logits".to_owned(), engine.logits());
    }

    /// One pass of training from the given state.
    fn train(&self, checks: &mut Checks, tag: &str, drop_path: Option<&[f32]>) {
        let Self { machine, graph, weights, images, targets, .. } = self;
        let mut engine = self.engine();
        let inputs = Inputs { weights, mix_weights: &[], images, drop_path };
        engine.forward(&machine.workers, inputs, Mode::Batch);
        let mut statistics = self.statistics.clone();
        engine.update_running(&mut statistics);

        let mut dlogits = vec![0.0; engine.logits().len()];
        let mut loss = machine.kernels.softmax_cross_entropy(engine.logits(), targets, 0.0, &mut dlogits);
        checks.insert(format!("{tag}/logits"), engine.logits());
        let mut auxiliary = None;
        if let Some(logits) = engine.auxiliary_logits() {
            let mut dlogits = vec![0.0; logits.len()];
            let of_head = machine.kernels.softmax_cross_entropy(logits, targets, 0.0, &mut dlogits);
            loss += f64::from(AUXILIARY) * of_head;
            dlogits.iter_mut().for_each(|value| *value *= AUXILIARY);
            checks.insert(format!("{tag}/logits_aux"), logits);
            auxiliary = Some(dlogits);
        }
        checks.insert_number(format!("{tag}/loss"), loss);

        for (cell, tensors) in graph.cell_outputs.iter().skip(1).enumerate() {
            let output = activations(&engine, tensors);
            let sum: f64 = output.iter().map(|&value| f64::from(value.abs())).sum();
            checks.insert_number(format!("{tag}/cell_absmean/{cell}"), sum / output.len() as f64);
        }
        let mut dw = vec![0.0; weights.len()];
        let gradients = Gradients { weights: Some(&mut dw), mix_weights: &mut [] };
        engine.backward(&machine.workers, inputs, &dlogits, auxiliary.as_deref(), gradients);
        insert_parameters(checks, graph, &format!("{tag}/grad/"), &dw);
        let norms = graph.parameters.iter().map(|parameter| norm(&dw[parameter.range.clone()]));
        checks.computed.insert(format!("{tag}/grad_norm_per_param"), norms.collect());
        insert_statistics(checks, graph, &format!("{tag}/after/"), &statistics);
    }
}
