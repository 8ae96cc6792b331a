//! Any tree, signed with any options: the statement is the expected one, the model verifies, an altered one does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use sha2::Digest as _;
use tensorseal::bundle::Bundle;
use tensorseal::device::cpu::{Cpu, Io, Settings, Silent};
use tensorseal::key::{Curve, PrivateKey, PublicKey};
use tensorseal::manifest::{Method, ShardNaming};
use tensorseal::sign::{Annotations, KeySigner, Signed, SingleFileName};
use tensorseal::verify::{DigestChoice, KeyVerifier};
use tensorseal::{Algorithm, Device, Difference, Error, SignOptions, VerifyError, VerifyOptions, sign, verify};

use crate::config;
use crate::oracle::{content, cut, hex, one_shot};

const PIECES: [&str; 24] = [
    "a",
    "A",
    "b",
    "0",
    "4",
    ".",
    "..",
    "-",
    "_",
    ":",
    ":0:4",
    " ",
    "\\",
    "\"",
    "'",
    "\n",
    "\t",
    "\u{1}",
    "\u{7f}",
    "é",
    "e\u{301}",
    "\u{1f600}",
    "\u{ffff}",
    "%2F",
];
const WORDS: [&str; 9] =
    [".git", ".gitignore", ".github", ".gitmodules", "model.sig", "...", "a:0:4", "model.safetensors", "~"];

fn component() -> impl Strategy<Value = String> {
    let any = prop::collection::vec(select(&PIECES[..]), 1..6).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => any, 1 => select(&WORDS[..]).prop_map(str::to_owned)]
        .prop_filter("no file has such a name", |name| name != "." && name != "..")
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(0),
        4 => 1..100_usize,
        2 => 1020..1030_usize,
        2 => 0..70_000_usize,
        1 => (512 << 10) - 2..(512 << 10) + 3_usize,
        1 => 0..3_usize << 20,
    ]
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Flip(Index),
    Truncate(Index),
    Append,
    Delete,
    Add,
    Rename,
}

#[derive(Debug, Clone)]
struct Case {
    files: Vec<(String, u64, usize)>,
    hash: Algorithm,
    shard: Option<u64>,
    compat: bool,
    annotations: bool,
    /// Only the first file is the model.
    single: bool,
    basename: bool,
    /// Which of the files are left out.
    ignore: Vec<Index>,
    signature_inside: bool,
    read_only: bool,
    victim: Index,
    act: Act,
}

fn case() -> impl Strategy<Value = Case> {
    let name = prop::collection::vec(component(), 1..4).prop_map(|parts| parts.join("/"));
    let files = prop::collection::vec((name, any::<u64>(), size()), 0..9);
    let shard = prop::option::of(select(&[7, 1000, 1024, 4097, 524_289, 5_242_883][..]));
    let act = prop_oneof![
        any::<Index>().prop_map(Act::Flip),
        any::<Index>().prop_map(Act::Truncate),
        Just(Act::Append),
        Just(Act::Delete),
        Just(Act::Add),
        Just(Act::Rename),
    ];
    let flags = any::<(bool, bool, bool, bool, bool)>();
    let ignore = prop::collection::vec(any::<Index>(), 0..3);
    (files, select(&Algorithm::ALL[..]), shard, flags, prop::bool::weighted(0.2), ignore, any::<Index>(), act).prop_map(
        |(
            files,
            hash,
            shard,
            (compat, annotations, basename, signature_inside, read_only),
            single,
            ignore,
            victim,
            act,
        )| {
            Case {
                files,
                hash,
                shard,
                compat,
                annotations,
                single,
                basename,
                ignore,
                signature_inside,
                read_only,
                victim,
                act,
            }
        },
    )
}

/// A case on disk, and what of it must be signed.
struct Laid {
    _folder: tempfile::TempDir,
    model: PathBuf,
    signature: PathBuf,
    /// Covered files and their bytes, by name.
    covered: BTreeMap<String, Vec<u8>>,
    ignored: BTreeSet<String>,
    options: SignOptions,
    device: Device,
}

