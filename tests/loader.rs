//! Loading what somebody has altered: each alteration is refused under the right name, on the CPU and through WebGPU, and
//! what was signed is handed out as it was signed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Random, copy, flip, missing, python, write};
use tensorseal::device::cpu::{Cpu, Settings, Silent};
use tensorseal::device::{Backend, Device, Pages};
use tensorseal::key::{Curve, PrivateKey};
use tensorseal::loader::{LoadOptions, LoadedModel, load_verified, load_with_policy, model_of};
use tensorseal::manifest::{Difference, Method};
use tensorseal::report::Note;
use tensorseal::sign::{Annotations, KeySigner, Tensors as SignTensors};
use tensorseal::source::SymlinkPolicy;
use tensorseal::verify::{DigestChoice, KeyVerifier, UncoveredFiles, UnsignedFiles};
use tensorseal::{Algorithm, Error, Policy, SignOptions, Verified, VerifyError, VerifyOptions, sign};

const FIRST: &str = "model-00001-of-00003.safetensors";
const SECOND: &str = "model-00002-of-00003.safetensors";
const THIRD: &str = "model-00003-of-00003.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// More than one slab of the engine, and more than one group of a device.
const LONG: usize = (5 << 20) + 4;

type Tensors = Vec<(&'static str, Vec<u8>)>;

/// A file of safetensors with these tensors, of bytes in rows of 4.
fn safetensors(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        let shape = bytes.len() / 4;
        entries.push(format!(r#""{name}":{{"dtype":"U8","shape":[{shape},4],"data_offsets":[{start},{end}]}}"#));
        data.extend_from_slice(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The tensors of each file.
fn contents() -> [(&'static str, Tensors); 3] {
    let mut random = Random(7);
    let mut tensor = |name, len| (name, random.bytes(len));
    [
        (FIRST, vec![tensor("first", 40_000), tensor("twin.a", 8192), tensor("twin.b", 8192), tensor("long", LONG)]),
        (SECOND, vec![tensor("middle", 100_000), tensor("shard.a", 50_000)]),
        (THIRD, vec![tensor("shard.b", 150_000), tensor("last", 1200)]),
    ]
}

fn model(root: &Path) {
    let mut weights = Vec::new();
    for (file, tensors) in contents() {
        weights.extend(tensors.iter().map(|(name, _)| format!(r#""{name}":"{file}""#)));
        write(root.join(file), safetensors(&tensors));
    }
    write(root.join(INDEX), format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, weights.join(",")));
    write(root.join("config.json"), r#"{"layers":3}"#);
    write(root.join("sub/tokenizer.json"), "{}");
}

struct Signed {
    folder: tempfile::TempDir,
    trusted: KeyVerifier,
}

impl Signed {
    fn new(make: impl Fn(&Path), options: &SignOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join("m"));
        let key = PrivateKey::generate(Curve::P256).unwrap();
        let trusted = KeyVerifier::new(key.public_key());
        let (model, signature) = (folder.path().join("m"), folder.path().join("s.sig"));
        let device = Device::Cpu(Cpu::open(Settings::default()).unwrap());
        let signed = sign(&model, &signature, &KeySigner::new(key), options, &device, &Silent).unwrap();
        signed.write(&signature).unwrap();
        Self { folder, trusted }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("m")
    }

    fn load<B: Backend>(&self, backend: &B, options: &LoadOptions) -> Result<Verified<LoadedModel<B>>, Error> {
        let signature = self.folder.path().join("s.sig");
        load_verified(&self.model(), &signature, &self.trusted, options, backend, &Silent)
    }
}

fn cpu() -> Cpu {
    Cpu::open(Settings::default()).unwrap()
}

/// Mesa's software adapter.
#[cfg(feature = "wgpu")]
fn lavapipe() -> Option<tensorseal::device::Wgpu> {
    let opened = tensorseal::device::Wgpu::open(Some("llvmpipe"));
    opened.map_err(|error| missing(&format!("no software adapter: {error}"))).ok()
}

/// What is wrong with a changed model, as the report has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Changed,
    Resized,
    Missing,
    Unsigned,
}
use Kind::{Changed, Missing, Resized, Unsigned};

/// The files that an error names, and how.
fn named(error: &Error) -> BTreeSet<(String, Kind)> {
    let Some(VerifyError::Differs { differences, .. }) = error.refusal() else { panic!("{error}") };
    let kind = |difference: &Difference| match difference {
        Difference::Changed { .. } => Changed,
        Difference::Resized { .. } => Resized,
        Difference::Missing => Missing,
        Difference::Unsigned => Unsigned,
        other => panic!("{other:?}"),
    };
    // A shard is named for its file.
    let file = |name: &str| name.split(':').next().unwrap().to_owned();
    differences.0.iter().map(|(name, difference)| (file(name.as_str()), kind(difference))).collect()
}

type Alter = fn(&Path);

/// Rewrites a file of tensors.
fn rewrite(file: PathBuf, tensors: &[(&str, Vec<u8>)]) {
    write(file, safetensors(tensors));
}

/// Where a tensor's data begin in its file.
fn place(m: &Path, file: &str, name: &str) -> usize {
    let bytes = fs::read(m.join(file)).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    header + json[name]["data_offsets"][0].as_u64().unwrap() as usize
}

/// What is done to the model, and what has to be said of which file.
type Alteration = (&'static str, Alter, Vec<(&'static str, Kind)>);

fn alterations() -> Vec<Alteration> {
    vec![
        ("a bit of the first tensor", |m| flip(m.join(FIRST), place(m, FIRST, "first")), vec![(FIRST, Changed)]),
        (
            "a bit of a middle tensor",
            |m| flip(m.join(FIRST), place(m, FIRST, "long") + LONG / 2),
            vec![(FIRST, Changed)],
        ),
        (
            "a bit of the last tensor",
            |m| flip(m.join(THIRD), fs::metadata(m.join(THIRD)).unwrap().len() as usize - 1),
            vec![(THIRD, Changed)],
        ),
        ("a bit of the header", |m| flip(m.join(SECOND), 20), vec![(SECOND, Changed)]),
        ("a bit of the header's length", |m| flip(m.join(SECOND), 0), vec![(SECOND, Changed)]),
        (
            "data shifted by 8 bytes",
            |m| {
                let (mut bytes, at) = (fs::read(m.join(FIRST)).unwrap(), place(m, FIRST, "first"));
                bytes[at..].rotate_right(8);
                write(m.join(FIRST), bytes);
            },
            vec![(FIRST, Changed)],
        ),
        (
            "two tensors swapped",
            |m| {
                let (a, b) = (place(m, FIRST, "twin.a"), place(m, FIRST, "twin.b"));
                let mut bytes = fs::read(m.join(FIRST)).unwrap();
                let (left, right) = bytes.split_at_mut(b);
                left[a..a + 8192].swap_with_slice(&mut right[..8192]);
                write(m.join(FIRST), bytes);
            },
            vec![(FIRST, Changed)],
        ),
        (
            "two shards swapped",
            |m| {
                fs::rename(m.join(SECOND), m.join("t")).unwrap();
                fs::rename(m.join(THIRD), m.join(SECOND)).unwrap();
                fs::rename(m.join("t"), m.join(THIRD)).unwrap();
            },
            vec![(SECOND, Resized), (THIRD, Resized)],
        ),
        ("a tensor missing", |m| rewrite(m.join(SECOND), &contents()[1].1[..1]), vec![(SECOND, Resized)]),
        (
            "a tensor more",
            |m| {
                let mut tensors = contents()[1].1.clone();
                tensors.push(("extra", vec![1; 16]));
                rewrite(m.join(SECOND), &tensors);
            },
            vec![(SECOND, Resized)],
        ),
        (
            "a tensor of another version",
            |m| {
                let mut tensors = contents()[1].1.clone();
                tensors[1].1.fill(3);
                rewrite(m.join(SECOND), &tensors);
            },
            vec![(SECOND, Changed)],
        ),
        ("a file missing", |m| fs::remove_file(m.join(THIRD)).unwrap(), vec![(THIRD, Missing)]),
        ("a companion missing", |m| fs::remove_file(m.join("config.json")).unwrap(), vec![("config.json", Missing)]),
        (
            "a file of tensors more",
            |m| rewrite(m.join("extra.safetensors"), &[("x", vec![0; 8])]),
            vec![("extra.safetensors", Unsigned)],
        ),
        (
            "code that nobody signed",
            |m| write(m.join("sub/modeling.py"), "import os"),
            vec![("sub/modeling.py", Unsigned)],
        ),
        ("a companion changed", |m| write(m.join("config.json"), r#"{"layers":4}"#), vec![("config.json", Changed)]),
        (
            "renamed",
            |m| fs::rename(m.join(THIRD), m.join("z.safetensors")).unwrap(),
            vec![(THIRD, Missing), ("z.safetensors", Unsigned)],
        ),
    ]
}

/// Ways to sign: BLAKE3 beside SHA-256, SHA-256 alone, BLAKE3 as the OMS digest, shards.
fn ways() -> Vec<(&'static str, SignOptions)> {
    let plain = SignOptions::default;
    let shards = Method::Shards { size: std::num::NonZeroU64::new(1 << 20).unwrap() };
    vec![
        ("annotated", plain()),
        ("SHA-256 alone", SignOptions { annotations: Annotations::None, ..plain() }),
        ("BLAKE3", SignOptions { hash: Algorithm::Blake3, ..plain() }),
        ("shards", SignOptions { method: shards, ..plain() }),
        ("shards, SHA-256 alone", SignOptions { method: shards, annotations: Annotations::None, ..plain() }),
    ]
}

/// Each alteration, on this device.
fn refuses_all<B: Backend>(backend: &B, ways: &[(&'static str, SignOptions)], every: usize) {
    for (way, sign) in ways {
        let sound = Signed::new(model, sign);
        drop(sound.load(backend, &LoadOptions::default()).unwrap());
        for (about, alter, expected) in alterations().into_iter().step_by(every) {
            let signed = Signed { folder: tempfile::tempdir().unwrap(), trusted: sound.trusted.clone() };
            copy(sound.folder.path(), signed.folder.path());
            alter(&signed.model());
            let error = signed.load(backend, &LoadOptions::default()).expect_err(about);
            // Without our annotations or shards no length is signed, and the file is read.
            let told = way.contains("shards") || *way == "annotated";
            let kind = |kind| if kind == Resized && !told { Changed } else { kind };
            let expected = expected.into_iter().map(|(name, of)| (name.to_owned(), kind(of))).collect();
            assert_eq!(named(&error), expected, "{about}, {way}");
        }
    }
}

#[test]
fn every_alteration_is_refused_under_its_name() {
    refuses_all(&cpu(), &ways(), 1);
}

#[cfg(feature = "wgpu")]
#[test]
fn through_webgpu_too() {
    let Some(wgpu) = lavapipe() else { return };
    let ways = ways();
    refuses_all(&wgpu, &ways[..1], 1);
    refuses_all(&wgpu, &ways[1..2], 3);
    refuses_all(&wgpu, &ways[3..4], 4);

    let signed = Signed::new(model, &SignOptions::default());
    for digests in [DigestChoice::Fastest, DigestChoice::All] {
        let verify = VerifyOptions { digests, ..VerifyOptions::default() };
        let loaded = signed.load(&wgpu, &LoadOptions { verify, ..LoadOptions::default() }).unwrap();
        for (file, tensors) in contents() {
            for (name, bytes) in tensors {
                let view = loaded.tensor(name).unwrap();
                assert_eq!((view.file(), wgpu.download(view.buffer(), view.range()).unwrap()), (file, bytes), "{name}");
            }
        }
    }
    let huge = LoadOptions { pages: Pages::Huge, ..LoadOptions::default() };
    assert!(signed.load(&wgpu, &huge).unwrap_err().to_string().contains("huge pages"), "not in silence without");
}

/// Python's safetensors, which knows nothing of ours, says the same of every tensor as the views do.
#[test]
fn what_is_handed_out_is_what_other_readers_find_in_the_files() {
    for pages in [Pages::Ordinary, Pages::Huge] {
        let signed = Signed::new(model, &SignOptions::default());
        let loaded = signed.load(&cpu(), &LoadOptions { pages, ..LoadOptions::default() }).unwrap();
        assert_eq!(loaded.tensors().count(), 8);
        for (file, tensors) in contents() {
            for (name, bytes) in tensors {
                let view = loaded.tensor(name).unwrap();
                assert_eq!((view.name(), view.file(), view.bytes()), (name, file, &bytes[..]));
                assert_eq!(view.shape(), [bytes.len() as u64 / 4, 4]);
                assert!(view.bytes().as_ptr().addr().is_multiple_of(view.alignment() as usize), "{name}");
                assert_eq!(view.layout().unwrap().len(), bytes.len() as u64);
                assert_eq!(loaded.tensor_of(file, name).map(|view| view.range()), Some(view.range()));
            }
        }
        assert!(loaded.tensor("none").is_none());
        assert_eq!(loaded.file("config.json"), Some(&br#"{"layers":3}"#[..]));
        assert_eq!(loaded.file("sub/tokenizer.json"), Some(&b"{}"[..]));
        assert_eq!(loaded.file(FIRST), None);
        let report = loaded.report();
        assert_eq!((report.tensor_files, report.verified.files, &report.not_held[..]), (3, 6, &[][..]));
        assert_eq!(
            (&report.verified.checked[..], &report.verified.not_checked[..]),
            (&[Algorithm::Blake3][..], &[Algorithm::Sha256][..])
        );
        let Some(python) = python() else { continue };
        let program = "import sys, hashlib\nfrom safetensors import safe_open\nfor f in sys.argv[1:]:\n  with safe_open(f, 'np') as t:\n    for k in t.keys(): print(k, hashlib.sha256(t.get_tensor(k).tobytes()).hexdigest())";
        let files = [FIRST, SECOND, THIRD].map(|file| signed.model().join(file));
        let output = std::process::Command::new(python).arg("-c").arg(program).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: BTreeSet<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let sha256 = |bytes: &[u8]| -> String {
            use sha2::Digest as _;
            sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let ours = loaded.tensors().map(|view| format!("{} {}", view.name(), sha256(view.bytes()))).collect();
        assert_eq!(theirs, ours);
    }
}

#[test]
fn a_single_file_and_a_model_of_links_are_models() {
    let single = |m: &Path| rewrite(m.to_owned(), &contents()[1].1);
    // `m` has no extension: nothing says that it holds tensors.
    let signed = Signed::new(single, &SignOptions::default());
    let loaded = signed.load(&cpu(), &LoadOptions::default()).unwrap();
    assert_eq!((loaded.tensors().count(), loaded.file("m").unwrap()), (0, &safetensors(&contents()[1].1)[..]));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    single(&path);
    let (key, signature) = (PrivateKey::generate(Curve::P256).unwrap(), folder.path().join("s.sig"));
    let trusted = KeyVerifier::new(key.public_key());
    let device = Device::Cpu(cpu());
    sign(&path, &signature, &KeySigner::new(key), &SignOptions::default(), &device, &Silent)
        .unwrap()
        .write(&signature)
        .unwrap();
    let load = || load_verified(&path, &signature, &trusted, &LoadOptions::default(), &cpu(), &Silent);
    assert_eq!(load().unwrap().tensor("middle").unwrap().bytes(), contents()[1].1[0].1);
    flip(&path, 100_000);
    assert_eq!(named(&load().unwrap_err()), [(".".to_owned(), Changed)].into());

    // As in the cache of Hugging Face: names that are links to blobs outside.
    let linked = |m: &Path| {
        let blobs = m.parent().unwrap().join("blobs");
        model(&blobs);
        fs::create_dir_all(m).unwrap();
        for name in [FIRST, SECOND, THIRD, INDEX] {
            symlink(blobs.join(name), m.join(name)).unwrap();
        }
    };
    let options = SignOptions { symlinks: SymlinkPolicy::Anywhere, ..SignOptions::default() };
    let signed = Signed::new(linked, &options);
    let verify = VerifyOptions { symlinks: SymlinkPolicy::Anywhere, ..LoadOptions::default().verify };
    let follow = LoadOptions { verify, ..LoadOptions::default() };
    let loaded = signed.load(&cpu(), &follow).unwrap();
    assert_eq!((loaded.tensors().count(), loaded.report().verified.followed.len()), (8, 4));
    let error = signed.load(&cpu(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::Model(_))), "links that leave the model need a word: {error}");
}

#[test]
fn what_is_signed_and_of_no_use_is_an_error_and_not_a_model() {
    let signed = Signed::new(
        |m| {
            model(m);
            // Signed as it is: its tensors would lie outside of the file.
            let mut bytes = fs::read(m.join(THIRD)).unwrap();
            bytes.truncate(bytes.len() - 8);
            write(m.join(THIRD), bytes);
        },
        &SignOptions::default(),
    );
    let error = signed.load(&cpu(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Header { path, .. } if path.ends_with(THIRD)), "{error}");

    for (about, index) in [
        ("a tensor that is not there", r#"{"weight_map":{"none":"model-00001-of-00003.safetensors"}}"#),
        ("no index", "[]"),
    ] {
        let make = |m: &Path| {
            model(m);
            write(m.join(INDEX), index);
        };
        let error = Signed::new(make, &SignOptions::default()).load(&cpu(), &LoadOptions::default()).unwrap_err();
        assert!(matches!(&error, Error::Index { path, .. } if path.ends_with(INDEX)), "{about}: {error}");
    }
}

#[test]
fn what_the_caller_asks_for_counts_as_in_verify() {
    let signed = Signed::new(model, &SignOptions::default());
    let of = |verify: VerifyOptions| LoadOptions { verify, ..LoadOptions::default() };
    let plain = || LoadOptions::default().verify;
    write(signed.model().join("extra.safetensors"), safetensors(&[("x", vec![0; 8])]));
    let tolerate = VerifyOptions { unsigned: UnsignedFiles::Tolerate, ..plain() };
    let loaded = signed.load(&cpu(), &of(tolerate)).unwrap();
    assert_eq!(loaded.report().verified.unsigned, ["extra.safetensors"]);
    assert!(loaded.tensor("x").is_none(), "what is not signed is tolerated on disk and not loaded");
    let ignore = VerifyOptions { ignore_paths: vec![signed.model().join("extra.safetensors")], ..plain() };
    assert!(signed.load(&cpu(), &of(ignore.clone())).unwrap().tensor("x").is_none());
    let strict = VerifyOptions { uncovered: UncoveredFiles::Refuse { except: vec![] }, ..ignore };
    let error = signed.load(&cpu(), &of(strict)).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::Uncovered { .. })), "{error}");

    let other = KeyVerifier::new(PrivateKey::generate(Curve::P256).unwrap().public_key());
    let error = Signed { trusted: other, folder: signed.folder }.load(&cpu(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::Signature(_))), "{error}");
}

#[test]
fn of_two_tensors_of_one_name_the_index_says_which() {
    let two = |index: bool| {
        move |m: &Path| {
            rewrite(m.join("a.safetensors"), &[("w", vec![1; 8]), ("only", vec![2; 8])]);
            rewrite(m.join("b.safetensors"), &[("w", vec![3; 8])]);
            if index {
                write(m.join(INDEX), r#"{"weight_map":{"w":"b.safetensors"}}"#);
            }
        }
    };
    let signed = Signed::new(two(false), &SignOptions::default());
    let loaded = signed.load(&cpu(), &LoadOptions::default()).unwrap();
    assert!(loaded.tensor("w").is_none(), "neither is meant");
    assert_eq!(loaded.tensor_of("b.safetensors", "w").unwrap().bytes(), [3; 8]);
    assert_eq!(loaded.tensor("only").unwrap().bytes(), [2; 8]);
    let signed = Signed::new(two(true), &SignOptions::default());
    let loaded = signed.load(&cpu(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.tensor("w").unwrap().bytes(), [3; 8]);
}

#[test]
fn an_outboard_is_refused_and_not_passed_over() {
    let signed = Signed::new(model, &SignOptions::default());
    let verify = VerifyOptions { outboard: Some("m.outboard".into()), ..LoadOptions::default().verify };
    let error = signed.load(&cpu(), &LoadOptions { verify, ..LoadOptions::default() }).unwrap_err();
    assert!(matches!(error, Error::OutboardUnused { .. }), "{error}");
}

/// A file of GGUF with one tensor, as part `number` of `count`.
fn gguf(number: u16, count: u16, of_tensors: i32) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = |name: &str, kind: u32, value: &[u8]| [&text(name)[..], &kind.to_le_bytes(), value].concat();
    let mut bytes = [&b"GGUF"[..], &3_u32.to_le_bytes(), &1_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat();
    bytes.extend(key("split.no", 2, &number.to_le_bytes()));
    bytes.extend(key("split.count", 2, &count.to_le_bytes()));
    bytes.extend(key("split.tensors.count", 5, &of_tensors.to_le_bytes()));
    bytes.extend(text(&format!("t{number}")));
    bytes.extend([&1_u32.to_le_bytes()[..], &8_u64.to_le_bytes(), &0_u32.to_le_bytes(), &0_u64.to_le_bytes()].concat());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend([7; 32]);
    bytes
}

#[test]
fn parts_of_gguf_are_a_model_together_and_a_part_alone_is_a_file() {
    let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let both = |m: &Path| (0..2).for_each(|part| write(m.join(parts[part]), gguf(part as u16, 2, 2)));
    let loaded = Signed::new(both, &SignOptions::default()).load(&cpu(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.tensors().count(), 2);
    let one = |m: &Path| write(m.join(parts[1]), gguf(1, 2, 2));
    let error = Signed::new(one, &SignOptions::default()).load(&cpu(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Parts(_)), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let (path, signature) = (folder.path().join(parts[1]), folder.path().join("s.sig"));
    write(&path, gguf(1, 2, 2));
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let trusted = KeyVerifier::new(key.public_key());
    let signed =
        sign(&path, &signature, &KeySigner::new(key), &SignOptions::default(), &Device::Cpu(cpu()), &Silent).unwrap();
    signed.write(&signature).unwrap();
    let loaded = load_verified(&path, &signature, &trusted, &LoadOptions::default(), &cpu(), &Silent).unwrap();
    assert_eq!(loaded.tensor("t1").unwrap().bytes(), [7; 32]);
}

/// A model with signatures by three keys, and a policy.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        model(&folder.path().join("m"));
        let place = Self { folder };
        for (name, annotations) in
            [("team", Annotations::Blake3), ("security", Annotations::None), ("other", Annotations::Blake3)]
        {
            place.sign(name, "m", &SignOptions { annotations, ..SignOptions::default() });
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str, model: &str, options: &SignOptions) {
        let key = PrivateKey::generate(Curve::P256).unwrap();
        write(self.path(&format!("{name}.pub")), key.public_key().to_pem());
        let (model, signature) = (self.path(model), self.path(&format!("{name}.sig")));
        let signed = sign(&model, &signature, &KeySigner::new(key), options, &Device::Cpu(cpu()), &Silent).unwrap();
        signed.write(&signature).unwrap();
    }

    fn load(
        &self,
        rules: &str,
        signatures: &[&str],
        options: &LoadOptions,
    ) -> Result<Verified<LoadedModel<Cpu>>, Error> {
        let signers = ["team", "security"].map(|name| format!("[signers.{name}]\nkey = \"{name}.pub\"\n")).concat();
        let path = self.path("m").canonicalize().unwrap();
        let text = format!("version = 1\n{signers}[[rule]]\npath = {path:?}\n{rules}\n");
        let policy = Policy::parse(&text, self.folder.path()).unwrap();
        let signatures: Vec<PathBuf> = signatures.iter().map(|name| self.path(&format!("{name}.sig"))).collect();
        let signatures: Vec<&Path> = signatures.iter().map(PathBuf::as_path).collect();
        load_with_policy(&self.path("m"), &signatures, &policy, options, &cpu(), &Silent)
    }
}

const BOTH: &str = r#"all_of = ["team", "security"]"#;
const ANY: &str = r#"any_of = ["team", "security"]"#;

#[test]
fn by_a_policy_a_model_is_loaded_once_and_compared_with_each_signature() {
    let place = Place::new();
    let plain = LoadOptions::default();
    let loaded = place.load(BOTH, &["team", "security"], &plain).unwrap();
    assert_eq!(loaded.tensor("middle").unwrap().bytes(), contents()[1].1[0].1);
    let report = &loaded.report().verified;
    // One has BLAKE3 digests and the other has none: each is compared.
    assert_eq!(report.checked.len(), 2, "{:?}", report.checked);
    assert_eq!(report.policy.as_ref().unwrap().signatures.len(), 2);

    let policy = |error: Error| match error.refusal() {
        Some(VerifyError::Policy(why)) => why.to_string(),
        _ => panic!("{error}"),
    };
    assert!(policy(place.load(BOTH, &["team"], &plain).unwrap_err()).contains("security"));
    assert!(policy(place.load(ANY, &["other"], &plain).unwrap_err()).contains("other.sig"));
    policy(place.load(ANY, &[], &plain).unwrap_err());
    // A rule that asks for another device than the one that it is loaded to.
    let cuda = format!("{ANY}\nrequire = {{ digests = \"blake3\", device = \"cuda\" }}");
    assert!(policy(place.load(&cuda, &["team"], &plain).unwrap_err()).contains("device"));
    // What a rule asks for is asked for: BLAKE3 alone, all digests, nothing beside what was signed.
    for (asked, digests, checked) in [("blake3", "team", 1), ("oms", "team", 1), ("all", "team", 2)] {
        let rules = format!("{ANY}\nrequire = {{ digests = \"{asked}\" }}");
        let loaded = place.load(&rules, &[digests], &plain).unwrap();
        assert_eq!(loaded.report().verified.checked.len(), checked, "{asked}");
    }
    let blake3 = format!("{ANY}\nrequire = {{ digests = \"blake3\" }}");
    let error = place.load(&blake3, &["security"], &plain).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::NoSuchDigest { .. })), "{error}");
    let strict = format!("{ANY}\nrequire = {{ strict = true }}");
    let mut ignoring = LoadOptions::default();
    ignoring.verify.ignore_paths = vec![place.path("m/notes")];
    write(place.path("m/notes"), "unsigned");
    drop(place.load(ANY, &["team"], &ignoring).unwrap());
    let error = place.load(&strict, &["team"], &ignoring).unwrap_err();
    assert!(matches!(error.refusal(), Some(VerifyError::Uncovered { .. })), "{error}");
    fs::remove_file(place.path("m/notes")).unwrap();

    flip(place.path("m").join(FIRST), 100_000);
    for signatures in [&["team", "security"][..], &["security", "team"]] {
        let error = place.load(BOTH, signatures, &plain).unwrap_err();
        assert_eq!(named(&error), [(FIRST.to_owned(), Changed)].into(), "{error}");
    }
    // Two statements about two models.
    place.sign("security", "m", &SignOptions::default());
    policy(place.load(BOTH, &["team", "security"], &plain).unwrap_err());
}

/// The files of that model that are asked for.
fn only(names: &[&str]) -> LoadOptions {
    LoadOptions { only: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..LoadOptions::default() }
}

/// Nobody could read the others if they tried: a part is loaded without a byte of the rest.
#[test]
fn of_a_part_the_rest_is_listed_and_not_read() {
    for (way, options) in ways() {
        let signed = Signed::new(model, &options);
        for name in [FIRST, THIRD, INDEX, "config.json", "sub/tokenizer.json"] {
            // Of the same length, and nothing that could be admitted, or parsed.
            flip(signed.model().join(name), 1);
        }
        let loaded = signed.load(&cpu(), &only(&[SECOND])).unwrap();
        assert_eq!(loaded.tensors().count(), 2, "{way}");
        assert_eq!(loaded.tensor("middle").unwrap().bytes(), contents()[1].1[0].1, "{way}");
        assert!(loaded.tensor("first").is_none() && loaded.file("config.json").is_none(), "{way}");
        let report = loaded.report();
        let rest = ["config.json", FIRST, THIRD, INDEX, "sub/tokenizer.json"];
        assert_eq!(report.not_asked, rest, "{way}");
        let len = fs::metadata(signed.model().join(SECOND)).unwrap().len();
        assert_eq!((report.tensor_files, report.verified.files, report.verified.bytes), (1, 1, len), "{way}");
        let said = report.verified.notes.iter().any(|note| matches!(note, Note::NotAsked { files } if *files == rest));
        assert!(said, "{way}: {:?}", report.verified.notes);
        // What is asked for is checked, whichever it is.
        for (names, kind) in [(&[SECOND, FIRST][..], FIRST), (&[SECOND, "config.json"], "config.json")] {
            let error = signed.load(&cpu(), &only(names)).unwrap_err();
            assert_eq!(named(&error), [(kind.to_owned(), Changed)].into(), "{way}");
        }
    }
}

#[test]
fn a_part_speaks_of_the_list_of_the_whole() {
    let sound = Signed::new(model, &SignOptions::default());
    let altered = |alter: Alter, names: &[&str]| {
        let signed = Signed { folder: tempfile::tempdir().unwrap(), trusted: sound.trusted.clone() };
        copy(sound.folder.path(), signed.folder.path());
        alter(&signed.model());
        named(&signed.load(&cpu(), &only(names)).unwrap_err())
    };
    let one = |name: &str, kind| BTreeSet::from([(name.to_owned(), kind)]);
    assert_eq!(altered(|m| fs::remove_file(m.join(THIRD)).unwrap(), &[SECOND]), one(THIRD, Missing));
    assert_eq!(altered(|m| write(m.join("x.py"), "import os"), &[SECOND]), one("x.py", Unsigned));
    assert_eq!(altered(|m| write(m.join("config.json"), "{}"), &[SECOND]), one("config.json", Resized));
    assert_eq!(altered(|m| flip(m.join(SECOND), 20), &[SECOND]), one(SECOND, Changed));
    assert_eq!(altered(|m| fs::remove_file(m.join(SECOND)).unwrap(), &[SECOND]), one(SECOND, Missing));

    // Tolerated on disk is not signed.
    let mut tolerant = only(&["x.safetensors"]);
    tolerant.verify.unsigned = UnsignedFiles::Tolerate;
    write(sound.model().join("x.safetensors"), safetensors(&[("x", vec![0; 8])]));
    let error = sound.load(&cpu(), &tolerant).unwrap_err();
    assert_eq!(named(&error), one("x.safetensors", Unsigned));
    tolerant.only = only(&[SECOND]).only;
    assert_eq!(sound.load(&cpu(), &tolerant).unwrap().tensors().count(), 2);
    fs::remove_file(sound.model().join("x.safetensors")).unwrap();

    for (names, ends) in [(&["none.safetensors"][..], "m/none.safetensors"), (&[SECOND, "a/b"], "m/a/b")] {
        let error = sound.load(&cpu(), &only(names)).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with(ends)), "{error}");
    }
    assert!(matches!(sound.load(&cpu(), &only(&[])), Err(Error::NothingAsked { .. })));
}

#[test]
fn an_index_that_is_asked_for_is_compared_with_what_is_there() {
    let signed = Signed::new(model, &SignOptions::default());
    let loaded = signed.load(&cpu(), &only(&[SECOND, INDEX])).unwrap();
    assert_eq!((loaded.tensors().count(), loaded.file(INDEX).is_some()), (2, true));
    let wrong = |m: &Path| {
        model(m);
        write(m.join(INDEX), format!(r#"{{"weight_map":{{"first":"{SECOND}","last":"gone.safetensors"}}}}"#));
    };
    let signed = Signed::new(wrong, &SignOptions::default());
    for names in [&[SECOND, INDEX][..], &[FIRST, INDEX]] {
        let error = signed.load(&cpu(), &only(names)).unwrap_err();
        assert!(matches!(&error, Error::Index { .. }), "{error}");
    }
    // A file that it names and that is none of the model is missing, whatever was asked for.
    let gone = |m: &Path| {
        model(m);
        let map = format!(r#""middle":"{SECOND}","shard.a":"{SECOND}","last":"gone.safetensors""#);
        write(m.join(INDEX), format!(r#"{{"weight_map":{{{map}}}}}"#));
    };
    let error = Signed::new(gone, &SignOptions::default()).load(&cpu(), &only(&[SECOND, INDEX])).unwrap_err();
    assert!(matches!(&error, Error::Index { .. }), "{error}");
    assert_eq!(
        signed.load(&cpu(), &only(&[SECOND])).unwrap().tensors().count(),
        2,
        "an index counts where it is asked for"
    );
}

#[test]
fn a_part_of_gguf_is_no_missing_part() {
    let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let both = |m: &Path| (0..2).for_each(|part| write(m.join(parts[part]), gguf(part as u16, 2, 2)));
    let loaded = Signed::new(both, &SignOptions::default()).load(&cpu(), &only(&parts[1..])).unwrap();
    assert_eq!(loaded.tensors().map(|view| view.name().to_owned()).collect::<Vec<_>>(), ["t1"]);
    let misnamed = |m: &Path| (0..2).for_each(|part| write(m.join(parts[part]), gguf(1 - part as u16, 2, 2)));
    let error = Signed::new(misnamed, &SignOptions::default()).load(&cpu(), &only(&parts[1..])).unwrap_err();
    assert!(matches!(error, Error::Parts(_)), "{error}");
}

#[test]
fn a_tensor_manifest_that_is_asked_for_is_about_the_files_that_are() {
    const MANIFEST: &str = tensorseal::tensors::FILE_NAME;
    let signed = Signed::new(model, &SignOptions { tensors: SignTensors::InModel, ..SignOptions::default() });
    for (names, looked_at) in [(&[SECOND][..], 0), (&[SECOND, MANIFEST], 1)] {
        let loaded = signed.load(&cpu(), &only(names)).unwrap();
        assert_eq!((loaded.tensors().count(), loaded.report().verified.tensor_manifests.len()), (2, looked_at));
    }
    flip(signed.model().join(MANIFEST), 40);
    assert!(signed.load(&cpu(), &only(&[SECOND])).is_ok());
    let error = signed.load(&cpu(), &only(&[SECOND, MANIFEST])).unwrap_err();
    assert_eq!(named(&error), [(MANIFEST.to_owned(), Changed)].into());
}

/// A file as an odd writer makes it: after 3 bytes lie numbers of 8.
fn odd() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"wide":{"dtype":"F64","shape":[4],"data_offsets":[3,35]},"b":{"dtype":"U8","shape":[5],"data_offsets":[35,40]}}"#;
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let data: Vec<u8> = (0..40).collect();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn moves<B: Backend>(backend: &B, bytes: impl Fn(&B::Buffer) -> Vec<u8>) {
    let signed = Signed::new(|m| write(m.join("odd.safetensors"), odd()), &SignOptions::default());
    let parts = signed.load(backend, &LoadOptions::default()).unwrap().into_inner().into_parts(backend).unwrap();
    let [file] = &parts.files[..] else { panic!("one file") };
    let moved: Vec<&str> = file.moved.keys().map(|&at| file.header.tensors[at].name.as_str()).collect();
    assert_eq!((file.name.as_str(), moved), ("odd.safetensors", vec!["wide"]), "no other is out of place");
    assert_eq!(bytes(&file.moved[&1]), (3..35).collect::<Vec<u8>>());
    assert_eq!(parts.names["wide"], Some((0, 1)));
}

#[test]
fn a_tensor_that_is_out_of_place_for_its_type_has_memory_of_its_own() {
    moves(&cpu(), |memory| memory.bytes().to_vec());
    #[cfg(feature = "wgpu")]
    if let Some(wgpu) = lavapipe() {
        moves(&wgpu, |memory| wgpu.download(memory, 0..32).unwrap());
    }
}

#[test]
fn the_model_of_a_file_is_what_its_bundle_says() {
    let signed = Signed::new(model, &SignOptions::default());
    let (root, bundle) = (signed.model(), signed.folder.path().join("s.sig"));
    let most = signed_bytes(&bundle);
    let of = |file: &str, bundle: Option<&Path>| model_of(&root.join(file), bundle, most);
    for (file, name) in [(FIRST, FIRST), ("sub/tokenizer.json", "sub/tokenizer.json")] {
        let found = of(file, Some(&bundle)).unwrap();
        assert_eq!((found.model.as_path(), found.name.as_deref()), (root.as_path(), Some(name)));
    }
    // What is signed nowhere is looked for in its own folder, and refused there.
    let found = of("sub/none.json", Some(&bundle)).unwrap();
    assert_eq!((found.model, found.name.as_deref()), (root.join("sub"), Some("none.json")));
    assert!(matches!(of(FIRST, None), Err(Error::NoSignature { .. })));
    assert!(model_of(&root.join(FIRST), Some(&bundle), most - 1).is_err(), "a bundle may be too long");
    fs::copy(&bundle, root.join("model.sig")).unwrap();
    assert_eq!(of(FIRST, None).unwrap().signature, root.join("model.sig"));

    let alone = Signed::new(|m| write(m, odd()), &SignOptions::default());
    let bundle = alone.folder.path().join("s.sig");
    let found = model_of(&alone.model(), Some(&bundle), most).unwrap();
    assert_eq!((found.model, found.name), (alone.model(), None));
    fs::copy(&bundle, alone.folder.path().join("m.sig")).unwrap();
    assert_eq!(model_of(&alone.model(), None, most).unwrap().signature, alone.folder.path().join("m.sig"));
}

fn signed_bytes(bundle: &Path) -> u64 {
    fs::metadata(bundle).unwrap().len()
}
