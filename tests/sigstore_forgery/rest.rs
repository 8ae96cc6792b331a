//! Several log entries, forged timestamps, other expectations, other trust, and bundles with two readings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::common::sigstore::certificate::{EXTENDED_KEY_USAGE, SERVER_AUTH, Template, extended_key_usage};
use super::common::sigstore::timestamp::{Authority, Stamp};
use super::common::sigstore::{Key, PrivateSigstore, Request, TIME, YEARS, edit};
use super::logs::flip;
use super::table::{ALL, Kind, LOGS, STAMPS, Table};
use super::{Case, ISSUER, ME};

const STAMP: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

fn stamps(bundle: &mut Value) -> &mut Vec<Value> {
    bundle.pointer_mut(STAMP).unwrap().as_array_mut().unwrap()
}

/// RFC 3161 timestamps.
pub(crate) fn timestamps(table: &mut Table) {
    table.section = "timestamp";
    table.signed(&STAMPS, "signed by another key", "Failed to verify timestamp signature", |r| {
        r.tsa_key = Some(Key::p256("forger"));
    });
    table.signed(&STAMPS, "of another signature", "Timestamp message hash mismatch", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.imprint[0] ^= 1);
    });
    table.signed(&STAMPS, "by SHA-1", "unsupported hash algorithm: 1.3.14.3.2.26", |r| {
        r.stamp = edit(|stamp: &mut Stamp| {
            stamp.hash = "1.3.14.3.2.26";
            stamp.imprint.truncate(20);
        });
    });
    table.signed(&STAMPS, "by an algorithm that its digest is too short for", "Timestamp message hash mismatch", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.hash = "2.16.840.1.101.3.4.2.3");
    });
    table.signed(&STAMPS, "an empty digest", "Timestamp message hash mismatch: expected", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.imprint.clear());
    });
    table.signed(&STAMPS, "the signed digest is of another text", "Timestamp message hash mismatch", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.message_digest = Some(vec![0; 32]));
    });
    table.signed(&STAMPS, "signed as content of another type", "its signature is over a text of another kind", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.content_type = "1.2.840.113549.1.7.1");
    });
    table.signed(&STAMPS, "it names another certificate", "it names another certificate than the authority's", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.certificate_hash[0] ^= 1);
    });
    table.signed(&STAMPS, "two signers", "it is malformed", |r| r.stamp = edit(|stamp: &mut Stamp| stamp.signers = 2));
    table.signed(&STAMPS, "it was not granted", "Timestamp request not granted: 2", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.status = 2);
    });
    for (what, time) in [("before the certificate", TIME - 60), ("after the certificate", TIME + 3600)] {
        table.signed(&STAMPS, what, "the certificate was good from", move |r| {
            r.stamp = edit(move |stamp: &mut Stamp| stamp.time = time);
        });
    }
    table
        .signed(&STAMPS, "from the future", "the RFC 3161 timestamp is not good: it is of", |r| r.time = 2_051_222_400);
    table.signed(&STAMPS, "from before the authority", "CertNotValidYet { time", |r| r.time = YEARS[0] - 1000);
    table.changed(&STAMPS, "none", "No verified timestamp found. V1 bundles require either an RFC3161 timestamp or a tlog entry with both an integrated time and an inclusion_promise (SET) // V2 bundle requires RFC3161 timestamp but none could be verified. V2 tlog entries have no integrated time by design. Ensure TSA certificates are present in the t", |bundle| stamps(bundle).clear());
    table.changed(&STAMPS, "no data", "No verified timestamp found. V1 bundles require either an RFC3161 timestamp or a tlog entry with both an integrated time and an inclusion_promise (SET) // V2 bundle requires RFC3161 timestamp but none could be verified. V2 tlog entries have no integrated time by design. Ensure TSA certificates are present in the t", |bundle| {
        drop(bundle["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData"));
    });
    let good = table.world.sign(&Kind::V2.request());
    for (what, bytes) in [("garbage", b"garbage".to_vec()), ("empty", Vec::new()), ("a DER null", vec![5, 0])] {
        let stamp = json!({"signedTimestamp": STANDARD.encode(bytes)});
        let words = "is not good: it is malformed";
        table.changed(&STAMPS, what, words, |bundle| stamps(bundle)[0] = stamp.clone());
        let beside = format!("{what} beside a good one");
        table.changed(&STAMPS, &beside, words, |bundle| stamps(bundle).push(stamp.clone()));
    }
    table.changed(&[Kind::V1], "another signature's timestamp", "message hash mismatch", |bundle| {
        let material = &good["verificationMaterial"]["timestampVerificationData"];
        bundle["verificationMaterial"]["timestampVerificationData"] = material.clone();
        let other = PrivateSigstore::new("good").sign(b"{}", ME, ISSUER, &Kind::V2.request());
        *stamps(bundle) = other.pointer(STAMP).unwrap().as_array().unwrap().clone();
    });
    table.changed(&STAMPS, "cut off", "it is malformed: it is not in DER", |bundle| {
        let token = stamps(bundle)[0]["signedTimestamp"].as_str().unwrap().to_owned();
        let bytes = STANDARD.decode(token).unwrap();
        stamps(bundle)[0]["signedTimestamp"] = STANDARD.encode(&bytes[..bytes.len() - 9]).into();
    });
    table.changed(&STAMPS, "with bytes after it", "trailing data", |bundle| {
        let mut bytes = STANDARD.decode(stamps(bundle)[0]["signedTimestamp"].as_str().unwrap()).unwrap();
        bytes.push(0);
        stamps(bundle)[0]["signedTimestamp"] = STANDARD.encode(bytes).into();
    });
    let forged = PrivateSigstore { tsa: PrivateSigstore::new("other").tsa, ..PrivateSigstore::new("good") };
    table.by(&STAMPS, "of another authority", "CMS signer does not match any trusted TSA certificate", &forged);
    // An authority that is trusted, with a certificate that is not for this.
    type Change = fn(&mut Template);
    let certificates: [(&str, &str, [i64; 2], Change); 4] = [
        ("its certificate is over", "CertExpired", [YEARS[0], TIME - 1], |_| {}),
        ("its certificate has not begun", "CertNotValidYet", [TIME + 60, YEARS[1]], |_| {}),
        ("its certificate is not for timestamps", "RequiredEkuNotFound", YEARS, |leaf| {
            leaf.put(EXTENDED_KEY_USAGE, true, extended_key_usage(&[SERVER_AUTH]));
        }),
        ("its certificate is for nothing in particular", "RequiredEkuNotFound", YEARS, |leaf| {
            leaf.remove(EXTENDED_KEY_USAGE);
        }),
    ];
    for (what, words, years, change) in certificates {
        let sigstore = PrivateSigstore { tsa: Authority::new("good", years, &change), ..PrivateSigstore::new("good") };
        for kind in STAMPS {
            let bundle = sigstore.sign(table.world.statement.as_bytes(), ME, ISSUER, &kind.request());
            let case = Case { root: sigstore.trusted_root().to_string(), ..table.world.case(&bundle) };
            table.row(kind, what, words, case);
        }
    }
}

