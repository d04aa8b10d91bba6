//! How the terms of a mix are computed: those whose values are kept one by one, and all that is made of one state
//! without weights together.

use super::plan::{Storage, Upstream};
use super::stage::StagePlan;
use crate::graph::{Graph, Mix, Term, TermWeight};

/// The terms of a mix, by their index.
#[derive(Debug)]
pub(super) struct MixTerms {
    /// Terms whose values are kept, in order, but for those that a pool goes with.
    pub kept: Vec<usize>,
    /// The others.
    pub pools: Vec<PoolTerms>,
}

/// Pools whose values are not kept, and what goes with them.
#[derive(Debug)]
pub(super) enum PoolTerms {
    One(usize),
    Pair(PoolPair),
}

/// Both pools of a state with the same window, and the state itself where it is a term, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolPair {
    pub maximum: usize,
    pub average: usize,
    pub state: Option<usize>,
    /// Whether their backward passes are one: all mixes that read one of the pools read both, through norms, and there
    /// is a kernel for the window. Graphs have one stage for each pool of a state, so that all these mixes pair the
    /// same two.
    pub backward: bool,
}

impl MixTerms {
    pub fn new(
        graph: &Graph,
        stages: &[StagePlan],
        storage: &[Storage],
        upstream: &[Vec<Upstream>],
        mix: &Mix,
    ) -> Self {
        let pool = |&term: &usize| match storage[mix.terms[term].source.tensor] {
            Storage::Recomputed(stage) => stages[stage].pool.as_ref().map(|pool| (stage, pool)),
            _ => None,
        };
        let mut all: Vec<usize> = (0..mix.terms.len()).collect();
        let mut pools = Vec::new();
        while let Some((at, (stage, first))) = all.iter().enumerate().find_map(|(at, term)| Some((at, pool(term)?))) {
            let one = all.remove(at);
            let normed = |term: usize| mix.terms[term].source.norm.is_some();
            let other = |(at, term): (usize, &usize)| {
                let (other, pool) = pool(term)?;
                (normed(*term) && first.pairs_with(pool)).then_some((at, other))
            };
            let Some((at, other)) = all.iter().enumerate().find_map(other).filter(|_| normed(one)) else {
                pools.push(PoolTerms::One(one));
                continue;
            };
            let term = all.remove(at);
            let (maximum, average) = if first.is_maximum() { (one, term) } else { (term, one) };
            let is_state = |&term: &usize| {
                let Term { source, weight, .. } = mix.terms[term];
                let summed = source.norm.is_none() && matches!(weight, TermWeight::Alpha(_));
                summed && source.tensor == first.input() && graph.tensors[source.tensor] == graph.tensors[mix.output]
            };
            let state = all.iter().position(is_state).map(|at| all.remove(at));
            let [readers, others] = [stage, other].map(|stage| readers(graph, &upstream[stage]));
            let backward = readers.is_some() && readers == others && first.has_pair_backward();
            pools.push(PoolTerms::Pair(PoolPair { maximum, average, state, backward }));
        }
        Self { kept: all, pools }
    }

    /// The pair that a term belongs to, if the backward passes of that are one.
    pub fn backward_pair(&self, term: usize) -> Option<PoolPair> {
        self.pools.iter().find_map(|pools| match *pools {
            PoolTerms::Pair(pair) => {
                let PoolPair { maximum, average, state, backward } = pair;
                (backward && [Some(maximum), Some(average), state].contains(&Some(term))).then_some(pair)
            }
            PoolTerms::One(_) => None,
        })
    }
}

/// The mixes that read a stage's output, if all do so through norms.
fn readers(graph: &Graph, upstream: &[Upstream]) -> Option<Vec<usize>> {
    let reader = |&upstream: &Upstream| match upstream {
        Upstream::Term { mix, term } => graph.mixes[mix].terms[term].source.norm.map(|_| mix),
        Upstream::Own => None,
    };
    upstream.iter().map(reader).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;
    use crate::engine::plan::Plan;
    use crate::graph::supernet::{SupernetConfig, supernet};

    #[test]
    fn pools_of_an_edge_are_computed_together_with_its_skip_connection() {
        let config = SupernetConfig { input: [3, 8, 8], classes: 10, channels: 4, layers: 3, nodes: 4, multiplier: 4 };
        let graph = supernet(&config).unwrap();
        let plan = Plan::new(&graph, Options::default(), false);
        let mut pairs = [0; 2];
        for (mix, MixTerms { kept, pools }) in graph.mixes.iter().zip(&plan.terms) {
            let mut all = kept.clone();
            for pools in pools {
                let PoolTerms::Pair(PoolPair { maximum, average, state, backward }) = *pools else {
                    panic!("{}: {pools:?}", mix.name)
                };
                let pool = |term: usize| match plan.storage[mix.terms[term].source.tensor] {
                    Storage::Recomputed(stage) => plan.stages[stage].pool.as_ref().unwrap(),
                    _ => panic!("term {term} of {} is kept", mix.name),
                };
                assert!(pool(maximum).is_maximum() && pool(maximum).pairs_with(pool(average)), "{}", mix.name);
                assert!(backward, "{}: their backward passes are one", mix.name);
                assert!(state.is_none_or(|state| mix.terms[state].source.tensor == pool(maximum).input()));
                pairs[usize::from(state.is_some())] += 1;
                all.extend([maximum, average].into_iter().chain(state));
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..mix.terms.len()), "{}: each term once", mix.name);
        }
        // Of three cells of 14 edges the last two reduce, each at the 8 edges from its inputs.
        assert_eq!(pairs, [16, 26]);
    }
}
