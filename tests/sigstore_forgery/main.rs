//! Sigstore bundles of a private instance (`common/sigstore/`), right ones and forged ones.
//!
//! That the kit makes what Sigstore makes is shown by readers that are not ours, before ours is asked.
#![cfg(all(feature = "cli", feature = "sigstore-verify"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod logs;
mod rest;
mod signer;
mod sweep;
mod table;

use std::path::Path;
use std::thread;

use common::forge::Forge;
use common::sigstore::certificate::{ALTERNATIVE_NAME, ISSUER_OLD, alternative_name};
use common::sigstore::log::Log;
use common::sigstore::{Key, PrivateSigstore, Rekor, Request, edit};
use common::{Run, program, python, seal, tensorseal, write};
use serde_json::{Value, json};
use table::{Row, Table};

pub(crate) const ME: &str = "me@example.com";
pub(crate) const MY_JOB: &str = "https://example.com/models/.github/workflows/sign.yml@refs/heads/main";
pub(crate) const ISSUER: &str = "https://issuer.test";

/// A model, its statement, and the instance that signs it.
pub(crate) struct World {
    pub(crate) forge: Forge,
    pub(crate) sigstore: PrivateSigstore,
    pub(crate) statement: String,
}

/// A bundle with what its verifier is given.
pub(crate) struct Case {
    pub(crate) bundle: String,
    pub(crate) root: String,
    pub(crate) identity: String,
    pub(crate) issuer: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let forge = Forge::new();
        let statement = forge.statement("").to_string();
        Self { forge, sigstore: PrivateSigstore::new("good"), statement }
    }

    pub(crate) fn sign(&self, request: &Request) -> Value {
        self.sigstore.sign(self.statement.as_bytes(), ME, ISSUER, request)
    }

    /// A case of this instance and its signer.
    pub(crate) fn case(&self, bundle: &Value) -> Case {
        Case {
            bundle: bundle.to_string(),
            root: self.sigstore.trusted_root().to_string(),
            identity: ME.to_owned(),
            issuer: ISSUER.to_owned(),
        }
    }

    /// Right bundles, by name. Python takes all of the first list; the second has more than one log entry, which it does
    /// not expect, or keys that it does not.
    fn right(&self) -> [Vec<(&'static str, Case)>; 2] {
        let (v1, v2) = (|| Request::new(Rekor::V1), || Request::new(Rekor::V2));
        let case = |name, request: &Request| (name, self.case(&self.sign(request)));
        let instance = PrivateSigstore {
            v2: Log::new("elliptic.test", "elliptic.test", Key::p256("elliptic")),
            ..PrivateSigstore::new("good")
        };
        let elliptic = Case {
            bundle: instance.sign(self.statement.as_bytes(), ME, ISSUER, &v2()).to_string(),
            root: instance.trusted_root().to_string(),
            ..self.case(&Value::Null)
        };
        let job = edit(|leaf: &mut common::sigstore::certificate::Template| {
            leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[MY_JOB]));
        });
        let job = Case { identity: MY_JOB.to_owned(), ..case("", &Request { leaf: job, ..v1() }).1 };
        let witness = edit(|entry: &mut Value| {
            let note = entry.pointer_mut("/inclusionProof/checkpoint/envelope").unwrap();
            *note = format!("{}\u{2014} witness.test AAAAAAAA\n", note.as_str().unwrap()).into();
        });
        let peers = vec![
            case("version 1", &v1()),
            case("version 1 with a timestamp", &Request { timestamp: true, ..v1() }),
            case("version 1, a timestamp and no promise", &Request { timestamp: true, promise: false, ..v1() }),
            case("version 2", &v2()),
            ("version 2 with a P-256 log", elliptic),
            ("a URI for identity", job),
            case("a witness's signature beside the log's", &Request { entry: witness, ..v2() }),
        ];
        let newer = edit(|leaf: &mut common::sigstore::certificate::Template| leaf.remove(ISSUER_OLD));
        let mut two = self.sign(&Request { timestamp: true, ..v1() });
        let entry = self.sign(&v2())["verificationMaterial"]["tlogEntries"][0].clone();
        two["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(entry);
        let ours = vec![
            // Python's `Identity` looks at the older one alone.
            case("only the newer issuer extension", &Request { leaf: newer, ..v1() }),
            ("an entry in each log", self.case(&two)),
            case("a P-384 key", &Request { key: Key::p384("leaf"), ..v1() }),
            case("an Ed25519 key", &Request { key: Key::ed25519("leaf"), ..v1() }),
        ];
        [peers, ours]
    }
}