/// Whoever is expected is not who signed.
pub(crate) fn expectations(table: &mut Table) {
    table.section = "expected";
    for other in [
        "you@example.com",
        "me@example.co",
        "me@example.com.evil.test",
        "e@example.com",
        "Me@example.com",
        "me@EXAMPLE.com",
        "me@example.com ",
        " me@example.com",
        ".*",
        "me@example.(com|org)",
        "me.example.com",
        "^me@example.com$",
        "me@example.com\n",
        "mailto:me@example.com",
        ISSUER,
    ] {
        table.expected(&format!("expected is {other:?}"), "wrong identity", other, ISSUER);
    }
    for other in [
        "https://other.test",
        "https://issuer.tes",
        "https://issuer.test/",
        "https://issuer.test.evil.test",
        "https://Issuer.test",
        "http://issuer.test",
        "issuer.test",
        ".*",
        "https://issuer.test ",
        ME,
    ] {
        table.expected(&format!("expected to be vouched for by {other:?}"), "wrong identity provider", ME, other);
    }
    table.expected("identity and provider swapped", "wrong identity", ISSUER, ME);
}

/// Whoever verifies trusts something else.
pub(crate) fn trust(table: &mut Table) {
    table.section = "trust";
    let other = PrivateSigstore::new("other").trusted_root();
    table.trusted(&ALL, "another instance", "the log entry is by the unknown transparency log", |root| {
        *root = other.clone();
    });
    let past = json!({"start": "2020-01-01T00:00:00Z", "end": "2025-06-01T11:59:59Z"});
    let future = json!({"start": "2025-06-01T12:30:00Z"});
    let far = json!({"start": "2039-01-01T00:00:00Z"});
    let (not_then, begun) = ("was not valid when it was signed", "No matching Rekor key found");
    let (outside, none) = ("outside the validity period of the authority", "no timestamp authorities configured");
    for (window, when, log_words, stamp_words) in [
        (&past, "is over", not_then, outside),
        (&future, "had not begun", not_then, outside),
        (&far, "has not begun", begun, none),
    ] {
        for (log, kind) in [(0, Kind::V1), (0, Kind::Stamped), (1, Kind::V2)] {
            let words = if kind == Kind::V1 { "No log key valid at integrated time" } else { log_words };
            table.trusted(&[kind], &format!("the log's time {when}"), words, |root| {
                root["tlogs"][log]["publicKey"]["validFor"] = window.clone();
            });
        }
        let words = "no trusted certificate authority is valid at";
        table.trusted(&LOGS, &format!("the authority's time {when}"), words, |root| {
            root["certificateAuthorities"][0]["validFor"] = window.clone();
        });
        let words = "SCT signature verification failed: Verification error: key not found or not valid at";
        table.trusted(&LOGS, &format!("the certificate log's time {when}"), words, |root| {
            root["ctlogs"][0]["publicKey"]["validFor"] = window.clone();
        });
        table.trusted(&STAMPS, &format!("the timestamp authority's time {when}"), stamp_words, |root| {
            root["timestampAuthorities"][0]["validFor"] = window.clone();
        });
    }
    let (authority, foreign) = ("no trusted certificate authority is valid at", "validation failed: UnknownIssuer");
    let (ct_log, ct_foreign) = ("no CT log keys in trusted root", "unknown certificate transparency log");
    let stranger = "CMS signer does not match any trusted TSA certificate";
    for (list, kinds, missing, of_another) in [
        ("tlogs", &ALL[..], "unknown transparency log", "unknown transparency log"),
        ("certificateAuthorities", &ALL, authority, foreign),
        ("ctlogs", &ALL, ct_log, ct_foreign),
        ("timestampAuthorities", &STAMPS, none, stranger),
    ] {
        table.trusted(kinds, &format!("no {list}"), missing, |root| root[list] = json!([]));
        table.trusted(kinds, &format!("{list} of another instance"), of_another, |root| {
            root[list] = other[list].clone();
        });
    }
    table.trusted(
        &[Kind::V1],
        "the log's key is missing",
        "the log entry is by the unknown transparency log",
        |root| drop(root["tlogs"].as_array_mut().unwrap().remove(0)),
    );
    table.trusted(
        &[Kind::V2],
        "the log's key is missing",
        "the log entry is by the unknown transparency log",
        |root| drop(root["tlogs"].as_array_mut().unwrap().remove(1)),
    );
    table.trusted(
        &LOGS,
        "the log's id has another key",
        "SET verification failed // No valid Rekor signature found on checkpoint",
        |root| {
            for log in [0, 1] {
                root["tlogs"][log]["publicKey"]["rawBytes"] = other["tlogs"][log]["publicKey"]["rawBytes"].clone();
            }
        },
    );
    table.trusted(&LOGS, "the certificate log's id has another key", "SCT signature verification failed", |root| {
        root["ctlogs"][0]["publicKey"]["rawBytes"] = other["ctlogs"][0]["publicKey"]["rawBytes"].clone();
    });
    for (when, years) in [("was over", [YEARS[0], TIME - 1]), ("had not begun", [TIME + 60, YEARS[1]])] {
        let sigstore = PrivateSigstore::with_authority("good", years);
        for kind in LOGS {
            let bundle = sigstore.sign(table.world.statement.as_bytes(), ME, ISSUER, &kind.request());
            let case = Case { root: sigstore.trusted_root().to_string(), ..table.world.case(&bundle) };
            let words = "the authority's own certificate was not valid when it was signed";
            table.row(kind, &format!("the authority's certificate {when}"), words, case);
        }
    }
    table.trusted(
        &LOGS,
        "the intermediate authority is missing",
        "certificate chain validation failed: UnknownIssuer",
        |root| {
            drop(root["certificateAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(0));
        },
    );
    table.trusted(
        &STAMPS,
        "the timestamp authority's certificate is missing",
        "CMS signer does not match any trusted TSA certificate",
        |root| {
            drop(root["timestampAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(0));
        },
    );
    table.trusted(
        &STAMPS,
        "the timestamp authority's root is missing",
        "TSA certificate chain validation failed: UnknownIssuer",
        |root| {
            drop(root["timestampAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(1));
        },
    );
}

/// Texts that two readers may understand in two ways, and material of another kind.
pub(crate) fn readings(table: &mut Table) {
    table.section = "reading";
    for key in [
        "mediaType",
        "verificationMaterial",
        "dsseEnvelope",
        "certificate",
        "tlogEntries",
        "logIndex",
        "logId",
        "keyId",
        "kindVersion",
        "kind",
        "version",
        "inclusionProof",
        "rootHash",
        "treeSize",
        "hashes",
        "checkpoint",
        "envelope",
        "canonicalizedBody",
        "payload",
        "payloadType",
        "signatures",
        "sig",
        "rawBytes",
    ] {
        // The first of two, in the spelling of a reader that takes the first.
        let (from, to) = (format!("\"{key}\":"), format!("\"{key}\":null,\"{key}\":"));
        table.text(&LOGS, &format!("{key} twice"), "\" stands twice in one object", &from, &to);
    }
    for key in ["integratedTime", "inclusionPromise", "signedEntryTimestamp"] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{key}\":null,\"{key}\":"));
        table.text(&[Kind::V1], &format!("{key} twice"), "\" stands twice in one object", &from, &to);
    }
    for key in ["timestampVerificationData", "rfc3161Timestamps", "signedTimestamp"] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{key}\":null,\"{key}\":"));
        table.text(&STAMPS, &format!("{key} twice"), "\" stands twice in one object", &from, &to);
    }
    // Readers of protocol buffers take the other spelling, too.
    let may = "may be read as another";
    for (key, other, beside, alone) in [
        ("logIndex", "log_index", may, "root hash mismatch // may be read as another"),
        ("logId", "log_id", may, "missing field `logId`"),
        ("kindVersion", "kind_version", may, "missing field `kindVersion`"),
        ("inclusionProof", "inclusion_proof", may, "inclusion proof is not good: there is none"),
        ("canonicalizedBody", "canonicalized_body", may, "missing field `canonicalizedBody`"),
        ("rootHash", "root_hash", may, "missing field `rootHash`"),
        ("keyId", "key_id", may, "missing field `keyId`"),
        ("tlogEntries", "tlog_entries", may, may),
        ("rawBytes", "raw_bytes", may, may),
    ] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{other}\":null,\"{key}\":"));
        table.text(&LOGS, &format!("{key} in another spelling beside it"), beside, &from, &to);
        table.text(&LOGS, &format!("{key} in another spelling"), alone, &from, &format!("\"{other}\":"));
    }
    for (key, other) in [("rfc3161Timestamps", "rfc3161_timestamps"), ("signedTimestamp", "signed_timestamp")] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{other}\":null,\"{key}\":"));
        table.text(&STAMPS, &format!("{key} in another spelling beside it"), may, &from, &to);
    }
    for other in ["public_key", "x509_certificate_chain", "timestamp_verification_data"] {
        table.changed(&LOGS, &format!("{other} beside the certificate"), may, |bundle| {
            bundle["verificationMaterial"][other] = json!({});
        });
    }
    table.changed(&ALL, "a key beside the certificate", "exactly one of publicKey", |bundle| {
        bundle["verificationMaterial"]["publicKey"] = json!({"hint": "me"});
    });
    table.changed(&ALL, "a chain beside the certificate", "exactly one of publicKey", |bundle| {
        let certificate = bundle["verificationMaterial"]["certificate"].clone();
        bundle["verificationMaterial"]["x509CertificateChain"] = json!({"certificates": [certificate]});
    });
    table.changed(&ALL, "a chain in place of the certificate", "the bundle was signed with the certificate method, and the sigstore method was asked for; verify it by that method", |bundle| {
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        let certificate = material.remove("certificate").unwrap();
        material.insert("x509CertificateChain".to_owned(), json!({"certificates": [certificate]}));
    });
    table.changed(
        &ALL,
        "a key in place of the certificate",
        "the bundle was signed with the key method, and the sigstore method was asked for; verify it by that method",
        |bundle| {
            let material = bundle["verificationMaterial"].as_object_mut().unwrap();
            material.remove("certificate");
            material.insert("publicKey".to_owned(), json!({"hint": "me"}));
        },
    );
    table.changed(&ALL, "no certificate", "exactly one of publicKey", |bundle| {
        drop(bundle["verificationMaterial"].as_object_mut().unwrap().remove("certificate"));
    });
    table.changed(&ALL, "a signature of a message beside the envelope", "messageSignature", |bundle| {
        bundle["messageSignature"] = json!({"signature": ""});
    });
    for media in [
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "",
    ] {
        table.changed(&LOGS, &format!("media type {media:?}"), "mediaType", move |bundle| {
            bundle["mediaType"] = media.into();
        });
    }
}

