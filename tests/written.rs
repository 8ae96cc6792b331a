//! Files that are hashed while they are written: signed as if they had been read, and not signed once anything about
//! them is another.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tensorseal::device::cpu::{Cpu, Settings, Silent};
use tensorseal::format::Dtype;
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::sign::{
    Finished, HashingWriter, KeySigner, MeantTensor, Signed, Tensors, Written, WrittenError, sign_written,
    sweep_leftovers, withdraw,
};
use tensorseal::tensors::TensorRecord;
use tensorseal::{Algorithm, Device, Digest, Error, SignOptions, VerifyError, sign};

/// A file of two tensors of these sizes, and one without a byte.
fn safetensors(first: usize, second: usize) -> Vec<u8> {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"a":{{"dtype":"U8","shape":[{first}],"data_offsets":[0,{first}]}},"b":{{"dtype":"U8","shape":[4,{}],"data_offsets":[{first},{}]}},"none":{{"dtype":"F32","shape":[0],"data_offsets":[{1},{1}]}}}}"#,
        second / 4,
        first + second,
    );
    let header = format!("{header}{}", " ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..first + second).map(|i| ((i * 31) ^ (i >> 11)) as u8));
    bytes
}

struct Place {
    folder: tempfile::TempDir,
    signer: KeySigner,
    device: Device,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        fs::write(folder.path().join("m/config.json"), "{}").unwrap();
        let signer = KeySigner::new(PrivateKey::generate(Curve::P256).unwrap());
        Self { folder, signer, device: Device::Cpu(Cpu::open(Settings::default()).unwrap()) }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("m")
    }

    fn signature(&self) -> PathBuf {
        self.model().join("model.sig")
    }

    fn write(&self, name: &str, bytes: &[u8], piece: usize, tensors: bool) -> Finished {
        let mut writer = HashingWriter::create(&self.model(), name, bytes.len() as u64, tensors).unwrap();
        bytes.chunks(piece).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap()
    }

    fn sign(&self, options: &SignOptions) -> Result<Signed, Error> {
        sign(&self.model(), &self.signature(), &self.signer, options, &self.device, &Silent)
    }

    fn sign_written(&self, options: &SignOptions, written: Vec<Written>) -> Result<Signed, Error> {
        sign_written(&self.model(), &self.signature(), &self.signer, options, written, &self.device, &Silent)
    }

    #[track_caller]
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.model()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// The statement, as it was signed.
fn payload(signed: &Signed) -> serde_json::Value {
    let bundle: serde_json::Value = serde_json::from_slice(&signed.bundle.to_json()).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].clone();
    assert!(payload.is_string());
    payload
}

fn with_tensors() -> SignOptions {
    SignOptions { tensors: Tensors::InModel, ..SignOptions::default() }
}

