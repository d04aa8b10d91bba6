//! What the engine works out about a graph once: how each stage runs, how each value is kept from the forward to the
//! backward pass, where each gradient lies, and what each region writes.

use std::ops::Range;

use super::division::{portions, room};
use super::relus::Relus;
use super::stage::StagePlan;
use super::terms::MixTerms;
use super::{Options, Saved};
use crate::graph::{Graph, INPUT, NormId, Region, Source, Stage, TensorId, Term, TermWeight};

/// Where the gradient with respect to a stage's (normalised) output comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upstream {
    /// One term of a mix: the gradient of the mix times the term's weight.
    Term { mix: usize, term: usize },
    /// A stage or head, which leaves the gradient in the tensor's own buffer.
    Own,
}

/// How a tensor's values are kept from the forward to the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    F32,
    F16,
    /// Not at all: the pool of this stage is run again whenever it is read.
    Recomputed(usize),
}

impl Storage {
    /// Floats whose place `len` values take.
    pub fn floats(self, len: usize) -> usize {
        match self {
            Self::F32 => len,
            Self::F16 => len.div_ceil(2),
            Self::Recomputed(_) => 0,
        }
    }
}

/// What a region writes in either pass, and where.
#[derive(Debug, Default)]
pub(super) struct RegionPlan {
    /// Where the moments of each stage's output start, and how many there are in all.
    pub moments: Vec<usize>,
    pub moments_len: usize,
    /// Tensors whose gradients are written.
    pub targets: Vec<TensorId>,
    /// What the backward pass reduces over the batch, and where its sums start.
    pub reductions: Vec<(Reduction, usize)>,
    pub sums_len: usize,
    /// Where each stage's weight gradients start in those of a portion.
    pub weights: Vec<usize>,
    /// Stages that have weights, in the order of the flat vector, and where theirs start in those of a portion.
    pub weighted: Vec<(usize, usize)>,
    pub weights_len: usize,
    /// For each stage, what becomes of the gradient of each of its inputs.
    pub reads: Vec<Vec<Option<Written>>>,
    /// For each mix, its own target, and what becomes of each of its terms.
    pub mixes: Vec<(usize, Vec<Written>)>,
    /// States after their ReLU.
    pub relus: Relus,
    /// Images that are taken through the region together, operation by operation.
    pub group: usize,
}

/// Elements that as many images of what a stage reads or writes may have as are taken through a region together: 128
/// KiB. More operations in a row find their code and their weights in the caches, and the states that the next ones
/// read are still there. A pass at 8 channels takes 2 to 3 % less than image by image, at 16 channels 1 % less. Where
/// only what stages write counted, which at stride 2 is a quarter of what they read, a pass at 16 channels took 1 to 2
/// % more (AMD EPYC, Zen 5, 1 MB of second cache, `darts bench step`, 2026-11-29).
const GROUP_LEN: usize = 1 << 15;

/// Where the gradient of something that is read goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Index of the target; for a term of a mix only if its source is a state and its gradient is not computed with
    /// those of the state's pools.
    pub target: Option<usize>,
    /// Where its sums start, if there are any.
    pub sums: Option<usize>,
}

/// Sums over the batch that a region's barrier has to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// Σ dy and Σ dy·(z − mean) of a norm that a stage reads.
    Read(NormId),
    /// The same for a term of a mix.
    Term { mix: usize, term: usize },
}

#[derive(Debug)]
pub(super) struct Plan {
    pub stages: Vec<StagePlan>,
    /// Stages that have weights, in the order of the flat vector.
    pub weighted: Vec<usize>,
    /// Readers of each stage's output; several only of a pool.
    pub upstream: Vec<Vec<Upstream>>,
    /// By tensor.
    pub storage: Vec<Storage>,
    /// How the terms of each mix are computed.
    pub terms: Vec<MixTerms>,
    pub regions: Vec<RegionPlan>,
    /// By tensor: whether it depends on mixing weights, or on the image if the gradient with respect to that is wanted.
    /// A backward pass that gives no gradient of the weights has no use for the gradients of others.
    pub mixed: Vec<bool>,
    /// The region after whose backward pass a tensor's gradient is read no more.
    pub last_reader: Vec<usize>,
    /// Buffer of each tensor's gradient; tensors whose gradients never live at the same time share one.
    pub slots: Vec<Option<usize>>,
    /// Elements of each buffer per image.
    pub slot_lens: Vec<usize>,
}

