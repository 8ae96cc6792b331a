//! On which machine it was measured: what the system says of it.

use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::report::{Folder, Machine};
use super::told;
use crate::receipt::{System, ThisMachine};

impl Machine {
    /// This machine, and the file system of `folder`, where files are written and read. What the system does not tell is
    /// empty, 0 or `None`: nothing fails.
    #[must_use]
    pub fn here(folder: Option<&Path>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let folder = folder.map(Folder::of);
        Self { threads, folder, ..Self::of(&Root(PathBuf::from("/"))) }
    }

    /// What is written below a root.
    fn of(root: &Root) -> Self {
        let cpuinfo = root.read("proc/cpuinfo");
        let of_cpu = |name: &str| field(&cpuinfo, name).map(told).filter(|value| !value.is_empty());
        // ARM has numbers there and no name; some boards say what they are elsewhere.
        let cpu = of_cpu("model name").or_else(|| of_cpu("Processor")).unwrap_or_else(|| {
            let model = told(root.read("sys/firmware/devicetree/base/model").trim_matches('\0'));
            if model.is_empty() { std::env::consts::ARCH.to_owned() } else { model }
        });
        let memory = field(&root.read("proc/meminfo"), "MemTotal")
            .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024));
        let kernel = ["ostype", "osrelease"].map(|name| told(&root.read(&format!("proc/sys/kernel/{name}"))));
        let load = root.read("proc/loadavg").split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
        let governor = told(&root.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
        Self {
            cpu,
            memory,
            kernel: kernel.join(" ").trim().to_owned(),
            load: load.filter(|load| load.is_finite() && *load >= 0.0).unwrap_or(0.0),
            virtual_machine: is_virtual(root, &cpuinfo),
            governor: (!governor.is_empty()).then_some(governor),
            ..Self::default()
        }
    }
}

impl Folder {
    /// A folder, and the type of its file system as the mount table has it: empty if that is not known.
    pub(super) fn of(path: &Path) -> Self {
        let kind = || {
            let id = ThisMachine.mount_id(&File::open(path).ok()?).ok()?;
            Some(told(&ThisMachine.mount(id).ok()??.kind))
        };
        let full = fs::canonicalize(path);
        let path = full.as_deref().unwrap_or(path).to_string_lossy().into_owned();
        Self { path, file_system: kind().unwrap_or_default() }
    }

    /// Whether its files lie in memory, where there is no disk to read them from.
    pub(super) fn in_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs" | "hugetlbfs")
    }
}

/// Bytes of memory that can be had without others having to give any up, in this process's group of processes too, where
/// that is limited.
pub(super) fn room() -> Option<u64> {
    let root = Root(PathBuf::from("/"));
    let info = root.read("proc/meminfo");
    let kib: u64 = field(&info, "MemAvailable")?.strip_suffix("kB")?.trim().parse().ok()?;
    let limit = root.read("sys/fs/cgroup/memory.max").trim().parse().unwrap_or(u64::MAX);
    // Something is left for the others.
    Some(kib.saturating_mul(1024).min(limit) / 10 * 9)
}

/// Whether a hypervisor is below: x86 has a flag for it, and others say whose machine it is.
fn is_virtual(root: &Root, cpuinfo: &str) -> Option<bool> {
    if let Some(flags) = field(cpuinfo, "flags") {
        return Some(flags.split_whitespace().any(|flag| flag == "hypervisor"));
    }
    const MAKERS: [&str; 9] =
        ["QEMU", "KVM", "VMware", "Xen", "innotek", "VirtualBox", "Amazon EC2", "Google Compute", "Virtual Machine"];
    let said = ["sys_vendor", "product_name", "board_name"].map(|name| root.read(&format!("sys/class/dmi/id/{name}")));
    // Bare machines of clouds have the same maker's name, so that nothing else than a yes follows.
    said.iter().any(|text| MAKERS.iter().any(|maker| text.contains(maker)) && !text.contains("metal")).then_some(true)
}

/// The first value of `name` in lines of `name : value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

/// The folder that `/proc` and `/sys` are in.
struct Root(PathBuf);

