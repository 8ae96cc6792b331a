use super::*;
use crate::device::cpu::{Cpu, Settings, Silent};
use crate::key::{Curve, PrivateKey};
use crate::layout::Extent;
use crate::manifest::Difference;
use crate::selftest::write;
use crate::sign::KeySigner;
use crate::verify::{Identity, KeyVerifier};
use crate::{Device, VerifyError, VerifyOptions, verify};

fn name(text: &str) -> ResourceName {
    ResourceName::parse(text).unwrap()
}

fn signer() -> (KeySigner, KeyVerifier) {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let trusted = KeyVerifier::new(key.public_key());
    (KeySigner::new(key), trusted)
}

/// A header on the host and tensors in rows, scattered over memory, are the file that they came from.
#[test]
fn a_signature_made_in_memory_verifies_on_the_files() {
    let cpu = Cpu::open(Settings::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir_all(model.join("sub")).unwrap();
    let (header, weights): (&[u8], Vec<u8>) = (b"{header}", (0..400_000_u32).map(|i| (i / 7) as u8).collect());
    std::fs::write(model.join("w.safetensors"), [header, &weights[5..300_005]].concat()).unwrap();
    std::fs::write(model.join("sub/b"), &weights[300_010..]).unwrap();
    std::fs::write(model.join("empty"), b"").unwrap();
    std::fs::write(model.join("config.json"), b"{}").unwrap();

    let mut buffer = cpu.alloc(weights.len() as u64).unwrap();
    write(&cpu, &weights, &mut buffer, 0).unwrap();
    let buffer = &buffer;
    let rows = Extent::Rows { buffer, at: 5, row: 1000, stride: 1000, rows: 300 };
    let resources = [
        (name("w.safetensors"), Layout::new(vec![Extent::Host(header), rows]).unwrap()),
        (name("sub/b"), Layout::new(vec![Extent::Range { buffer, at: 300_010, len: 99_990 }]).unwrap()),
        (name("empty"), Layout::new(vec![]).unwrap()),
    ];
    let (signer, trusted) = signer();
    let options = ResidentOptions { ignore_paths: vec!["config.json".to_owned()], ..ResidentOptions::default() };
    let before = SystemTime::now();
    let signed = sign_resident(&cpu, "model", &resources, &signer, &options, None).unwrap();
    assert_eq!((signed.hashed.bytes, signed.hashed.files), (399_998, 0));
    let [Note::MeasuredInMemory { device: DeviceKind::Cpu, at }] = signed.hashed.notes[..] else { panic!("a note") };
    assert!(before <= at && at <= SystemTime::now());

    let signature = folder.path().join("model.sig");
    signed.write(&signature).unwrap();
    let device = Device::Cpu(cpu);
    let check = || verify(&model, &signature, &trusted, &VerifyOptions::default(), &device, &Silent);
    let report = check().unwrap();
    assert!(matches!(report.identity(), Identity::Key { .. }));
    assert_eq!((report.resources, report.files, report.checked.as_slice()), (3, 3, &[Algorithm::Blake3][..]));
    assert_eq!(report.ignored.len(), 1, "what was left out is told");

    std::fs::write(model.join("sub/b"), &weights[300_009..399_999]).unwrap();
    let error = check().unwrap_err();
    let Some(VerifyError::Differs { differences, .. }) = error.refusal() else { panic!("{error}") };
    assert!(matches!(&differences.0[..], [(at, Difference::Changed { .. })] if at.as_str() == "sub/b"));
}

#[test]
fn what_cannot_be_signed_is_refused_before_anything_is_hashed() {
    let cpu = Cpu::open(Settings::default()).unwrap();
    let buffer = cpu.alloc(10).unwrap();
    let whole = || Layout::whole(&buffer).unwrap();
    let (signer, _) = signer();
    let sign = |resources: &[(ResourceName, Layout<'_, _>)], options: &ResidentOptions| {
        sign_resident(&cpu, "m", resources, &signer, options, None).map(|_| ()).unwrap_err()
    };
    let plain = ResidentOptions::default();
    assert!(matches!(sign(&[], &plain), Error::Statement(FormatError::NoResources)));
    let twice = [(name("a"), whole()), (name("b"), whole()), (name("./a"), whole())];
    assert!(matches!(sign(&twice, &plain), Error::Statement(FormatError::DoubleName { name }) if name == "a"));
    for names in [["a", "a/b"], ["a/b/c", "a/b"], [".", "a"], ["b", "."]] {
        let error = sign(&names.map(|text| (name(text), whole())), &plain);
        assert!(matches!(error, Error::Statement(FormatError::Name { .. })), "{names:?}: {error}");
    }
    let one = [(name("a/b"), whole())];
    for hash in [Algorithm::Sha256, Algorithm::Blake2b] {
        let error = sign(&one, &ResidentOptions { hash, ..plain.clone() });
        assert!(matches!(error, Error::Device(DeviceError::Algorithm { algorithm, .. }) if algorithm == hash));
    }
    let ignoring = |path: &str| ResidentOptions { ignore_paths: vec![path.to_owned()], ..plain.clone() };
    assert!(matches!(sign(&one, &ignoring("a")), Error::Statement(FormatError::SignedAndIgnored { .. })));
    assert!(matches!(sign(&one, &ignoring("../a")), Error::Source(_)));
}

#[test]
fn a_string_may_lie_on_the_host_and_on_several_devices() {
    let devices = [0, 1].map(|_| Cpu::open(Settings::default()).unwrap());
    let text: Vec<u8> = (0..90_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
    let buffers = devices.each_ref().map(|cpu| {
        let mut buffer = cpu.alloc(90_000).unwrap();
        write(cpu, &text, &mut buffer, 0).unwrap();
        buffer
    });
    let parts = vec![
        (None, Extent::Host(b"header")),
        (Some(1), Extent::Range { buffer: &buffers[1], at: 3, len: 40_000 }),
        (Some(0), Extent::Rows { buffer: &buffers[0], at: 0, row: 7, stride: 100, rows: 900 }),
        (None, Extent::Host(b"end")),
    ];
    let rows: Vec<u8> = (0..900).flat_map(|row| &text[row * 100..][..7]).copied().collect();
    let bytes = [b"header", &text[3..40_003], &rows, b"end"].concat();
    let on = devices.each_ref().map(OnDevice::idle);
    let expected = Digest::of32(Algorithm::Blake3, *blake3::hash(&bytes).as_bytes());
    assert_eq!(digest_of_parts(&on, parts).unwrap(), expected);
    assert!(digest_of_parts::<Cpu>(&[], vec![(None, Extent::Host(b"x"))]).is_err());
}
