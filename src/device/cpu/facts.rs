//! What the system says of the processor and its memory. Linux says it in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::device::DeviceFacts;

/// Of this machine, for so many threads.
pub(super) fn facts(threads: usize) -> DeviceFacts {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    // A container is ended by the system for more than this, whatever the machine has.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let free = free.map(|free| limit.map_or(free, |limit| free.min(limit)));
    let cache = last_caches(Path::new("/sys/devices/system/cpu"));
    DeviceFacts { threads: Some(threads), free, cache, ..DeviceFacts::default() }
}

/// Bytes that can be had without swapping.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// Bytes of all caches of the last level: each processor names its own, and with whom it shares it.
fn last_caches(processors: &Path) -> Option<u64> {
    let mut all: BTreeSet<(u32, String, u64)> = BTreeSet::new();
    for processor in fs::read_dir(processors).ok()?.flatten() {
        for index in fs::read_dir(processor.path().join("cache")).into_iter().flatten().flatten() {
            let text = |name: &str| fs::read_to_string(index.path().join(name)).map(|text| text.trim().to_owned());
            let (Ok(level), Ok(with), Ok(size)) = (text("level"), text("shared_cpu_list"), text("size")) else {
                continue;
            };
            let size = size.strip_suffix('K').and_then(|size| size.parse::<u64>().ok()?.checked_mul(1 << 10));
            if let (Ok(level), Some(size)) = (level.parse(), size) {
                all.insert((level, with, size));
            }
        }
    }
    let (last, ..) = all.last()?;
    Some(all.iter().filter(|(level, ..)| level == last).map(|(.., size)| size).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_that_are_shared_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (processor, index, level, size, with) in [
            (0, 0, "1", "48K", "0"),
            (0, 3, "3", "32768K", "0-1"),
            (1, 0, "1", "48K", "1"),
            (1, 3, "3", "32768K", "0-1"),
            (2, 3, "3", "16384K", "2"),
            (2, 4, "4", "lots", "2"),
        ] {
            let index = folder.path().join(format!("cpu{processor}/cache/index{index}"));
            fs::create_dir_all(&index).unwrap();
            for (name, text) in [("level", level), ("size", size), ("shared_cpu_list", with)] {
                fs::write(index.join(name), format!("{text}\n")).unwrap();
            }
        }
        fs::create_dir(folder.path().join("cpufreq")).unwrap();
        assert_eq!(last_caches(folder.path()), Some((32768 + 16384) << 10));
        assert_eq!(last_caches(&folder.path().join("none")), None);
    }

    #[test]
    fn free_memory_is_read_in_kib() {
        assert_eq!(available("MemTotal:  9 kB\nMemAvailable:   21264936 kB\n"), Some(21_264_936 << 10));
        assert_eq!(available("MemFree: 1 kB\n"), None);
        assert!(cfg!(not(target_os = "linux")) || facts(3).free > Some(1 << 20));
        assert_eq!(facts(3).threads, Some(3));
    }
}
