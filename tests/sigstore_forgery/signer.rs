//! Forged signatures, certificates, and what a certificate transparency log says of them.

use super::ME;
use super::common::sigstore::certificate::{
    ALTERNATIVE_NAME, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, ISSUER, ISSUER_OLD, KEY_USAGE, SERVER_AUTH, TIME_STAMPING,
    Template, alternative_name, extended_key_usage, key_usage,
};
use super::common::sigstore::der::{boolean, null, sequence, tlv, utf8};
use super::common::sigstore::{Key, PrivateSigstore, Request, TIME, edit, sha256};
use super::table::{ALL, Kind, LOGS, Table};

const OTHER_ISSUER: &str = "https://accounts.example.com";

/// The envelope and its signature.
pub(crate) fn signatures(table: &mut Table) {
    table.section = "signature";
    let other = table.world.statement.replace("\"name\":\"a\"", "\"name\":\"z\"");
    table.signed(
        &ALL,
        "the payload is signed without its encoding",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        {
            let payload = table.world.statement.clone();
            move |r| {
                let payload = payload.clone().into_bytes();
                r.signed = edit(move |signed: &mut Vec<u8>| signed.clone_from(&payload));
            }
        },
    );
    table.signed(
        &ALL,
        "another version of the encoding",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| {
            r.signed = edit(|signed: &mut Vec<u8>| signed[5] ^= 1);
        },
    );
    table.signed(
        &ALL,
        "the encoding has another payload type",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| {
            r.signed = edit(|signed: &mut Vec<u8>| {
                let text = String::from_utf8(signed.clone()).unwrap();
                *signed = text.replacen("28 application/vnd.in-toto+json", "16 application/json", 1).into_bytes();
            });
        },
    );
    table.signed(
        &ALL,
        "another payload is signed",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        {
            let pae = tensorseal::envelope::pae(other.as_bytes());
            move |r| {
                let pae = pae.clone();
                r.signed = edit(move |signed: &mut Vec<u8>| signed.clone_from(&pae));
            }
        },
    );
    table.changed(
        &ALL,
        "the payload is exchanged",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        {
            use base64::Engine as _;
            let payload = base64::engine::general_purpose::STANDARD.encode(&other);
            move |bundle| bundle["dsseEnvelope"]["payload"] = payload.clone().into()
        },
    );
    table.changed(&ALL, "another payload type", "payloadType", |bundle| {
        bundle["dsseEnvelope"]["payloadType"] = "application/json".into();
    });
    table.signed(
        &ALL,
        "a bit of the signature is changed",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| {
            r.signature = edit(|signature: &mut Vec<u8>| *signature.last_mut().unwrap() ^= 1);
        },
    );
    table.signed(
        &ALL,
        "an empty signature",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| r.signature = edit(Vec::clear),
    );
    table.signed(
        &ALL,
        "bytes after the signature",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| r.signature = edit(|signature: &mut Vec<u8>| signature.push(0)),
    );
    table.signed(
        &ALL,
        "the certificate is for another key",
        "it was not made with the certificate's key over this statement, or one of the two was altered",
        |r| {
            r.leaf = edit(|leaf: &mut Template| leaf.spki = Key::p256("another").spki());
        },
    );
    table.changed(&LOGS, "no signature", "exactly one signature", |bundle| {
        bundle["dsseEnvelope"]["signatures"] = serde_json::json!([]);
    });
    table.changed(&LOGS, "two signatures", "exactly one signature", |bundle| {
        let signatures = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
        signatures.push(signatures[0].clone());
    });
}

fn leaf(r: &mut Request, change: impl Fn(&mut Template) + 'static) {
    r.leaf = edit(change);
}

