//! `trust update` and `trust show`: repositories made by the reference implementation of TUF, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::server::{Reply, Server};
use crate::common::sigstore::PrivateSigstore;
use crate::common::{Run, program, python, tensorseal_in, write};

/// Makes a repository in `repository/` with the trusted root in `trusted_root.json`; `roles` shifts versions and expiries.
const MAKE: &str = r#"
import datetime, json, pathlib, sys
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

how = json.loads(sys.argv[1])
folder = pathlib.Path('repository')
folder.mkdir(exist_ok=True)
(folder / 'targets').mkdir(exist_ok=True)
keys = pathlib.Path('keys')
keys.mkdir(exist_ok=True)
def signer(name):
    path = keys / name
    if not path.exists():
        path.write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
day = datetime.timedelta(days=1)
now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
def until(role):
    return now - day if how.get('expired') == role else now + 30 * day
version = how.get('version', 1)
root = Root(version=how.get('root', 1), expires=until('root'), consistent_snapshot=True)
for role in ('root', 'targets', 'snapshot', 'timestamp'):
    root.add_key(signer(how.get('keys', {}).get(role, role)).public_key, role)
targets = {}
for name in how.get('targets', ['trusted_root.json', 'signing_config.v0.2.json']):
    bytes = pathlib.Path(name).read_bytes()
    targets[name] = TargetFile.from_data(name, bytes, ['sha256'])
    (folder / 'targets' / (targets[name].hashes['sha256'] + '.' + name)).write_bytes(bytes)
signed = [
    ('root', root, str(root.version) + '.root.json'),
    ('targets', Targets(version=version, expires=until('targets'), targets=targets), str(version) + '.targets.json'),
    ('snapshot', Snapshot(version=version, expires=until('snapshot'), meta={'targets.json': MetaFile(version)}), str(version) + '.snapshot.json'),
    ('timestamp', Timestamp(version=version, expires=until('timestamp'), snapshot_meta=MetaFile(version)), 'timestamp.json'),
]
for role, content, name in signed:
    if role in how.get('kept', []):
        continue
    metadata = Metadata(content)
    for by in how.get('signed_by', {}).get(role, [how.get('keys', {}).get(role, role)]):
        metadata.sign(signer(by), append=True)
    metadata.to_file(str(folder / name))
if root.version == 1:
    (pathlib.Path('root.json')).write_bytes((folder / '1.root.json').read_bytes())
"#;

struct Repository {
    folder: tempfile::TempDir,
    server: Server,
    python: PathBuf,
}

impl Repository {
    fn new() -> Option<Self> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        let server = Server::start(move |asked| match fs::read(root.join(asked.path.trim_start_matches('/'))) {
            Ok(bytes) => Reply::ok(bytes),
            Err(_) => Reply::Send(404, Vec::new()),
        });
        let repository = Self { folder, server, python };
        repository.publish("one");
        repository.make("{}");
        Some(repository)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn publish(&self, name: &str) {
        write(self.path().join("trusted_root.json"), PrivateSigstore::new(name).trusted_root().to_string());
        let config = r#"{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}"#;
        write(self.path().join("signing_config.v0.2.json"), config);
    }

    fn make(&self, how: &str) {
        program(self.path(), &self.python, &["-c", MAKE, how]);
    }

    fn update(&self) -> Run {
        let all =
            ["trust", "update", "--url", &self.server.url, "--root", "root.json", "--out", "private.json", "--json"];
        tensorseal_in(self.path(), &all, &[])
    }

    fn kept(&self) -> [Option<Vec<u8>>; 2] {
        ["private.json", "private.json.tuf"].map(|name| fs::read(self.path().join(name)).ok())
    }

    /// An update fails with `words`, and everything is as it was.
    fn refused(&self, words: &str) {
        let before = self.kept();
        let run = self.update();
        run.expect(3, words, words);
        assert_eq!(run.json()["error"]["kind"], "trust-root");
        assert!(self.kept() == before, "{words}: something was written");
    }
}

