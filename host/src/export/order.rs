//! In which order tasks are executed, so that few bytes live at a time.
//!
//! To find the best order is hard in general. What is done here is a beam search below a limit: orders grow task by
//! task, those that have done the same tasks are one, and of the others those with the fewest bytes live go on. A task
//! that fits under the limit and does not add to what is live is executed at once: to do it later could only be worse.
//! Each order that is found lowers the limit, until none is.

use super::lower::BufferId;

/// What a task does to the buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    /// Buffers that are read, each once. Every task that writes one comes before.
    pub reads: Vec<BufferId>,
    /// The buffer that is written or added to; several tasks may have the same.
    pub writes: Option<BufferId>,
    /// Bytes that are needed only while the task is at work.
    pub scratch: u64,
    /// Whether what is written is what is read, so that they can be one buffer.
    pub identity: bool,
}

/// Tasks done, at most, by all orders of a search together; it decides how many orders go on.
const EFFORT: usize = 1 << 14;
/// Most orders that go on.
const WIDTH: usize = 64;

/// An order of all `tasks`, whose buffers have so many bytes. A buffer is live from the first task that writes it to
/// the last one that uses it.
pub(super) fn order(tasks: &[Task], buffers: &[u64]) -> Vec<usize> {
    let network = Network::new(tasks, buffers);
    let (mut order, mut peak) = network.search(u64::MAX).expect("no task waits for itself");
    while let Some(better) = peak.checked_sub(1).and_then(|limit| network.search(limit)) {
        (order, peak) = better;
    }
    order
}

/// The tasks, and who uses each buffer.
struct Network<'a> {
    tasks: &'a [Task],
    buffers: &'a [u64],
    readers: Vec<Vec<usize>>,
    writers: Vec<u32>,
}

impl<'a> Network<'a> {
    fn new(tasks: &'a [Task], buffers: &'a [u64]) -> Self {
        let mut network =
            Self { tasks, buffers, readers: vec![vec![]; buffers.len()], writers: vec![0; buffers.len()] };
        for (index, task) in tasks.iter().enumerate() {
            task.reads.iter().for_each(|&buffer| network.readers[buffer].push(index));
            task.writes.iter().for_each(|&buffer| network.writers[buffer] += 1);
        }
        network
    }

    /// An order in which at most `limit` bytes are live, if one is found, and the most that are.
    fn search(&self, limit: u64) -> Option<(Vec<usize>, u64)> {
        let width = (EFFORT / self.tasks.len().max(1)).clamp(1, WIDTH);
        let mut states = vec![State::new(self)];
        // What each order did last, and the link before: orders share their beginnings.
        let mut links: Vec<(usize, usize)> = Vec::new();
        let mut ends = vec![usize::MAX];
        for _ in self.tasks {
            let mut candidates: Vec<Candidate> = Vec::new();
            for (parent, state) in states.iter().enumerate() {
                state.candidates(self, limit, parent, &mut candidates);
            }
            candidates
                .sort_unstable_by_key(|candidate| (candidate.live, candidate.peak, candidate.parent, candidate.task));
            let mut chosen: Vec<Candidate> = Vec::with_capacity(width);
            for candidate in candidates {
                if chosen.len() < width && chosen.iter().all(|other| other.done != candidate.done) {
                    chosen.push(candidate);
                }
            }
            (states, ends) = chosen
                .into_iter()
                .map(|candidate| {
                    links.push((ends[candidate.parent], candidate.task));
                    (states[candidate.parent].after(self, &candidate), links.len() - 1)
                })
                .unzip();
        }
        let peak = states.first()?.peak;
        let mut order = Vec::with_capacity(self.tasks.len());
        let mut link = ends[0];
        while let Some(&(before, task)) = links.get(link) {
            order.push(task);
            link = before;
        }
        order.reverse();
        Some((order, peak))
    }
}

/// What an order has done.
#[derive(Clone)]
struct State {
    /// Tasks that can be next, in ascending order.
    ready: Vec<usize>,
    /// Of each task, the buffers that it reads and that are not complete.
    waiting: Vec<u32>,
    /// Of each buffer, the tasks that are still to write it.
    writers: Vec<u32>,
    /// Of each buffer, the tasks that are still to read or write it.
    uses: Vec<u32>,
    written: Vec<bool>,
    live: u64,
    peak: u64,
    /// A number for the set of tasks that are done.
    done: u64,
}

/// An order with one more task.
struct Candidate {
    peak: u64,
    live: u64,
    done: u64,
    parent: usize,
    task: usize,
}

impl State {
    fn new(network: &Network<'_>) -> Self {
        let waiting: Vec<u32> = network.tasks.iter().map(|task| task.reads.len() as u32).collect();
        let uses =
            network.writers.iter().zip(&network.readers).map(|(writers, readers)| writers + readers.len() as u32);
        Self {
            ready: (0..waiting.len()).filter(|&task| waiting[task] == 0).collect(),
            waiting,
            writers: network.writers.clone(),
            uses: uses.collect(),
            written: vec![false; network.buffers.len()],
            live: 0,
            peak: 0,
            done: 0,
        }
    }

    /// Adds the tasks that can be next below the limit, or the one that need not wait.
    fn candidates(&self, network: &Network<'_>, limit: u64, parent: usize, candidates: &mut Vec<Candidate>) {
        let first = candidates.len();
        for &task in &self.ready {
            let (peak, live) = self.bytes(network, task);
            let candidate = Candidate { peak: peak.max(self.peak), live, done: self.done ^ number(task), parent, task };
            if candidate.peak > limit {
                continue;
            }
            if live <= self.live {
                candidates.truncate(first);
                candidates.push(candidate);
                return;
            }
            candidates.push(candidate);
        }
    }