/// Several entries, of which one is wrong.
pub(crate) fn several(table: &mut Table) {
    table.section = "entries";
    let good = table.world.sign(&Request { timestamp: true, ..Kind::V1.request() });
    let entry = |request: &Request| table.world.sign(request)["verificationMaterial"]["tlogEntries"][0].clone();
    let mut bad = Vec::new();
    let mut flawed = |name, words, change: &dyn Fn(&mut Value)| {
        let mut entry = entry(&Kind::V2.request());
        change(&mut entry);
        bad.push((name, words, entry));
    };
    flawed("a bad proof", "root hash mismatch", &|entry| flip(&mut entry["inclusionProof"]["hashes"][1]));
    flawed("no proof", "inclusion proof is not good: there is none", &|entry| {
        drop(entry.as_object_mut().unwrap().remove("inclusionProof"));
    });
    flawed("an unknown kind", "unsupported Rekor entry format: rpm", &|entry| {
        entry["kindVersion"]["kind"] = "rpm".into();
    });
    flawed("nothing", "missing field `logId`", &|entry| *entry = json!({}));
    let other_key = Request { key: Key::p256("another"), ..Kind::V2.request() };
    bad.push(("another signature", "does not match certificate in Rekor entry", entry(&other_key)));
    let forged = Request { log_key: Some(Key::p256("forger")), ..Kind::V2.request() };
    bad.push(("a forged checkpoint", "No valid Rekor signature found on checkpoint", entry(&forged)));
    bad.push((
        "a forged promise",
        "SET verification failed",
        entry(&Request { promise_key: Some(Key::p256("forger")), ..Kind::V1.request() }),
    ));
    bad.push((
        "another log's",
        "unknown transparency log",
        PrivateSigstore::new("other").sign(
            table.world.statement.as_bytes(),
            ME,
            ISSUER,
            &Kind::V2.request(),
        )["verificationMaterial"]["tlogEntries"][0]
            .clone(),
    ));
    for (name, words, entry) in bad {
        for place in [0, 1] {
            let (entry, good) = (entry.clone(), good.clone());
            table.changed(&[Kind::V1], &format!("{name}, entry {place} of two"), words, move |bundle| {
                *bundle = good.clone();
                bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().insert(place, entry.clone());
            });
        }
    }
}
