//! A whole private Sigstore in process: certificate authority, certificate transparency log, Rekor 1 and 2, timestamp
//! authority, and the trust root that names them. It signs as the real one does, or with any one part made wrong on
//! purpose and everything that depends on that part made again: what a forger who controls that part would send.
//!
//! Nothing is random: the same request gives the same bytes.

pub(crate) mod certificate;
pub(crate) mod der;
mod key;
pub(crate) mod log;
pub(crate) mod timestamp;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorseal::envelope::pae;
use tensorseal::time::UnixTime;

use certificate::{Sct, Template};
pub(crate) use key::Key;
pub(crate) use log::Proposal;
pub(crate) use log::Rekor;
use log::{Log, State};
use timestamp::Authority;
pub(crate) use timestamp::Stamp;

/// When everything is signed: 1 June 2025, noon.
pub(crate) const TIME: i64 = 1_748_779_200;
/// How long a leaf is valid, before and after.
const LEAF: [i64; 2] = [-5, 595];
/// When authorities are valid: 2020 to 2040.
pub(crate) const YEARS: [i64; 2] = [1_577_836_800, 2_208_988_800];
/// What the entries of version 1 before this log's tree count: its index is another in the tree.
const OTHER_SHARDS: u64 = 1000;

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A change to a part at the moment before others are made from it.
pub(crate) type Edit<T> = Option<Box<dyn Fn(&mut T)>>;

pub(crate) fn edit<T>(change: impl Fn(&mut T) + 'static) -> Edit<T> {
    Some(Box::new(change))
}

fn apply<T>(edit: &Edit<T>, part: &mut T) {
    if let Some(edit) = edit {
        edit(part);
    }
}

/// One signature, with what is wrong about it. Parts are named in the order in which they are made.
pub(crate) struct Request {
    pub(crate) rekor: Rekor,
    pub(crate) time: i64,
    /// Whether the log promises inclusion, which gives a time. Version 2 never does.
    pub(crate) promise: bool,
    pub(crate) timestamp: bool,
    pub(crate) key: Key,
    /// What the certificate transparency log and the authority are asked to sign.
    pub(crate) leaf: Edit<Template>,
    pub(crate) sct: Edit<Sct>,
    pub(crate) ct_key: Option<Key>,
    /// The encoded timestamps to embed.
    pub(crate) scts: Edit<Vec<Vec<u8>>>,
    /// What only the authority signs.
    pub(crate) logged_leaf: Edit<Template>,
    pub(crate) ca_key: Option<Key>,
    /// The signed certificate.
    pub(crate) certificate: Edit<Vec<u8>>,
    /// The bytes that are signed for the signature, and the signature.
    pub(crate) signed: Edit<Vec<u8>>,
    pub(crate) signature: Edit<Vec<u8>>,
    pub(crate) stamp: Edit<Stamp>,
    pub(crate) tsa_key: Option<Key>,
    /// What the log stores, what it says of it, and what it promises.
    pub(crate) body: Edit<Value>,
    pub(crate) body_text: Edit<String>,
    pub(crate) state: Edit<State>,
    pub(crate) log_key: Option<Key>,
    pub(crate) promised: Edit<Value>,
    pub(crate) promise_key: Option<Key>,
    pub(crate) entry: Edit<Value>,
}

impl Request {
    /// A right one: with a promise for version 1, with a timestamp for version 2.
    pub(crate) fn new(rekor: Rekor) -> Self {
        Self {
            rekor,
            time: TIME,
            promise: rekor == Rekor::V1,
            timestamp: rekor == Rekor::V2,
            key: Key::p256("leaf"),
            leaf: None,
            sct: None,
            ct_key: None,
            scts: None,
            logged_leaf: None,
            ca_key: None,
            certificate: None,
            signed: None,
            signature: None,
            stamp: None,
            tsa_key: None,
            body: None,
            body_text: None,
            state: None,
            log_key: None,
            promised: None,
            promise_key: None,
            entry: None,
        }
    }
}

/// The instance. Its parts may be exchanged for another's.
pub(crate) struct PrivateSigstore {
    pub(crate) root: Vec<u8>,
    pub(crate) intermediate: Vec<u8>,
    pub(crate) intermediate_name: String,
    pub(crate) ca_key: Key,
    pub(crate) ct_key: Key,
    pub(crate) v1: Log,
    pub(crate) v2: Log,
    pub(crate) tsa: Authority,
}

