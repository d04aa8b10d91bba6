//! The memory of all chunks: one mapping, made once, of which nothing is touched before a task writes to it. In one
//! piece it can lie in huge pages where the system has them; a pass goes through gigabytes, and looking up small pages
//! took 1 to 3 % of it (docs/performance-log.md).

use std::fmt::{Debug, Formatter, Result};
use std::mem::take;

use memmap2::MmapMut;
use self_cell::{MutBorrow, self_cell};

use super::chunk::Chunk;

/// Parts of a mapping, dealt out from front to back.
#[derive(Debug)]
pub(super) struct Parts<'a>(&'a mut [f32]);

impl<'a> Parts<'a> {
    /// Floats on a cache line: a vector of the widest instruction set is one line, and loads that cross lines cost
    /// twice.
    const LINE: usize = 16;

    /// The next `len` floats, all zero, from the start of a cache line.
    pub fn next(&mut self, len: usize) -> &'a mut [f32] {
        let (part, rest) = take(&mut self.0).split_at_mut(Self::taken(len));
        self.0 = rest;
        &mut part[..len]
    }

    /// Floats that a part of `len` takes: a line more than it fills. Images are multiples of 4 KiB, and what is read
    /// side by side would all lie in the same sets of the cache (Zen 5, `darts bench step`, 2026-11-29: 2.5 % of a
    /// pass).
    pub fn taken(len: usize) -> usize {
        len.next_multiple_of(Self::LINE) + Self::LINE
    }
}

type ChunkList<'a> = Vec<Chunk<'a>>;

self_cell!(
    /// Chunks and the mapping that their parts are of.
    pub(super) struct Chunks {
        owner: MutBorrow<MmapMut>,

        #[not_covariant]
        dependent: ChunkList,
    }
);

impl Chunks {
    /// Maps `len` floats and makes chunks of them.
    ///
    /// # Panics
    /// If the system has not as much memory.
    pub fn map(len: usize, make: impl for<'a> FnOnce(Parts<'a>) -> Vec<Chunk<'a>>) -> Self {
        let bytes = len * size_of::<f32>();
        let mapping = MmapMut::map_anon(bytes).unwrap_or_else(|error| panic!("{bytes} bytes of memory: {error}"));
        // A system without huge pages says so, and goes on with small ones.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        Self::new(MutBorrow::new(mapping), |mapping| make(Parts(bytemuck::cast_slice_mut(mapping.borrow_mut()))))
    }

    /// Shows `work` all chunks.
    pub fn read<R>(&self, work: impl for<'m> FnOnce(&[Chunk<'m>]) -> R) -> R {
        self.with_dependent(|_, chunks| work(chunks))
    }

    /// Lets `work` write to all chunks.
    pub fn write<R>(&mut self, work: impl for<'m> FnOnce(&mut [Chunk<'m>]) -> R) -> R {
        self.with_dependent_mut(|_, chunks| work(chunks))
    }
}

impl Debug for Chunks {
    fn fmt(&self, formatter: &mut Formatter) -> Result {
        self.with_dependent(|_, chunks| chunks.fmt(formatter))
    }
}