/// What Sigstore's own crate says, if not yes.
fn of_the_crate(case: &Case, statement: &str) -> Result<(), String> {
    let statement: Value = serde_json::from_str(statement).unwrap();
    let root = sigstore_trust_root::TrustedRoot::from_json(&case.root).map_err(|error| error.to_string())?;
    let bundle = sigstore_types::Bundle::from_json(&case.bundle).map_err(|error| error.to_string())?;
    let digest = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
    let digest = sigstore_types::Sha256Hash::from_hex(digest).unwrap();
    let policy = sigstore_verify::VerificationPolicy::new(&case.identity, &case.issuer);
    sigstore_verify::verify(digest, &bundle, &policy, &root).map_err(|error| error.to_string()).map(drop)
}

/// What our command line says, run in `folder`.
fn of_us(folder: &Path, case: &Case) -> Run {
    write(folder.join("f.sig"), &case.bundle);
    write(folder.join("root.json"), &case.root);
    let who = [format!("--identity={}", case.identity), format!("--identity-provider={}", case.issuer)];
    let args = ["verify", "sigstore", "m", "--signature=f.sig", "--trust-config=root.json", &who[0], &who[1]];
    tensorseal(folder, &args)
}

#[test]
fn we_accept_what_the_kit_makes() {
    let world = World::new();
    for (name, case) in world.right().iter().flatten() {
        of_us(world.forge.path(), case).expect(0, "Verification succeeded", name);
    }
}

