//! The hot paths of the host, one at a time and once each: what `benches/instructions` counts the instructions of.
//!
//! `instructions PATH` runs one, `instructions --list` names them, and anything else (`cargo bench` says `--bench`) runs all of
//! them and checks what comes out. Only what happens within [`collect`] is counted. One thread, nothing random, no clock:
//! what is left to differ from run to run is what libc and hash tables do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a program of its own, which may fail by panicking")]

mod made;

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde_json::Value;
use tensorseal::bench::inside;
use tensorseal::bundle::{Bundle, Evidence, VerificationMaterial};
use tensorseal::device::Device;
use tensorseal::device::cpu::{Algorithms, Cpu, FileJob, Settings, Silent};
use tensorseal::digest::Algorithm;
use tensorseal::format::{Format, Header};
use tensorseal::key::Curve;
use tensorseal::policy::Policy;
use tensorseal::report::json;
use tensorseal::sign::{SignError, SignOptions, Signature, Signer, sign};
use tensorseal::source::{IgnoreSet, Model, SymlinkPolicy};
use tensorseal::tensors::TensorManifest;
use tensorseal::tree::{ChainingValue, Frontier, GroupSize, Tree};
use tensorseal::verify::{Claim, Identity, KeyVerifier, SignatureError, Verified, Verifier, VerifyOptions, verify};
use tensorseal::{Error, Report};

/// Every path: its name, and what does it.
const PATHS: [(&str, fn()); 19] = [
    ("tree-root-1-gib", tree_root),
    ("frontier-1-gib", frontier),
    ("safetensors-header-300", || safetensors(300)),
    ("safetensors-header-50000", || safetensors(50_000)),
    ("gguf-header-300", gguf),
    ("statement-write-10", || statement_write(10)),
    ("statement-write-10000", || statement_write(10_000)),
    ("statement-read-10", || statement_read(10)),
    ("statement-read-10000", || statement_read(10_000)),
    ("bundle-read-1000", bundle_read),
    ("dsse-verify-p256", dsse_verify),
    ("walk-1000-files", walk),
    ("hash-1000-small-files", small_files),
    ("sign-ten-files", sign_ten),
    ("verify-ten-files", verify_ten),
    ("cuda-plan-10000", cuda_plan),
    ("tensor-manifest-2000", tensor_manifest),
    ("policy-100-rules", policy),
    ("json-report-1000", report),
];

/// Not a path of the library: work whose instructions grow with its rounds. `benches/instructions --self-test` takes it to
/// see that a tenth more is found.
const KNOWN: &str = "known-rounds";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => PATHS.iter().for_each(|(name, _)| println!("{name}")),
        [KNOWN, rounds] => known(rounds.parse().unwrap()),
        [name] if !name.starts_with("--") => {
            let (_, run) = PATHS.iter().find(|(path, _)| *path == name).unwrap_or_else(|| panic!("no path {name:?}"));
            run();
        }
        _ => {
            for (name, run) in PATHS {
                run();
                println!("{name}: as it should be");
            }
            println!("`benches/instructions` counts what they take");
        }
    }
}

/// The only function whose instructions are counted, with all that it calls. `benches/instructions` knows its name.
#[inline(never)]
fn collect(work: &mut dyn FnMut()) {
    work();
    // Not the last thing that happens here: else this function would be left before the work is done.
    black_box(());
}

/// Counts `work`, and nothing of what it was given or gave.
fn counted<R>(work: impl FnOnce() -> R) -> R {
    let (mut work, mut result) = (Some(work), None);
    collect(&mut || result = work.take().map(|work| black_box(work())));
    result.unwrap()
}

fn known(rounds: u64) {
    let step = |value: u64| black_box(value).rotate_left(7) ^ 0x9E37_79B9_7F4A_7C15;
    assert_ne!(counted(|| (0..rounds).fold(1, |value, _| step(value))), 1);
}

/// The root over these values by the definition of the tree, from the top: the left side of a node has the largest power of two
/// that leaves something on the right.
fn root_of(values: &[ChainingValue]) -> [u8; 32] {
    fn node(values: &[ChainingValue]) -> ChainingValue {
        if let [one] = values {
            return *one;
        }
        let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
        merge_subtrees_non_root(&node(left), &node(right), Mode::Hash)
    }
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    *merge_subtrees_root(&node(left), &node(right), Mode::Hash).as_bytes()
}

