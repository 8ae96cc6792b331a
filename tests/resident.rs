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