impl Case {
    fn lay(&self) -> Laid {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("model");
        fs::create_dir(&root).unwrap();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        // The first is always there, is not empty and is never left out, so that there is something to sign.
        let first = ("weights:0:4".to_owned(), 1, 2000);
        for (name, seed, len) in std::iter::once(&first).chain(&self.files) {
            let path = root.join(name);
            // A file may stand where this one needs a folder, and the other way round.
            if path.exists() || fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            let bytes = content(*seed, *len);
            fs::write(&path, &bytes).unwrap();
            files.insert(name.clone(), bytes);
        }

        let mut ignored: BTreeSet<String> =
            [".git", ".gitattributes", ".github", ".gitignore"].map(str::to_owned).into();
        let mut ignore_paths = Vec::new();
        let names: Vec<&String> = files.keys().filter(|name| **name != first.0).collect();
        for index in self.ignore.iter().filter(|_| !names.is_empty()) {
            // A file, or the folder that it lies in.
            let name = *index.get(&names);
            let name = if index.index(2) == 0 { name } else { name.split('/').next().unwrap() };
            ignored.insert(name.to_owned());
            ignore_paths.push(root.join(name));
        }
        let signature = if self.signature_inside && !self.single {
            let name = (0..).map(|i| format!("signature-{i}")).find(|name| !root.join(name).exists()).unwrap();
            ignored.insert(name.clone());
            root.join(name)
        } else {
            folder.path().join("signature")
        };

        let mut model = root;
        if self.single {
            model = model.join(&first.0);
            let name = if self.basename { first.0.clone() } else { ".".to_owned() };
            files = [(name, content(first.1, first.2))].into();
            // The ignore paths lie outside of such a model.
            ignored = [".git", ".gitattributes", ".github", ".gitignore"].map(str::to_owned).into();
        } else {
            let covers = |path: &String, name: &str| name == path || name.starts_with(&format!("{path}/"));
            files.retain(|name, _| !ignored.iter().any(|path| covers(path, name)));
        }
        let total: usize = files.values().map(Vec::len).sum();
        let shard = self.shard.map(|size| size.max(total as u64 / 300)).and_then(NonZeroU64::new);
        let options = SignOptions {
            method: shard.map_or(Method::Files, |size| Method::Shards { size }),
            hash: self.hash,
            // Whole files have no such name, and a statement of files is read as `Spec`.
            shard_naming: if self.compat && shard.is_some() { ShardNaming::Compat } else { ShardNaming::Spec },
            annotations: if self.annotations { Annotations::Blake3 } else { Annotations::None },
            ignore_paths,
            single_file_name: if self.basename { SingleFileName::Basename } else { SingleFileName::Dot },
            ..SignOptions::default()
        };
        let io = if self.read_only { Io::Read } else { Io::Auto };
        let device = Device::Cpu(Cpu::open(Settings { threads: NonZeroUsize::new(2), io }).unwrap());
        Laid { _folder: folder, model, signature, covered: files, ignored, options, device }
    }
}

static KEY: LazyLock<(KeySigner, PublicKey)> = LazyLock::new(|| {
    let key = PrivateKey::generate(Curve::P256).unwrap();
    let public = key.public_key();
    (KeySigner::new(key), public)
});

impl Laid {
    fn sign(&self) -> Signed {
        sign(&self.model, &self.signature, &KEY.0, &self.options, &self.device, &Silent).unwrap()
    }

    fn verify(&self, digests: DigestChoice) -> Result<Vec<Algorithm>, Error> {
        let verifier = KeyVerifier::new(KEY.1.clone());
        let options = VerifyOptions { digests, ..VerifyOptions::default() };
        let report = verify(&self.model, &self.signature, &verifier, &options, &self.device, &Silent)?;
        assert_eq!(report.resources, self.expected().len());
        Ok(report.into_inner().checked)
    }

    /// Which algorithms are signed of every resource.
    fn algorithms(&self) -> Vec<Algorithm> {
        let annotated = self.options.annotations == Annotations::Blake3;
        let signed =
            |algorithm: &Algorithm| *algorithm == self.options.hash || (*algorithm == Algorithm::Blake3 && annotated);
        Algorithm::ALL.into_iter().filter(signed).collect()
    }

