//! Right bundles changed anywhere: every value of the JSON, every byte of what is encoded in it. What may be changed without
//! anybody's noticing is listed, and the list is compared.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tensorseal::Bundle;
use tensorseal::trust::TrustRoot;
use tensorseal::verify::{NamePattern, SigstoreVerifier};

use super::table::{ALL, Kind};
use super::{ISSUER, ME, World};

/// Every value that is no list and no object, by its path.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found)),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, value)| leaves(value, &format!("{at}/{i}"), found)),
        _ => found.push(at.to_owned()),
    }
}

/// Every list and object, by its path.
fn branches(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| branches(value, &format!("{at}/{key}"), found)),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, value)| branches(value, &format!("{at}/{i}"), found)),
        _ => return,
    }
    found.push(at.to_owned());
}

struct Sweep {
    verifier: SigstoreVerifier,
    count: usize,
    accepted: BTreeSet<String>,
}

impl Sweep {
    fn new(world: &World) -> Self {
        let root = TrustRoot::parse(world.sigstore.trusted_root().to_string().as_bytes()).unwrap();
        let exact = |name: &str| NamePattern::Exact(name.to_owned());
        Self {
            verifier: SigstoreVerifier::new(&root, exact(ME), exact(ISSUER)).unwrap(),
            count: 0,
            accepted: BTreeSet::new(),
        }
    }

    fn accepts(&self, text: &str) -> bool {
        Bundle::parse(text.as_bytes()).is_ok_and(|bundle| bundle.verify(&self.verifier).is_ok())
    }

    /// Asks, and remembers `what` if the answer is yes.
    fn ask(&mut self, what: impl FnOnce() -> String, text: &str) {
        self.count += 1;
        if self.accepts(text) {
            self.accepted.insert(what());
        }
    }

    /// Checks that of all changes exactly the harmless ones were accepted.
    fn only(&self, harmless: &BTreeSet<String>) {
        let found: Vec<_> = self.accepted.symmetric_difference(harmless).collect();
        assert!(found.is_empty(), "not as listed, of {}: {found:#?}", self.count);
    }
}

/// Every value is left out, made another, and exchanged for one of another type.
#[test]
fn no_value_can_be_changed_but_those_that_mean_nothing() {
    let world = World::new();
    let mut sweep = Sweep::new(&world);
    for kind in ALL {
        let right = world.sign(&kind.request());
        assert!(sweep.accepts(&right.to_string()), "{kind:?}");
        let (mut values, mut places) = (Vec::new(), Vec::new());
        leaves(&right, "", &mut values);
        branches(&right, "", &mut places);
        for at in values.iter().chain(&places).filter(|at| !at.is_empty()) {
            let mut change = |how: &str, edit: &dyn Fn(&mut Value)| {
                let mut bundle = right.clone();
                edit(&mut bundle);
                if bundle != right {
                    sweep.ask(|| format!("{kind:?} {at} {how}"), &bundle.to_string());
                }
            };
            for (how, other) in [
                ("null", Value::Null),
                ("number", json!(7)),
                ("text", json!("")),
                ("list", json!([])),
                ("object", json!({})),
                ("true", json!(true)),
                ("in a list", json!([right.pointer(at).unwrap()])),
            ] {
                change(how, &|bundle| *bundle.pointer_mut(at).unwrap() = other.clone());
            }
            let (parent, key) = at.rsplit_once('/').unwrap();
            change("absent", &|bundle| match bundle.pointer_mut(parent).unwrap() {
                Value::Object(map) => drop(map.remove(key)),
                Value::Array(all) => drop(all.remove(key.parse().unwrap())),
                _ => unreachable!(),
            });
            change("more", &|bundle| match bundle.pointer_mut(at).unwrap() {
                Value::Object(map) => drop(map.insert("more".to_owned(), json!(1))),
                Value::Array(all) => all.push(all.first().cloned().unwrap_or_default()),
                Value::String(text) => text.push('x'),
                _ => {}
            });
            if let Some(Value::String(text)) = right.pointer(at) {
                let number: Option<i64> = text.parse().ok();
                if let Some(number) = number {
                    // The same number as JSON's own: another way to write it, as the mapping of protocol buffers has it.
                    change("a JSON number", &|bundle| *bundle.pointer_mut(at).unwrap() = json!(number));
                    for other in [number - 1, number + 1] {
                        change("another number", &|bundle| *bundle.pointer_mut(at).unwrap() = other.to_string().into());
                    }
                    change("with a zero before", &|bundle| {
                        *bundle.pointer_mut(at).unwrap() = format!("0{text}").into();
                    });
                }
            }
        }
    }
    // What OMS or Sigstore gives no meaning; a field that we do not know; the same entry or timestamp once more; another way
    // to write the same number.
    let mut harmless: Vec<(Kind, String)> = Vec::new();
    let entry = "/verificationMaterial/tlogEntries/0";
    for kind in ALL {
        let mut add = |place: &str, hows: &[&str]| {
            hows.iter().for_each(|how| harmless.push((kind, format!("{place} {how}"))));
        };
        add("/dsseEnvelope/signatures/0/keyid", &["absent", "more", "null"]);
        for place in ["", "/certificate", "/tlogEntries"] {
            add(&format!("/verificationMaterial{place}"), &["more"]);
        }
        for place in ["", "/inclusionProof", "/inclusionProof/checkpoint", "/kindVersion", "/logId"] {
            add(&format!("{entry}{place}"), &["more"]);
        }
        for place in ["/inclusionProof/logIndex", "/inclusionProof/treeSize", "/logIndex"] {
            add(&format!("{entry}{place}"), &["a JSON number", "with a zero before"]);
        }
        // It is 7.
        add(&format!("{entry}/inclusionProof/treeSize"), &["number"]);
        if kind != Kind::V1 {
            for place in ["", "/rfc3161Timestamps", "/rfc3161Timestamps/0"] {
                add(&format!("/verificationMaterial/timestampVerificationData{place}"), &["more"]);
            }
        }
        if kind != Kind::V2 {
            add(&format!("{entry}/integratedTime"), &["a JSON number", "with a zero before"]);
        }
        match kind {
            Kind::V1 => add(&format!("{entry}/inclusionPromise"), &["more"]),
            // Without a promise nobody vouches for them, and nothing is made of them.
            Kind::Stamped => {
                add(&format!("{entry}/integratedTime"), &["absent", "another number", "number"]);
                add(&format!("{entry}/logIndex"), &["absent", "another number", "number"]);
            }
            Kind::V2 => {}
        }
    }
    sweep.only(&harmless.into_iter().map(|(kind, what)| format!("{kind:?} {what}")).collect());
}

