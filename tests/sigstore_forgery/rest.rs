//! Forged timestamps, other expectations, other trust, and bundles with two readings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::common::sigstore::certificate::{EXTENDED_KEY_USAGE, SERVER_AUTH, Template, extended_key_usage};
use super::common::sigstore::timestamp::{Authority, Stamp};
use super::common::sigstore::{Key, PrivateSigstore, TIME, YEARS, edit};
use super::table::{ALL, Kind, LOGS, STAMPS, Table};
use super::{Case, ISSUER, ME};

const STAMP: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

fn stamps(bundle: &mut Value) -> &mut Vec<Value> {
    bundle.pointer_mut(STAMP).unwrap().as_array_mut().unwrap()
}

/// RFC 3161 timestamps.
pub(crate) fn timestamps(table: &mut Table) {
    table.section = "timestamp";
    table.signed(&STAMPS, "signed by another key", "", |r| r.tsa_key = Some(Key::p256("forger")));
    table.signed(&STAMPS, "of another signature", "", |r| r.stamp = edit(|stamp: &mut Stamp| stamp.imprint[0] ^= 1));
    table.signed(&STAMPS, "by SHA-1", "", |r| {
        r.stamp = edit(|stamp: &mut Stamp| {
            stamp.hash = "1.3.14.3.2.26";
            stamp.imprint.truncate(20);
        });
    });
    table.signed(&STAMPS, "by an algorithm that its digest is too short for", "", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.hash = "2.16.840.1.101.3.4.2.3");
    });
    table.signed(&STAMPS, "an empty digest", "", |r| r.stamp = edit(|stamp: &mut Stamp| stamp.imprint.clear()));
    table.signed(&STAMPS, "the signed digest is of another text", "", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.message_digest = Some(vec![0; 32]));
    });
    table.signed(&STAMPS, "signed as content of another type", "", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.content_type = "1.2.840.113549.1.7.1");
    });
    table.signed(&STAMPS, "it names another certificate", "", |r| {
        r.stamp = edit(|stamp: &mut Stamp| stamp.certificate_hash[0] ^= 1);
    });
    table.signed(&STAMPS, "it was not granted", "", |r| r.stamp = edit(|stamp: &mut Stamp| stamp.status = 2));
    for (what, time) in [("before the certificate", TIME - 60), ("after the certificate", TIME + 3600)] {
        table.signed(&STAMPS, what, "", move |r| r.stamp = edit(move |stamp: &mut Stamp| stamp.time = time));
    }
    table.signed(&STAMPS, "from the future", "", |r| r.time = 2_051_222_400);
    table.signed(&STAMPS, "from before the authority", "", |r| r.time = YEARS[0] - 1000);
    table.changed(&STAMPS, "none", "", |bundle| stamps(bundle).clear());
    table.changed(&STAMPS, "no data", "", |bundle| {
        drop(bundle["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData"));
    });
    for (what, bytes) in [("garbage", b"garbage".to_vec()), ("empty", Vec::new()), ("a DER null", vec![5, 0])] {
        table.changed(&STAMPS, what, "", move |bundle| {
            stamps(bundle)[0]["signedTimestamp"] = STANDARD.encode(&bytes).into();
        });
        let bytes = STANDARD.encode(b"garbage");
        table.changed(&STAMPS, &format!("{what} beside a good one"), "", move |bundle| {
            stamps(bundle).push(json!({"signedTimestamp": bytes.clone()}));
        });
    }
    table.changed(&STAMPS, "cut off", "", |bundle| {
        let token = stamps(bundle)[0]["signedTimestamp"].as_str().unwrap().to_owned();
        let bytes = STANDARD.decode(token).unwrap();
        stamps(bundle)[0]["signedTimestamp"] = STANDARD.encode(&bytes[..bytes.len() - 9]).into();
    });
    table.changed(&STAMPS, "with bytes after it", "", |bundle| {
        let mut bytes = STANDARD.decode(stamps(bundle)[0]["signedTimestamp"].as_str().unwrap()).unwrap();
        bytes.push(0);
        stamps(bundle)[0]["signedTimestamp"] = STANDARD.encode(bytes).into();
    });
    let forged = PrivateSigstore { tsa: PrivateSigstore::new("other").tsa, ..PrivateSigstore::new("good") };
    table.by(&STAMPS, "of another authority", "", &forged);
    // An authority that is trusted, with a certificate that is not for this.
    let windows: [(&str, [i64; 2], fn(&mut Template)); 4] = [
        ("its certificate is over", [YEARS[0], TIME - 1], |_| {}),
        ("its certificate has not begun", [TIME + 60, YEARS[1]], |_| {}),
        ("its certificate is not for timestamps", YEARS, |leaf| {
            leaf.put(EXTENDED_KEY_USAGE, true, extended_key_usage(&[SERVER_AUTH]));
        }),
        ("its certificate is for nothing in particular", YEARS, |leaf| leaf.remove(EXTENDED_KEY_USAGE)),
    ];
    for (what, years, change) in windows {
        let sigstore = PrivateSigstore { tsa: Authority::new("good", years, &change), ..PrivateSigstore::new("good") };
        for kind in STAMPS {
            let bundle = sigstore.sign(table.world.statement.as_bytes(), ME, ISSUER, &kind.request());
            let case = Case { root: sigstore.trusted_root().to_string(), ..table.world.case(&bundle) };
            table.row(kind, what, "", case);
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
    table.trusted(&ALL, "another instance", "", |root| *root = other.clone());
    let past = json!({"start": "2020-01-01T00:00:00Z", "end": "2025-06-01T11:59:59Z"});
    let future = json!({"start": "2025-06-01T12:30:00Z"});
    let far = json!({"start": "2039-01-01T00:00:00Z"});
    for (window, when) in [(&past, "is over"), (&future, "had not begun"), (&far, "has not begun")] {
        for log in [0, 1] {
            let kinds: &[Kind] = if log == 0 { &[Kind::V1, Kind::Stamped] } else { &[Kind::V2] };
            table.trusted(kinds, &format!("the log's time {when}"), "", |root| {
                root["tlogs"][log]["publicKey"]["validFor"] = window.clone();
            });
        }
        table.trusted(&LOGS, &format!("the authority's time {when}"), "", |root| {
            root["certificateAuthorities"][0]["validFor"] = window.clone();
        });
        table.trusted(&LOGS, &format!("the certificate log's time {when}"), "", |root| {
            root["ctlogs"][0]["publicKey"]["validFor"] = window.clone();
        });
        table.trusted(&STAMPS, &format!("the timestamp authority's time {when}"), "", |root| {
            root["timestampAuthorities"][0]["validFor"] = window.clone();
        });
    }
    for (list, kinds) in
        [("tlogs", &ALL[..]), ("certificateAuthorities", &ALL), ("ctlogs", &ALL), ("timestampAuthorities", &STAMPS)]
    {
        table.trusted(kinds, &format!("no {list}"), "", |root| root[list] = json!([]));
        table.trusted(kinds, &format!("{list} of another instance"), "", |root| root[list] = other[list].clone());
    }
    table.trusted(&[Kind::V1], "the log's key is missing", "", |root| {
        drop(root["tlogs"].as_array_mut().unwrap().remove(0))
    });
    table.trusted(&[Kind::V2], "the log's key is missing", "", |root| {
        drop(root["tlogs"].as_array_mut().unwrap().remove(1))
    });
    table.trusted(&LOGS, "the log's id has another key", "", |root| {
        for log in [0, 1] {
            root["tlogs"][log]["publicKey"]["rawBytes"] = other["tlogs"][log]["publicKey"]["rawBytes"].clone();
        }
    });
    table.trusted(&LOGS, "the certificate log's id has another key", "", |root| {
        root["ctlogs"][0]["publicKey"]["rawBytes"] = other["ctlogs"][0]["publicKey"]["rawBytes"].clone();
    });
    table.trusted(&LOGS, "the intermediate authority is missing", "", |root| {
        drop(root["certificateAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(0));
    });
    table.trusted(&STAMPS, "the timestamp authority's certificate is missing", "", |root| {
        drop(root["timestampAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(0));
    });
    table.trusted(&STAMPS, "the timestamp authority's root is missing", "", |root| {
        drop(root["timestampAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap().remove(1));
    });
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
        table.text(&LOGS, &format!("{key} twice"), "", &from, &to);
    }
    for key in ["integratedTime", "inclusionPromise", "signedEntryTimestamp"] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{key}\":null,\"{key}\":"));
        table.text(&[Kind::V1], &format!("{key} twice"), "", &from, &to);
    }
    for key in ["timestampVerificationData", "rfc3161Timestamps", "signedTimestamp"] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{key}\":null,\"{key}\":"));
        table.text(&STAMPS, &format!("{key} twice"), "", &from, &to);
    }
    // Readers of protocol buffers take the other spelling, too.
    for (key, other) in [
        ("logIndex", "log_index"),
        ("logId", "log_id"),
        ("kindVersion", "kind_version"),
        ("inclusionProof", "inclusion_proof"),
        ("canonicalizedBody", "canonicalized_body"),
        ("rootHash", "root_hash"),
        ("tlogEntries", "tlog_entries"),
        ("keyId", "key_id"),
    ] {
        let (from, to) = (format!("\"{key}\":"), format!("\"{other}\":null,\"{key}\":"));
        table.text(&LOGS, &format!("{key} in another spelling beside it"), "", &from, &to);
        table.text(&LOGS, &format!("{key} in another spelling"), "", &from, &format!("\"{other}\":"));
    }
    table.changed(&ALL, "a key beside the certificate", "exactly one of publicKey", |bundle| {
        bundle["verificationMaterial"]["publicKey"] = json!({"hint": "me"});
    });
    table.changed(&ALL, "a chain beside the certificate", "exactly one of publicKey", |bundle| {
        let certificate = bundle["verificationMaterial"]["certificate"].clone();
        bundle["verificationMaterial"]["x509CertificateChain"] = json!({"certificates": [certificate]});
    });
    table.changed(&ALL, "a chain in place of the certificate", "", |bundle| {
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        let certificate = material.remove("certificate").unwrap();
        material.insert("x509CertificateChain".to_owned(), json!({"certificates": [certificate]}));
    });
    table.changed(&ALL, "a key in place of the certificate", "", |bundle| {
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        material.remove("certificate");
        material.insert("publicKey".to_owned(), json!({"hint": "me"}));
    });
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
            bundle["mediaType"] = media.into()
        });
    }
}