    /// Name and bytes of every resource, in the order of their names.
    fn expected(&self) -> BTreeMap<String, &[u8]> {
        let mut all = BTreeMap::new();
        for (name, bytes) in &self.covered {
            match self.options.method.shard_size() {
                None => _ = all.insert(name.clone(), &bytes[..]),
                size => {
                    for (start, end) in cut(bytes.len() as u64, size) {
                        all.insert(format!("{name}:{start}:{end}"), &bytes[start as usize..end as usize]);
                    }
                }
            }
        }
        all
    }

    /// The statement that must be signed, made without the product's code.
    fn statement(&self) -> Value {
        let (hash, shard) = (self.options.hash, self.options.method.shard_size());
        let compat = self.options.shard_naming == ShardNaming::Compat;
        let algorithm = match shard {
            Some(size) if compat => format!("{hash}-sharded-{size}"),
            _ => hash.to_string(),
        };
        let annotate = self.algorithms().len() == 2;
        let mut root = sha2::Sha256::new();
        let mut resources = Vec::new();
        for (name, bytes) in self.expected() {
            let digest = one_shot(hash, bytes);
            root.update(&digest);
            let mut resource = serde_json::json!({"name": name, "algorithm": algorithm, "digest": hex(&digest)});
            if annotate {
                let blake3 = hex(&one_shot(Algorithm::Blake3, bytes));
                resource["annotations"] = serde_json::json!({"tensorseal/v1": {"blake3": blake3, "size": bytes.len()}});
            }
            resources.push(resource);
        }
        let mut serialization = serde_json::json!({
            "method": if shard.is_some() { "shards" } else { "files" },
            "hash_type": hash.to_string(),
            "allow_symlinks": false,
            "ignore_paths": self.ignored.iter().collect::<Vec<_>>(),
        });
        if let Some(size) = shard {
            serialization["shard_size"] = size.get().into();
        }
        let name = self.model.file_name().unwrap().to_str().unwrap();
        serde_json::json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": hex(&root.finalize())}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {"serialization": serialization, "resources": resources},
        })
    }
}

fn payload(bundle: &Bundle) -> Vec<u8> {
    let pae = bundle.envelope().pae();
    let text = pae.strip_prefix(b"DSSEv1 28 application/vnd.in-toto+json ").unwrap();
    text[text.iter().position(|&byte| byte == b' ').unwrap() + 1..].to_vec()
}

/// What of a JSON text lies outside of strings.
fn outside_strings(text: &[u8]) -> String {
    let (mut inside, mut escaped, mut out) = (false, false, String::new());
    for &byte in text {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (true, _) => {}
            (false, byte) => out.push(char::from(byte)),
        }
    }
    out
}

/// Compact, lexicographic, numbers in digits: what the Go implementation and the schema insist on.
fn check_form(text: &[u8]) {
    let plain = outside_strings(text);
    let rest = plain.replace("true", "").replace("false", "");
    assert!(rest.bytes().all(|byte| b"{}[]:,0123456789".contains(&byte)), "{plain:?}");
    let statement: Value = serde_json::from_slice(text).unwrap();
    let strings = |values: &Value, of: &dyn Fn(&Value) -> String| -> Vec<String> {
        values.as_array().unwrap().iter().map(of).collect()
    };
    let names = strings(&statement["predicate"]["resources"], &|r| r["name"].as_str().unwrap().to_owned());
    assert!(names.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "{names:?}");
    let ignored =
        strings(&statement["predicate"]["serialization"]["ignore_paths"], &|path| path.as_str().unwrap().to_owned());
    assert!(ignored.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "{ignored:?}");
}

const CHOICES: [DigestChoice; 4] = [DigestChoice::Oms, DigestChoice::Blake3, DigestChoice::Fastest, DigestChoice::All];

