//! Forged log entries: bodies, proofs, checkpoints, promises, times.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::common::sigstore::log::{State, pem};
use super::common::sigstore::{Key, PrivateSigstore, Request, TIME, edit};
use super::table::{ALL, Kind, LOGS, Table};

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

fn at<'a>(bundle: &'a mut Value, path: &str) -> &'a mut Value {
    bundle.pointer_mut(&format!("{ENTRY}{path}")).unwrap()
}

fn flip(value: &mut Value) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    *value = STANDARD.encode(bytes).into();
}

fn set(path: &'static str, value: Value) -> impl Fn(&mut Value) + 'static {
    move |body| *body.pointer_mut(path).unwrap() = value.clone()
}

/// Entries that the log did take, and that say something else.
pub(crate) fn bodies(table: &mut Table) {
    table.section = "body";
    let (v1, v2) = (&[Kind::V1, Kind::Stamped], &[Kind::V2]);
    let body = |r: &mut Request, path, value: Value| r.body = edit(set(path, value));
    const SIGNATURE_1: &str = "/spec/signatures/0/signature";
    const SIGNATURE_2: &str = "/spec/hashedRekordV002/signature/content";
    const VERIFIER_2: &str = "/spec/hashedRekordV002/signature/verifier";
    let another = Key::p256("another").sign(b"");
    let stranger = PrivateSigstore::new("other").intermediate;
    table.signed(v1, "for another signature", "", |r| body(r, SIGNATURE_1, STANDARD.encode(&another).into()));
    table.signed(v2, "for another signature", "", |r| body(r, SIGNATURE_2, STANDARD.encode(&another).into()));
    table.signed(v1, "for another payload", "", |r| body(r, "/spec/payloadHash/value", "00".repeat(32).into()));
    table.signed(v2, "for another payload", "", |r| {
        body(r, "/spec/hashedRekordV002/data/digest", STANDARD.encode([0; 32]).into());
    });
    table.signed(v1, "the payload's hash by another algorithm", "", |r| {
        body(r, "/spec/payloadHash/algorithm", "sha512".into());
    });
    table.signed(v2, "the payload's hash by another algorithm", "", |r| {
        body(r, "/spec/hashedRekordV002/data/algorithm", "SHA2_384".into());
    });
    table.signed(v1, "for another certificate", "", |r| {
        body(r, "/spec/signatures/0/verifier", STANDARD.encode(pem(&stranger)).into());
    });
    table.signed(v2, "for another certificate", "", |r| {
        body(
            r,
            VERIFIER_2,
            json!({
                "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": STANDARD.encode(&stranger)},
            }),
        );
    });
    table.signed(v2, "for a key and no certificate", "", |r| {
        body(
            r,
            VERIFIER_2,
            json!({
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "publicKey": {"rawBytes": STANDARD.encode(Key::p256("leaf").spki())},
            }),
        );
    });
    table.signed(v2, "for another kind of key", "", |r| {
        r.body = edit(set("/spec/hashedRekordV002/signature/verifier/keyDetails", "PKIX_ECDSA_P384_SHA_384".into()));
    });
    table.signed(v1, "two signatures", "", |r| {
        r.body = edit(|body: &mut Value| {
            let signatures = body["spec"]["signatures"].as_array_mut().unwrap();
            signatures.push(signatures[0].clone());
        });
    });
    table.signed(v1, "no signature", "", |r| body(r, "/spec/signatures", json!([])));
    table.signed(&LOGS, "a body of another kind than the entry", "", |r| body(r, "/kind", "rpm".into()));
    table.signed(&LOGS, "a body of another version than the entry", "", |r| body(r, "/apiVersion", "0.0.9".into()));
    table.signed(&LOGS, "a body without a kind", "", |r| {
        r.body = edit(|body: &mut Value| drop(body.as_object_mut().unwrap().remove("kind")));
    });
    table.signed(&LOGS, "a body that is no JSON", "", |r| r.body_text = edit(|text: &mut String| text.truncate(9)));
    table.signed(&LOGS, "a body with more after it", "", |r| {
        r.body_text = edit(|text: &mut String| text.push_str("{}"))
    });
    table.signed(v1, "a hash twice in the body", "", |r| {
        r.body_text = edit(|text: &mut String| {
            *text = text.replacen(
                "\"payloadHash\":",
                "\"payloadHash\":{\"algorithm\":\"sha256\",\"value\":\"\"},\"payloadHash\":",
                1,
            );
        });
    });
    table.signed(v2, "a hash twice in the body", "", |r| {
        r.body_text = edit(|text: &mut String| {
            *text = text.replacen("\"data\":", "\"data\":{\"algorithm\":\"SHA2_256\",\"digest\":\"\"},\"data\":", 1);
        });
    });
    table.signed(&LOGS, "a kind twice in the body", "", |r| {
        r.body_text = edit(|text: &mut String| *text = text.replacen("\"kind\":", "\"kind\":\"rpm\",\"kind\":", 1));
    });
    for (kind, version) in [
        ("dsse", "0.0.1"),
        ("dsse", "0.0.2"),
        ("hashedrekord", "0.0.1"),
        ("hashedrekord", "0.0.2"),
        ("intoto", "0.0.2"),
        ("rpm", "0.0.1"),
        ("", ""),
    ] {
        for &log in &LOGS {
            if (kind, version) == ("dsse", "0.0.1") && log == Kind::V1
                || (kind, version) == ("hashedrekord", "0.0.2") && log == Kind::V2
            {
                continue;
            }
            table.changed(&[log], &format!("said to be {kind} {version}"), "", |bundle| {
                *at(bundle, "/kindVersion") = json!({"kind": kind, "version": version});
            });
        }
    }
    table.changed(&ALL, "the body is changed later", "", |bundle| {
        let body = at(bundle, "/canonicalizedBody");
        let text = String::from_utf8(STANDARD.decode(body.as_str().unwrap()).unwrap()).unwrap();
        *body = STANDARD.encode(text.replacen("{\"", "{ \"", 1)).into();
    });
    table.changed(&ALL, "no body", "", |bundle| *at(bundle, "/canonicalizedBody") = "".into());
}

