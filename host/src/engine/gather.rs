//! States that are channels of other states, shuffled: see [`Gather`].

use std::mem::{replace, take};

use super::Network;
use super::backward::Shared;
use super::chunk::{Chunk, Values};
use super::plan::Written;
use crate::graph::{Gather, Mix};

/// Channels of one source that come to lie at the same distance, that of the number of groups, in the result.
struct Run {
    /// First channel in the source.
    from: usize,
    /// First channel in the result.
    to: usize,
    len: usize,
}

impl Gather {
    /// What a result of `result` channels takes from a source of `channels` channels that starts at channel `start` of
    /// the concatenation.
    fn runs(self, start: usize, channels: usize, result: usize) -> impl Iterator<Item = Run> {
        let Self { groups, first, .. } = self;
        let group_channels = self.channels / groups;
        (0..groups).filter_map(move |group| {
            let group_start = group * group_channels;
            // Channels of the group that the source has, and those that the result has.
            let in_source = start.saturating_sub(group_start)..(start + channels).saturating_sub(group_start);
            let place = |end: usize| end.saturating_sub(group).div_ceil(groups);
            let low = in_source.start.max(place(first));
            let high = in_source.end.min(place(first + result)).min(group_channels);
            (low < high).then(|| Run {
                from: group_start + low - start,
                to: low * groups + group - first,
                len: high - low,
            })
        })
    }
}

impl Network {
    /// Each source's channels with the runs that go to the state of `mix`, which is one of `gather`.
    fn sources<'a>(
        &'a self,
        mix: &'a Mix,
        gather: Gather,
    ) -> impl Iterator<Item = (usize, impl Iterator<Item = Run>)> + 'a {
        let result = self.graph.tensors[mix.output].channels;
        mix.terms.iter().scan(0, move |start, term| {
            let channels = self.graph.tensors[term.source.tensor].channels;
            let runs = gather.runs(*start, channels, result);
            *start += channels;
            Some((channels, runs))
        })
    }

    /// Writes the state `y` of one image.
    pub(super) fn gather(&self, mix: &Mix, gather: Gather, all: &[Values], image: usize, y: &mut [f32]) {
        let result = self.graph.tensors[mix.output].channels;
        for (term, (channels, runs)) in mix.terms.iter().zip(self.sources(mix, gather)) {
            let x = self.stored(all, term.source.tensor, image);
            for Run { from, to, len } in runs {
                for (y, x) in y.chunks_exact_mut(result).zip(x.chunks_exact(channels)) {
                    let targets = y[to..].iter_mut().step_by(gather.groups);
                    targets.zip(&x[from..from + len]).for_each(|(y, x)| *y = *x);
                }
            }
        }
    }
}

impl Shared<'_> {
    /// Adds the gradient `dy` of one image of a state of `gather` to those of its sources.
    pub(super) fn scatter(
        &self,
        (mix, gather): (&Mix, Gather),
        terms: &[Written],
        image: usize,
        dy: &[f32],
        chunk: &mut Chunk,
    ) {
        let network = self.network;
        let result = network.graph.tensors[mix.output].channels;
        for ((term, &Written { target, .. }), (channels, runs)) in
            mix.terms.iter().zip(terms).zip(network.sources(mix, gather))
        {
            let Some(target) = target.filter(|_| self.is_wanted(term.source.tensor)) else { continue };
            let slot = network.slot(term.source.tensor);
            let gradient = take(&mut chunk.gradients[slot]);
            let dx = &mut gradient[Chunk::place(&network.graph, term.source.tensor, image)];
            if !replace(&mut chunk.written[target], true) {
                dx.fill(0.0);
            }
            for Run { from, to, len } in runs {
                for (dy, dx) in dy.chunks_exact(result).zip(dx.chunks_exact_mut(channels)) {
                    let sources = dy[to..].iter().step_by(gather.groups);
                    dx[from..from + len].iter_mut().zip(sources).for_each(|(dx, dy)| *dx += dy);
                }
            }
            chunk.gradients[slot] = gradient;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The channels of a result by the definition of the shuffle: groups as rows, taken column by column.
    fn expected(channels: usize, groups: usize) -> Vec<usize> {
        let columns = channels / groups;
        (0..columns).flat_map(|column| (0..groups).map(move |group| group * columns + column)).collect()
    }

    #[test]
    fn every_channel_of_any_range_comes_from_its_place() {
        for (channels, groups, sources) in [(16, 4, [4, 12]), (8, 2, [4, 4]), (12, 1, [12, 0]), (24, 4, [6, 18])] {
            let expected = expected(channels, groups);
            for first in 0..channels {
                for result in 1..=channels - first {
                    let gather = Gather { channels, groups, first };
                    let mut found = vec![usize::MAX; result];
                    let mut start = 0;
                    for source in sources {
                        for Run { from, to, len } in gather.runs(start, source, result) {
                            (0..len).for_each(|index| found[to + index * groups] = start + from + index);
                        }
                        start += source;
                    }
                    assert_eq!(found, expected[first..first + result], "{gather:?}");
                }
            }
        }
    }
}
