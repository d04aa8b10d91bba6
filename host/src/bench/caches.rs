//! The data caches of the processor.

use std::fs;
use std::thread::available_parallelism;

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caches {
    /// First level, of each core.
    pub first: usize,
    /// Second level, of each core.
    pub second: usize,
    /// Third level.
    pub third: usize,
    /// Processors that share the third level.
    pub sharing: usize,
}

impl Caches {
    /// As Linux describes the first processor; sizes that are common where that is not told.
    pub fn detect() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let mut caches = Self { first: 32 << 10, second: 1 << 20, third: 32 << 20, sharing: processors };
        for index in 0..8 {
            let file = |name: &str| {
                fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"))
                    .unwrap_or_default()
            };
            let Some(bytes) = bytes(file("size").trim()) else { continue };
            match (file("level").trim(), file("type").trim()) {
                ("1", "Data" | "Unified") => caches.first = bytes,
                ("2", "Data" | "Unified") => caches.second = bytes,
                ("3", "Data" | "Unified") => {
                    caches.third = bytes;
                    caches.sharing = count(file("shared_cpu_list").trim()).clamp(1, processors);
                }
                _ => {}
            }
        }
        caches
    }
}

/// `32K` or `1M` in bytes.
fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "K") => (number, 1 << 10),
        (number, "M") => (number, 1 << 20),
        _ => (text, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// How many processors `0-3,8` are; 0 of what is no such list.
fn count(list: &str) -> usize {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.split(',').map(|part| range(part).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists() {
        assert_eq!(
            ["32K", "1M", "512", "", "K", "1.5M"].map(bytes),
            [Some(32 << 10), Some(1 << 20), Some(512), None, None, None]
        );
        assert_eq!(["0", "0-3", "0-1,8-9", "", "x"].map(count), [1, 4, 4, 0, 0]);
    }
}