/// Every byte of what is encoded is changed; of the two longest texts, which one hash is of, every fifth.
#[test]
fn no_byte_can_be_changed_but_those_that_mean_nothing() {
    let world = World::new();
    let mut sweep = Sweep::new(&world);
    let embedded = &world.sigstore.tsa.certificate;
    for kind in [Kind::V1, Kind::V2] {
        let right = world.sign(&kind.request());
        let mut values = Vec::new();
        leaves(&right, "", &mut values);
        for at in &values {
            let Some(text) = right.pointer(at).unwrap().as_str() else { continue };
            let mut change = |how: String, other: String| {
                let mut bundle = right.clone();
                *bundle.pointer_mut(at).unwrap() = other.into();
                sweep.ask(|| format!("{kind:?} {} {how}", at.rsplit('/').next().unwrap()), &bundle.to_string());
            };
            match STANDARD.decode(text) {
                Ok(bytes) if bytes.len() > 20 => {
                    let certificate = bytes.windows(embedded.len()).position(|part| part == embedded);
                    for i in (0..bytes.len()).step_by(if bytes.len() > 1000 { 5 } else { 1 }) {
                        let mut other = bytes.clone();
                        other[i] ^= 1 << (i % 8);
                        let within = certificate.is_some_and(|at| (at..at + embedded.len()).contains(&i));
                        let how = if within { "in its certificate".to_owned() } else { format!("byte {i}") };
                        change(how, STANDARD.encode(other));
                    }
                }
                _ => {
                    for (i, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii()) {
                        let mut other = text.as_bytes().to_vec();
                        other[i] = if byte == b'x' { b'y' } else { b'x' };
                        change(format!("char {i}"), String::from_utf8(other).unwrap());
                    }
                }
            }
        }
    }
    // Of a timestamp, what is outside of its signature: granted or granted with modifications; the algorithms that its
    // envelope announces; the certificate that it brings, in whose place the trusted one is taken; a version; parameters;
    // the algorithm of the signature, which follows from the trusted key.
    let bytes = [8, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 610, 662].into_iter().chain(835..=842);
    let places = bytes.map(|i| format!("byte {i}")).chain(["in its certificate".to_owned()]);
    sweep.only(&places.map(|place| format!("V2 signedTimestamp {place}")).collect());
}
