//! Forged log entries: bodies, proofs, checkpoints, promises, times.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::common::sigstore::log::{State, pem};
use super::common::sigstore::{Key, PrivateSigstore, Request, TIME, edit};
use super::table::{ALL, Kind, LOGS, STAMPS, Table};

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

fn at<'a>(bundle: &'a mut Value, path: &str) -> &'a mut Value {
    bundle.pointer_mut(&format!("{ENTRY}{path}")).unwrap()
}

pub(crate) fn flip(value: &mut Value) {
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
    table.signed(v1, "for another signature", "DSSE signature in bundle does not match any signature in Rekor entry (signature or verifier mismatch) // DSSE signature in bundle does not match signature in Rekor entry", |r| body(r, SIGNATURE_1, STANDARD.encode(&another).into()));
    table.signed(v2, "for another signature", "DSSE signature in bundle does not match any signature in Rekor entry (signature or verifier mismatch) // DSSE signature in bundle does not match signature in Rekor entry", |r| body(r, SIGNATURE_2, STANDARD.encode(&another).into()));
    table.signed(
        v1,
        "for another payload",
        "DSSE payload hash mismatch // artifact hash mismatch for hashedrekord entry",
        |r| body(r, "/spec/payloadHash/value", "00".repeat(32).into()),
    );
    table.signed(
        v2,
        "for another payload",
        "DSSE payload hash mismatch // artifact hash mismatch for hashedrekord entry",
        |r| {
            body(r, "/spec/hashedRekordV002/data/digest", STANDARD.encode([0; 32]).into());
        },
    );
    table.signed(
        v1,
        "the payload's hash by another algorithm",
        "unsupported DSSE payload hash algorithm // unsupported Rekor v2 digest algorithm: SHA2_384",
        |r| {
            body(r, "/spec/payloadHash/algorithm", "sha512".into());
        },
    );
    table.signed(
        v2,
        "the payload's hash by another algorithm",
        "unsupported DSSE payload hash algorithm // unsupported Rekor v2 digest algorithm: SHA2_384",
        |r| {
            body(r, "/spec/hashedRekordV002/data/algorithm", "SHA2_384".into());
        },
    );
    table.signed(v1, "for another certificate", "DSSE signature in bundle does not match any signature in Rekor entry (signature or verifier mismatch) // certificate in bundle does not match certificate in Rekor entry", |r| {
        body(r, "/spec/signatures/0/verifier", STANDARD.encode(pem(&stranger)).into());
    });
    table.signed(v2, "for another certificate", "DSSE signature in bundle does not match any signature in Rekor entry (signature or verifier mismatch) // certificate in bundle does not match certificate in Rekor entry", |r| {
        body(
            r,
            VERIFIER_2,
            json!({
                "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": STANDARD.encode(&stranger)},
            }),
        );
    });
    table.signed(v2, "for a key and no certificate", "certificate-backed Rekor entry contains no certificate", |r| {
        body(
            r,
            VERIFIER_2,
            json!({
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "publicKey": {"rawBytes": STANDARD.encode(Key::p256("leaf").spki())},
            }),
        );
    });
    table.signed(
        v2,
        "for another kind of key",
        "unknown variant `PKIX_ECDSA_P384_SHA_384`, expected `PKIX_ECDSA_P256_SHA",
        |r| {
            r.body =
                edit(set("/spec/hashedRekordV002/signature/verifier/keyDetails", "PKIX_ECDSA_P384_SHA_384".into()));
        },
    );
    table.signed(v1, "two signatures", "bundle has 1, Rekor entry has 2", |r| {
        r.body = edit(|body: &mut Value| {
            let signatures = body["spec"]["signatures"].as_array_mut().unwrap();
            signatures.push(signatures[0].clone());
        });
    });
    table.signed(v1, "no signature", "bundle has 1, Rekor entry has 0", |r| body(r, "/spec/signatures", json!([])));
    table.signed(&LOGS, "a body of another kind than the entry", "it is said to be dsse 0.0.1, and its body is \"rpm 0.0.1\" // it is said to be hashedrekord 0.0.2, and its body is \"rpm 0.0.2\"", |r| body(r, "/kind", "rpm".into()));
    table.signed(&LOGS, "a body of another version than the entry", "it is said to be dsse 0.0.1, and its body is \"dsse 0.0.9\" // it is said to be hashedrekord 0.0.2, and its body is \"hashedrekord 0.0.9\"", |r| body(r, "/apiVersion", "0.0.9".into()));
    table.signed(&LOGS, "a body without a kind", "the log entry's body is malformed: missing field `kind`", |r| {
        r.body = edit(|body: &mut Value| drop(body.as_object_mut().unwrap().remove("kind")));
    });
    table.signed(&LOGS, "a body that is no JSON", "EOF while parsing a string", |r| {
        r.body_text = edit(|text: &mut String| text.truncate(9));
    });
    table.signed(&LOGS, "a body with more after it", "failed to parse dsse v0.0.1 body: trailing characters // failed to parse hashedrekord v0.0.2 body: trailing characters", |r| {
        r.body_text = edit(|text: &mut String| text.push_str("{}"));
    });
    table.signed(v1, "a hash twice in the body", "duplicate field `payloadHash` // duplicate field `data`", |r| {
        r.body_text = edit(|text: &mut String| {
            *text = text.replacen(
                "\"payloadHash\":",
                "\"payloadHash\":{\"algorithm\":\"sha256\",\"value\":\"\"},\"payloadHash\":",
                1,
            );
        });
    });
    table.signed(v2, "a hash twice in the body", "duplicate field `payloadHash` // duplicate field `data`", |r| {
        r.body_text = edit(|text: &mut String| {
            *text = text.replacen("\"data\":", "\"data\":{\"algorithm\":\"SHA2_256\",\"digest\":\"\"},\"data\":", 1);
        });
    });
    table.signed(&LOGS, "a kind twice in the body", "the key \"kind\" stands twice in one object", |r| {
        r.body_text = edit(|text: &mut String| *text = text.replacen("\"kind\":", "\"kind\":\"rpm\",\"kind\":", 1));
    });
    for (kinds, kind, version, words) in [
        (v2, "dsse", "0.0.1", "missing field `envelopeHash`"),
        (&LOGS, "dsse", "0.0.2", "unsupported Rekor entry format: dsse/0.0.2"),
        (&LOGS, "hashedrekord", "0.0.1", "incompatible with a DSSE envelope"),
        (&[Kind::V1], "hashedrekord", "0.0.2", "log index 1004 out of range"),
        (&LOGS, "intoto", "0.0.2", "missing field `content`"),
        (&LOGS, "rpm", "0.0.1", "unsupported Rekor entry format: rpm/0.0.1"),
        (&LOGS, "", "", "unsupported Rekor entry format: /"),
    ] as [(&[Kind], _, _, _); 7]
    {
        table.changed(kinds, &format!("said to be {kind} {version}"), words, |bundle| {
            *at(bundle, "/kindVersion") = json!({"kind": kind, "version": version});
        });
    }
    for (kinds, words) in [(&[Kind::V1][..], "SET verification failed"), (&STAMPS, "root hash mismatch")] {
        table.changed(kinds, "the body is changed later", words, |bundle| {
            let body = at(bundle, "/canonicalizedBody");
            let text = String::from_utf8(STANDARD.decode(body.as_str().unwrap()).unwrap()).unwrap();
            *body = STANDARD.encode(text.replacen("{\"", "{ \"", 1)).into();
        });
        table.changed(kinds, "no body", words, |bundle| *at(bundle, "/canonicalizedBody") = "".into());
    }
}