#[test]
fn every_forgery_is_refused_for_its_fault() {
    let world = World::new();
    let mut table = Table { world: &world, section: "", rows: Vec::new() };
    for section in [signer::signatures, signer::certificates, signer::chains, signer::scts] {
        section(&mut table);
    }
    for section in [logs::bodies, logs::proofs, logs::checkpoints, logs::promises] {
        section(&mut table);
    }
    for section in [rest::several, rest::timestamps, rest::expectations, rest::trust, rest::readings] {
        section(&mut table);
    }
    // Starting a program is most of the time.
    let wrong: Vec<String> = thread::scope(|scope| {
        let parts: Vec<_> =
            table.rows.chunks(table.rows.len().div_ceil(4)).map(|rows| scope.spawn(|| faults(rows))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {} rows: {wrong:#?}", wrong.len(), table.rows.len());
}

/// The rows whose answer is another than they say.
fn faults(rows: &[Row]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    Forge::model(folder.path());
    let mut faults = Vec::new();
    for row in rows {
        let run = of_us(folder.path(), &row.case);
        if run.code != Some(1) || !run.said(row.words) {
            faults.push(format!("{}: wanted exit 1 and {:?}, got {run:#?}", row.name, row.words));
        }
    }
    faults
}

#[test]
fn a_trust_root_that_cannot_be_used_gives_no_answer() {
    let world = World::new();
    let right = world.case(&world.sign(&Request::new(Rekor::V1)));
    let root = |change: &dyn Fn(&mut Value)| {
        let mut root = world.sigstore.trusted_root();
        change(&mut root);
        root.to_string()
    };
    for (name, root, words) in [
        ("nothing", String::new(), "no trust root"),
        ("no JSON", "root".to_owned(), "no trust root"),
        ("cut off", right.root[..right.root.len() / 2].to_owned(), "no trust root"),
        ("of another type", root(&|root| root["mediaType"] = "text/plain".into()), "its mediaType is \"text/plain\""),
        ("with a key twice", right.root.replacen("\"tlogs\"", "\"tlogs\":[],\"tlogs\"", 1), "stands twice"),
        (
            "with a key that is none",
            root(&|root| root["tlogs"][0]["publicKey"]["rawBytes"] = "AAAA".into()),
            "that can be used",
        ),
        ("with two keys of one log", root(&|root| root["tlogs"][1] = root["tlogs"][0].clone()), "duplicate"),
        (
            "with a certificate that is none",
            root(&|root| {
                root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = "AAAA".into();
            }),
            "that can be used",
        ),
        (
            "with a window that ends before it begins",
            root(&|root| {
                root["tlogs"][0]["publicKey"]["validFor"]["end"] = "2000-01-01T00:00:00Z".into();
            }),
            "ends before it starts",
        ),
    ] {
        of_us(world.forge.path(), &Case { root, ..world.case(&Value::Null) }).expect(3, words, name);
    }
    let folder = world.forge.path();
    write(folder.join("f.sig"), &right.bundle);
    let verify = format!("verify sigstore m --signature f.sig --identity {ME} --identity-provider {ISSUER}");
    seal(folder, &format!("{verify} --trust-config nowhere.json")).expect(3, "nowhere.json", "no file");
    seal(folder, &format!("{verify} --trust-config m")).expect(3, "not a regular file", "a folder");
    // The public instances know nothing of ours.
    seal(folder, &verify).expect(1, "unknown transparency log", "the public instance");
    seal(folder, &format!("{verify} --use-staging")).expect(1, "unknown transparency log", "the staging instance");
    let config = client_trust_config(&world.sigstore.trusted_root());
    of_us(folder, &Case { root: config.to_string(), ..right }).expect(0, "Verification succeeded", "a trust config");
}

/// A name is matched as a whole, even by a regular expression.
#[test]
fn a_part_of_a_name_never_matches() {
    let world = World::new();
    let (folder, right) = (world.forge.path(), world.case(&world.sign(&Request::new(Rekor::V1))));
    write(folder.join("f.sig"), &right.bundle);
    write(folder.join("root.json"), &right.root);
    let verify = |identity: &str, issuer: &str| {
        let (identity, issuer) =
            (format!("--identity-regexp={identity}"), format!("--identity-provider-regexp={issuer}"));
        let args = ["verify", "sigstore", "m", "--signature=f.sig", "--trust-config=root.json", &identity, &issuer];
        tensorseal(folder, &args)
    };
    for right in ["me@example[.]com", "(you|me)@.*", ".*", "^me@example.com$", r"(?i)ME@EXAMPLE\.COM"] {
        verify(right, "https://issuer[.]test").expect(0, "Verification succeeded", right);
    }
    for wrong in ["e@example.com", "me@example", "me", "example", "^me", "com$", "you|e@example", "ME@.*", "(?m)^me$"] {
        verify(wrong, ".*").expect(1, "wrong identity", wrong);
    }
    for wrong in ["issuer", "https://issuer", "https://issuer.tes", "^https://", "http://.*"] {
        verify(".*", wrong).expect(1, "wrong identity provider", wrong);
    }
}

#[test]
fn the_sigstore_crate_accepts_what_the_kit_makes() {
    let world = World::new();
    for (name, case) in world.right().iter().flatten() {
        assert_eq!(of_the_crate(case, &world.statement), Ok(()), "{name}");
    }
}

#[test]
fn python_accepts_what_the_kit_makes() {
    let Some(python) = python() else { return };
    let world = World::new();
    let folder = world.forge.path();
    let [peers, _] = world.right();
    let mut jobs = Vec::new();
    for (i, (_, case)) in peers.iter().enumerate() {
        write(folder.join(format!("{i}.sig")), &case.bundle);
        let root: Value = serde_json::from_str(&case.root).unwrap();
        write(folder.join(format!("{i}.json")), client_trust_config(&root).to_string());
        let (model, signature, trust) = (folder.join("m"), format!("{i}.sig"), format!("{i}.json"));
        let (identity, issuer) = (&case.identity, &case.issuer);
        let args = ["verify", "sigstore", model.to_str().unwrap(), "--signature", &signature];
        let flags = ["--identity", identity, "--identity_provider", issuer, "--trust_config", &trust];
        jobs.push(json!({"cli": ([&args[..], &flags[..]].concat())}));
    }
    // That it does look: the first again, for somebody else.
    let mut wrong = jobs[0].clone();
    wrong["cli"][6] = "you@example.com".into();
    jobs.push(wrong);
    write(folder.join("jobs.json"), Value::from(jobs).to_string());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/peer.py");
    let run = program(folder, &python, &[script.as_path(), Path::new("jobs.json")]);
    let answers: Vec<(i64, String)> = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    let (wrong, answers) = answers.split_last().unwrap();
    assert!(wrong.0 == 1 && wrong.1.contains("you@example.com"), "{wrong:?}");
    for ((name, _), answer) in peers.iter().zip(answers) {
        assert_eq!(answer.0, 0, "{name}: {answer:?}");
    }
}

/// The form of trust in which Python wants it: with a signing configuration, which verifying does not use.
pub(crate) fn client_trust_config(root: &Value) -> Value {
    let service = json!([{
        "url": "https://nowhere.test",
        "majorApiVersion": 1,
        "validFor": {"start": "2020-01-01T00:00:00Z"},
        "operator": "nobody",
    }]);
    json!({
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": root,
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service,
            "oidcUrls": service,
            "rekorTlogUrls": service,
            "tsaUrls": service,
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        },
    })
}
