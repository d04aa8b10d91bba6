//! Kind `ops`: one layer, or one mixed operation, at a time.

use std::collections::BTreeSet;

use darts_core::Primitive;
use darts_host::engine::{Engine, Gradients, Inputs, Mode};
use darts_host::graph::{Graph, GraphBuilder, INPUT, Source, TensorId, Term, TermWeight};
use darts_kernels_simd::ImageShape;

use super::Machine;
use super::layout::{channels_first, image_shape, images, insert_parameters, insert_statistics, state};
use super::report::Checks;
use super::vectors::Vectors;

/// What the layer under test is called in its graph; the file has its names without this.
const LAYER: &str = "layer";

/// What a case's name says.
struct Layer<'a> {
    operation: &'a str,
    stride: usize,
    affine: bool,
}

/// Runs all cases of the file.
pub fn run(machine: &Machine, vectors: &Vectors, checks: &mut Checks) {
    let cases: BTreeSet<&str> = vectors.names().filter_map(|name| name.strip_suffix("/gy")).collect();
    checks.cases = cases.len();
    cases.iter().for_each(|case| run_case(machine, vectors, checks, case));
}

/// `OPERATION/sSTRIDE[/affineBOOL]`.
fn layer(case: &str) -> Layer<'_> {
    let parts: Vec<&str> = case.split('/').collect();
    let stride = parts[1].strip_prefix('s').and_then(|stride| stride.parse().ok());
    Layer {
        operation: parts[0],
        stride: stride.unwrap_or_else(|| panic!("{case}: no stride")),
        affine: parts.get(2) == Some(&"affine1"),
    }
}

fn run_case(machine: &Machine, vectors: &Vectors, checks: &mut Checks, case: &str) {
    let x = vectors.input(&format!("{case}/x"));
    let gy = vectors.input(&format!("{case}/gy"));
    let (graph, output) = graph(&layer(case), image_shape(x), image_shape(gy), case);
    let file_name = |name: &str| Some(format!("{case}/state/{}", name.strip_prefix(LAYER)?.strip_prefix('.')?));
    let (weights, mut statistics) = state(vectors, &graph, file_name);
    let mixed = graph.mix_weights > 0;
    let mix_weights = if mixed { vectors.floats(&format!("{case}/mix_weights")) } else { vec![] };
    let (images, dy) = (images(x), images(gy));
    let inputs = Inputs { weights: &weights, mix_weights: &mix_weights, images: &images, drop_path: None };

    let mut engine = Engine::new(graph.clone(), x.shape[0], machine.kernels);
    engine.keep_input_gradient();
    engine.forward(&machine.workers, inputs, Mode::Batch);
    engine.update_running(&mut statistics);
    let shape = image_shape(gy);
    checks.insert(format!("{case}/y"), &channels_first(&[(&engine.activation(output), shape)]));
    let (mut dw, mut dmix) = (vec![0.0; weights.len()], vec![0.0; mix_weights.len()]);
    let gradients = Gradients { weights: Some(&mut dw), mix_weights: &mut dmix };
    engine.backward_from(&machine.workers, inputs, output, &dy, gradients);
    // Nothing flows back through `none`, so that no gradient is there.
    let dx = engine.input_gradient().unwrap_or_else(|| vec![0.0; images.len()]);
    checks.insert(format!("{case}/gx"), &channels_first(&[(&dx, image_shape(x))]));
    checks.insert(format!("{case}/gmix"), &dmix);
    insert_parameters(checks, &graph, &format!("{case}/gparam/"), &dw);
    insert_statistics(checks, &graph, &format!("{case}/after/"), &statistics);
    strip_layer(checks);

    engine.forward(&machine.workers, inputs, Mode::Running(&statistics));
    checks.insert(format!("{case}/y_eval_after"), &channels_first(&[(&engine.activation(output), shape)]));
}

/// Drops the graph's name of the layer from the names of results.
fn strip_layer(checks: &mut Checks) {
    let computed = std::mem::take(&mut checks.computed);
    let renamed = computed.into_iter().map(|(name, values)| (name.replace(&format!("/{LAYER}."), "/"), values));
    checks.computed = renamed.collect();
}

/// A graph of the layer alone, and its output state.
fn graph(layer: &Layer, input: ImageShape, output: ImageShape, case: &str) -> (Graph, TensorId) {
    const CLASSES: usize = 2;
    let mut builder = GraphBuilder::new(input, CLASSES, layer.affine);
    let image = Source { tensor: INPUT, norm: None };
    let one = |source| Term { source, weight: TermWeight::One, drop_path: None };
    let (terms, mix_weights): (Vec<Term>, usize) = if layer.operation == "MixedOp" {
        (mixed_operation(&mut builder, image, layer.stride), Primitive::SEARCH.len())
    } else if layer.operation.starts_with("ReLUConvBN") {
        assert_eq!(layer.stride, 1, "{case}");
        (vec![one(builder.relu_conv_bn(LAYER, vec![image], output.channels))], 0)
    } else if layer.operation.starts_with("FactorizedReduce") {
        assert_eq!(layer.stride, 2, "{case}");
        (vec![one(builder.factorized_reduce(LAYER, vec![image], output.channels))], 0)
    } else {
        let source = builder.primitive(primitive(layer.operation), LAYER, image, layer.stride, false);
        (source.map(one).into_iter().collect(), 0)
    };
    let state = builder.mix("state", output, terms);
    let head = builder.head("classifier", vec![state], false);
    (builder.finish(head, None, vec![], mix_weights), state.tensor)
}

fn mixed_operation(builder: &mut GraphBuilder, input: Source, stride: usize) -> Vec<Term> {
    let term = |(column, primitive): (usize, Primitive)| {
        let source = builder.primitive(primitive, &format!("{LAYER}._ops.{column}"), input, stride, true)?;
        Some(Term { source, weight: TermWeight::Alpha(column), drop_path: None })
    };
    Primitive::SEARCH.into_iter().enumerate().filter_map(term).collect()
}

/// The primitive that a case is named after, such as `max_pool_3x3` for `max_pool_3x3_ties`.
fn primitive(operation: &str) -> Primitive {
    let named = |primitive: &Primitive| {
        operation.strip_prefix(primitive.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    Primitive::ALL.into_iter().find(named).unwrap_or_else(|| panic!("unknown operation '{operation}'"))
}
