//! A private Rekor: entries, the Merkle tree of RFC 6962 (2.1), and signed notes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::der::hex;
use super::{Key, sha256};

/// Which of the two Rekors made an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rekor {
    V1,
    V2,
}

/// A log as its operator knows it.
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) key: Key,
    pub(crate) id: Vec<u8>,
}

impl Log {
    /// One whose entries have version 1: its id is the hash of its key.
    pub(crate) fn new(name: &str, origin: &str, key: Key) -> Self {
        let id = match &key {
            // C2SP signed-note, with the origin for the name of the key.
            Key::Ed25519(_) => sha256(&[name.as_bytes(), b"\n\x01", &key.public()].concat()),
            _ => sha256(&key.spki()),
        };
        Self { name: name.to_owned(), origin: origin.to_owned(), key, id: id.to_vec() }
    }
}

pub(crate) fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], &left[..], right].concat())
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node(&root(left), &root(right))
        }
    }
}

fn path(at: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let half = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(half);
    let (mut path, other) =
        if at < half { (path(at, left), root(right)) } else { (path(at - half, right), root(left)) };
    path.push(other);
    path
}

/// A log at the moment at which it answers: what it says of one entry.
pub(crate) struct State {
    pub(crate) origin: String,
    /// The name before each signature of the checkpoint.
    pub(crate) name: String,
    pub(crate) hint: Vec<u8>,
    pub(crate) leaves: Vec<[u8; 32]>,
    pub(crate) index: usize,
    /// What the checkpoint claims.
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
    pub(crate) more_lines: Vec<String>,
}

impl State {
    /// `body` among some others.
    pub(crate) fn new(log: &Log, body: &[u8]) -> Self {
        let index = 4;
        let mut leaves: Vec<[u8; 32]> = (0..7_u8).map(|i| sha256(&[0, i])).collect();
        leaves[index] = sha256(&[&[0], body].concat());
        Self {
            origin: log.origin.clone(),
            name: log.name.clone(),
            hint: log.id[..4].to_vec(),
            size: leaves.len() as u64,
            root: root(&leaves),
            leaves,
            index,
            more_lines: Vec::new(),
        }
    }

    /// Puts another entry in the place of this one.
    pub(crate) fn exchange(&mut self) {
        self.leaves[self.index] = sha256(b"another");
        self.root = root(&self.leaves);
    }

    pub(crate) fn hashes(&self) -> Vec<[u8; 32]> {
        path(self.index, &self.leaves)
    }

    pub(crate) fn checkpoint(&self, key: &Key) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root));
        self.more_lines.iter().for_each(|line| text += &format!("{line}\n"));
        let signature = [&self.hint[..], &key.sign(text.as_bytes())].concat();
        format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
    }
}

/// What a log is told of a signature.
pub(crate) struct Proposal<'a> {
    pub(crate) pae: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) certificate: &'a [u8],
    pub(crate) key: &'a Key,
}

impl Proposal<'_> {
    /// The body that the log stores.
    pub(crate) fn body(&self, rekor: Rekor) -> Value {
        match rekor {
            Rekor::V1 => json!({
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    // Over the envelope as it was submitted, which nobody can know later.
                    "envelopeHash": {"algorithm": "sha256", "value": hex(&sha256(self.pae))},
                    "payloadHash": {"algorithm": "sha256", "value": hex(&sha256(self.payload))},
                    "signatures": [{
                        "signature": STANDARD.encode(self.signature),
                        "verifier": STANDARD.encode(pem(self.certificate)),
                    }],
                },
            }),
            Rekor::V2 => json!({
                "apiVersion": "0.0.2",
                "kind": "hashedrekord",
                "spec": {"hashedRekordV002": {
                    "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(sha256(self.pae))},
                    "signature": {
                        "content": STANDARD.encode(self.signature),
                        "verifier": {
                            "keyDetails": self.key.details(),
                            "x509Certificate": {"rawBytes": STANDARD.encode(self.certificate)},
                        },
                    },
                }},
            }),
        }
    }
}

pub(crate) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
