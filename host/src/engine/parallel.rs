//! Parallelism, all of it: the threads, and the ways to run tasks on them.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::scratch::Scratch;

/// A thread pool and one scratch memory per thread.
#[derive(Debug)]
pub struct Workers {
    pool: rayon::ThreadPool,
    scratch: Vec<Mutex<Scratch>>,
}

/// The thread pool could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} threads: {source}")]
pub struct WorkersError {
    threads: usize,
    source: rayon::ThreadPoolBuildError,
}

impl Workers {
    /// Starts `threads` threads, or one per core for 0. Each flushes denormals to zero.
    pub fn new(threads: usize) -> Result<Self, WorkersError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .start_handler(|_| darts_kernels_simd::flush_denormals())
            .build()
            .map_err(|source| WorkersError { threads, source })?;
        let scratch = (0..pool.current_num_threads()).map(|_| Mutex::default()).collect();
        Ok(Self { pool, scratch })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The pool, for work that needs no scratch memory. Passes of an engine that run inside of it start without the
    /// hand-over from a thread outside.
    pub fn pool(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Runs `work` once per task, in parallel; returns when all are done.
    pub(super) fn run<T: Send>(&self, tasks: &mut [T], work: impl Fn(&mut T, &mut Scratch) + Sync) {
        self.pool.install(|| {
            tasks.par_iter_mut().with_max_len(1).for_each(|task| work(task, &mut self.own_scratch()));
        });
    }

    /// Runs `work` on disjoint parts of `data` in parallel; `range` gives each part's place, in ascending order.
    pub(super) fn run_parts<T: Sync>(
        &self,
        parts: &[T],
        data: &mut [f32],
        range: impl Fn(&T) -> Range<usize> + Sync,
        work: impl Fn(&T, &mut [f32]) + Sync,
    ) {
        self.pool.install(|| split_parts(parts, 0, data, &range, &work));
    }

    /// Prepares the scratch memory of every thread, so that none grows at work.
    pub(super) fn prepare(&self, prepare: impl Fn(&mut Scratch)) {
        for scratch in &self.scratch {
            prepare(&mut scratch.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn own_scratch(&self) -> MutexGuard<'_, Scratch> {
        let thread = rayon::current_thread_index().unwrap_or(0);
        self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts that are too small to be worth another task.
const SMALL: usize = 4;

/// `data` starts at place `offset`.
fn split_parts<T: Sync>(
    parts: &[T],
    offset: usize,
    data: &mut [f32],
    range: &(impl Fn(&T) -> Range<usize> + Sync),
    work: &(impl Fn(&T, &mut [f32]) + Sync),
) {
    if parts.len() <= SMALL {
        for part in parts {
            let Range { start, end } = range(part);
            work(part, &mut data[start - offset..end - offset]);
        }
        return;
    }
    let (left, right) = parts.split_at(parts.len() / 2);
    let middle = range(&right[0]).start;
    let (left_data, right_data) = data.split_at_mut(middle - offset);
    rayon::join(
        || split_parts(left, offset, left_data, range, work),
        || split_parts(right, middle, right_data, range, work),
    );
}