/// As after a file of 1 GiB, less a byte, of which each 64 KiB were hashed.
fn tree_root() {
    let tree = Tree::new((1 << 30) - 1, GroupSize::at_most(64 << 10));
    let values: Vec<ChainingValue> = (0..tree.groups()).map(made::value).collect();
    let root = counted(|| black_box(tree).root(black_box(&values)));
    assert_eq!(root.unwrap().as_bytes(), root_of(&values));
}

/// As after 1 GiB whose subtrees were hashed by several, in pieces of falling size.
fn frontier() {
    let values: Vec<ChainingValue> = (0..16_384).map(made::value).collect();
    // 512 times a subtree of 16 units, 8, 4, 2, 1 and 1.
    let mut subtrees = Vec::new();
    for of_32 in values.chunks(32) {
        let mut at = 0;
        for log in [4, 3, 2, 1, 0, 0] {
            let units = &of_32[at..at + (1 << log)];
            let value = units.iter().copied().reduce(|a, b| merge_subtrees_non_root(&a, &b, Mode::Hash));
            subtrees.push((log, value.unwrap()));
            at += 1 << log;
        }
    }
    let root = counted(|| {
        let mut frontier = Frontier::default();
        black_box(&subtrees).iter().for_each(|&(log, value)| frontier.push_subtree(log, value));
        frontier.root()
    });
    // What six such subtrees make, from the right, is one subtree of 32 units.
    let whole: Vec<ChainingValue> = subtrees
        .chunks(6)
        .map(|six| six.iter().rev().map(|(_, value)| *value).reduce(|r, l| merge_subtrees_non_root(&l, &r, Mode::Hash)))
        .map(Option::unwrap)
        .collect();
    assert_eq!(root.unwrap().as_bytes(), root_of(&whole));
}

fn safetensors(tensors: usize) {
    let (head, len) = made::safetensors(tensors, 32);
    let header = counted(|| Header::of_bytes(Format::Safetensors, black_box(&head), len)).unwrap();
    assert_eq!((header.tensors.len(), header.len), (tensors, head.len() as u64));
    for (index, tensor) in header.tensors.iter().enumerate() {
        assert!(tensor.name == made::tensor_name(index) && tensor.range.start == header.len + index as u64 * 4096);
    }
}

fn gguf() {
    let (head, len) = made::gguf(300, 32);
    let header = counted(|| Header::of_bytes(Format::Gguf, black_box(&head), len)).unwrap();
    assert_eq!((header.tensors.len(), header.len), (300, head.len() as u64));
    assert!(header.tensors.iter().enumerate().all(|(index, tensor)| tensor.name == made::tensor_name(index)));
}

/// A manifest as the text to sign.
fn statement_write(files: usize) {
    let manifest = made::manifest(files);
    let text = counted(|| inside::statement_of(black_box(&manifest)));
    let read: Value = serde_json::from_slice(&text).unwrap();
    let resources = read["predicate"]["resources"].as_array().unwrap();
    assert_eq!(resources.len(), files);
    for (resource, signed) in resources.iter().zip(manifest.resources()) {
        assert_eq!(resource["name"], signed.name.as_str());
        assert_eq!(resource["digest"], signed.digest.to_hex().as_str());
    }
}

/// The signed text as a manifest.
fn statement_read(files: usize) {
    let manifest = made::manifest(files);
    let bundle = Bundle::parse(&made::bundle(&inside::statement_of(&manifest))).unwrap();
    let read = counted(|| black_box(&bundle).unverified_manifest());
    assert_eq!(read.unwrap(), manifest);
}

/// The outer JSON, its payload still closed, and back.
fn bundle_read() {
    let text = made::bundle(&inside::statement_of(&made::manifest(1000)));
    let again = counted(|| Bundle::parse(black_box(&text)).unwrap().to_json());
    let [given, written]: [Value; 2] = [&text, &again].map(|text| serde_json::from_slice(text).unwrap());
    assert_eq!(given["dsseEnvelope"]["payload"], written["dsseEnvelope"]["payload"]);
}