/// What the entry says of itself, and the proof.
pub(crate) fn proofs(table: &mut Table) {
    table.section = "proof";
    let ids =
        [("another key's", STANDARD.encode([7; 32])), ("a short", STANDARD.encode([7; 4])), ("no", String::new())];
    for (what, id) in ids {
        table.changed(&ALL, &format!("{what} log id"), "", move |bundle| {
            *at(bundle, "/logId/keyId") = id.clone().into()
        });
    }
    let (first, second) = (STANDARD.encode(&table.world.sigstore.v1.id), STANDARD.encode(&table.world.sigstore.v2.id));
    table.changed(&[Kind::V1, Kind::Stamped], "the id of the other log", "", |bundle| {
        *at(bundle, "/logId/keyId") = second.clone().into()
    });
    table.changed(&[Kind::V2], "the id of the other log", "", |bundle| {
        *at(bundle, "/logId/keyId") = first.clone().into()
    });
    table.changed(&LOGS, "another index", "", |bundle| *at(bundle, "/logIndex") = "3".into());
    for index in ["3", "5", "7", "-1", "4x", "18446744073709551620"] {
        table.changed(&ALL, &format!("index {index} in the proof"), "", |bundle| {
            *at(bundle, "/inclusionProof/logIndex") = index.into();
        });
    }
    for size in ["0", "4", "5", "6", "8", "-1", "18446744073709551615"] {
        table.changed(&ALL, &format!("size {size} in the proof"), "", |bundle| {
            *at(bundle, "/inclusionProof/treeSize") = size.into();
        });
    }
    for i in 0..3 {
        table.changed(&ALL, &format!("hash {i} of the proof is changed"), "", |bundle| {
            flip(at(bundle, &format!("/inclusionProof/hashes/{i}")));
        });
    }
    fn hashes(bundle: &mut Value) -> &mut Vec<Value> {
        at(bundle, "/inclusionProof/hashes").as_array_mut().unwrap()
    }
    table.changed(&ALL, "a hash too few", "", |bundle| drop(hashes(bundle).pop()));
    table.changed(&ALL, "a hash too many", "", |bundle| {
        let hashes = hashes(bundle);
        hashes.push(hashes[0].clone());
    });
    table.changed(&ALL, "no hashes", "", |bundle| hashes(bundle).clear());
    table.changed(&ALL, "hashes in another order", "", |bundle| hashes(bundle).reverse());
    table.changed(&ALL, "a short hash", "", |bundle| hashes(bundle)[0] = STANDARD.encode([0; 31]).into());
    table.changed(&ALL, "another root", "", |bundle| flip(at(bundle, "/inclusionProof/rootHash")));
    table.changed(&ALL, "no proof", "", |bundle| {
        drop(at(bundle, "").as_object_mut().unwrap().remove("inclusionProof"));
    });
    table.changed(&ALL, "no entry", "", |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    table.changed(&ALL, "no list of entries", "", |bundle| {
        drop(bundle["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries"));
    });
    table.changed(&ALL, "an entry that is not in the log", "", |bundle| {
        // The proof of another: its own hash, in the place of ours.
        at(bundle, "/inclusionProof")["hashes"] = json!([]);
        at(bundle, "/inclusionProof")["treeSize"] = "1".into();
        at(bundle, "/inclusionProof")["logIndex"] = "0".into();
    });
}

/// What the log says of its tree.
pub(crate) fn checkpoints(table: &mut Table) {
    table.section = "checkpoint";
    fn note(bundle: &mut Value) -> &mut Value {
        at(bundle, "/inclusionProof/checkpoint/envelope")
    }
    fn replace(from: &'static str, to: &'static str) -> impl Fn(&mut Value) {
        move |bundle| {
            let text = note(bundle).as_str().unwrap().to_owned();
            assert!(text.contains(from), "{text} {from}");
            *note(bundle) = text.replacen(from, to, 1).into();
        }
    }
    table.changed(&ALL, "another origin", "", replace("good.test", "evil.test"));
    table.changed(&ALL, "another size", "", replace("\n7\n", "\n8\n"));
    table.changed(&ALL, "another way to write the size", "", replace("\n7\n", "\n07\n"));
    table.changed(&ALL, "a line more", "", replace("\n\n", "\nmore\n\n"));
    table.changed(&ALL, "an empty line more", "", replace("\n\n", "\n\n\n"));
    table.changed(&ALL, "a second text after the first", "", replace("\n\n", "\n\nmore\n\n"));
    table.changed(&ALL, "a text before the first", "", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        *note(bundle) = format!("evil\n9\nAAAA\n\n{text}").into();
    });
    table.changed(&ALL, "a second block of signatures", "", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        *note(bundle) = format!("{text}\nmore\n").into();
    });
    table.changed(&ALL, "a hyphen for the dash", "", replace("\u{2014}", "-"));
    table.changed(&ALL, "no signature", "", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        *note(bundle) = format!("{}\n\n", text.split_once("\n\n").unwrap().0).into();
    });
    table.changed(&ALL, "no text", "", |bundle| *note(bundle) = "".into());
    table.changed(&ALL, "none", "", |bundle| {
        drop(at(bundle, "/inclusionProof").as_object_mut().unwrap().remove("checkpoint"));
    });
    table.changed(&ALL, "of the other log", "", |bundle| {
        *note(bundle) =
            "other.test\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} other.test AAAAAAAA\n".into();
    });
    for (what, part) in [("key", 0..4), ("signature", 20..21)] {
        table.changed(&ALL, &format!("a bit of its {what} is changed"), "", move |bundle| {
            let text = note(bundle).as_str().unwrap().to_owned();
            let (rest, signature) = text.trim_end().rsplit_once(' ').unwrap();
            let mut bytes = STANDARD.decode(signature).unwrap();
            bytes[part.start] ^= 1;
            *note(bundle) = format!("{rest} {}\n", STANDARD.encode(bytes)).into();
        });
    }
    table.changed(&ALL, "a signature under another name", "", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        let (body, line) = text.split_once("\n\n").unwrap();
        let signature = line.trim_end().rsplit_once(' ').unwrap().1;
        *note(bundle) = format!("{body}\n\n\u{2014} evil.test {signature}\n").into();
    });
    // By somebody who has everything but the key.
    table.signed(&ALL, "signed by another key", "", |r| r.log_key = Some(Key::p256("forger")));
    table.signed(&ALL, "signed by another key of its kind", "", |r| r.log_key = Some(Key::ed25519("forger")));
    table.signed(&ALL, "signed by another key that says so", "", |r| {
        r.log_key = Some(Key::p256("forger"));
        r.state = edit(|state: &mut State| state.hint = vec![1, 2, 3, 4]);
    });
    // By the log itself, about something else.
    table.signed(&ALL, "the log signs for another origin", "", |r| {
        r.state = edit(|state: &mut State| state.origin = "evil.test".to_owned());
    });
    table.signed(&ALL, "the log signs another size", "", |r| r.state = edit(|state: &mut State| state.size = 8));
    table.signed(&ALL, "the log signs another root", "", |r| r.state = edit(|state: &mut State| state.root[0] ^= 1));
    table.signed(&ALL, "the log signs a tree that has another entry in its place", "", |r| {
        r.state = edit(|state: &mut State| state.exchange());
    });
}