/// Certificates that the forger has from the authority: it signs, and logs, whatever it is told.
pub(crate) fn certificates(table: &mut Table) {
    table.section = "certificate";
    // The subject.
    table.signed(&LOGS, "somebody else's identity", "you@example.com", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["you@example.com"])));
    });
    table.signed(&LOGS, "no identity", "it has no alternative name", |r| leaf(r, |leaf| leaf.remove(ALTERNATIVE_NAME)));
    table.signed(&LOGS, "an identity in the subject alone", "it has no alternative name", |r| {
        leaf(r, |leaf| {
            leaf.remove(ALTERNATIVE_NAME);
            leaf.subject = ME.to_owned();
        });
    });
    table.signed(&LOGS, "two identities, the expected one first", "it has 2 alternative names, not one", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[ME, "you@example.com"])));
    });
    table.signed(&LOGS, "two identities, the expected one last", "it has 2 alternative names, not one", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["you@example.com", ME])));
    });
    table.signed(
        &LOGS,
        "the identity is a host name",
        "its alternative name is of a kind that Sigstore does not issue",
        |r| {
            leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, sequence(&[tlv(0x82, ME.as_bytes())])));
        },
    );
    table.signed(
        &LOGS,
        "the identity with more after a zero byte",
        "signed by \"me@example.com\\0.evil.test\", and \"me@example.com\" was asked for",
        |r| {
            leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["me@example.com\0.evil.test"])));
        },
    );
    table.signed(&LOGS, "an empty list of identities", "it has 0 alternative names, not one", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, sequence::<Vec<u8>>(&[])));
    });
    // Who said so.
    table.signed(&LOGS, "another issuer", OTHER_ISSUER, |r| {
        leaf(r, |leaf| {
            leaf.put(ISSUER_OLD, false, OTHER_ISSUER.as_bytes().to_vec());
            leaf.put(ISSUER, false, utf8(OTHER_ISSUER));
        });
    });
    table.signed(
        &LOGS,
        "no issuer",
        "the signing certificate does not fit Sigstore's profile: it names no issuer",
        |r| {
            leaf(r, |leaf| {
                leaf.remove(ISSUER_OLD);
                leaf.remove(ISSUER);
            });
        },
    );
    table.signed(&LOGS, "another issuer in the newer extension", "it names two issuers", |r| {
        leaf(r, |leaf| leaf.put(ISSUER, false, utf8(OTHER_ISSUER)));
    });
    table.signed(&LOGS, "another issuer in the older extension", "it names two issuers", |r| {
        leaf(r, |leaf| leaf.put(ISSUER_OLD, false, OTHER_ISSUER.as_bytes().to_vec()));
    });
    table.signed(&LOGS, "the newer issuer extension is no text", "expected UTF8String, got NULL", |r| {
        leaf(r, |leaf| leaf.put(ISSUER, false, null()));
    });
    table.signed(
        &LOGS,
        "two issuers in two extensions of the same kind",
        "it has the extension 1.3.6.1.4.1.57264.1.8 twice",
        |r| {
            leaf(r, |leaf| leaf.extensions.push((ISSUER.to_owned(), false, utf8(OTHER_ISSUER))));
        },
    );
    // When, and for what.
    table.signed(&ALL, "not valid any more", "the certificate was good", |r| leaf(r, |leaf| leaf.not_after = TIME - 1));
    table.signed(&ALL, "not valid yet", "the certificate was good", |r| leaf(r, |leaf| leaf.not_before = TIME + 60));
    table.signed(&LOGS, "no extended key usage", "it has no extended key usage", |r| {
        leaf(r, |leaf| leaf.remove(EXTENDED_KEY_USAGE));
    });
    table.signed(&LOGS, "for servers", "its extended key usage is not codeSigning", |r| {
        leaf(r, |leaf| leaf.put(EXTENDED_KEY_USAGE, false, extended_key_usage(&[SERVER_AUTH, TIME_STAMPING])));
    });
    table.signed(
        &LOGS,
        "no key usage",
        "the signing certificate does not fit Sigstore's profile: it has no key usage",
        |r| leaf(r, |leaf| leaf.remove(KEY_USAGE)),
    );
    table.signed(&LOGS, "for key agreement", "its key usage is not digitalSignature", |r| {
        leaf(r, |leaf| leaf.put(KEY_USAGE, true, key_usage("keyAgreement")));
    });
    table.signed(&LOGS, "for signing certificates", "its key usage is not digitalSignature", |r| {
        leaf(r, |leaf| leaf.put(KEY_USAGE, true, key_usage("keyCertSign")));
    });
    table.signed(&LOGS, "an authority", "certificate chain validation failed: CaUsedAsEndEntity", |r| {
        leaf(r, |leaf| leaf.put(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)])));
    });
    table.signed(&LOGS, "a critical extension that nobody knows", "UnsupportedCriticalExtension", |r| {
        leaf(r, |leaf| leaf.put("1.3.6.1.4.1.99999.1", true, null()));
    });
    table.signed(&LOGS, "a key usage twice", "it has the extension 2.5.29.15 twice", |r| {
        leaf(r, |leaf| leaf.extensions.push((KEY_USAGE.to_owned(), true, key_usage("keyCertSign"))));
    });
    table.signed(
        &LOGS,
        "a key on a curve that Sigstore does not use",
        "unsupported or invalid EC curve parameters",
        |r| r.key = Key::p521("leaf"),
    );
    table.signed(
        &[Kind::V2],
        "a P-384 key, whose signatures this log does not take",
        "unknown variant `PKIX_ECDSA_P384_SHA_384`",
        |r| r.key = Key::p384("leaf"),
    );
    table.signed(
        &[Kind::V2],
        "an Ed25519 key",
        "unknown variant `PKIX_ED25519`, expected `PKIX_ECDSA_P256_SHA_256` at li",
        |r| r.key = Key::ed25519("leaf"),
    );
}

