//! What must hold of everything that is read without an error, stated again here, apart from the code that ensures it.

pub mod counting;
pub mod tensors;

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::Digest as _;
use tensorseal::bundle::{Bundle, MEDIA_TYPE};
use tensorseal::envelope::PAYLOAD_TYPE;
use tensorseal::manifest::{Manifest, Method};
use tensorseal::statement::StatementVersion;
use tensorseal::{Algorithm, Digest};

/// A bundle around `payload`, with a signature that nobody checks here.
#[must_use]
pub fn bundle_around(payload: &[u8]) -> Bundle {
    let payload = STANDARD.encode(payload);
    let text = format!(
        r#"{{"mediaType":"{MEDIA_TYPE}","verificationMaterial":{{"publicKey":{{"hint":"00"}}}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":"AA==","keyid":""}}]}}}}"#
    );
    Bundle::parse(text.as_bytes()).expect("any bytes can be a payload")
}

/// The payload of a bundle, out of its pre-authentication encoding.
#[must_use]
pub fn payload_of(bundle: &Bundle) -> Vec<u8> {
    let pae = bundle.envelope().pae();
    let text = pae.strip_prefix(format!("DSSEv1 28 {PAYLOAD_TYPE} ").as_bytes()).expect("the encoding's prefix");
    let space = text.iter().position(|&byte| byte == b' ').expect("a space after the length");
    let (len, payload) = (&text[..space], &text[space + 1..]);
    assert_eq!(std::str::from_utf8(len).expect("digits"), payload.len().to_string());
    payload.to_vec()
}

/// A path relative to the model, the only one for what it means.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    name == "." || !name.contains('\0') && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Everything that code behind `Bundle::verify` relies on.
pub fn check(manifest: &Manifest, payload: &[u8]) {
    let resources = manifest.resources();
    let serialization = manifest.serialization();
    assert!(!resources.is_empty(), "a statement must cover something");
    for pair in resources.windows(2) {
        assert!(pair[0].name.as_str().as_bytes() < pair[1].name.as_str().as_bytes(), "sorted, and no name twice");
    }
    for resource in resources {
        let name = resource.name.as_str();
        assert!(is_plain(name), "{name:?}");
        assert_eq!(manifest.get(name), Some(resource));
        assert_eq!(resource.digest.algorithm(), serialization.hash);
        assert_eq!(resource.digest.as_bytes().len(), serialization.hash.digest_len());
        assert_eq!(resource.blake3.is_some(), resource.size.is_some());
        assert!(resource.blake3.is_none_or(|digest| digest.algorithm() == Algorithm::Blake3));
        assert_eq!(Digest::from_hex(serialization.hash, &resource.digest.to_hex()), Some(resource.digest));
    }
    if let Method::Shards { size } = serialization.method {
        let mut files: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
        for resource in resources {
            let (path, range) = resource.name.shard().expect("a name with a range");
            assert!(is_plain(path), "{:?} is a shard of {path:?}", resource.name);
            assert!(resource.size.is_none_or(|size| size == range.end - range.start));
            files.entry(path).or_default().push(range);
        }
        for (path, mut ranges) in files {
            ranges.sort_by_key(|range| (range.start, range.end));
            assert_eq!(ranges[0].start, 0, "{path:?}");
            for (range, next) in ranges.iter().zip(&ranges[1..]) {
                assert_eq!(range.end, next.start, "{path:?}: no gap, no overlap");
                assert_eq!(range.end - range.start, size.get(), "{path:?}: whole but for the last");
            }
            let last = ranges.last().expect("at least one");
            assert!((1..=size.get()).contains(&(last.end - last.start)), "{path:?}: {last:?}");
        }
    }
    if let Some(paths) = &serialization.ignore_paths {
        assert!(paths.is_sorted_by(|a, b| a < b));
    }
    check_root(manifest, payload);
}

/// The root is that of the digests in the order in which the text has them.
fn check_root(manifest: &Manifest, payload: &[u8]) {
    let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    let statement: Value = serde_json::from_slice(text).expect("what was read is JSON");
    let list = |value: &Value| value.as_array().cloned().expect("an array");
    let digests: Vec<String> = match manifest.version() {
        StatementVersion::Signature10 => {
            let subject = &list(&statement["subject"])[..];
            assert_eq!(subject.len(), 1);
            let signed = subject[0]["digest"]["sha256"].as_str().expect("the signed root");
            assert_eq!(Digest::from_hex(Algorithm::Sha256, signed), Some(manifest.root()));
            list(&statement["predicate"]["resources"]).iter().map(|one| hex(&one["digest"])).collect()
        }
        StatementVersion::Digests01 => {
            list(&statement["subject"]).iter().map(|one| hex(&one["digest"]["sha256"])).collect()
        }
    };
    assert_eq!(digests.len(), manifest.resources().len(), "nothing is left out");
    let mut hasher = sha2::Sha256::new();
    for digest in &digests {
        let digest = Digest::from_hex(manifest.serialization().hash, digest).expect("a digest");
        hasher.update(digest.as_bytes());
    }
    assert_eq!(manifest.root().as_bytes(), &hasher.finalize()[..]);
}

fn hex(value: &Value) -> String {
    value.as_str().expect("a digest").to_owned()
}