impl Root {
    /// As much of a file as could be of use; nothing, if there is none.
    fn read(&self, name: &str) -> String {
        const MOST: u64 = 1 << 20;
        let mut bytes = Vec::new();
        // What came before a failure is no less true.
        let _ = File::open(self.0.join(name)).map(|file| file.take(MOST).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let root = Root(dir.path().to_owned());
        (dir, root)
    }

    #[test]
    fn files_of_proc_are_read_as_the_kernel_writes_them() {
        let (_dir, of) = root(&[
            ("proc/cpuinfo", b"processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu sse hypervisor avx\n"),
            ("proc/meminfo", b"MemTotal:       24684084 kB\nMemFree: 1 kB\n"),
            ("proc/sys/kernel/ostype", b"Linux\n"),
            ("proc/sys/kernel/osrelease", b"6.18.44\n"),
            ("proc/loadavg", b"6.13 3.74 2.43 10/165 3506\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", b"powersave\n"),
        ]);
        let found = Machine::of(&of);
        assert_eq!((found.cpu.as_str(), found.memory), ("AMD EPYC 9654", 24_684_084 * 1024));
        assert_eq!((found.kernel.as_str(), found.load), ("Linux 6.18.44", 6.13));
        assert_eq!((found.virtual_machine, found.governor.as_deref()), (Some(true), Some("powersave")));
        let (_dir, bare) = root(&[("proc/cpuinfo", b"model name: x\nflags: fpu\n")]);
        assert_eq!(Machine::of(&bare).virtual_machine, Some(false));
        let (_dir, arm) = root(&[
            ("proc/cpuinfo", b"processor\t: 0\nCPU implementer\t: 0x41\n"),
            ("sys/class/dmi/id/sys_vendor", b"QEMU\n"),
            ("sys/firmware/devicetree/base/model", b"linux,dummy-virt\0"),
        ]);
        let found = Machine::of(&arm);
        assert_eq!((found.cpu.as_str(), found.virtual_machine), ("linux,dummy-virt", Some(true)));
        let (_dir, metal) = root(&[("sys/class/dmi/id/product_name", b"Amazon EC2 m7g.metal\n")]);
        assert_eq!(Machine::of(&metal).virtual_machine, None);
    }

    #[test]
    fn a_system_that_says_nothing_or_nonsense_fails_nothing() {
        let (_dir, none) = root(&[]);
        let found = Machine::of(&none);
        assert_eq!((found.cpu.as_str(), found.memory), (std::env::consts::ARCH, 0));
        assert_eq!((found.virtual_machine, found.load, found.governor), (None, 0.0, None));
        let noise: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        let (_dir, hostile) = root(&[
            ("proc/cpuinfo", b"model name: \x1b[31mred\xff\r\n: :\n:::\nmodel name"),
            ("proc/meminfo", b"MemTotal: 99999999999999999999999 kB\n"),
            ("proc/loadavg", b"NaN"),
            ("proc/sys/kernel/ostype", &noise),
            ("sys/class/dmi/id/sys_vendor", &noise),
        ]);
        let found = Machine::of(&hostile);
        assert_eq!((found.memory, found.load), (0, 0.0));
        let odd = |text: &str| text.contains(char::is_control) || text.chars().count() > 300;
        assert!(!odd(&found.cpu) && !odd(&found.kernel), "{found:?}");
        let (_dir, folders) = root(&[("proc/cpuinfo/x", b""), ("proc/meminfo/x", b"")]);
        assert_eq!(Machine::of(&folders).memory, 0);
    }

    #[test]
    fn this_machine_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let found = Machine::here(Some(dir.path()));
        assert!(found.threads > 0 && found.memory > 1 << 20 && found.kernel.starts_with("Linux "), "{found:?}");
        let df = std::process::Command::new("df").arg("--output=fstype").arg(dir.path()).output().unwrap();
        let kind = String::from_utf8(df.stdout).unwrap().lines().nth(1).unwrap().trim().to_owned();
        assert_eq!(found.folder.unwrap().file_system, kind);
        let none = Machine::here(Some(Path::new("/no/such/folder"))).folder.unwrap();
        assert_eq!((none.path.as_str(), none.file_system.as_str()), ("/no/such/folder", ""));
        assert_eq!(Machine::here(None).folder, None);
    }
}