/// Certificates that the authority did not sign like that.
pub(crate) fn chains(table: &mut Table) {
    table.section = "chain";
    table.signed(&ALL, "signed by another key", "InvalidSignatureForPublicKey", |r| {
        r.ca_key = Some(Key::p384("forger"));
    });
    table.signed(&ALL, "signed by itself", "InvalidSignatureForPublicKey", |r| r.ca_key = Some(Key::p256("leaf")));
    table.signed(&LOGS, "signed by itself in its own name", "InvalidSignatureForPublicKey", |r| {
        r.ca_key = Some(Key::p256("leaf"));
        leaf(r, |leaf| leaf.subject.clone_from(&leaf.issuer));
    });
    table.signed(&LOGS, "another issuer's name", "InvalidSignatureForPublicKey", |r| {
        leaf(r, |leaf| leaf.issuer = "good root".to_owned());
    });
    table.signed(&LOGS, "a bit of the authority's signature is changed", "InvalidSignatureForPublicKey", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| *der.last_mut().unwrap() ^= 1);
    });
    table.signed(&LOGS, "a bit of the serial number is changed", "InvalidSignatureForPublicKey", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| der[16] ^= 1);
    });
    table.signed(&LOGS, "no certificate", "it ends too early", |r| r.certificate = edit(Vec::clear));
    table.signed(&LOGS, "half a certificate", "it ends too early", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| der.truncate(der.len() / 2));
    });
    table.signed(&LOGS, "bytes after the certificate", "decoded 661 bytes, 1 bytes remaining at DER byte 661", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| der.push(0));
    });
    let fork = PrivateSigstore { ca_key: Key::p384("forger"), ..PrivateSigstore::new("good") };
    table.by(&LOGS, "another authority of the same name", "InvalidSignatureForPublicKey", &fork);
    let fork = PrivateSigstore { intermediate_name: "nobody".to_owned(), ..PrivateSigstore::new("good") };
    table.by(&LOGS, "an authority of another name", "certificate chain validation failed: UnknownIssuer", &fork);
    table.by(
        &ALL,
        "another instance",
        "the log entry is by the unknown transparency log",
        &PrivateSigstore::new("other"),
    );
}

/// What the certificate transparency log says.
pub(crate) fn scts(table: &mut Table) {
    table.section = "SCT";
    table.signed(&LOGS, "signed by another log's key", "SCT signature verification failed", |r| {
        r.ct_key = Some(Key::p256("forger"));
    });
    table.signed(
        &LOGS,
        "of another log",
        "the certificate's timestamp (SCT) is by the unknown certificate transparency log",
        |r| {
            r.ct_key = Some(Key::p256("forger"));
            r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
                sct.log_id = sha256(&Key::p256("forger").spki()).to_vec();
            });
        },
    );
    table.signed(&LOGS, "for another certificate", "SCT signature verification failed", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.tbs[20] ^= 1);
    });
    table.signed(&LOGS, "for a certificate of another issuer", "SCT signature verification failed", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.issuer_key_hash[0] ^= 1);
    });
    table.signed(&LOGS, "at another time than was signed", "SCT signature verification failed", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.timestamp += 1);
    });
    table.signed(&LOGS, "from before the log was there", "key not found or not valid", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
            (sct.timestamp, sct.signed_timestamp) = (1_000_000_000_000, 1_000_000_000_000);
        });
    });
    table.signed(
        &LOGS,
        "from after the signature",
        "the certificate's timestamp by a certificate transparency log (SCT) is not good: it is of",
        |r| {
            r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
                (sct.timestamp, sct.signed_timestamp) = (2_000_000_000_000, 2_000_000_000_000);
            });
        },
    );
    table.signed(&LOGS, "none", "certificate is missing SCT extension (Signed Certificate Timestamp)", |r| {
        r.logged_leaf = edit(|leaf: &mut Template| leaf.remove("1.3.6.1.4.1.11129.2.4.2"));
    });
    table.signed(&LOGS, "an empty list", "no SCTs found in certificate", |r| r.scts = edit(Vec::clear));
    table.signed(&LOGS, "two", "certificate contains multiple SCTs, expected exactly one", |r| {
        r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts.push(scts[0].clone()));
    });
    table.signed(&LOGS, "of an unknown version", "failed to parse SCT: Tls(UnknownValue(1))", |r| {
        r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0][0] = 1);
    });
    table.signed(&LOGS, "of an unknown algorithm", "unsupported SCT signature algorithm: 0x0203", |r| {
        r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0][43] = 2);
    });
    table.signed(&LOGS, "cut off", "failed to parse SCT: Tls(EndOfStream)", |r| {
        r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0].truncate(60));
    });
    table.signed(&LOGS, "the authority signs what the log has not seen", "SCT signature verification failed", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["you@example.com"])));
        r.logged_leaf = edit(|leaf: &mut Template| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[ME])));
    });
}