/// What the entry says of itself, and the proof.
pub(crate) fn proofs(table: &mut Table) {
    table.section = "proof";
    let ids =
        [("another key's", STANDARD.encode([7; 32])), ("a short", STANDARD.encode([7; 4])), ("no", String::new())];
    for (what, id) in ids {
        table.changed(
            &ALL,
            &format!("{what} log id"),
            "the log entry is by the unknown transparency log",
            move |bundle| *at(bundle, "/logId/keyId") = id.clone().into(),
        );
    }
    let (first, second) = (STANDARD.encode(&table.world.sigstore.v1.id), STANDARD.encode(&table.world.sigstore.v2.id));
    let foreign = "it is of another log than the one that signed it";
    for (kind, id, words) in
        [(Kind::V1, &second, "SET verification failed"), (Kind::Stamped, &second, foreign), (Kind::V2, &first, foreign)]
    {
        table.changed(&[kind], "the id of the other log", words, |bundle| *at(bundle, "/logId/keyId") = (&**id).into());
    }
    // A checkpoint that a trusted log signed, and that seems to be signed by another, which the entry names.
    for (kind, id) in [(Kind::Stamped, &second), (Kind::V2, &first)] {
        let id = id.clone();
        table.changed(
            &[kind],
            "the id of the other log, and a signature in its name",
            "it is not signed by the log",
            move |bundle| {
                *at(bundle, "/logId/keyId") = (&*id).into();
                let text = at(bundle, "/inclusionProof/checkpoint/envelope").as_str().unwrap().to_owned();
                let name = text.rsplit_once("\u{2014} ").unwrap().1.split(' ').next().unwrap();
                let mut signature = STANDARD.decode(&id).unwrap()[..4].to_vec();
                signature.extend([7; 64]);
                *at(bundle, "/inclusionProof/checkpoint/envelope") =
                    format!("{text}\u{2014} {name} {}\n", STANDARD.encode(signature)).into();
            },
        );
    }
    table.changed(
        &LOGS,
        "another index",
        "SET verification failed // inclusion proof verification failed: root hash mismatch",
        |bundle| *at(bundle, "/logIndex") = "3".into(),
    );
    for (index, words) in [
        ("3", "root hash mismatch // it is for number 3, and the entry is number 4"),
        ("5", "root hash mismatch // it is for number 5, and the entry is number 4"),
        ("7", "log index 7 out of range // it is for number 7, and the entry is number 4"),
        ("-1", "negative log index: -1"),
        ("4x", "invalid digit found"),
        ("18446744073709551620", "number too large"),
    ] {
        table.changed(&ALL, &format!("index {index} in the proof"), words, |bundle| {
            *at(bundle, "/inclusionProof/logIndex") = index.into();
        });
    }
    for (size, words) in [
        ("0", "out of range for tree size 0 // it is for a tree of 0, and the checkpoint is of 7"),
        ("4", "out of range for tree size 4 // it is for a tree of 4, and the checkpoint is of 7"),
        ("5", "expected 1 proof hashes, got 3 // it is for a tree of 5, and the checkpoint is of 7"),
        ("6", "expected 2 proof hashes, got 3 // it is for a tree of 6, and the checkpoint is of 7"),
        ("8", "it is for a tree of 8, and the checkpoint is of 7"),
        ("-1", "invalid unsigned integer: -1"),
        ("18446744073709551615", "number too large"),
    ] {
        table.changed(&ALL, &format!("size {size} in the proof"), words, |bundle| {
            *at(bundle, "/inclusionProof/treeSize") = size.into();
        });
    }
    for i in 0..3 {
        table.changed(
            &ALL,
            &format!("hash {i} of the proof is changed"),
            "inclusion proof verification failed: root hash mismatch",
            |bundle| {
                flip(at(bundle, &format!("/inclusionProof/hashes/{i}")));
            },
        );
    }
    fn hashes(bundle: &mut Value) -> &mut Vec<Value> {
        at(bundle, "/inclusionProof/hashes").as_array_mut().unwrap()
    }
    table.changed(&ALL, "a hash too few", "expected 3 proof hashes, got 2", |bundle| drop(hashes(bundle).pop()));
    table.changed(&ALL, "a hash too many", "expected 3 proof hashes, got 4", |bundle| {
        let hashes = hashes(bundle);
        hashes.push(hashes[0].clone());
    });
    table.changed(&ALL, "no hashes", "expected 3 proof hashes, got 0", |bundle| hashes(bundle).clear());
    table.changed(
        &ALL,
        "hashes in another order",
        "inclusion proof verification failed: root hash mismatch",
        |bundle| hashes(bundle).reverse(),
    );
    table.changed(&ALL, "a short hash", "SHA-256 hash must be 32 bytes, got 31", |bundle| {
        hashes(bundle)[0] = STANDARD.encode([0; 31]).into();
    });
    table.changed(
        &ALL,
        "another root",
        "inclusion proof root hash does not match checkpoint root hash // its root is not that of the checkpoint",
        |bundle| flip(at(bundle, "/inclusionProof/rootHash")),
    );
    table.changed(&ALL, "no proof", "the log entry's inclusion proof is not good: there is none", |bundle| {
        drop(at(bundle, "").as_object_mut().unwrap().remove("inclusionProof"));
    });
    table.changed(
        &ALL,
        "no entry",
        "the bundle has no transparency log entry, so nothing shows that the signature was made public",
        |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]),
    );
    table.changed(
        &ALL,
        "no list of entries",
        "the bundle has no transparency log entry, so nothing shows that the signature was made public",
        |bundle| {
            drop(bundle["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries"));
        },
    );
    table.changed(
        &ALL,
        "an entry that is not in the log",
        "inclusion proof verification failed: root hash mismatch // expected 3 proof hashes, got 0",
        |bundle| {
            // The proof of another: its own hash, in the place of ours.
            at(bundle, "/inclusionProof")["hashes"] = json!([]);
            at(bundle, "/inclusionProof")["treeSize"] = "1".into();
            at(bundle, "/inclusionProof")["logIndex"] = "0".into();
        },
    );
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
    table.changed(
        &ALL,
        "another origin",
        "No valid Rekor signature found on checkpoint",
        replace("good.test", "evil.test"),
    );
    table.changed(&ALL, "another size", "No valid Rekor signature found on checkpoint", replace("\n7\n", "\n8\n"));
    table.changed(
        &ALL,
        "another way to write the size",
        "No valid Rekor signature found on checkpoint",
        replace("\n7\n", "\n07\n"),
    );
    table.changed(&ALL, "a line more", "No valid Rekor signature found on checkpoint", replace("\n\n", "\nmore\n\n"));
    table.changed(
        &ALL,
        "an empty line more",
        "it is more than a text, an empty line and signatures",
        replace("\n\n", "\n\n\n"),
    );
    table.changed(
        &ALL,
        "a second text after the first",
        "signature line must start with em dash (U+2014)",
        replace("\n\n", "\n\nmore\n\n"),
    );
    table.changed(&ALL, "a text before the first", "SHA-256 hash must be 32 bytes, got 3", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        *note(bundle) = format!("evil\n9\nAAAA\n\n{text}").into();
    });
    table.changed(
        &ALL,
        "a second block of signatures",
        "it is more than a text, an empty line and signatures",
        |bundle| {
            let text = note(bundle).as_str().unwrap().to_owned();
            *note(bundle) = format!("{text}\nmore\n").into();
        },
    );
    table.changed(
        &ALL,
        "a hyphen for the dash",
        "signature line must start with em dash (U+2014)",
        replace("\u{2014}", "-"),
    );
    table.changed(&ALL, "no signature", "Invalid checkpoint format: no signatures found", |bundle| {
        let text = note(bundle).as_str().unwrap().to_owned();
        *note(bundle) = format!("{}\n\n", text.split_once("\n\n").unwrap().0).into();
    });
    table.changed(&ALL, "no text", "the log's checkpoint is not good: there is none", |bundle| {
        *note(bundle) = "".into();
    });
    table.changed(&ALL, "none", "the log's checkpoint is not good: there is none", |bundle| {
        drop(at(bundle, "/inclusionProof").as_object_mut().unwrap().remove("checkpoint"));
    });
    table.changed(&ALL, "of the other log", "inclusion proof root hash does not match checkpoint root hash // inclusion proof verification failed: root hash mismatch", |bundle| {
        *note(bundle) =
            "other.test\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} other.test AAAAAAAA\n".into();
    });
    for (what, place, words) in [("key", 0, "No matching Rekor key"), ("signature", 20, "No valid Rekor signature")] {
        table.changed(&ALL, &format!("a bit of its {what} is changed"), words, move |bundle| {
            let text = note(bundle).as_str().unwrap().to_owned();
            let (rest, signature) = text.trim_end().rsplit_once(' ').unwrap();
            let mut bytes = STANDARD.decode(signature).unwrap();
            bytes[place] ^= 1;
            *note(bundle) = format!("{rest} {}\n", STANDARD.encode(bytes)).into();
        });
    }
    table.changed(
        &ALL,
        "a signature under another name",
        "it is of another log than the one that signed it",
        |bundle| {
            let text = note(bundle).as_str().unwrap().to_owned();
            let (body, line) = text.split_once("\n\n").unwrap();
            let signature = line.trim_end().rsplit_once(' ').unwrap().1;
            *note(bundle) = format!("{body}\n\n\u{2014} evil.test {signature}\n").into();
        },
    );
    // By somebody who has everything but the key.
    table.signed(&ALL, "signed by another key", "No valid Rekor signature found on checkpoint", |r| {
        r.log_key = Some(Key::p256("forger"));
    });
    table.signed(&ALL, "signed by another key of its kind", "No valid Rekor signature found on checkpoint", |r| {
        r.log_key = Some(Key::ed25519("forger"));
    });
    table.signed(
        &ALL,
        "signed by another key that says so",
        "No matching Rekor key found for checkpoint signature",
        |r| {
            r.log_key = Some(Key::p256("forger"));
            r.state = edit(|state: &mut State| state.hint = vec![1, 2, 3, 4]);
        },
    );
    // By the log itself, about something else.
    table.signed(&ALL, "the log signs for another origin", "it is of another log than the one that signed it", |r| {
        r.state = edit(|state: &mut State| state.origin = "evil.test".to_owned());
    });
    table.signed(&ALL, "the log signs another size", "it is for a tree of 7, and the checkpoint is of 8", |r| {
        r.state = edit(|state: &mut State| state.size = 8);
    });
    table.signed(&ALL, "the log signs another root", "inclusion proof verification failed: root hash mismatch", |r| {
        r.state = edit(|state: &mut State| state.root[0] ^= 1);
    });
    table.signed(
        &ALL,
        "the log signs a tree that has another entry in its place",
        "inclusion proof verification failed: root hash mismatch",
        |r| {
            r.state = edit(|state: &mut State| state.exchange());
        },
    );
}

