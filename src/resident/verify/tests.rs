use std::fs;

use super::*;
use crate::bundle::Bundle;
use crate::device::Device;
use crate::device::cpu::{Cpu, Memory, Settings, Silent};
use crate::format::Dtype;
use crate::key::{Curve, PrivateKey};
use crate::manifest::Method;
use crate::resident::Strides;
use crate::selftest::write;
use crate::sign::{Annotations, KeySigner, SignOptions, sign};
use crate::verify::KeyVerifier;

/// A signed model of two files, and its first file's tensors on two devices.
struct Rig {
    folder: tempfile::TempDir,
    signed: Verified<Manifest>,
    cpus: [Cpu; 2],
    memories: [Memory; 2],
    /// Name, shape, device, place.
    tensors: Vec<(&'static str, Vec<u64>, usize, u64)>,
    head: Vec<u8>,
    len: u64,
}

/// A safetensors file, written by hand: the 8 bytes of length, the JSON, the bytes.
fn safetensors(tensors: &[(&str, &[u64], &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let (mut json, mut data) = (Vec::new(), Vec::new());
    for (name, shape, bytes) in tensors {
        let (from, to) = (data.len(), data.len() + bytes.len());
        json.push(format!("{name:?}:{{\"dtype\":\"U8\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}"));
        data.extend_from_slice(bytes);
    }
    let json = format!("{{{}}}", json.join(","));
    let head = [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
    (head, data)
}

/// Signs the folder `m` in `folder`.
fn signed(folder: &Path, options: &SignOptions) -> Verified<Manifest> {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let trusted = KeyVerifier::new(key.public_key());
    let device = Device::Cpu(Cpu::open(Settings::default()).unwrap());
    let signature = folder.join("m.sig");
    let made = sign(&folder.join("m"), &signature, &KeySigner::new(key), options, &device, &Silent).unwrap();
    made.write(&signature).unwrap();
    Bundle::read(&signature, 1 << 20).unwrap().verify(&trusted).unwrap()
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| ((i ^ seed << 20).wrapping_mul(0x9E37_79B9) >> 13) as u8).collect()
}

const SIZES: [(&str, usize, usize, u64); 5] =
    [("a", 5000, 0, 7), ("b", 12_345, 1, 3), ("c", 1, 0, 9000), ("empty", 0, 1, 0), ("z", 3_000_001, 1, 20_001)];

impl Rig {
    fn new(options: &SignOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        fs::create_dir(&model).unwrap();
        let bytes: Vec<Vec<u8>> = SIZES.iter().zip(1..).map(|((_, len, _, _), seed)| pattern(*len, seed)).collect();
        let shapes: Vec<Vec<u64>> = SIZES.iter().map(|(_, len, _, _)| vec![*len as u64]).collect();
        let listed: Vec<(&str, &[u64], &[u8])> = SIZES
            .iter()
            .zip(&shapes)
            .zip(&bytes)
            .map(|(((name, ..), shape), bytes)| (*name, &**shape, &**bytes))
            .collect();
        let (head, data) = safetensors(&listed);
        fs::write(model.join("w.safetensors"), [&*head, &*data].concat()).unwrap();
        fs::write(model.join("config.json"), b"{}").unwrap();

        let signed = signed(folder.path(), options);
        let cpus = [(); 2].map(|()| Cpu::open(Settings::default()).unwrap());
        let mut memories = [0, 1].map(|index: usize| cpus[index].alloc(3_100_000).unwrap());
        for ((_, _, device, at), bytes) in SIZES.iter().zip(&bytes) {
            write(&cpus[*device], bytes, &mut memories[*device], *at).unwrap();
        }
        let tensors = SIZES.iter().map(|(name, len, device, at)| (*name, vec![*len as u64], *device, *at)).collect();
        Self { folder, signed, cpus, memories, tensors, len: (head.len() + data.len()) as u64, head }
    }

    fn given(&self) -> Vec<ResidentTensor<'_, Memory>> {
        let tensor = |(name, shape, device, at): &(&'static str, Vec<u64>, usize, u64)| ResidentTensor {
            name,
            file: None,
            device: *device,
            buffer: &self.memories[*device],
            at: *at,
            dtype: Dtype::from_safetensors("U8").unwrap(),
            shape: shape.clone(),
            strides: Strides::Contiguous,
        };
        self.tensors.iter().map(tensor).collect()
    }

    fn head(&self) -> Head<'_> {
        Head::Bytes { format: Format::Safetensors, bytes: &self.head, file_len: self.len }
    }

    fn verify(&self, head: Head<'_>, tensors: &[ResidentTensor<'_, Memory>]) -> Result<MeasuredAsSigned, Error> {
        let devices: Vec<_> = self.cpus.iter().map(OnDevice::idle).collect();
        verify_resident(&devices, &[ResidentFile { name: "w.safetensors", head }], tensors, &self.signed)
    }