/// The promise of version 1, and times of the log.
pub(crate) fn promises(table: &mut Table) {
    table.section = "promise";
    let v1 = &[Kind::V1];
    table.signed(v1, "promised by another key", "", |r| r.promise_key = Some(Key::p256("forger")));
    for field in ["integratedTime", "logIndex"] {
        table.signed(v1, &format!("promised for another {field}"), "", move |r| {
            r.promised =
                edit(move |promised: &mut Value| promised[field] = (promised[field].as_i64().unwrap() - 1).into());
        });
    }
    for field in ["body", "logID"] {
        table.signed(v1, &format!("promised for another {field}"), "", move |r| {
            r.promised = edit(move |promised: &mut Value| promised[field] = "00".into());
        });
    }
    table.changed(v1, "a bit of the promise is changed", "", |bundle| {
        flip(at(bundle, "/inclusionPromise/signedEntryTimestamp"));
    });
    table.changed(v1, "an empty promise", "", |bundle| {
        *at(bundle, "/inclusionPromise/signedEntryTimestamp") = "".into();
    });
    table.changed(v1, "no promise and no timestamp", "", |bundle| {
        drop(at(bundle, "").as_object_mut().unwrap().remove("inclusionPromise"));
    });
    table.changed(v1, "another time than was promised", "", |bundle| {
        *at(bundle, "/integratedTime") = (TIME + 1).to_string().into();
    });
    table.changed(v1, "no time", "", |bundle| drop(at(bundle, "").as_object_mut().unwrap().remove("integratedTime")));
    table.changed(v1, "the time is 0", "", |bundle| *at(bundle, "/integratedTime") = "0".into());
    for (what, time) in [("before the certificate", TIME - 60), ("after the certificate", TIME + 3600)] {
        table.signed(v1, &format!("promised at a time {what}"), "", move |r| {
            r.promised = edit(move |promised: &mut Value| promised["integratedTime"] = time.into());
            r.entry = edit(move |entry: &mut Value| entry["integratedTime"] = time.to_string().into());
        });
    }
    table.signed(v1, "from the future", "", |r| r.time = 2_051_222_400);
    table.signed(v1, "from before the log", "", |r| r.time = 1_500_000_000);
    table.signed(&[Kind::V2], "a promise with a timestamp, of another key", "", |r| {
        r.promise = true;
        r.promise_key = Some(Key::p256("forger"));
    });
}