impl Plan {
    /// `input_gradient`: whether the gradient with respect to the image is wanted.
    pub fn new(graph: &Graph, options: Options, input_gradient: bool) -> Self {
        let stages: Vec<StagePlan> =
            graph.stages.iter().map(|stage| StagePlan::new(graph, stage, options.fused, input_gradient)).collect();
        let mut weighted: Vec<usize> = (0..stages.len()).filter(|&stage| !stages[stage].weights.is_empty()).collect();
        weighted.sort_unstable_by_key(|&stage| stages[stage].weights.start);
        let mut is_state = vec![true; graph.tensors.len()];
        graph.stages.iter().for_each(|stage| is_state[stage.output] = false);
        let (storage, upstream) = (storage(graph, &stages, options.saved), upstream(graph));
        let of_mix = |mix| MixTerms::new(graph, &stages, &storage, &upstream, mix);
        let terms: Vec<MixTerms> = graph.mixes.iter().map(of_mix).collect();
        let of_region = |region| RegionPlan::new(graph, &stages, &terms, &is_state, region);
        let regions: Vec<RegionPlan> = graph.regions.iter().map(of_region).collect();
        let last_reader = last_readers(graph);
        let (slots, slot_lens) = gradient_slots(graph, &regions, &last_reader);
        let mixed = mixed(graph, input_gradient);
        Self { stages, weighted, upstream, storage, terms, regions, mixed, last_reader, slots, slot_lens }
    }

    /// Bytes of all buffers of an engine for batches of `batch` images.
    pub fn bytes(&self, graph: &Graph, batch: usize) -> usize {
        let mut image = self.slot_lens.iter().fold(0usize, |sum, &len| sum.saturating_add(len.saturating_mul(4)));
        for (shape, storage) in graph.tensors.iter().zip(&self.storage) {
            image = image.saturating_add(storage.floats(shape.len()).saturating_mul(4));
        }
        let weights = self.weights_len().saturating_mul(portions(batch)).saturating_add(graph.weights());
        image.saturating_mul(room(batch)).saturating_add(weights.saturating_mul(size_of::<f32>()))
    }

    /// Largest part of the weight gradients that one region computes.
    pub fn weights_len(&self) -> usize {
        self.regions.iter().map(|region| region.weights_len).max().unwrap_or(0)
    }
}

impl RegionPlan {
    fn new(graph: &Graph, stages: &[StagePlan], terms: &[MixTerms], is_state: &[bool], region: &Region) -> Self {
        let stages_of_region = region.stages.iter().map(|&stage| &graph.stages[stage]);
        let tensors =
            stages_of_region.flat_map(|stage| stage.inputs.iter().map(|source| source.tensor).chain([stage.output]));
        let largest = tensors.map(|tensor| graph.tensors[tensor].len()).max();
        let mut plan = Self { group: (GROUP_LEN / largest.unwrap_or(1).max(1)).max(1), ..Self::default() };
        for &stage in &region.stages {
            plan.add_stage(graph, &graph.stages[stage], &stages[stage]);
        }
        plan.relus = Relus::new(graph, stages, is_state, region);
        let starts = region.stages.iter().copied().zip(plan.weights.iter().copied());
        plan.weighted = starts.filter(|&(stage, _)| !stages[stage].weights.is_empty()).collect();
        plan.weighted.sort_unstable_by_key(|&(stage, _)| stages[stage].weights.start);
        for &mix in &region.mixes {
            let own = plan.target(graph.mixes[mix].output);
            let mut written = Vec::new();
            for (index, term) in graph.mixes[mix].terms.iter().enumerate() {
                plan.reductions.push((Reduction::Term { mix, term: index }, plan.sums_len));
                let sums = Some(plan.sums_len);
                plan.sums_len += sums_len(graph, term);
                let Source { tensor, norm } = term.source;
                let here = norm.is_none() && is_state[tensor] && terms[mix].backward_pair(index).is_none();
                let target = here.then(|| plan.target(tensor));
                written.push(Written { target, sums });
            }
            plan.mixes.push((own, written));
        }
        plan
    }

    /// The images of a chunk, `images` in all, in groups that are taken through the region together.
    pub fn groups(&self, images: usize) -> impl Iterator<Item = Range<usize>> {
        let group = self.group;
        (0..images).step_by(group).map(move |first| first..images.min(first + group))
    }

    fn add_stage(&mut self, graph: &Graph, stage: &Stage, plan: &StagePlan) {
        self.moments.push(self.moments_len);
        self.moments_len += if stage.norms.is_empty() { 0 } else { 2 * graph.tensors[stage.output].channels };
        self.weights.push(self.weights_len);
        self.weights_len += plan.weights.len();
        let reads = stage.inputs.iter().zip(&plan.input_gradient).map(|(source, &wanted)| {
            let target = wanted.then(|| self.target(source.tensor))?;
            let sums = source.norm.map(|norm| {
                let start = self.sums_len;
                self.reductions.push((Reduction::Read(norm), start));
                self.sums_len += 2 * graph.norms[norm].range.len();
                start
            });
            Some(Written { target: Some(target), sums })
        });
        let reads = reads.collect();
        self.reads.push(reads);
    }