fn check_case(case: &Case) {
    let laid = case.lay();
    let signed = laid.sign();
    let text = payload(&signed.bundle);
    check_form(&text);
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), laid.statement());
    assert_eq!(
        signed.bundle.unverified_manifest().unwrap(),
        signed.hashed.manifest,
        "reading is the inverse of writing"
    );

    signed.write(&laid.signature).unwrap();
    assert_eq!(Bundle::parse(&fs::read(&laid.signature).unwrap()).unwrap(), signed.bundle);
    assert_eq!(payload(&laid.sign().bundle), text, "signed again, with the signature in place");

    let algorithms = laid.algorithms();
    for choice in CHOICES {
        let expected = match choice {
            DigestChoice::Oms => vec![laid.options.hash],
            DigestChoice::Blake3 => vec![Algorithm::Blake3],
            DigestChoice::Fastest if algorithms.contains(&Algorithm::Blake3) => vec![Algorithm::Blake3],
            DigestChoice::Fastest => vec![laid.options.hash],
            DigestChoice::All => algorithms.clone(),
        };
        match laid.verify(choice) {
            Ok(checked) => assert_eq!(checked, expected),
            Err(Error::Verify(why)) if matches!(*why, VerifyError::NoSuchDigest { .. }) => {
                assert!(choice == DigestChoice::Blake3 && !algorithms.contains(&Algorithm::Blake3));
            }
            Err(error) => panic!("{choice:?}: {error}"),
        }
    }

    let Some((name, difference)) = act(case, &laid) else { return };
    for choice in CHOICES {
        if choice == DigestChoice::Blake3 && !algorithms.contains(&Algorithm::Blake3) {
            continue;
        }
        let error = laid.verify(choice).expect_err("an altered model");
        let Error::Verify(why) = error else { panic!("{error}") };
        let VerifyError::Differs { differences, .. } = *why else { panic!("{why}") };
        // A shard that changed is named, and a file of another length as a whole.
        let of_this = |found: &str| found == name || found.starts_with(&format!("{name}:"));
        assert!(differences.0.iter().any(|(found, _)| of_this(found.as_str())), "{name:?} is not named: {differences}");
        assert!(differences.0.iter().map(|(_, found)| found).any(difference), "{differences}");
    }
}

/// What must be told of an altered file.
type Telling = fn(&Difference) -> bool;

/// Alters the model in one way that the signature must not survive; says which name must be told of, and how.
fn act(case: &Case, laid: &Laid) -> Option<(String, Telling)> {
    const CHANGED: fn(&Difference) -> bool =
        |found| matches!(found, Difference::Changed { .. } | Difference::Resized { .. });
    const MISSING: Telling = |found| matches!(found, Difference::Missing);
    const UNSIGNED: Telling = |found| matches!(found, Difference::Unsigned);
    const ANY: Telling = |_| true;
    let shards = laid.options.method != Method::Files;
    // Shards do not cover empty files.
    let victims: Vec<_> = laid.covered.iter().filter(|(_, bytes)| !shards || !bytes.is_empty()).collect();
    let (name, bytes) = *case.victim.get(&victims);
    let path = if case.single { laid.model.clone() } else { laid.model.join(name) };
    let mut bytes = bytes.clone();
    let difference = match case.act {
        Act::Flip(at) if !bytes.is_empty() => {
            let at = at.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            CHANGED
        }
        Act::Truncate(to) if !bytes.is_empty() => {
            bytes.truncate(to.index(bytes.len()));
            if shards { ANY } else { CHANGED }
        }
        Act::Flip(_) | Act::Truncate(_) | Act::Append => {
            bytes.push(0);
            if shards { ANY } else { CHANGED }
        }
        // A single file has no name that matters and nothing beside it.
        Act::Delete | Act::Add | Act::Rename if case.single => return None,
        Act::Delete => {
            fs::remove_file(&path).unwrap();
            return Some((name.clone(), MISSING));
        }
        Act::Add => {
            let added = unused(&laid.model);
            fs::write(laid.model.join(&added), "x").unwrap();
            return Some((added, UNSIGNED));
        }
        Act::Rename => {
            let new = unused(&laid.model);
            fs::rename(&path, laid.model.join(&new)).unwrap();
            return Some((if case.victim.index(2) == 0 { new } else { name.clone() }, ANY));
        }
    };
    fs::write(&path, &bytes).unwrap();
    Some((name.clone(), difference))
}

fn unused(folder: &Path) -> String {
    (0..).map(|i| format!("new-{i}")).find(|name| !folder.join(name).exists()).unwrap()
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn any_tree_is_signed_as_it_is_and_refused_once_altered(case in case()) {
        check_case(&case);
    }
}