/// The signature and what it is over, of ten files.
fn dsse_verify() {
    let manifest = made::manifest(10);
    let bundle = Bundle::parse(&made::bundle(&inside::statement_of(&manifest))).unwrap();
    let verifier = KeyVerifier::new(made::key().public_key());
    let verified = counted(|| black_box(&bundle).verify(&verifier));
    assert_eq!(verified.unwrap().into_inner(), manifest);
}

/// The folder in which a path's files lie. Its name is the same everywhere: one that is longer takes more instructions.
const FOLDER: &str = "model";

/// Bytes in a file: so few that what is counted is what a file takes beside its bytes.
const LEN: usize = 64;

/// Makes that folder in a new one, which goes away with the result, and goes there.
fn made_folder() -> tempfile::TempDir {
    let above = tempfile::tempdir().unwrap();
    std::env::set_current_dir(above.path()).unwrap();
    fs::create_dir(FOLDER).unwrap();
    above
}

fn walk() {
    let _above = made_folder();
    made::files(Path::new(FOLDER), 1000, 0);
    let scan = counted(|| {
        let model = Model::open(black_box(Path::new(FOLDER)), SymlinkPolicy::Refuse).unwrap();
        model.scan(&IgnoreSet::new(), SymlinkPolicy::Refuse, false).unwrap()
    });
    assert!(scan.files.iter().map(|file| file.name().to_owned()).eq((0..1000).map(made::file_name)));
}

fn one_thread() -> Cpu {
    Cpu::open(Settings { threads: Some(NonZeroUsize::MIN), ..Settings::default() }).unwrap()
}

fn small_files() {
    let _above = made_folder();
    made::files(Path::new(FOLDER), 1000, LEN);
    let job = |index| {
        let path = Path::new(FOLDER).join(made::file_name(index));
        FileJob { path, size_hint: Some(LEN as u64), expected_len: None }
    };
    let jobs: Vec<FileJob> = (0..1000).map(job).collect();
    let cpu = one_thread();
    let hashed = counted(|| cpu.hash_files(black_box(&jobs), Algorithms::only(Algorithm::Blake3), None, &Silent));
    for (index, file) in hashed.unwrap().iter().enumerate() {
        let [part] = &file.parts[..] else { panic!("{file:?}") };
        let digest = part.digests.get(Algorithm::Blake3).unwrap();
        assert_eq!(digest.as_bytes(), blake3::hash(&made::noise(index as u64, LEN)).as_bytes());
    }
}

/// Signs nothing and believes everything: what curves take is counted apart, and would hide the rest.
struct Nobody;

impl Signer for Nobody {
    fn sign(&self, _payload: &[u8]) -> Result<Signature, SignError> {
        let material = VerificationMaterial::PublicKey { hint: None, old: false };
        Ok(Signature { bytes: vec![0; 70], material, evidence: Evidence::default() })
    }
}

impl Verifier for Nobody {
    fn verify(&self, _claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        Ok(Identity::Key { curve: Curve::P256, fingerprint: "nobody".to_owned() })
    }
}

/// A model of ten small files.
struct Ten {
    _above: tempfile::TempDir,
    device: Device,
}

impl Ten {
    const SIGNATURE: &str = "model/model.sig";

    fn new() -> Self {
        let _above = made_folder();
        made::files(Path::new(FOLDER), 10, LEN);
        Self { _above, device: Device::Cpu(one_thread()) }
    }

    fn sign(&self, options: &SignOptions) -> Bundle {
        let (model, signature) = (Path::new(FOLDER), Path::new(Self::SIGNATURE));
        sign(model, signature, &Nobody, options, &self.device, &Silent).unwrap().bundle
    }

    /// Writes what was signed with these options.
    fn write_signature(&self, options: &SignOptions) {
        fs::write(Self::SIGNATURE, self.sign(options).to_json()).unwrap();
    }

