//! A signature made of weights in a device's memory is one like any other: our command line and Python's library verify
//! it on the files, and after a change neither does.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{flip, program, python, seal, workplace, write};
use serde_json::{Value, json};
use tensorseal::device::Backend;
use tensorseal::device::cpu::{Cpu, Settings};
use tensorseal::key::PrivateKey;
use tensorseal::layout::{Extent, Layout};
use tensorseal::manifest::ResourceName;
use tensorseal::resident::ResidentOptions;
use tensorseal::sign::KeySigner;
use tensorseal::{selftest, sign_resident};

#[test]
fn what_is_signed_in_memory_others_verify_on_disk() {
    let folder = workplace();
    let folder = folder.path();
    let weights: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 23) as u8).collect();
    let (header, rest) = weights.split_at(77);
    write(folder.join("m/model.safetensors"), &weights);
    write(folder.join("m/sub/tail.bin"), &rest[1..100_000]);

    let device = Cpu::open(Settings::default()).unwrap();
    let mut memory = device.alloc(3 << 20).unwrap();
    // The second half comes first in memory, and neither begins at an even address.
    let (first, second) = rest.split_at(1_000_001);
    selftest::write(&device, second, &mut memory, 13).unwrap();
    let at = 13 + second.len() as u64;
    selftest::write(&device, first, &mut memory, at).unwrap();
    let range = |at, len| Extent::Range { buffer: &memory, at, len };
    let resource = |name: &str, extents| (ResourceName::parse(name).unwrap(), Layout::new(extents).unwrap());
    let resources = [
        resource("sub/tail.bin", vec![range(at + 1, 99_999)]),
        resource(
            "model.safetensors",
            vec![Extent::Host(header), range(at, first.len() as u64), range(13, second.len() as u64)],
        ),
    ];
    let pem = std::fs::read(folder.join("key.pem")).unwrap();
    let key = PrivateKey::from_pem(&pem, &mut || unreachable!("it is not encrypted")).unwrap();
    let options = ResidentOptions::default();
    let signed = sign_resident(&device, "m", &resources, &KeySigner::new(key), &options, None).unwrap();
    assert!(signed.hashed.notes[0].to_string().contains("measured in the memory of cpu"), "{:?}", signed.hashed.notes);
    signed.write(&folder.join("model.sig")).unwrap();

    let verify = "verify key m --public-key key.pub --signature model.sig --strict";
    seal(folder, verify).expect(0, "Verification succeeded", "our own");
    assert!(peer(folder).is_none_or(|yes| yes), "the Python library");
    flip(folder.join("m/model.safetensors"), 2_999_999);
    seal(folder, verify).expect(1, "1 changed", "our own");
    assert!(peer(folder).is_none_or(|yes| !yes), "the Python library, of another model");
}

/// The first adapter, which may be a processor in the part of one.
#[cfg(feature = "wgpu")]
fn wgpu() -> Option<tensorseal::device::Wgpu> {
    use tensorseal::{DeviceKind, device::Wgpu};
    let listed = Wgpu::list().into_iter().find(|listed| listed.driver.is_some());
    let Some(DeviceKind::Wgpu(name)) = listed.map(|listed| listed.kind) else {
        common::missing("there is no Vulkan adapter: install mesa-vulkan-drivers and libvulkan1");
        return None;
    };
    Some(Wgpu::open(name.as_deref()).unwrap())
}

#[cfg(feature = "wgpu")]
#[test]
fn tensors_scattered_over_wgpu_buffers_are_the_signed_file() {
    use common::resident::{Model, Scattered};
    for (count, most, seed) in [(60, 2000, 11), (200, 40, 12), (7, 900_000, 13)] {
        let Some(device) = wgpu() else { return };
        Scattered::new(&Model::new(count, most, seed), vec![device], seed).prove();
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_seal_over_wgpu_buffers_finds_a_write_of_the_callers_own_pipeline() {
    use tensorseal::resident::OnDevice;
    use tensorseal::seal::{Budget, Region, Seal, SealOptions};
    let Some(device) = wgpu() else { return };
    let mut memory = device.alloc(3_000_001).unwrap();
    selftest::write(&device, &vec![7; 3_000_001], &mut memory, 0).unwrap();
    let devices = [OnDevice::idle(&device)];
    let regions = [Region { name: "w", device: 0, layout: Layout::whole(&memory).unwrap() }];
    let mut seal = Seal::take(&devices, &regions, SealOptions::default()).unwrap();
    // A part at a time: two of three groups of 1 MiB.
    assert_eq!(seal.reverify(&devices, &regions, Budget::Bytes(2 << 20)).unwrap().bytes, 2 << 20);
    // Through the buffer itself: what this library never does, and a caller can.
    device.queue().write_buffer(&memory.buffers()[0], 2_500_000, &[7, 7, 8, 7]);
    let error = seal.reverify(&devices, &regions, Budget::Bytes(1 << 20)).unwrap_err().to_string();
    assert!(error.contains("\"w\" has changed in bytes 2097152..3000001"), "{error}");
}

/// Whether Python's library says yes; `None` without one.
fn peer(folder: &Path) -> Option<bool> {
    let python = python()?;
    let job = json!([{"verify": "m", "signature": "model.sig", "key": "key.pub", "hash": "blake3", "shards": null}]);
    write(folder.join("jobs.json"), job.to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peer.py");
    let run = program(folder, python, &[script.as_path(), Path::new("jobs.json")]);
    let answers: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    Some(answers[0][0] == 0)
}

/// The program that the documentation points to. As a module it costs no link of its own.
#[path = "../examples/verify_before_inference.rs"]
mod example;

#[test]
fn the_example_infers_on_verified_weights_and_a_flipped_bit_stops_it() {
    example::run(false).unwrap();
    let error = example::run(true).unwrap_err();
    let error = error.downcast_ref::<tensorseal::Error>().unwrap();
    assert!(error.refusal().is_some() && error.to_string().contains("model.safetensors"), "{error}");
    // What it returns for `run(false)`: these arguments have no `--flip`.
    assert_eq!(example::main(), std::process::ExitCode::SUCCESS);
}
