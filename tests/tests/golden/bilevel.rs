//! Kinds `architect` and `trajectory`: steps of the bilevel optimization on a supernet.

use std::sync::Arc;

use darts_core::Genotype;
use darts_host::data::Batch;
use darts_host::engine::{Engine, Inputs, Mode};
use darts_host::graph::supernet::supernet;
use darts_host::graph::{Graph, Parameter};
use darts_host::search::alpha::{genotype, softmax_rows};
use darts_host::search::bilevel::{Bilevel, Objective, Order, Split, Wanted};
use darts_host::search::objective::SupernetObjective;
use darts_host::search::optimizer::{Adam, Sgd};
use serde_json::Value;

use super::Machine;
use super::layout::{images, insert_parameters, norm};
use super::report::Checks;
use super::search_net::{alpha, config, insert_alpha};
use super::vectors::Vectors;

/// The supernet's loss, remembering what the optimizer does not keep.
struct Recorded {
    supernet: SupernetObjective,
    /// Gradient of the weights in the last pass that asked for one on the training batch.
    train_gradient: Vec<f32>,
    /// Weights of the last pass on the unrolled copy.
    unrolled_weights: Vec<f32>,
}

impl Objective for Recorded {
    fn loss_grad(&mut self, split: Split, live: bool, weights: &[f32], alpha: &[f32], mut wanted: Wanted) -> f64 {
        let asked = Wanted { weights: wanted.weights.as_deref_mut(), alpha: wanted.alpha };
        let loss = self.supernet.loss_grad(split, live, weights, alpha, asked);
        if !live {
            self.unrolled_weights = weights.to_vec();
        }
        if let (Split::Train, Some(gradient)) = (split, wanted.weights) {
            self.train_gradient = gradient.to_vec();
        }
        loss
    }
}

/// The optimization of one file and the order in which the file has weights and norms.
struct Run<'a> {
    vectors: &'a Vectors,
    graph: Graph,
    objective: Recorded,
    bilevel: Bilevel,
    learning_rate: f32,
}

impl<'a> Run<'a> {
    /// At the file's initial weights and α. `images` is the name of any batch's images.
    fn new(machine: &Machine, vectors: &'a Vectors, images: &str, order: Order) -> Self {
        assert_eq!(vectors.hyper("r"), 0.01, "hyper.r");
        assert_eq!(vectors.hyper("arch_eps"), 1e-8, "hyper.arch_eps");
        assert_eq!(vectors.hyper("eta"), vectors.hyper("lr"), "hyper.eta");
        let x = vectors.input(images);
        let graph = supernet(&config(vectors, x)).expect("a valid size");
        let weights = from_layout(vectors, &graph, &vectors.floats("w0"));
        let alpha = alpha(vectors, "");
        let sgd = Sgd {
            momentum: vec![0.0; weights.len()],
            momentum_decay: vectors.hyper("momentum") as f32,
            weight_decay: vectors.hyper("weight_decay") as f32,
            grad_clip: vectors.hyper("grad_clip") as f32,
        };
        let engine = Engine::new(graph.clone(), x.shape[0], machine.kernels);
        let supernet = SupernetObjective::new(engine, Arc::clone(&machine.workers));
        Self {
            vectors,
            graph,
            objective: Recorded { supernet, train_gradient: vec![], unrolled_weights: vec![] },
            bilevel: Bilevel::new(weights, alpha.clone(), sgd, adam(vectors, alpha.len()), order, machine.kernels),
            learning_rate: vectors.hyper("lr") as f32,
        }
    }

    /// Puts the batch whose tensors are called `{name}{separator}x` and `…target` where a split's loss is taken.
    fn load(&mut self, split: Split, name: &str, separator: char) {
        let batch = Batch {
            images: images(self.vectors.input(&format!("{name}{separator}x"))),
            labels: self.vectors.targets(&format!("{name}{separator}target")),
        };
        match split {
            Split::Train => self.objective.supernet.train = batch,
            Split::Valid => self.objective.supernet.valid = batch,
        }
    }

    /// One weight step; its loss and gradient norm go to `{prefix}loss` and `{prefix}grad_norm`.
    fn weight_step(&mut self, checks: &mut Checks, prefix: &str) {
        let (loss, norm) = self.bilevel.weight_step(&mut self.objective, self.learning_rate);
        checks.insert_number(format!("{prefix}loss"), loss);
        checks.insert_number(format!("{prefix}grad_norm"), norm);
    }

    /// Adds flat weights as the tensor `name`.
    fn insert_weights(&self, checks: &mut Checks, name: String, values: &[f32]) {
        checks.insert(name, &to_layout(self.vectors, &self.graph, values));
    }

