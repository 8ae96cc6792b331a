//! What is measured of a device, what bounds it, and what its driver and NVML say of it. How fast an interpreter is, nobody asks.

use std::num::NonZeroUsize;
use std::time::Duration;

use tensorseal::bench::report::{BoundKind, OfDevice, Reading, What};
use tensorseal::bench::{DeviceOptions, on_device};
use tensorseal::device::cuda::Cuda;
use tensorseal::device::{Backend, Device, DeviceKind};

use super::common::fakecuda::{is_child, must_pass, nvml_dir};
use super::{here, parent, root, upload, whole};

/// Runs `test` where NVML is found.
#[track_caller]
fn with_nvml(test: &str, envs: &[(&str, &str)]) {
    let dir = nvml_dir();
    must_pass(test, &[&[("LD_LIBRARY_PATH", dir.to_str().unwrap())], envs].concat());
}

fn measured(ordinal: usize, only: &[What]) -> OfDevice {
    let kind = DeviceKind::Cuda(ordinal);
    let listed = Device::list().into_iter().find(|listed| listed.kind == kind).unwrap();
    let only = Some(only.iter().copied().collect());
    let options = DeviceOptions { most: Some(1 << 20), repeats: NonZeroUsize::MIN, only, patience: Duration::ZERO };
    on_device(&Cuda::open(ordinal).unwrap(), &listed, &options, &mut |_| {}).unwrap()
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}

/// 4 multiprocessors at 1.755 GHz, as the driver for tests says.
const CLOCKS: f64 = 4.0 * 1.755e9;
/// PCI Express 5 with 16 lanes.
const LINK: f64 = 16.0 * 32e9 / 8.0 * 128.0 / 130.0;

#[test]
fn a_device_is_measured_beside_its_bounds_and_its_sensors_are_read() {
    let test = here!("a_device_is_measured_beside_its_bounds_and_its_sensors_are_read");
    if !is_child(test) {
        return with_nvml(test, &[("FAKECUDA_DEVICES", "8.0,9.0")]);
    }
    let device = measured(1, &[What::Upload, What::Size, What::Alignment, What::Kernel]);
    assert_eq!((device.device.as_str(), device.capability.as_deref()), ("cuda:1", Some("sm_90")));
    assert_eq!((device.kernel.as_deref(), device.memory), (Some("plain"), Some(8 << 30)));
    let [instructions, memory, link] = &device.bounds[..] else { panic!("{:?}", device.bounds) };
    assert_eq!(
        [instructions.kind, memory.kind, link.kind],
        [BoundKind::Instructions, BoundKind::Memory, BoundKind::Link]
    );
    near(instructions.bytes_per_second, 6.43 * CLOCKS);
    near(memory.bytes_per_second, 640.0 * 2.619e9 * 2.0);
    near(link.bytes_per_second, LINK);
    for words in ["6.43 bytes a clock", "sm_90, plain", "4 multiprocessors", "1.755 GHz"] {
        assert!(instructions.basis.contains(words), "{}", instructions.basis);
    }

    // Of the second device, in MHz and watts.
    let reading = device.before.clone().unwrap();
    assert_eq!(
        (reading.clock_mhz, reading.memory_clock_mhz, reading.celsius),
        (Some(1701.0), Some(2619.0), Some(61.0))
    );
    assert_eq!(reading.watts, Some(345.601));
    assert_eq!(reading.slowed_by, ["SW power cap", "SW thermal slowdown"]);
    assert_eq!(device.after, device.before);

    for line in &device.lines {
        let (kind, rate) = match (line.what, line.kernel.as_deref(), line.at, line.bytes) {
            (What::Upload, ..) => (BoundKind::Link, LINK),
            (What::Kernel, Some("plain"), 0, _) => (BoundKind::Instructions, 6.43 * CLOCKS),
            (What::Kernel, Some("plain"), 1, _) => (BoundKind::Instructions, 6.26 * CLOCKS),
            (What::Kernel, Some("mad"), 0, _) => (BoundKind::Instructions, 7.94 * CLOCKS),
            (What::Kernel, Some("mad"), 1, _) => (BoundKind::Instructions, 7.68 * CLOCKS),
            (What::Alignment, None, 1, _) => (BoundKind::Instructions, 6.26 * CLOCKS),
            (What::Size, None, 0, ..0x8_0000) => (BoundKind::Instructions, 6.95 * CLOCKS),
            (What::Size | What::Alignment, None, ..) => (BoundKind::Instructions, 6.43 * CLOCKS),
            _ => panic!("{line:?}"),
        };
        assert_eq!(line.bound, Some(kind), "{}", line.name);
        near(line.share.unwrap(), line.bytes_per_second / rate);
    }
    let count = |what| device.lines.iter().filter(|line| line.what == what).count();
    assert_eq!([What::Upload, What::Size, What::Alignment, What::Kernel].map(count), [2, 6, 4, 4]);
}