    /// Bytes that are live during a task, and after it.
    fn bytes(&self, network: &Network<'_>, task: usize) -> (u64, u64) {
        let task = &network.tasks[task];
        let fresh = task.writes.filter(|&buffer| !self.written[buffer]).map_or(0, |buffer| network.buffers[buffer]);
        let used = task.reads.iter().chain(&task.writes);
        let freed: u64 = used.filter(|&&buffer| self.uses[buffer] == 1).map(|&buffer| network.buffers[buffer]).sum();
        let one = task.identity && task.reads.iter().any(|&buffer| self.uses[buffer] == 1);
        (self.live + task.scratch + if one { 0 } else { fresh }, self.live + fresh - freed)
    }

    fn after(&self, network: &Network<'_>, candidate: &Candidate) -> Self {
        let mut state = self.clone();
        let task = &network.tasks[candidate.task];
        state.ready.retain(|&ready| ready != candidate.task);
        task.reads.iter().for_each(|&buffer| state.uses[buffer] -= 1);
        if let Some(buffer) = task.writes {
            state.uses[buffer] -= 1;
            state.written[buffer] = true;
            state.writers[buffer] -= 1;
            if state.writers[buffer] == 0 {
                for &reader in &network.readers[buffer] {
                    state.waiting[reader] -= 1;
                    if state.waiting[reader] == 0 {
                        state.ready.push(reader);
                    }
                }
                state.ready.sort_unstable();
            }
        }
        State { live: candidate.live, peak: candidate.peak, done: candidate.done, ..state }
    }
}

/// A number that stands for a task in the number of a set: the finalizer of SplitMix64, so that sets are told apart.
fn number(task: usize) -> u64 {
    let mut bits = (task as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Tasks over a few buffers, of which the last is read by nobody.
    fn random(rng: &mut ChaCha8Rng) -> (Vec<Task>, Vec<u64>) {
        let buffers: Vec<u64> = (0..rng.random_range(2..5)).map(|_| rng.random_range(1..9)).collect();
        let mut tasks = Vec::new();
        for (buffer, &bytes) in buffers.iter().enumerate() {
            for _ in 0..rng.random_range(1..3) {
                let reads: Vec<_> = (0..buffer).filter(|_| rng.random_bool(0.5)).collect();
                let identity = matches!(reads[..], [read] if buffers[read] == bytes);
                tasks.push(Task { reads, writes: Some(buffer), scratch: rng.random_range(0..3), identity });
            }
        }
        // In no order.
        for index in (1..tasks.len()).rev() {
            tasks.swap(index, rng.random_range(0..=index));
        }
        (tasks, buffers)
    }

    /// The most bytes that are live in an order, if what is read is complete.
    fn peak(network: &Network<'_>, order: &[usize]) -> Option<u64> {
        let mut state = State::new(network);
        for &task in order {
            state.ready.contains(&task).then_some(())?;
            let (peak, live) = state.bytes(network, task);
            let candidate = Candidate { peak: peak.max(state.peak), live, done: 0, parent: 0, task };
            state = state.after(network, &candidate);
        }
        assert_eq!((state.live, state.uses.iter().sum::<u32>()), (0, 0));
        Some(state.peak)
    }

    /// The least of all orders that begin so.
    fn least(network: &Network<'_>, order: &mut Vec<usize>) -> u64 {
        if order.len() == network.tasks.len() {
            return peak(network, order).unwrap_or(u64::MAX);
        }
        let mut least_peak = u64::MAX;
        for task in 0..network.tasks.len() {
            if !order.contains(&task) {
                order.push(task);
                least_peak = least_peak.min(least(network, order));
                order.pop();
            }
        }
        least_peak
    }

    #[test]
    fn few_tasks_are_in_the_best_of_all_orders() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..100 {
            let (tasks, buffers) = random(&mut rng);
            let network = Network::new(&tasks, &buffers);
            let order = order(&tasks, &buffers);
            let best = least(&network, &mut Vec::new());
            assert_eq!(peak(&network, &order), Some(best), "{tasks:?} over {buffers:?} in the order {order:?}");
        }
    }

    #[test]
    fn what_grows_late_is_computed_late() {
        // Two chains to one sum: the one whose large intermediate goes away is done first.
        let buffers = [1, 10, 1, 1];
        let tasks = [
            Task { writes: Some(0), ..Task::default() },
            Task { writes: Some(1), ..Task::default() },
            Task { reads: vec![1], writes: Some(2), ..Task::default() },
            Task { reads: vec![0], writes: Some(3), ..Task::default() },
            Task { reads: vec![2], writes: Some(3), ..Task::default() },
            Task { reads: vec![3], ..Task::default() },
        ];
        let order = order(&tasks, &buffers);
        assert_eq!(peak(&Network::new(&tasks, &buffers), &order), Some(11));
    }

    #[test]
    fn an_image_that_becomes_the_sum_takes_no_room() {
        let buffers = [4, 4];
        let identity = Task { reads: vec![0], writes: Some(1), scratch: 0, identity: true };
        let tasks = [Task { writes: Some(0), ..Task::default() }, identity, Task { reads: vec![1], ..Task::default() }];
        let network = Network::new(&tasks, &buffers);
        assert_eq!(peak(&network, &[0, 1, 2]), Some(4));
        assert_eq!(order(&tasks, &buffers), [0, 1, 2]);
    }
}