#[test]
fn what_the_reference_publishes_is_fetched_and_can_be_used() {
    let Some(repository) = Repository::new() else { return };
    let run = repository.update();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let report = run.json();
    assert_eq!(
        (&report["signing_config"], &report["contents"][0]["role"]),
        (&true.into(), &"certificate-authority".into())
    );
    let show = ["trust", "show", "private.json", "--json"];
    let shown = tensorseal_in(repository.path(), &show, &[]).json();
    assert_eq!(shown["trust_roots"][0]["contents"], report["contents"]);
    assert_eq!(shown["trust_roots"][0]["signing_config"], true);

    // A newer version, and the same again.
    repository.publish("two");
    repository.make(r#"{"version": 2}"#);
    for _ in 0..2 {
        assert_eq!(repository.update().code, Some(0));
    }
    let text = String::from_utf8(repository.kept()[0].clone().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["trustedRoot"], PrivateSigstore::new("two").trusted_root());
}

#[test]
fn a_chain_of_roots_is_followed_and_only_that() {
    let Some(repository) = Repository::new() else { return };
    // The new root is signed by the keys of the old and of the new one.
    repository.make(r#"{"root": 2, "version": 2, "keys": {"root": "root2", "timestamp": "timestamp2"}, "signed_by": {"root": ["root", "root2"]}}"#);
    assert_eq!(repository.update().code, Some(0), "{:#?}", repository.update());
    repository.make(r#"{"root": 3, "version": 3, "keys": {"root": "thief"}, "signed_by": {"root": ["thief"]}}"#);
    repository.refused("cannot be trusted");
}

#[test]
fn what_must_not_be_believed_is_not() {
    for (how, words) in [
        (r#"{"expired": "timestamp"}"#, "the timestamp metadata of"),
        (r#"{"expired": "snapshot", "version": 2}"#, "the snapshot metadata of"),
        (r#"{"expired": "targets", "version": 2}"#, "the targets metadata of"),
        (r#"{"signed_by": {"timestamp": ["thief"]}, "version": 2}"#, "cannot be trusted"),
        (r#"{"signed_by": {"targets": ["thief"]}, "version": 2}"#, "cannot be trusted"),
        (r#"{"targets": ["signing_config.v0.2.json"], "version": 2}"#, "holds no trusted_root.json"),
    ] {
        let Some(repository) = Repository::new() else { return };
        repository.make(how);
        repository.refused(words);
    }
}

#[test]
fn what_was_seen_is_not_rolled_back() {
    let Some(repository) = Repository::new() else { return };
    repository.make(r#"{"version": 3}"#);
    assert_eq!(repository.update().code, Some(0));
    repository.make(r#"{"version": 2}"#);
    repository.refused("offers timestamp metadata of version 2, and version 3 has been seen");
    // Without what was kept there is nothing to compare with; that is what it is kept for.
    fs::remove_file(repository.path().join("private.json.tuf")).unwrap();
    assert_eq!(repository.update().code, Some(0));
    write(repository.path().join("private.json.tuf"), "garbage");
    repository.refused("Remove it");
}

#[test]
fn what_is_kept_beside_never_takes_the_place_of_the_root() {
    let Some(repository) = Repository::new() else { return };
    let all = ["trust", "update", "--url", &repository.server.url, "--root", "root.json", "--out", "private.tuf"];
    tensorseal_in(repository.path(), &all, &[]).expect(0, "up to date", "of this name");
    tensorseal_in(repository.path(), &["trust", "show", "private.tuf"], &[]).expect(0, "signature-log", "read again");
}

#[test]
fn a_target_that_is_not_the_signed_one_is_refused() {
    let Some(repository) = Repository::new() else { return };
    for entry in fs::read_dir(repository.path().join("repository/targets")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with("trusted_root.json") {
            let text = fs::read_to_string(&path).unwrap();
            write(&path, text.replace("https://fulcio.test", "https://fulcio.evil"));
        }
    }
    repository.refused("cannot be trusted");
    write(repository.path().join("trusted_root.json"), "{}");
    repository.make(r#"{"version": 2}"#);
    repository.refused("is no trust root that can be used");
}

#[test]
fn a_repository_out_of_reach_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    for (args, host) in [(&[][..], "sigstore.dev"), (&["--staging"][..], "sigstage.dev")] {
        let all = [&["trust", "update"], args].concat();
        let run = tensorseal_in(folder.path(), &all, &nowhere);
        run.expect(3, "The trust root was not updated: cannot fetch the trust root from", "offline");
        run.expect(3, host, "which");
        run.expect(3, "Connection refused", "why");
    }
    assert!(!folder.path().join(".cache").exists(), "something was kept");
    write(folder.path().join("root.json"), "{}");
    let private = ["trust", "update", "--url", "http://127.0.0.1:1", "--root", "root.json", "--out", "x.json"];
    tensorseal_in(folder.path(), &private, &[]).expect(3, "is no TUF root", "no root");
    for usage in [
        &["--url", "http://127.0.0.1:1", "--root", "root.json"][..],
        &["--out", "x"],
        &["--root", "root.json", "--out", "x"],
    ] {
        let run = tensorseal_in(folder.path(), &[&["trust", "update"], usage].concat(), &[]);
        assert_eq!(run.code, Some(2), "{run:#?}");
    }
    tensorseal_in(folder.path(), &["trust", "update", "--url", "http://mirror.example"], &[]).expect(
        3,
        "is not https",
        "in the clear",
    );
}

#[test]
fn the_roots_that_there_are_can_be_shown() {
    let folder = tempfile::tempdir().unwrap();
    let run = tensorseal_in(folder.path(), &["trust", "show"], &[]);
    run.expect(0, "the public-good root embedded with", "public");
    run.expect(0, "the staging root embedded with", "staging");
    run.expect(0, "signature-log https://rekor.sigstore.dev, from 2021-01-12", "a log");
    tensorseal_in(folder.path(), &["trust", "show", "none.json"], &[]).expect(3, "none.json", "no file");
}