impl PrivateSigstore {
    /// Two of the same name are the same.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_authority(name, YEARS)
    }

    /// One whose authority's own certificate has other dates than the trust root.
    pub(crate) fn with_authority(name: &str, years: [i64; 2]) -> Self {
        let (root_key, ca_key) = (Key::p384(&format!("{name} root")), Key::p384(&format!("{name} intermediate")));
        let (root_name, intermediate_name) = (format!("{name} root"), format!("{name} intermediate"));
        let root = Template::new(&root_name, &root_name, YEARS, &root_key).authority(&root_key, &root_key);
        let intermediate = Template::new(&root_name, &intermediate_name, years, &ca_key).authority(&ca_key, &root_key);
        let host = |which: &str| format!("{which}.{name}.test");
        let v1 = Log::new(&host("rekor"), &format!("{} - 4711", host("rekor")), Key::p256(&host("rekor")));
        Self {
            root: root.sign(&root_key),
            intermediate: intermediate.sign(&root_key),
            intermediate_name,
            ca_key,
            ct_key: Key::p256(&host("ct")),
            v1,
            v2: Log::new(&host("log2025"), &host("log2025"), Key::ed25519(&host("log2025"))),
            tsa: Authority::new(name, YEARS, &|_| {}),
        }
    }

    pub(crate) fn log(&self, rekor: Rekor) -> &Log {
        match rekor {
            Rekor::V1 => &self.v1,
            Rekor::V2 => &self.v2,
        }
    }

    /// What a verifier is told to trust: `application/vnd.dev.sigstore.trustedroot+json;version=0.1`.
    pub(crate) fn trusted_root(&self) -> Value {
        let window = || json!({"start": UnixTime(YEARS[0]).to_string(), "end": UnixTime(YEARS[1]).to_string()});
        let log = |name: &str, key: &Key, id: &[u8]| {
            json!({
                "baseUrl": format!("https://{name}"),
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.spki()),
                    "keyDetails": key.details(),
                    "validFor": window(),
                },
                "logId": {"keyId": STANDARD.encode(id)},
            })
        };
        let authority = |name: &str, chain: [&[u8]; 2]| {
            json!({
                "subject": {"organization": name, "commonName": name},
                "uri": format!("https://{name}.test"),
                "certChain": {"certificates": chain.map(|der| json!({"rawBytes": STANDARD.encode(der)}))},
                "validFor": window(),
            })
        };
        let of_log = |log_: &Log| log(&log_.name, &log_.key, &log_.id);
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [of_log(&self.v1), of_log(&self.v2)],
            "certificateAuthorities": [authority("fulcio", [&self.intermediate, &self.root])],
            "ctlogs": [log("ct.test", &self.ct_key, &sha256(&self.ct_key.spki()))],
            "timestampAuthorities": [authority("tsa", [&self.tsa.certificate, &self.tsa.root])],
        })
    }

    /// A bundle over `payload` by whoever has `identity` with `issuer`.
    pub(crate) fn sign(&self, payload: &[u8], identity: &str, issuer: &str, request: &Request) -> Value {
        let certificate = self.certify(identity, issuer, request);
        let pae = pae(payload);
        let mut signed = pae.clone();
        apply(&request.signed, &mut signed);
        let mut signature = request.key.sign(&signed);
        apply(&request.signature, &mut signature);

        let mut material = json!({"certificate": {"rawBytes": STANDARD.encode(&certificate)}});
        if request.timestamp {
            let mut stamp = Stamp::new(request.time + 1, &signature, &self.tsa);
            apply(&request.stamp, &mut stamp);
            let token = stamp.sign(&self.tsa, request.tsa_key.as_ref().unwrap_or(&self.tsa.key));
            material["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(token)}]});
        }
        let (key, certificate) = (&request.key, &certificate[..]);
        let proposal = Proposal { pae: &pae, payload, signature: &signature, certificate, key };
        material["tlogEntries"] = json!([self.record(&proposal, request)]);
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(&signature), "keyid": ""}],
            },
        })
    }

    pub(crate) fn certify(&self, identity: &str, issuer: &str, request: &Request) -> Vec<u8> {
        let parent = (&self.intermediate_name[..], &self.ca_key);
        let mut leaf = certificate::leaf(identity, issuer, &request.key, parent, LEAF.map(|by| request.time + by));
        apply(&request.leaf, &mut leaf);
        let signer = request.ca_key.as_ref().unwrap_or(&self.ca_key);
        let time = u64::try_from(request.time).unwrap() * 1000;
        let mut sct = Sct {
            log_id: sha256(&self.ct_key.spki()).to_vec(),
            timestamp: time,
            issuer_key_hash: sha256(&self.ca_key.spki()).to_vec(),
            tbs: leaf.tbs(signer),
            signed_timestamp: time,
        };
        apply(&request.sct, &mut sct);
        let mut scts = vec![sct.sign(request.ct_key.as_ref().unwrap_or(&self.ct_key))];
        apply(&request.scts, &mut scts);
        leaf.embed(&scts);
        apply(&request.logged_leaf, &mut leaf);
        let mut certificate = leaf.sign(signer);
        apply(&request.certificate, &mut certificate);
        certificate
    }

    /// The entry of `proposal` in the log.
    pub(crate) fn record(&self, proposal: &Proposal, request: &Request) -> Value {
        let log = self.log(request.rekor);
        let mut body = proposal.body(request.rekor);
        apply(&request.body, &mut body);
        let mut body = body.to_string();
        apply(&request.body_text, &mut body);
        let mut state = State::new(log, body.as_bytes());
        apply(&request.state, &mut state);

        let v1 = request.rekor == Rekor::V1;
        let index = state.index as u64 + if v1 { OTHER_SHARDS } else { 0 };
        let (kind, version) = if v1 { ("dsse", "0.0.1") } else { ("hashedrekord", "0.0.2") };
        let hashes: Vec<String> = state.hashes().iter().map(|hash| STANDARD.encode(hash)).collect();
        let mut entry = json!({
            "logIndex": index.to_string(),
            "logId": {"keyId": STANDARD.encode(&log.id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": state.index.to_string(),
                "rootHash": STANDARD.encode(state.root),
                "treeSize": state.leaves.len().to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": state.checkpoint(request.log_key.as_ref().unwrap_or(&log.key))},
            },
            "canonicalizedBody": STANDARD.encode(&body),
        });
        if v1 {
            entry["integratedTime"] = request.time.to_string().into();
        }
        if request.promise {
            let mut promised = json!({
                "body": STANDARD.encode(&body),
                "integratedTime": request.time,
                "logID": der::hex(&log.id),
                "logIndex": index,
            });
            apply(&request.promised, &mut promised);
            let signer = request.promise_key.as_ref().unwrap_or(&log.key);
            let signature = signer.sign(promised.to_string().as_bytes());
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": STANDARD.encode(signature)});
        }
        apply(&request.entry, &mut entry);
        entry
    }
}