    /// Index of a target, which is added if it is new.
    fn target(&mut self, tensor: TensorId) -> usize {
        let known = self.targets.iter().position(|&target| target == tensor);
        known.unwrap_or_else(|| {
            self.targets.push(tensor);
            self.targets.len() - 1
        })
    }
}

/// Sums that a term of a mix has.
pub(super) fn sums_len(graph: &Graph, term: &Term) -> usize {
    term.source.norm.map_or(1, |norm| 2 * graph.norms[norm].range.len())
}

fn upstream(graph: &Graph) -> Vec<Vec<Upstream>> {
    let mut by_tensor = vec![Vec::new(); graph.tensors.len()];
    for (mix, node) in graph.mixes.iter().enumerate() {
        for (term, source) in node.terms.iter().map(|term| term.source).enumerate() {
            by_tensor[source.tensor].push(Upstream::Term { mix, term });
        }
    }
    let upstream = |stage: &Stage| match std::mem::take(&mut by_tensor[stage.output]) {
        terms if terms.is_empty() => vec![Upstream::Own],
        terms => terms,
    };
    graph.stages.iter().map(upstream).collect()
}

fn mixed(graph: &Graph, input_gradient: bool) -> Vec<bool> {
    let mut mixed = vec![false; graph.tensors.len()];
    mixed[INPUT] = input_gradient;
    for region in &graph.regions {
        for mix in region.mixes.iter().map(|&mix| &graph.mixes[mix]) {
            let of_term = |term: &Term| matches!(term.weight, TermWeight::Alpha(_)) || mixed[term.source.tensor];
            mixed[mix.output] = mix.terms.iter().any(of_term);
        }
        for stage in region.stages.iter().map(|&stage| &graph.stages[stage]) {
            mixed[stage.output] = stage.inputs.iter().any(|source| mixed[source.tensor]);
        }
    }
    mixed
}

/// A pool of a stored image costs about what it takes to read its result from memory. States are kept as they are: they
/// are few, and everything is computed from them.
fn storage(graph: &Graph, stages: &[StagePlan], saved: Saved) -> Vec<Storage> {
    let mut storage = vec![Storage::F32; graph.tensors.len()];
    for (index, (stage, plan)) in graph.stages.iter().zip(stages).enumerate() {
        storage[stage.output] = match (&plan.pool, saved) {
            (Some(_), _) => Storage::Recomputed(index),
            (None, Saved::F16) => Storage::F16,
            (None, Saved::F32) => Storage::F32,
        };
    }
    storage
}

fn last_readers(graph: &Graph) -> Vec<usize> {
    let mut region_of = vec![0; graph.stages.len()];
    let mut last = vec![0; graph.tensors.len()];
    for (index, region) in graph.regions.iter().enumerate() {
        for &stage in &region.stages {
            region_of[stage] = index;
            last[graph.stages[stage].output] = index;
        }
        for &mix in &region.mixes {
            last[graph.mixes[mix].output] = index;
        }
    }
    let mut made_by = vec![None; graph.tensors.len()];
    graph.stages.iter().enumerate().for_each(|(index, stage)| made_by[stage.output] = Some(index));
    for mix in &graph.mixes {
        for stage in mix.terms.iter().filter_map(|term| made_by[term.source.tensor]) {
            last[mix.output] = last[mix.output].min(region_of[stage]);
        }
    }
    last
}

/// Buffers for gradients, in the order of the backward pass: what is read no more makes room for the next, in the
/// smallest buffer that holds it or else in the largest, which grows.
fn gradient_slots(graph: &Graph, regions: &[RegionPlan], last_reader: &[usize]) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut slots = vec![None; graph.tensors.len()];
    let mut lens: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let heads = std::iter::once(&graph.head).chain(&graph.auxiliary);
    let head_inputs: Vec<TensorId> = heads.flat_map(|head| &head.inputs).map(|source| source.tensor).collect();
    let mut allot = |tensor: TensorId, slots: &mut Vec<Option<usize>>, free: &mut Vec<usize>| {
        if slots[tensor].is_none() {
            let len = graph.tensors[tensor].len();
            let fits = |slot: usize| (lens[slot] < len, lens[slot].abs_diff(len));
            let best = (0..free.len()).min_by_key(|&index| fits(free[index]));
            let slot = best.map_or(lens.len(), |index| free.swap_remove(index));
            lens.resize(lens.len().max(slot + 1), 0);
            lens[slot] = lens[slot].max(len);
            slots[tensor] = Some(slot);
        }
    };
    head_inputs.iter().for_each(|&tensor| allot(tensor, &mut slots, &mut free));
    for (index, region) in regions.iter().enumerate().rev() {
        region.targets.iter().for_each(|&tensor| allot(tensor, &mut slots, &mut free));
        for (tensor, slot) in slots.iter().enumerate() {
            if let (&Some(slot), true, true) = (slot, last_reader[tensor] == index, tensor != INPUT) {
                free.push(slot);
            }
        }
    }
    (slots, lens)
}
