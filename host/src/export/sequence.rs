//! Puts units into an order, and writes down the steps that they then are.

use darts_core::{Place, Step};
use darts_kernels_simd::{ImageShape, Padding};

use super::lower::{BufferId, Draft, Layer, Lowering, Unit, WHOLE};
use super::order::{Task, order};
use super::{ExportError, unsound};

/// Steps in the order of execution.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub drafts: Vec<Draft>,
    /// Bytes of each buffer that is still there.
    pub buffers: Vec<u64>,
}

/// The steps of all units in an order that keeps few bytes live. An image that nobody reads any more becomes the sum
/// that it is the first term of, and takes no step.
///
/// # Errors
/// If a size is beyond the core's limits.
pub(super) fn sequence(lowering: Lowering) -> Result<Sequence, ExportError> {
    let Lowering { units, buffers } = lowering;
    let tasks = units.iter().map(task).collect::<Result<Vec<Task>, _>>()?;
    let mut users = vec![0; buffers.len()];
    for &buffer in tasks.iter().flat_map(|task| task.reads.iter().chain(&task.writes)) {
        users[buffer] += 1;
    }
    let order = order(&tasks, &buffers);
    let mut units: Vec<Option<Unit>> = units.into_iter().map(Some).collect();
    let mut writer =
        Writer { users, places: vec![None; buffers.len()], bytes: buffers, drafts: vec![], buffers: vec![] };
    for index in order {
        match units[index].take().expect("each unit is executed once") {
            Unit::Steps(drafts) => writer.steps(drafts),
            Unit::Add { source, target, shape, layer } => writer.add(source, target, shape, layer),
        }
        tasks[index].reads.iter().chain(&tasks[index].writes).for_each(|&buffer| writer.users[buffer] -= 1);
    }
    Ok(Sequence { drafts: writer.drafts, buffers: writer.buffers })
}

fn task(unit: &Unit) -> Result<Task, ExportError> {
    Ok(match unit {
        Unit::Steps(drafts) => {
            let mut task = Task { writes: drafts[0].target, ..Task::default() };
            for (index, draft) in drafts.iter().enumerate() {
                task.scratch = task.scratch.max(draft.step.sizes().map_err(unsound(index))?.scratch);
                task.reads.extend(draft.source);
            }
            task.reads.sort_unstable();
            task.reads.dedup();
            task
        }
        Unit::Add { source, target, .. } => {
            Task { reads: source.iter().copied().collect(), writes: Some(*target), scratch: 0, identity: true }
        }
    })
}

struct Writer {
    /// Of each buffer of the units, those that are still to read or write it.
    users: Vec<usize>,
    /// The buffer of the sequence that each of the units is, once it is written.
    places: Vec<Option<BufferId>>,
    /// Bytes of the buffers of the units.
    bytes: Vec<u64>,
    drafts: Vec<Draft>,
    buffers: Vec<u64>,
}

impl Writer {
    fn steps(&mut self, drafts: Vec<Draft>) {
        let target = drafts[0].target;
        let adds = target.is_some_and(|buffer| self.places[buffer].is_some());
        let target = target.map(|buffer| self.target(buffer));
        for mut draft in drafts {
            if let Step::Dense { accumulate, .. } | Step::Separable { accumulate, .. } = &mut draft.step {
                *accumulate |= adds;
            }
            self.drafts.push(Draft { source: draft.source.map(|buffer| self.source(buffer)), target, ..draft });
        }
    }

    fn add(&mut self, source: Option<BufferId>, target: BufferId, shape: ImageShape, layer: Layer) {
        let first = self.places[target].is_none();
        if let Some(source) = source.filter(|&source| first && self.users[source] == 1) {
            self.places[target] = Some(self.source(source));
            return;
        }
        let place = source.map_or(Place::External, |_| WHOLE);
        let step = if first {
            Step::Prelude { source: place, target: WHOLE, shape, padding: Padding::NONE, relu: false }
        } else {
            Step::Add { source: place, target: WHOLE, shape }
        };
        let source = source.map(|buffer| self.source(buffer));
        let target = Some(self.target(target));
        self.drafts.push(Draft { step, source, target, weights: None, layer });
    }

    fn source(&self, buffer: BufferId) -> BufferId {
        self.places[buffer].expect("what is read was written before")
    }

    fn target(&mut self, buffer: BufferId) -> BufferId {
        *self.places[buffer].get_or_insert_with(|| {
            self.buffers.push(self.bytes[buffer]);
            self.buffers.len() - 1
        })
    }
}
