//! What of a graph has to be computed for its logits.

use crate::graph::{Graph, Source, TensorId};

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

/// The mixes on which the logits depend, in the order of the graph.
pub(super) fn needed(graph: &Graph, producers: &[Producer]) -> Vec<usize> {
    let mut wanted = states_read(graph, producers, &graph.head.inputs);
    let mut mixes = Vec::new();
    // A mix comes after those that it reads.
    for (mix, node) in graph.mixes.iter().enumerate().rev() {
        if wanted.contains(&node.output) {
            let sources: Vec<Source> = node.terms.iter().map(|term| term.source).collect();
            wanted.extend(states_read(graph, producers, &sources));
            mixes.push(mix);
        }
    }
    mixes.reverse();
    mixes
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
