//! Groups stages and mixes into parallel regions: one region per batch-norm barrier and no other.

use darts_kernels_simd::ImageShape;

use super::{Mix, Node, Source, Stage};

/// What runs between two barriers, image by image: first the mixes in order, then the stages.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Indices of mixes; one may read another before it.
    pub mixes: Vec<usize>,
    /// Indices of stages; they are independent of each other.
    pub stages: Vec<usize>,
}

/// Puts every node into the earliest region in which all that it reads is complete.
pub(super) fn schedule(tensors: &[ImageShape], stages: &[Stage], mixes: &[Mix], order: &[Node]) -> Vec<Region> {
    // The first region whose mixes may read a tensor; its stages may too, unless a stage made the tensor.
    let mut ready = vec![0usize; tensors.len()];
    let mut regions: Vec<Region> = Vec::new();
    let latest = |ready: &[usize], sources: &mut dyn Iterator<Item = Source>| {
        sources.map(|source| ready[source.tensor]).max().unwrap_or(0)
    };
    for &node in order {
        let level = match node {
            Node::Stage(index) => latest(&ready, &mut stages[index].inputs.iter().copied()),
            Node::Mix(index) => latest(&ready, &mut mixes[index].terms.iter().map(|term| term.source)),
        };
        if regions.len() <= level {
            regions.resize_with(level + 1, Region::default);
        }
        match node {
            Node::Stage(index) => {
                ready[stages[index].output] = level + 1;
                regions[level].stages.push(index);
            }
            Node::Mix(index) => {
                ready[mixes[index].output] = level;
                regions[level].mixes.push(index);
            }
        }
    }
    regions
}
