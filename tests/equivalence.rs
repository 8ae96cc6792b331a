//! One body of cases, every device: the CPU, WebGPU on whatever adapter there is, and CUDA on the driver that interprets
//! the kernels, in each order of threads, with each way to add, and compiled for the host. The cases are those of
//! `tensorseal selftest`; the oracle is the `blake3` crate.
//!
//! It prints how many cases of which kind there were: `cargo test --test equivalence -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::panic)]

#[cfg(feature = "cuda")]
#[path = "common/mod.rs"]
mod common;

use std::num::NonZeroUsize;

use tensorseal::device::Backend;
use tensorseal::selftest::{Kind, Options, Report, run};

/// Random cases a device at least.
const AT_LEAST: usize = 2000;

/// The kinds that draw lengths, extents, offsets, groups and first chunks at random. Not the thousands of tiny strings,
/// which alone would be enough.
const RANDOM: [Kind; 4] = [Kind::Splits, Kind::Layouts, Kind::Groups, Kind::Counters];

/// Everything, and the random kinds often enough.
fn all(device: &(impl Backend + Sync)) {
    let report = pass(device, &Options::default());
    let more = Options {
        seed: 2026,
        kinds: vec![Kind::Splits, Kind::Layouts, Kind::Counters, Kind::Threads],
        rounds: NonZeroUsize::new(3).unwrap(),
        ..Options::default()
    };
    let random = |report: &Report| -> usize {
        report.counts.iter().filter(|count| RANDOM.contains(&count.kind)).map(|count| count.strings).sum()
    };
    let more = pass(device, &more);
    assert!(random(&report) + random(&more) >= AT_LEAST, "{} random strings", random(&report) + random(&more));
}

fn pass(device: &(impl Backend + Sync), options: &Options) -> Report {
    let report = run(device, options, &mut |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    for count in &report.counts {
        assert!(count.cases > 0 && count.strings > 0 && count.bytes > 0, "{} tested nothing", count.kind);
        println!(
            "{} {}: {} cases, {} strings, {} bytes, {:.1} s",
            report.device,
            count.kind,
            count.cases,
            count.strings,
            count.bytes,
            count.elapsed.as_secs_f64()
        );
    }
    assert_eq!(report.counts.len(), options.kinds.len());
    report
}

#[test]
fn the_cpu_computes_what_the_crate_computes() {
    use tensorseal::device::cpu::{Cpu, Settings};
    for threads in [1, 3] {
        all(&Cpu::open(Settings { threads: NonZeroUsize::new(threads), ..Settings::default() }).unwrap());
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn webgpu_computes_what_the_crate_computes() {
    use tensorseal::device::Wgpu;
    let Some(found) = Wgpu::list().into_iter().find(|device| device.memory.is_some() || device.driver.is_some()) else {
        let required = std::env::var_os("TENSORSEAL_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "no adapter: install mesa-vulkan-drivers and libvulkan1");
        println!("skipped: there is no Vulkan adapter, not even in software");
        return;
    };
    let tensorseal::DeviceKind::Wgpu(name) = found.kind else { panic!("{found:?}") };
    all(&Wgpu::open(name.as_deref()).unwrap());
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::common::fakecuda::{is_child, must_pass};
    use super::*;
    use tensorseal::device::Cuda;

    /// What the child runs: everything, or the kinds that interpreted threads one by one can do in time.
    const MUCH: &str = "TENSORSEAL_TEST_MUCH";

    fn child() {
        let device = Cuda::open(0).unwrap();
        if std::env::var_os(MUCH).is_some() {
            return all(&device);
        }
        let kinds = vec![Kind::Vectors, Kind::Alignment, Kind::Splits, Kind::Layouts, Kind::Counters, Kind::Copies];
        pass(&device, &Options { seed: 7, kinds, ..Options::default() });
    }

    fn tell(what: &str, stdout: &str) {
        stdout.lines().filter(|line| line.starts_with("cuda")).for_each(|line| println!("{what}: {line}"));
    }

    #[test]
    fn interpreted_kernels_compute_what_the_crate_computes() {
        const HERE: &str = "cuda::interpreted_kernels_compute_what_the_crate_computes";
        if is_child(HERE) {
            return child();
        }
        for order in ["lockstep", "adverse", "serial"] {
            for (policy, capability) in [("plain", "8.0"), ("mad", "9.0"), ("mad_all", "12.0")] {
                let mut envs = vec![
                    ("FAKECUDA_ORDER", order),
                    ("FAKECUDA_DEVICES", capability),
                    ("FAKECUDA_DRIVER", "13000"),
                    ("TENSORSEAL_CUDA_POLICY", policy),
                ];
                if order != "serial" && policy == "mad" {
                    envs.push((MUCH, "1"));
                }
                tell(&format!("{order}, {policy}"), &must_pass(HERE, &envs).stdout);
            }
        }
    }

    /// The same source by another compiler, without PTX, under the same host code.
    #[test]
    fn kernels_compiled_for_the_host_compute_what_the_crate_computes() {
        const HERE: &str = "cuda::kernels_compiled_for_the_host_compute_what_the_crate_computes";
        if is_child(HERE) {
            return child();
        }
        let dir = host_kernels();
        for (policy, capability) in [("plain", "9.0"), ("mad", "9.0"), ("mad_all", "12.0")] {
            let library = dir.join(format!("libkernels_{policy}.so"));
            for order in ["usual", "adverse"] {
                let envs = [
                    ("FAKECUDA_KERNELS", library.to_str().unwrap()),
                    ("HOST_LAUNCH_ORDER", order),
                    ("FAKECUDA_DEVICES", capability),
                    ("FAKECUDA_DRIVER", "13000"),
                    ("TENSORSEAL_CUDA_POLICY", policy),
                ];
                tell(&format!("for the host, {order}, {policy}"), &must_pass(HERE, &envs).stdout);
            }
        }
    }

    fn host_kernels() -> PathBuf {
        let dir = common::fakecuda::driver_dir().join("host");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/build");
        let built = Command::new(script).arg(&dir).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        dir
    }
}
