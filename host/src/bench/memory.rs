//! The memory that this process has taken.

use std::fs;

/// The most physical memory that this process has held so far, in bytes; `None` where the system does not tell (Linux
/// does).
pub fn peak_rss_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