/// The promise of version 1, and times of the log.
pub(crate) fn promises(table: &mut Table) {
    table.section = "promise";
    let v1 = &[Kind::V1];
    table.signed(v1, "promised by another key", "SET verification failed", |r| {
        r.promise_key = Some(Key::p256("forger"));
    });
    for field in ["integratedTime", "logIndex"] {
        table.signed(v1, &format!("promised for another {field}"), "SET verification failed", move |r| {
            r.promised =
                edit(move |promised: &mut Value| promised[field] = (promised[field].as_i64().unwrap() - 1).into());
        });
    }
    for field in ["body", "logID"] {
        table.signed(v1, &format!("promised for another {field}"), "SET verification failed", move |r| {
            r.promised = edit(move |promised: &mut Value| promised[field] = "00".into());
        });
    }
    table.changed(v1, "a bit of the promise is changed", "SET verification failed", |bundle| {
        flip(at(bundle, "/inclusionPromise/signedEntryTimestamp"));
    });
    table.changed(v1, "an empty promise", "SET verification failed", |bundle| {
        *at(bundle, "/inclusionPromise/signedEntryTimestamp") = "".into();
    });
    table.changed(v1, "no promise and no timestamp", "No verified timestamp found. V1 bundles require either an RFC3161 timestamp or a tlog entry with both an integrated time and an inclusion_promise (SET)", |bundle| {
        drop(at(bundle, "").as_object_mut().unwrap().remove("inclusionPromise"));
    });
    table.changed(v1, "another time than was promised", "SET verification failed", |bundle| {
        *at(bundle, "/integratedTime") = (TIME + 1).to_string().into();
    });
    table.changed(v1, "no time", "No verified timestamp found. V1 bundles require either an RFC3161 timestamp or a tlog entry with both an integrated time and an inclusion_promise (SET)", |bundle| drop(at(bundle, "").as_object_mut().unwrap().remove("integratedTime")));
    table.changed(v1, "the time is 0", "No verified timestamp found. V1 bundles require either an RFC3161 timestamp or a tlog entry with both an integrated time and an inclusion_promise (SET)", |bundle| *at(bundle, "/integratedTime") = "0".into());
    for (what, time) in [("before the certificate", TIME - 60), ("after the certificate", TIME + 3600)] {
        table.signed(v1, &format!("promised at a time {what}"), "the certificate was good", move |r| {
            r.promised = edit(move |promised: &mut Value| promised["integratedTime"] = time.into());
            r.entry = edit(move |entry: &mut Value| entry["integratedTime"] = time.to_string().into());
        });
    }
    table.signed(v1, "from the future", "the log entry's time is not good", |r| r.time = 2_051_222_400);
    table.signed(v1, "from before the log", "the log entry's promise (SET) is not good: No log key valid at", |r| {
        r.time = 1_500_000_000;
    });
    table.signed(&[Kind::V2], "a promise with a timestamp, of another key", "SET verification failed", |r| {
        r.promise = true;
        r.promise_key = Some(Key::p256("forger"));
    });
}
