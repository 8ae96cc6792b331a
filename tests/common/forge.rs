//! Properly signed forgeries: any statement under a good signature.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorseal::envelope::pae;
use tensorseal::key::PrivateKey;

use super::{Run, seal, workplace, write};

/// A folder with a model `m` and a key, and the key itself.
pub(crate) struct Forge {
    folder: tempfile::TempDir,
    pub(crate) key: PrivateKey,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let folder = workplace();
        Self::model(folder.path());
        let pem = fs::read(folder.path().join("key.pem")).unwrap();
        Self { key: PrivateKey::from_pem(&pem, &mut || unreachable!("it is not encrypted")).unwrap(), folder }
    }

    /// Writes the model `m`.
    pub(crate) fn model(folder: &Path) {
        for (name, text) in [("m/a", "A"), ("m/b", "BBBBB"), ("m/d/c", "C"), ("m/.git/x", "not signed")] {
            write(folder.join(name), text);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The bundle that `sign key` writes with these flags.
    pub(crate) fn sign(&self, flags: &str) -> Value {
        let run = seal(self.path(), &format!("sign key m --private-key key.pem --signature s.sig {flags}"));
        run.expect(0, "Signing succeeded", flags);
        serde_json::from_slice(&fs::read(self.path().join("s.sig")).unwrap()).unwrap()
    }

    /// The statement inside of it.
    pub(crate) fn statement(&self, flags: &str) -> Value {
        let payload = self.sign(flags)["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
        serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap()
    }

    /// A bundle with a good signature over any payload.
    pub(crate) fn bundle(&self, payload: &str) -> Value {
        let signature = self.key.sign(&pae(payload.as_bytes())).unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": self.key.public_key().hint()}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
    }

    pub(crate) fn verify(&self, bundle: &str, flags: &str) -> Run {
        write(self.path().join("f.sig"), bundle);
        seal(self.path(), &format!("verify key m --signature f.sig --public-key key.pub {flags}"))
    }

    pub(crate) fn verify_payload(&self, payload: &str, flags: &str) -> Run {
        self.verify(&self.bundle(payload).to_string(), flags)
    }
}

/// Writes into the statement the root that belongs to its resources.
pub(crate) fn fix_root(statement: &mut Value) {
    let mut root = Sha256::new();
    for resource in statement["predicate"]["resources"].as_array().unwrap() {
        let hex = resource["digest"].as_str().unwrap();
        let byte = |i: usize| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("00"), 16).unwrap_or(0);
        root.update((0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>());
    }
    let root: String = root.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    statement["subject"][0]["digest"]["sha256"] = root.into();
}

/// The resources of a statement.
pub(crate) fn resources(statement: &mut Value) -> &mut Vec<Value> {
    statement["predicate"]["resources"].as_array_mut().unwrap()
}
