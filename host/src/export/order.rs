//! In which order states are computed, so that few of them live at a time.

use crate::graph::{Graph, INPUT, Source, TensorId};

/// What makes each tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Producer {
    /// It is the image.
    Input,
    /// A stage, by index.
    Stage(usize),
    /// A mix, by index.
    Mix(usize),
}

/// Who makes each tensor of `graph`.
pub(super) fn producers(graph: &Graph) -> Vec<Producer> {
    let mut producers = vec![Producer::Input; graph.tensors.len()];
    for (index, stage) in graph.stages.iter().enumerate() {
        producers[stage.output] = Producer::Stage(index);
    }
    for (index, mix) in graph.mixes.iter().enumerate() {
        producers[mix.output] = Producer::Mix(index);
    }
    producers
}

/// A mix with the stages of its terms.
struct Unit {
    mix: usize,
    /// The states that are read, each once.
    reads: Vec<TensorId>,
}

/// The mixes on which the logits depend, in topological order: always next that which makes the memory in use grow least,
/// of equals the first. So what a later cell needs of a cell's output is computed as soon as it can be, and the output,
/// which is larger, makes way.
pub(super) fn order(graph: &Graph, producers: &[Producer]) -> Vec<usize> {
    let mut pending = needed(graph, producers);
    // The head is one more reader.
    let mut readers = vec![0; graph.tensors.len()];
    let head = states_read(graph, producers, &graph.head.inputs);
    for &tensor in head.iter().chain(pending.iter().flat_map(|unit| &unit.reads)) {
        readers[tensor] += 1;
    }
    let mut computed = vec![false; graph.tensors.len()];
    computed[INPUT] = true;
    let mut order = Vec::new();
    while !pending.is_empty() {
        let ready = |unit: &Unit| unit.reads.iter().all(|&tensor| computed[tensor]);
        // What a state adds, less the states that are read for the last time.
        let growth = |unit: &Unit| {
            let last = unit.reads.iter().filter(|&&tensor| readers[tensor] == 1 && tensor != INPUT);
            let freed: usize = last.map(|&tensor| graph.tensors[tensor].len()).sum();
            graph.tensors[graph.mixes[unit.mix].output].len() as i64 - freed as i64
        };
        let next =
            (0..pending.len()).filter(|&index| ready(&pending[index])).min_by_key(|&index| growth(&pending[index]));
        let Unit { mix, reads } = pending.remove(next.expect("the order is topological"));
        reads.iter().for_each(|&tensor| readers[tensor] -= 1);
        computed[graph.mixes[mix].output] = true;
        order.push(mix);
    }
    order
}

/// The mixes on which the logits depend, in the order of the graph.
fn needed(graph: &Graph, producers: &[Producer]) -> Vec<Unit> {
    let mut wanted = states_read(graph, producers, &graph.head.inputs);
    let mut units = Vec::new();
    // A mix comes after those that it reads.
    for (mix, node) in graph.mixes.iter().enumerate().rev() {
        if wanted.contains(&node.output) {
            let sources: Vec<Source> = node.terms.iter().map(|term| term.source).collect();
            let reads = states_read(graph, producers, &sources);
            wanted.extend(&reads);
            units.push(Unit { mix, reads });
        }
    }
    units.reverse();
    units
}

/// The states (or the image) that `sources` are computed from by stages alone, each once.
fn states_read(graph: &Graph, producers: &[Producer], sources: &[Source]) -> Vec<TensorId> {
    let mut states: Vec<TensorId> = sources
        .iter()
        .flat_map(|source| match producers[source.tensor] {
            Producer::Stage(stage) => states_read(graph, producers, &graph.stages[stage].inputs),
            Producer::Input | Producer::Mix(_) => vec![source.tensor],
        })
        .collect();
    states.sort_unstable();
    states.dedup();
    states
}