    /// Adds all running statistics, one norm behind the other.
    fn insert_statistics(&self, checks: &mut Checks, prefix: &str) {
        let statistics = &self.objective.supernet.statistics;
        for (kind, values) in [("mean", &statistics.mean), ("var", &statistics.variance)] {
            let mut joined = Vec::with_capacity(values.len());
            for entry in list(&self.vectors.json["bn_layout"]) {
                let name = text(&entry[0]).trim_end_matches(".running_mean");
                let norm = self.graph.norms.iter().find(|norm| norm.name == name);
                let norm = norm.unwrap_or_else(|| panic!("unknown norm {name}"));
                joined.extend_from_slice(&values[norm.range.clone()]);
            }
            checks.insert(format!("{prefix}bn_running_{kind}"), &joined);
        }
    }
}

fn adam(vectors: &Vectors, len: usize) -> Adam {
    let betas = [0, 1].map(|index| vectors.json["hyper"]["arch_betas"][index].as_f64().expect("hyper.arch_betas"));
    Adam::new(len, vectors.hyper("arch_lr"), betas, vectors.hyper("arch_weight_decay"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a name")
}

/// Each parameter of `graph` in the file's order, with where it starts in the file's flat vectors.
fn layout<'a>(vectors: &'a Vectors, graph: &'a Graph) -> Vec<(&'a Parameter, usize)> {
    let entries = list(&vectors.json["param_layout"]);
    assert_eq!(entries.len(), graph.parameters.len(), "param_layout");
    let find = |entry: &Value| {
        let name = text(&entry[0]);
        let parameter = graph.parameters.iter().find(|parameter| parameter.name == name);
        let parameter = parameter.unwrap_or_else(|| panic!("unknown parameter {name}"));
        let shape: Vec<usize> = serde_json::from_value(entry[1].clone()).expect("a shape");
        assert_eq!(shape, parameter.original_shape(), "{name}");
        (parameter, entry[2].as_u64().expect("an offset") as usize)
    };
    entries.iter().map(find).collect()
}

fn from_layout(vectors: &Vectors, graph: &Graph, flat: &[f32]) -> Vec<f32> {
    assert_eq!(flat.len(), graph.weights(), "weights");
    let mut weights = vec![0.0; flat.len()];
    for (parameter, start) in layout(vectors, graph) {
        let range = parameter.range.clone();
        parameter.from_original(&flat[start..start + range.len()], &mut weights[range]);
    }
    weights
}

fn to_layout(vectors: &Vectors, graph: &Graph, weights: &[f32]) -> Vec<f32> {
    let mut flat = vec![0.0; weights.len()];
    for (parameter, start) in layout(vectors, graph) {
        let original = parameter.to_original(&weights[parameter.range.clone()]);
        flat[start..start + original.len()].copy_from_slice(&original);
    }
    flat
}

fn order(tag: &str) -> Order {
    if tag.starts_with("first") { Order::First } else { Order::Second }
}

/// Whether a tag names a run of either order.
fn is_run(tag: &str) -> bool {
    tag.starts_with("first") || tag.starts_with("second")
}

/// One α step and one weight step of each order after some weight steps.
pub fn architect(machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let tags = vectors.tags(is_run);
    checks.cases = tags.len();
    for tag in tags {
        let mut run = Run::new(machine, vectors, "batch/train/x", order(tag));
        warm_up(&mut run, checks);
        if let Some((_, clip)) = tag.split_once("_clip") {
            run.bilevel.sgd.grad_clip = clip.parse().expect("a norm");
        }
        run.load(Split::Train, "batch/train", '/');
        run.load(Split::Valid, "batch/valid", '/');
        run.bilevel.alpha_step(&mut run.objective, run.learning_rate);
        insert_alpha(checks, &format!("{tag}/alpha_grad"), "", &run.bilevel.alpha_gradient);
        insert_alpha(checks, &format!("{tag}/alphas"), "_after_adam", &run.bilevel.alpha);
        if run.bilevel.order == Order::Second {
            insert_unrolled(&run, checks, &format!("{tag}/unrolled/"));
        }
        let prefix = format!("{tag}/wstep/");
        run.weight_step(checks, &prefix);
        run.insert_weights(checks, format!("{prefix}grad_unclipped"), &run.objective.train_gradient);
        run.insert_weights(checks, format!("{prefix}w"), &run.bilevel.weights);
        run.insert_weights(checks, format!("{prefix}momentum"), &run.bilevel.sgd.momentum);
        run.insert_statistics(checks, &prefix);
    }
}

/// Weight steps on the batches `warm0`, `warm1`, ….
fn warm_up(run: &mut Run, checks: &mut Checks) {
    for step in 0.. {
        let batch = format!("batch/warm{step}");
        if !run.vectors.has(&format!("{batch}/x")) {
            break;
        }
        run.load(Split::Train, &batch, '/');
        run.weight_step(checks, &format!("warm/{step}/"));
    }
    run.insert_weights(checks, "warm/w".to_owned(), &run.bilevel.weights);
    run.insert_weights(checks, "warm/momentum".to_owned(), &run.bilevel.sgd.momentum);
    run.insert_statistics(checks, "warm/");
}

/// The intermediates of the second order.
fn insert_unrolled(run: &Run, checks: &mut Checks, prefix: &str) {
    let unrolled = &run.bilevel.unrolled;
    run.insert_weights(checks, format!("{prefix}grad_w_train"), &unrolled.train_gradient);
    run.insert_weights(checks, format!("{prefix}theta_prime"), &run.objective.unrolled_weights);
    run.insert_weights(checks, format!("{prefix}vector"), &unrolled.vector);
    checks.insert_number(format!("{prefix}vector_norm"), norm(&unrolled.vector));
    checks.insert_number(format!("{prefix}R"), unrolled.radius);
    insert_alpha(checks, &format!("{prefix}dalpha_first"), "", &unrolled.direct);
    insert_alpha(checks, &format!("{prefix}grads_p"), "", &unrolled.positive);
    insert_alpha(checks, &format!("{prefix}grads_n"), "", &unrolled.negative);
    insert_alpha(checks, &format!("{prefix}implicit"), "", &unrolled.implicit);
}

/// Whole search steps of each order from the same start.
pub fn trajectory(machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let tags = vectors.tags(is_run);
    checks.cases = tags.len();
    for tag in tags {
        let mut run = Run::new(machine, vectors, "batch/0/train_x", order(tag));
        for step in 0.. {
            let batch = format!("batch/{step}/");
            if !vectors.has(&format!("{batch}train_x")) {
                break;
            }
            run.load(Split::Train, &format!("{batch}train"), '_');
            run.load(Split::Valid, &format!("{batch}valid"), '_');
            search_step(&mut run, checks, &format!("{tag}/step{step}/"));
        }
        run.insert_weights(checks, format!("{tag}/final_w"), &run.bilevel.weights);
        run.insert_statistics(checks, &format!("{tag}/final_"));
        evaluate(machine, &mut run, checks, tag);
        compare_genotype(&run, checks, tag);
    }
}

fn search_step(run: &mut Run, checks: &mut Checks, prefix: &str) {
    let report = run.bilevel.step(&mut run.objective, run.learning_rate);
    checks.insert_number(format!("{prefix}loss"), report.train_loss);
    checks.insert_number(format!("{prefix}grad_norm"), report.grad_norm);
    insert_alpha(checks, &format!("{prefix}alpha_grad"), "", &run.bilevel.alpha_gradient);
    insert_alpha(checks, &format!("{prefix}alphas"), "", &run.bilevel.alpha);
    let weights = &run.bilevel.weights;
    insert_parameters(checks, &run.graph, &format!("{prefix}w/"), weights);
    let parameters = layout(run.vectors, &run.graph);
    let values = || parameters.iter().map(|(parameter, _)| &weights[parameter.range.clone()]);
    let sums = values().map(|values| values.iter().map(|&value| f64::from(value)).sum());
    checks.computed.insert(format!("{prefix}w_sum_per_param"), sums.collect());
    checks.computed.insert(format!("{prefix}w_norm_per_param"), values().map(norm).collect());
}

/// Logits of the validation half's first batch in evaluation mode.
fn evaluate(machine: &Machine, run: &mut Run, checks: &mut Checks, tag: &str) {
    run.load(Split::Valid, "batch/0/valid", '_');
    let supernet = &mut run.objective.supernet;
    let mix_weights = softmax_rows(&run.bilevel.alpha);
    let (weights, images) = (&run.bilevel.weights, &supernet.valid.images);
    let inputs = Inputs { weights, mix_weights: &mix_weights, images, drop_path: None };
    supernet.engine.forward(&machine.workers, inputs, Mode::Running(&supernet.statistics));
    checks.insert(format!("{tag}/final_logits_eval"), supernet.engine.logits());
}

fn compare_genotype(run: &Run, checks: &mut Checks, tag: &str) {
    let stored = &run.vectors.json["final_genotypes"][tag];
    if stored.is_null() {
        return;
    }
    let ours: Genotype = genotype(&run.bilevel.alpha, run.vectors.size("steps"), run.vectors.size("multiplier"));
    let ours = serde_json::to_value(&ours).expect("a genotype");
    for cell in ["normal", "reduce"] {
        checks.exact(&format!("{tag}: the {cell} cell"), &ours[cell], &stored[cell]);
    }
}
