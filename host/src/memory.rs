//! How much memory this process has taken, and how much it may still take.

use std::fs;
use std::path::Path;

/// Bytes that can be allocated without swapping and without being killed or refused: the least that the machine, the
/// control groups (versions 1 and 2, as containers and batch systems set them) and the limit of the address space
/// leave. `None` where the system does not tell (Linux does).
pub fn available_bytes() -> Option<u64> {
    available_below(Path::new("/"))
}

/// The most physical memory that this process has held so far, in bytes. `None` where the system does not tell (Linux
/// does).
pub fn peak_rss_bytes() -> Option<u64> {
    kilobytes(&read(Path::new("/proc/self/status"))?, "VmHWM:")
}

/// [`available_bytes`], of the files below `root`.
fn available_below(root: &Path) -> Option<u64> {
    let machine = read(&root.join("proc/meminfo")).and_then(|text| kilobytes(&text, "MemAvailable:"));
    [machine, control_groups(root), address_space(root)].into_iter().flatten().min()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The number in a line such as `VmSize:   1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What `ulimit -v` leaves.
fn address_space(root: &Path) -> Option<u64> {
    let limits = read(&root.join("proc/self/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let taken = kilobytes(&read(&root.join("proc/self/status"))?, "VmSize:")?;
    Some(limit.saturating_sub(taken))
}

/// The least that the groups of this process and those above them leave.
fn control_groups(root: &Path) -> Option<u64> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (mount, [limit, usage]) = if controllers.is_empty() {
            ("sys/fs/cgroup", ["memory.max", "memory.current"])
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
        } else {
            return None;
        };
        let mount = root.join(mount);
        // In a container the path may be that outside of it; the mount itself is then the container's group.
        let above = Path::new(path).ancestors().map(|path| mount.join(path));
        above.filter_map(|group| left_in(&group, limit, usage)).min()
    });
    left.min()
}

/// What one group leaves. Pages of files that are not in use are given back when memory is short.
fn left_in(group: &Path, limit: &str, usage: &str) -> Option<u64> {
    // `max` where there is none.
    let limit: u64 = read(&group.join(limit))?.trim().parse().ok()?;
    let usage: u64 = read(&group.join(usage))?.trim().parse().ok()?;
    let statistics = read(&group.join("memory.stat")).unwrap_or_default();
    let value = |key: &str| {
        let line = statistics.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|number| number.parse::<u64>().ok())
    };
    // In version 1 the sum over the groups below has the prefix.
    let reclaimable = value("total_inactive_file").or_else(|| value("inactive_file")).unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files below it.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        root
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    5000 kB\n");

    #[test]
    fn the_machine_is_the_limit_where_nothing_else_is() {
        assert_eq!(available_below(system(&[]).path()), None);
        let root = system(&[
            MACHINE,
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/limits", "Max address space         unlimited            unlimited            bytes\n"),
            ("sys/fs/cgroup/memory.stat", "inactive_file 7\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(5000 * 1024));
        assert_eq!(available_bytes().is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn the_group_above_may_be_the_narrower_one() {
        let root = system(&[
            MACHINE,
            ("proc/self/cgroup", "0::/job/step\n"),
            ("sys/fs/cgroup/job/step/memory.max", "max\n"),
            ("sys/fs/cgroup/job/step/memory.current", "10\n"),
            ("sys/fs/cgroup/job/memory.max", "1000000\n"),
            ("sys/fs/cgroup/job/memory.current", "400000\n"),
            ("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 100000\nactive_file 3\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(700_000));
    }

    #[test]
    fn groups_of_version_1_and_of_a_container() {
        let root = system(&[
            MACHINE,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/outside/of/the/container\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(700_000));
    }

    #[test]
    fn a_limit_of_the_address_space_counts_what_is_taken() {
        let root = system(&[
            MACHINE,
            ("proc/self/limits", "Limit Soft Hard Units\nMax address space   3072000   unlimited   bytes\n"),
            ("proc/self/status", "Name:\tdarts\nVmSize:\t    2000 kB\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(1000 * 1024));
    }
}