/// Several entries, of which one is wrong.
pub(crate) fn several(table: &mut Table) {
    table.section = "several";
    let good = table.world.sign(&Request { timestamp: true, ..Kind::V1.request() });
    let entry = |request: &Request| table.world.sign(request)["verificationMaterial"]["tlogEntries"][0].clone();
    let mut bad = Vec::new();
    let mut flawed = |name, change: &dyn Fn(&mut Value)| {
        let mut entry = entry(&Kind::V2.request());
        change(&mut entry);
        bad.push((name, entry));
    };
    flawed("a bad proof", &|entry| flip(&mut entry["inclusionProof"]["hashes"][1]));
    flawed("no proof", &|entry| drop(entry.as_object_mut().unwrap().remove("inclusionProof")));
    flawed("an unknown kind", &|entry| entry["kindVersion"]["kind"] = "rpm".into());
    flawed("nothing", &|entry| *entry = json!({}));
    let other_key = Request { key: Key::p256("another"), ..Kind::V2.request() };
    bad.push(("another signature", entry(&other_key)));
    let forged = Request { log_key: Some(Key::p256("forger")), ..Kind::V2.request() };
    bad.push(("a forged checkpoint", entry(&forged)));
    bad.push(("a forged promise", entry(&Request { promise_key: Some(Key::p256("forger")), ..Kind::V1.request() })));
    bad.push((
        "another log's",
        PrivateSigstore::new("other").sign(
            table.world.statement.as_bytes(),
            super::ME,
            super::ISSUER,
            &Kind::V2.request(),
        )["verificationMaterial"]["tlogEntries"][0]
            .clone(),
    ));
    for (name, entry) in bad {
        for place in [0, 1] {
            let (entry, good) = (entry.clone(), good.clone());
            table.changed(&[Kind::V1], &format!("{name}, entry {place} of two"), "", move |bundle| {
                *bundle = good.clone();
                bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().insert(place, entry.clone());
            });
        }
    }
}