    fn flip(&mut self, device: usize, at: u64) {
        let byte = self.cpus[device].download(&self.memories[device], at..at + 1).unwrap()[0] ^ 1;
        write(&self.cpus[device], &[byte], &mut self.memories[device], at).unwrap();
    }
}

fn refusal(result: Result<MeasuredAsSigned, Error>) -> Mismatch {
    let error = result.unwrap_err();
    match error.refusal() {
        Some(VerifyError::Resident(mismatch)) => (**mismatch).clone(),
        _ => panic!("{error}"),
    }
}

#[test]
fn tensors_on_two_devices_are_the_signed_file() {
    let rig = Rig::new(&SignOptions::default());
    let path = rig.folder.path().join("m/w.safetensors");
    let before = SystemTime::now();
    for head in [rig.head(), Head::File { format: Format::Safetensors, path: &path }] {
        let measured = rig.verify(head, &rig.given()).unwrap();
        assert!(before <= measured.at && measured.at <= SystemTime::now());
        let [file] = &measured.files[..] else { panic!("{measured:?}") };
        assert_eq!((file.tensors, file.len, file.on_host), (5, rig.len, rig.head.len() as u64));
        let oracle = blake3::hash(&fs::read(&path).unwrap());
        assert_eq!(file.digests.len(), 1);
        assert_eq!(file.digests[0].1.as_bytes(), oracle.as_bytes());
        assert_eq!(measured.not_measured, [ResourceName::parse("config.json").unwrap()]);
        let said = measured.to_string();
        for words in
            ["measured in the memory of cpu", "as signed by key", "caller's word", "1 signed resources were not"]
        {
            assert!(said.contains(words), "{said}");
        }
        assert!(!said.contains("verified"), "{said}");
    }
    // Any order of tensors, and the header may be followed by more.
    let mut given = rig.given();
    given.reverse();
    let longer = [&*rig.head, &pattern(500, 1)].concat();
    let head = Head::Bytes { format: Format::Safetensors, bytes: &longer, file_len: rig.len };
    rig.verify(head, &given).unwrap();
}

#[test]
fn shards_are_measured_one_by_one() {
    let size = std::num::NonZeroU64::new(1_000_000).unwrap();
    let mut rig = Rig::new(&SignOptions { method: Method::Shards { size }, ..SignOptions::default() });
    assert_eq!(rig.verify(rig.head(), &rig.given()).unwrap().files[0].digests.len(), 4);
    rig.flip(1, 2_000_000);
    let Mismatch::Differs { differences, .. } = refusal(rig.verify(rig.head(), &rig.given())) else { panic!("bytes") };
    let names: Vec<&str> = differences.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["w.safetensors:1000000:2000000"]);
}