    fn verify(&self) -> Result<Verified<Report>, Error> {
        let (model, signature) = (Path::new(FOLDER), Path::new(Self::SIGNATURE));
        verify(model, signature, &Nobody, &VerifyOptions::default(), &self.device, &Silent)
    }
}

fn sign_ten() {
    let ten = Ten::new();
    let bundle = counted(|| ten.sign(&SignOptions::default()));
    let manifest = bundle.unverified_manifest().unwrap();
    for (index, resource) in manifest.resources().iter().enumerate() {
        let digest = resource.digest_by(Algorithm::Blake3).unwrap();
        assert_eq!(digest.as_bytes(), blake3::hash(&made::noise(index as u64, LEN)).as_bytes());
    }
    assert_eq!(manifest.resources().len(), 10);
}

fn verify_ten() {
    let ten = Ten::new();
    ten.write_signature(&SignOptions::default());
    assert_eq!(counted(|| ten.verify()).unwrap().resources, 10);
    fs::write(Path::new(FOLDER).join(made::file_name(3)), made::noise(4, LEN)).unwrap();
    assert!(ten.verify().is_err(), "another file");
}

/// What the kernels are told of a model of many tensors.
#[cfg(feature = "cuda")]
fn cuda_plan() {
    // From less than a chunk to a few hundred, most of them not whole ones.
    let lengths: Vec<u64> = (0..10_000).map(|index| 17 + index * 7919 % 300_000).collect();
    let described = counted(|| inside::planned_for_cuda(1 << 20, black_box(&lengths))).unwrap();
    // Of each block of 128 slots, the first entries of a batch, the fourth word says how many are in use: all but in the last.
    let slots = |entries: &Vec<u8>| -> u64 {
        let mut used = entries.chunks_exact(32).map(|entry| u32::from_le_bytes(entry[12..16].try_into().unwrap()));
        let full = used.by_ref().take_while(|&used| used == 128).count() as u64;
        full * 128
    };
    // Chunks on the device: the full ones of strings that have more than one.
    let chunks: u64 = lengths.iter().filter(|&&len| len > 1024).map(|len| len / 1024).sum();
    let found: u64 = described.iter().map(slots).sum();
    assert!(found <= chunks && chunks - found < 128 * described.len() as u64, "{found} of {chunks} chunks");
}

#[cfg(not(feature = "cuda"))]
fn cuda_plan() {
    panic!("built without the feature cuda, there is no plan for it: build with --all-features");
}

/// A tensor manifest read, and written again.
fn tensor_manifest() {
    let bytes = made::tensor_manifest(2000).to_bytes();
    let again = counted(|| TensorManifest::parse(black_box(&bytes)).unwrap().to_bytes());
    assert_eq!(again, bytes);
}

/// A policy of many rules read, and asked about one model. That is a folder of the system: rules are about absolute paths, and
/// the length of those counts.
fn policy() {
    let mut text =
        format!("version = 1\n\n[signers.team]\nkey = \"\"\"\n{}\"\"\"\n", made::key().public_key().to_pem());
    for path in (0..99).map(|rule| format!("/models/team-{rule}/*/llama-*")).chain(["/usr/**".to_owned()]) {
        text += &format!("\n[[rule]]\npath = \"{path}\"\nany_of = [\"team\"]\n");
    }
    let (base, model) = (Path::new("/"), Path::new("/usr/bin"));
    let policy = counted(|| {
        let policy = Policy::parse(black_box(&text), base).unwrap();
        assert_eq!(policy.for_model(model).unwrap().rules().count(), 1);
        policy
    });
    assert!(policy.for_model(Path::new("/proc")).is_err(), "no rule is about it");
}

/// A report that lists many files, as it is printed for machines.
fn report() {
    let ten = Ten::new();
    let more = Path::new(FOLDER).join("cache");
    fs::create_dir(&more).unwrap();
    made::files(&more, 1000, 0);
    ten.write_signature(&SignOptions { ignore_paths: vec![more], ..SignOptions::default() });
    let report = ten.verify().unwrap();
    let text = counted(|| serde_json::to_string(&json::verified(black_box(&report))).unwrap());
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((read["ignored"].as_array().unwrap().len(), &read["resources"]), (1000, &Value::from(10)));
}