#[test]
fn without_nvml_there_is_no_reading_and_no_bound_of_the_link_and_no_error() {
    if parent(here!("without_nvml_there_is_no_reading_and_no_bound_of_the_link_and_no_error"), &[&[]]) {
        return;
    }
    let device = measured(0, &[What::Upload]);
    assert_eq!((&device.before, &device.after), (&None, &None));
    let kinds: Vec<_> = device.bounds.iter().map(|bound| bound.kind).collect();
    assert_eq!(kinds, [BoundKind::Instructions, BoundKind::Memory]);
    assert!(device.lines.len() == 2 && device.lines.iter().all(|line| line.bound.is_none() && line.share.is_none()));
}

#[test]
fn what_nvml_does_not_say_is_left_out_and_nvlink_is_no_pci_express() {
    let test = here!("what_nvml_does_not_say_is_left_out_and_nvlink_is_no_pci_express");
    if !is_child(test) {
        // Power is asked for twice: 3 is that it is not supported.
        let fail =
            "nvmlDeviceGetPowerUsage:1:3;nvmlDeviceGetTemperature:1:3;nvmlDeviceGetCurrentClocksEventReasons:1:3";
        return with_nvml(test, &[("FAKECUDA_LINK", "c2c"), ("FAKECUDA_FAIL", fail)]);
    }
    let device = measured(0, &[What::Size]);
    let before = device.before.unwrap();
    assert_eq!(
        (before.clock_mhz, before.watts, before.celsius, &before.slowed_by[..]),
        (Some(1700.0), None, None, &[][..])
    );
    let after = device.after.unwrap();
    assert_eq!((after.watts, after.celsius, after.slowed_by.len()), (Some(345.6), Some(60.0), 2));
    assert_ne!(after, Reading::default());
    assert!(device.bounds.iter().all(|bound| bound.kind != BoundKind::Link), "{:?}", device.bounds);
}

#[test]
fn a_library_that_does_not_start_is_none() {
    let test = here!("a_library_that_does_not_start_is_none");
    if !is_child(test) {
        return with_nvml(test, &[("FAKECUDA_FAIL", "nvmlInit_v2:1:999")]);
    }
    let device = measured(0, &[]);
    assert_eq!((device.before, device.after, device.lines.len()), (None, None, 0));
}

#[test]
fn facts_are_those_of_the_driver_and_what_it_refuses_is_left_out_without_closing_the_device() {
    let test = here!("facts_are_those_of_the_driver_and_what_it_refuses_is_left_out_without_closing_the_device");
    if !is_child(test) {
        // Two are asked when it is opened. Then whether it shares memory; then its multiprocessors.
        must_pass(test, &[("FAKECUDA_FAIL", "cuDeviceGetAttribute:4:1")]);
        return;
    }
    let cuda = Cuda::open(0).unwrap();
    let facts = cuda.facts();
    assert_eq!((facts.architecture, facts.processors, facts.clock), (Some(90), None, Some(1_755_000_000)));
    assert_eq!((facts.memory_clock, facts.memory_bus), (Some(2_619_000_000), Some(5120)));
    assert_eq!((facts.cache, facts.pci.as_deref(), facts.threads), (Some(50 << 20), Some("0000:01:00.0"), None));
    assert!(facts.free.is_some_and(|free| free > 7 << 30 && free <= 8 << 30));
    assert_eq!(cuda.facts().processors, Some(4));
    let bytes = super::pattern(5000, 7);
    assert_eq!(cuda.hash(&[whole(&upload(&cuda, &bytes))]).unwrap(), [root(&bytes)]);
}