#[track_caller]
fn why(error: &Error) -> &WrittenError {
    match error {
        Error::Written(why) => why,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn what_was_written_is_signed_as_what_is_read() {
    for options in [SignOptions::default(), with_tensors(), SignOptions { hash: Algorithm::Blake3, ..with_tensors() }] {
        let place = Place::new();
        let tensors = options.tensors == Tensors::InModel;
        // Short files, one of a block, long ones; in pieces of all sizes.
        let long = safetensors(9_000_001, 4 << 20);
        let of_a_block = vec![7; 4 << 20];
        let mut written = vec![
            place.write("long.safetensors", &long, 777_777, tensors).publish().unwrap(),
            place.write("short.bin", b"abc", 1, false).publish().unwrap(),
            place.write("empty", b"", 1, false).publish().unwrap(),
            place.write("block", &of_a_block, usize::MAX, false).publish().unwrap(),
        ];
        assert_eq!(fs::read(place.model().join("long.safetensors")).unwrap(), long);
        assert_eq!(fs::read(place.model().join("block")).unwrap(), of_a_block);
        let blake3 = Digest::new(Algorithm::Blake3, blake3::hash(&long).as_bytes());
        assert_eq!(written[0].digests().get(Algorithm::Blake3), blake3);

        // A file that is none of the written ones is read: it can be anything.
        fs::write(place.model().join("read.safetensors"), safetensors(8, 4).replace_names()).unwrap();
        let read = place.sign(&options).unwrap();
        let ours = place.sign_written(&options, written.clone()).unwrap();
        assert_eq!(payload(&ours), payload(&read));
        assert_eq!((ours.hashed.files, ours.hashed.bytes), (read.hashed.files, read.hashed.bytes));
        let manifest = |signed: &Signed| signed.hashed.tensors.as_ref().map(|tensors| tensors.manifest.to_bytes());
        assert_eq!(manifest(&ours), manifest(&read));
        assert_eq!(manifest(&ours).is_some(), tensors);

        // By way of another process.
        written = written.iter().map(|written| Written::from_bytes(&written.to_bytes()).unwrap()).collect();
        assert!(written.iter().all(Written::is_local));
        let ours = place.sign_written(&options, written).unwrap();
        assert_eq!(payload(&ours), payload(&read));
        assert_eq!(manifest(&ours), manifest(&read));
    }
}

trait OtherNames {
    fn replace_names(self) -> Self;
}

impl OtherNames for Vec<u8> {
    /// Two tensors of one name cannot be in one model.
    fn replace_names(mut self) -> Self {
        for (from, to) in [(br#""a""#, br#""c""#), (br#""b""#, br#""d""#)] {
            let at = self.windows(3).position(|window| window == from).unwrap();
            self[at..at + 3].copy_from_slice(to);
        }
        let at = self.windows(6).position(|window| window == br#""none""#).unwrap();
        self[at..at + 6].copy_from_slice(br#""nine""#);
        self
    }
}

#[test]
fn a_model_of_one_file() {
    let place = Place::new();
    let bytes = safetensors(100, 40);
    let written = place.write("one.safetensors", &bytes, 33, true).publish().unwrap();
    let model = place.model().join("one.safetensors");
    let signature = place.folder.path().join("s.sig");
    let tensors = Tensors::Detached(place.folder.path().join("t"));
    let options = SignOptions { tensors, ..SignOptions::default() };
    let read = sign(&model, &signature, &place.signer, &options, &place.device, &Silent).unwrap();
    let ours =
        sign_written(&model, &signature, &place.signer, &options, vec![written], &place.device, &Silent).unwrap();
    assert_eq!(payload(&ours), payload(&read));
    let manifest = |signed: &Signed| signed.hashed.tensors.as_ref().unwrap().manifest.to_bytes();
    assert_eq!(manifest(&ours), manifest(&read));
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_not_signed() {
    let bytes = safetensors(5000, 400);
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("modification or change time", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[3000] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("modification or change time", |path| {
            // Only the change time tells.
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }),
        ("another file", |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("bytes and has 100", |path| fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap()),
        ("No such file", |path| fs::remove_file(path).unwrap()),
        ("symlink", |path| {
            let other = path.parent().unwrap().parent().unwrap().join("other");
            fs::rename(path, &other).unwrap();
            std::os::unix::fs::symlink(other, path).unwrap();
        }),
        ("missing, or ignored", |path| fs::rename(path, path.with_extension("old")).unwrap()),
    ];
    for (message, change) in changes {
        let place = Place::new();
        let finished = place.write("w.safetensors", &bytes, 1000, true);
        let written = finished.publish().unwrap();
        // The clock of a file system ticks some hundred times a second.
        std::thread::sleep(std::time::Duration::from_millis(20));
        place.sign_written(&with_tensors(), vec![written.clone()]).unwrap();
        change(&place.model().join("w.safetensors"));
        let error = place.sign_written(&with_tensors(), vec![written]).unwrap_err();
        let gone = message == "No such file" && error.to_string().contains("missing");
        assert!(error.to_string().contains(message) || gone, "{message}: {error}");
    }
}

#[test]
fn what_cannot_be_signed_so_is_refused() {
    let place = Place::new();
    let bytes = safetensors(500, 40);
    let one = place.write("w.safetensors", &bytes, 1000, false).publish().unwrap();
    let sign = |options: &SignOptions, written: &[&Written]| {
        place.sign_written(options, written.iter().copied().cloned().collect()).unwrap_err()
    };
    let plain = SignOptions::default();
    assert!(matches!(why(&sign(&plain, &[&one, &one])), WrittenError::Twice { .. }));
    assert!(matches!(why(&sign(&with_tensors(), &[&one])), WrittenError::NoTiles { .. }));
    let blake2b = SignOptions { hash: Algorithm::Blake2b, ..SignOptions::default() };
    assert!(matches!(why(&sign(&blake2b, &[&one])), WrittenError::NoDigest { algorithm: Algorithm::Blake2b, .. }));
    let size = std::num::NonZeroU64::new(1 << 20).unwrap();
    let shards = SignOptions { method: tensorseal::manifest::Method::Shards { size }, ..SignOptions::default() };
    assert!(matches!(why(&sign(&shards, &[&one])), WrittenError::Unfit(_)));
    let ignored = SignOptions { ignore_paths: vec![place.model().join("w.safetensors")], ..SignOptions::default() };
    assert!(matches!(why(&sign(&ignored, &[&one])), WrittenError::NotInModel { .. }));
    let _unpublished = place.write("x.safetensors", &bytes, 1000, false);
    assert!(matches!(why(&sign(&plain, &[&one])), WrittenError::Leftover { .. }));

    let create = |name, tensors| HashingWriter::create(&place.model(), name, 5, tensors).unwrap_err();
    for name in ["", ".", "..", "../x", "/x", "a//b", "tensorseal.tensors"] {
        assert!(matches!(why(&create(name, false)), WrittenError::Name { .. }), "{name}");
    }
    assert!(matches!(why(&create("config.json", true)), WrittenError::Name { .. }));
    fs::create_dir(place.model().join("folder")).unwrap();
    std::os::unix::fs::symlink("config.json", place.model().join("link")).unwrap();
    for name in ["folder", "link", "no/such/folder"] {
        assert!(matches!(create(name, false), Error::Io { .. }), "{name}");
    }
}

#[test]
fn bytes_that_are_too_many_too_few_or_no_tensors() {
    let place = Place::new();
    let mut writer = HashingWriter::create(&place.model(), "w", 5, false).unwrap();
    writer.write(b"123").unwrap();
    let error = writer.write(b"456").unwrap_err();
    assert!(matches!(why(&error), WrittenError::Length { expected: 5, found: 6, .. }));
    assert!(matches!(why(&writer.write(b"4").unwrap_err()), WrittenError::Broken { .. }));
    assert!(matches!(why(&writer.finish().unwrap_err()), WrittenError::Broken { .. }));
    let mut writer = HashingWriter::create(&place.model(), "w", 5, false).unwrap();
    writer.write(b"1234").unwrap();
    assert!(matches!(why(&writer.finish().unwrap_err()), WrittenError::Length { expected: 5, found: 4, .. }));
    // Short and long: in a thread of their own.
    for len in [100, 5 << 20] {
        let mut writer = HashingWriter::create(&place.model(), "w.safetensors", len, true).unwrap();
        writer.write(&vec![0xff; len as usize]).unwrap();
        assert!(matches!(writer.finish().unwrap_err(), Error::Header { .. }));
    }
    assert_eq!(place.names(), ["config.json"], "nothing stays");
}

#[test]
fn what_was_meant_and_what_was_written_are_compared() {
    let place = Place::new();
    let bytes = safetensors(5000, 4096);
    let blake3 = |bytes: &[u8]| Digest::new(Algorithm::Blake3, blake3::hash(bytes).as_bytes()).unwrap();
    let finished = place.write("w.safetensors", &bytes, 999, true);
    let tiles = |finished: &Finished| -> BTreeMap<String, MeantTensor> {
        let meant = |tensor: &TensorRecord| MeantTensor {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            tiles: tensor.tiles().iter().copied().enumerate().collect(),
        };
        let tensors = finished.tensors().unwrap().tensors();
        tensors.iter().map(|tensor| (tensor.name().to_owned(), meant(tensor))).collect()
    };
    let good = tiles(&finished);
    assert_eq!(good.len(), 3);
    finished.compare(&blake3(&bytes), &good).unwrap();
    finished.compare(&blake3(&bytes), &BTreeMap::new()).unwrap();
    drop(finished);

    // A bit is flipped on the way.
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 4;
    let finished = place.write("w.safetensors", &flipped, 999, true);
    let error = finished.compare(&blake3(&bytes), &good).unwrap_err();
    let Some(VerifyError::Written(differs)) = error.refusal() else { panic!("{error}") };
    assert_eq!(differs.tensors.len(), 1);
    assert_eq!(differs.tensors[0].name, "b");
    assert!(error.to_string().starts_with("written bytes differ: \"w.safetensors\""), "{error}");
    assert!(finished.compare(&blake3(&bytes), &BTreeMap::new()).is_err(), "the digest alone says no");
    assert!(finished.compare(&blake3(&flipped), &good).is_err(), "the tiles alone do");
    for change in [
        |tensors: &mut BTreeMap<String, MeantTensor>| {
            let tensor = tensors.remove("a").unwrap();
            tensors.insert("other".to_owned(), tensor);
        },
        |tensors| tensors.get_mut("a").unwrap().dtype = Dtype::from_safetensors("I8").unwrap(),
        |tensors| tensors.get_mut("a").unwrap().shape = vec![5000, 1],
        |tensors| drop(tensors.get_mut("a").unwrap().tiles.insert(99, [0; 32])),
        |tensors| drop(tensors.get_mut("b").unwrap().tiles.pop_first().unwrap()),
        |tensors| tensors.get_mut("b").unwrap().tiles.clear(),
    ] {
        let mut meant = tiles(&finished);
        change(&mut meant);
        assert!(finished.compare(&blake3(&flipped), &meant).is_err());
    }
    finished.compare(&blake3(&flipped), &tiles(&finished)).unwrap();
    drop(finished);
    assert_eq!(place.names(), ["config.json"], "nothing stays");

    // A file that somebody else wrote.
    let path = place.model().join("w.safetensors");
    fs::write(&path, &bytes).unwrap();
    let read = Written::of_file(&place.model(), "w.safetensors", true, &Silent).unwrap();
    assert_eq!(read.digests().get(Algorithm::Blake3), Some(blake3(&bytes)));
    read.compare(&good).unwrap();
    place.sign_written(&with_tensors(), vec![read]).unwrap();
    fs::write(&path, &flipped).unwrap();
    let read = Written::of_file(&place.model(), "w.safetensors", true, &Silent).unwrap();
    let error = read.compare(&good).unwrap_err();
    let Some(VerifyError::Written(differs)) = error.refusal() else { panic!("{error}") };
    assert_eq!((&*differs.tensors[0].name, differs.tensors[0].ranges.last().unwrap().end), ("b", bytes.len() as u64));
    assert!(matches!(Written::of_file(&place.model(), "none", false, &Silent), Err(Error::Io { .. })));
    let finished = place.write("w.safetensors", &bytes, 999, false);
    assert!(matches!(why(&finished.compare(&blake3(&bytes), &good).unwrap_err()), WrittenError::NoTiles { .. }));
}

#[test]
fn an_older_file_stays_until_the_new_one_is_published_and_its_signature_goes_first() {
    let place = Place::new();
    let (old, new) = (safetensors(100, 4), safetensors(200, 4));
    let written = place.write("w.safetensors", &old, 10, true).publish().unwrap();
    place.sign_written(&with_tensors(), vec![written]).unwrap().write(&place.signature()).unwrap();
    let path = place.model().join("w.safetensors");
    let finished = place.write("w.safetensors", &new, 10, true);
    assert_eq!(fs::read(&path).unwrap(), old);
    withdraw(&place.model(), &place.signature()).unwrap();
    assert!(!place.signature().exists() && !place.model().join("tensorseal.tensors").exists());
    withdraw(&place.model(), &place.signature()).unwrap();
    finished.publish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), new);
    assert_eq!(place.names(), ["config.json", "w.safetensors"]);

    // Somebody's file is not removed for a slip of the hand.
    fs::write(place.signature(), "letter").unwrap();
    assert!(matches!(withdraw(&place.model(), &place.signature()), Err(Error::NotASignature { .. })));
    fs::remove_file(place.signature()).unwrap();
    fs::write(place.model().join("tensorseal.tensors"), "letter").unwrap();
    assert!(matches!(withdraw(&place.model(), &place.signature()), Err(Error::TensorManifest(_))));
    assert!(place.model().join("tensorseal.tensors").exists());
}

#[test]
fn somebody_writes_to_the_unpublished_file() {
    let place = Place::new();
    let finished = place.write("w", &[0; 1000], 10, false);
    let temporary = place.names().into_iter().find(|name| name.starts_with(".w.")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut bytes = vec![0; 1000];
    bytes[5] = 1;
    fs::write(place.model().join(temporary), bytes).unwrap();
    assert!(matches!(why(&finished.publish().unwrap_err()), WrittenError::Changed { .. }));
    assert_eq!(place.names(), ["config.json"], "nothing stays");
}

#[test]
fn bytes_that_describe_no_written_file() {
    let place = Place::new();
    let bytes = safetensors(100, 4);
    let written = place.write("w.safetensors", &bytes, 1000, true).publish().unwrap();
    let good = written.to_bytes();
    assert_eq!(Written::from_bytes(&good).unwrap(), written);
    for cut in 0..good.len() {
        assert!(Written::from_bytes(&good[..cut]).is_err(), "cut at {cut}");
    }
    let json = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Written::from_bytes(&bytes)
    };
    for (from, to) in [
        ("\"name\":\"w.", "\"name\":\"/."),
        ("\"name\":\"w.", "\"name\":\"v."),
        ("\"size\":", "\"sise\":"),
        ("\"tensors\":true", "\"tensors\":null"),
    ] {
        assert!(json(from, to).is_err(), "{from} as {to}");
    }
    let mut huge = good.clone();
    huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Written::from_bytes(&huge).is_err());
    assert!(Written::from_bytes(&[good.clone(), vec![0]].concat()).is_err());

    // Another machine's: its length counts, and what it says it wrote.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = json(id.trim(), "00000000-0000-0000-0000-000000000000").unwrap();
    assert!(!other.is_local());
    let path = place.model().join("w.safetensors");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    place.sign_written(&with_tensors(), vec![other.clone()]).unwrap();
    fs::write(&path, &bytes[1..]).unwrap();
    let error = place.sign_written(&with_tensors(), vec![other]).unwrap_err();
    assert!(matches!(why(&error), WrittenError::Changed { .. }));
}

/// What a child of these tests does, if this process is one.
const CHILD: &str = "TENSORSEAL_TEST_WRITTEN";

#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let mut writer = HashingWriter::create(Path::new(&folder), "w.safetensors", 20 << 20, false).unwrap();
    for _ in 0..20 {
        if let Err(error) = writer.write(&vec![1; 1 << 20]) {
            println!("failed: {error}");
            assert!(matches!(why(&writer.finish().unwrap_err()), WrittenError::Broken { .. }));
            return;
        }
    }
    println!("written");
    std::thread::sleep(std::time::Duration::from_secs(600));
}

fn run_child(place: &Place, before: &str) -> std::process::Child {
    let script = format!("{before} exec \"$0\" --exact child --nocapture");
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).env(CHILD, place.model()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_full_disk_leaves_nothing() {
    let place = Place::new();
    // In units of 512 bytes: in the midst of the second block.
    let child = run_child(&place, "trap '' XFSZ; ulimit -f 12000;");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("failed: cannot write") && said.contains("large"), "{said}");
    assert_eq!(place.names(), ["config.json"]);
}

#[test]
fn what_a_killed_writer_leaves_is_removed_by_the_next_one_and_what_a_living_one_has_is_not() {
    use std::io::{BufRead, BufReader};
    let place = Place::new();
    let mut child = run_child(&place, "");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("written")));
    let living = place.names();
    assert_eq!(living.len(), 2, "{living:?}");
    drop(place.write("w.safetensors", b"0123", 1, false));
    sweep_leftovers(&place.model()).unwrap();
    assert_eq!(place.names(), living, "it is locked");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.names(), living, "a killed process removes nothing");
    drop(place.write("v.safetensors", b"0123", 1, false));
    assert_eq!(place.names(), living, "another file's is not this one's to remove");
    drop(place.write("w.safetensors", b"0123", 1, false));
    assert_eq!(place.names(), ["config.json"]);

    for (name, goes) in [
        (".x.safetensors.12-0.tmp", true),
        (".x.safetensors.index.json.1-1.tmp", true),
        (".x.txt.12-0.tmp", false),
        (".x.safetensors.tmp", false),
    ] {
        fs::write(place.model().join(name), "").unwrap();
        sweep_leftovers(&place.model()).unwrap();
        assert_eq!(place.model().join(name).exists(), !goes, "{name}");
    }
}