fn differs(rig: &Rig, head: Head<'_>) -> Difference {
    match refusal(rig.verify(head, &rig.given())) {
        Mismatch::Differs { differences, devices, .. } => {
            assert_eq!((differences.0[0].0.as_str(), devices.len()), ("w.safetensors", 2));
            differences.0[0].1.clone()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn each_change_is_a_no() {
    let mut rig = Rig::new(&SignOptions::default());
    for (_, len, device, at) in SIZES.into_iter().filter(|(_, len, ..)| *len > 0) {
        for at in [at, at + len as u64 - 1] {
            rig.flip(device, at);
            assert!(matches!(differs(&rig, rig.head()), Difference::Changed { .. }), "{at}");
            rig.flip(device, at);
        }
    }
    // A header that says the same in other bytes.
    let text = String::from_utf8(rig.head[8..].to_vec()).unwrap() + " ";
    let spaced = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let head = Head::Bytes { format: Format::Safetensors, bytes: &spaced, file_len: rig.len + 1 };
    assert_eq!(differs(&rig, head), Difference::Resized { expected: rig.len, found: rig.len + 1 });
    rig.verify(rig.head(), &rig.given()).unwrap();
}

#[test]
fn tensors_that_are_missing_extra_or_other_are_named() {
    let rig = Rig::new(&SignOptions::default());
    let with = |change: &dyn Fn(&mut Vec<ResidentTensor<'_, Memory>>)| {
        let mut given = rig.given();
        change(&mut given);
        refusal(rig.verify(rig.head(), &given))
    };
    let missing = with(&|given| drop(given.remove(3)));
    assert_eq!(missing, Mismatch::Missing { file: "w.safetensors".to_owned(), tensors: vec!["empty".to_owned()] });
    let extra = with(&|given| given[0].name = "nobody\n");
    assert_eq!(extra, Mismatch::Extra { tensors: vec!["nobody\n".to_owned()] });
    assert!(!extra.to_string().contains('\n'), "{extra}");
    assert_eq!(with(&|given| given[1].name = "a"), Mismatch::TensorTwice { tensor: "a".to_owned() });
    let other_file = with(&|given| given[0].file = Some("v.safetensors"));
    assert_eq!(other_file, Mismatch::Extra { tensors: vec!["a".to_owned()] });
    for change in [
        |tensor: &mut ResidentTensor<'_, Memory>| tensor.dtype = Dtype::from_safetensors("I8").unwrap(),
        |tensor: &mut ResidentTensor<'_, Memory>| tensor.shape = vec![5, 1000],
    ] {
        let other = with(&|given| change(&mut given[0]));
        assert!(matches!(&other, Mismatch::Other { tensor, .. } if tensor == "a"), "{other}");
    }
    let devices: Vec<_> = rig.cpus.iter().map(OnDevice::idle).collect();
    let file = |name| ResidentFile { name, head: rig.head() };
    let both = |files: &[ResidentFile<'_>]| refusal(verify_resident(&devices, files, &rig.given(), &rig.signed));
    assert!(matches!(both(&[file("w.safetensors"), file("w.safetensors")]), Mismatch::FileTwice { .. }));
    assert!(matches!(both(&[file("w.safetensors"), file("x")]), Mismatch::Ambiguous { .. }));
    let Mismatch::Differs { differences, .. } = both(&[file("x")]) else { panic!("it is not signed") };
    assert_eq!(differences.0, [(ResourceName::parse("x").unwrap(), Difference::Unsigned)]);
}

#[test]
fn what_was_not_covered_is_never_a_yes() {
    let rig = Rig::new(&SignOptions::default());
    let devices: Vec<_> = rig.cpus.iter().map(OnDevice::idle).collect();
    let nothing = |result: Result<MeasuredAsSigned, Error>, of: &str| match result.unwrap_err() {
        Error::Placement(PlacementError::Nothing { what }) => assert_eq!(what, of),
        other => panic!("{other}"),
    };
    let file = ResidentFile { name: "w.safetensors", head: rig.head() };
    nothing(verify_resident::<Cpu>(&[], &[file], &rig.given(), &rig.signed), "device");
    nothing(verify_resident(&devices, &[], &rig.given(), &rig.signed), "file");
    let (head, _) = safetensors(&[]);
    let head = Head::Bytes { format: Format::Safetensors, bytes: &head, file_len: head.len() as u64 };
    nothing(rig.verify(head, &[]), "byte in device memory");
    let mut given = rig.given();
    given[0].device = 2;
    let error = rig.verify(rig.head(), &given).unwrap_err();
    assert!(matches!(error, Error::Placement(PlacementError::NoDevice { index: 2, devices: 2, .. })), "{error}");
    // A SHA-256 digest alone says nothing of device memory.
    let rig = Rig::new(&SignOptions { annotations: Annotations::None, ..SignOptions::default() });
    let error = rig.verify(rig.head(), &rig.given()).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::NoSuchDigest { algorithm: Algorithm::Blake3, .. })), "{error}");
    let folder = rig.folder.path();
    for path in [folder.join("none"), folder.to_owned()] {
        let error = rig.verify(Head::File { format: Format::Safetensors, path: &path }, &[]).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

/// A GGUF file of three tensors of bytes, with `padding` wherever something is aligned: its header, and all of it.
fn gguf(padding: u8, padded_end: bool) -> (Vec<u8>, Vec<u8>) {
    const TENSORS: [(&str, u64); 3] = [("x", 5), ("y", 40), ("z", 7)];
    let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes(), &3_u64.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    let mut offset = 0_u64;
    for (name, len) in TENSORS {
        file.extend((name.len() as u64).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(len.to_le_bytes());
        // I8.
        file.extend(24_u32.to_le_bytes());
        file.extend(offset.to_le_bytes());
        offset += len.next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), padding);
    let head = file.clone();
    for (name, len) in TENSORS {
        file.resize(file.len().next_multiple_of(32), padding);
        file.extend(pattern(len as usize, u32::from(name.as_bytes()[0])));
    }
    if padded_end {
        file.resize(file.len().next_multiple_of(32), padding);
    }
    (head, file)
}

#[test]
fn padding_is_zero_or_comes_from_the_file() {
    for (padding, padded_end) in [(0, false), (0, true), (0xAA, false), (0xAA, true)] {
        let (head, file) = gguf(padding, padded_end);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        let path = folder.path().join("m/w.gguf");
        fs::write(&path, &file).unwrap();
        let signed = signed(folder.path(), &SignOptions::default());
        let cpu = Cpu::open(Settings::default()).unwrap();
        let mut memory = cpu.alloc(100).unwrap();
        let mut at = 1;
        let places = [("x", 5), ("y", 40), ("z", 7)].map(|(name, len)| {
            write(&cpu, &pattern(len, u32::from(name.as_bytes()[0])), &mut memory, at).unwrap();
            at += len as u64 + 1;
            (name, len as u64, at - len as u64 - 1)
        });
        let given = places.map(|(name, len, at)| ResidentTensor {
            name,
            file: None,
            device: 0,
            buffer: &memory,
            at,
            dtype: Dtype::from_gguf(24).unwrap(),
            shape: vec![len],
            strides: Strides::Contiguous,
        });
        let verify =
            |head| verify_resident(&[OnDevice::idle(&cpu)], &[ResidentFile { name: "w.gguf", head }], &given, &signed);
        let measured = verify(Head::File { format: Format::Gguf, path: &path }).unwrap();
        assert_eq!(measured.files[0].digests[0].1.as_bytes(), blake3::hash(&file).as_bytes());
        assert_eq!((measured.files[0].len, measured.files[0].on_host), (file.len() as u64, file.len() as u64 - 52));
        let zeros = verify(Head::Bytes { format: Format::Gguf, bytes: &head, file_len: file.len() as u64 });
        assert_eq!(zeros.is_ok(), padding == 0);
        assert!(zeros.is_ok() || matches!(refusal(zeros), Mismatch::Differs { .. }));
    }
}
