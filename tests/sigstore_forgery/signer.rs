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
    table.signed(&ALL, "the payload is signed without its encoding", "", {
        let payload = table.world.statement.clone();
        move |r| {
            let payload = payload.clone().into_bytes();
            r.signed = edit(move |signed: &mut Vec<u8>| signed.clone_from(&payload));
        }
    });
    table.signed(&ALL, "another version of the encoding", "", |r| {
        r.signed = edit(|signed: &mut Vec<u8>| signed[5] ^= 1);
    });
    table.signed(&ALL, "the encoding has another payload type", "", |r| {
        r.signed = edit(|signed: &mut Vec<u8>| {
            let text = String::from_utf8(signed.clone()).unwrap();
            *signed = text.replacen("28 application/vnd.in-toto+json", "16 application/json", 1).into_bytes();
        });
    });
    table.signed(&ALL, "another payload is signed", "", {
        let pae = tensorseal::envelope::pae(other.as_bytes());
        move |r| {
            let pae = pae.clone();
            r.signed = edit(move |signed: &mut Vec<u8>| signed.clone_from(&pae));
        }
    });
    table.changed(&ALL, "the payload is exchanged", "", {
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::STANDARD.encode(&other);
        move |bundle| bundle["dsseEnvelope"]["payload"] = payload.clone().into()
    });
    table.changed(&ALL, "another payload type", "payloadType", |bundle| {
        bundle["dsseEnvelope"]["payloadType"] = "application/json".into();
    });
    table.signed(&ALL, "a bit of the signature is changed", "", |r| {
        r.signature = edit(|signature: &mut Vec<u8>| *signature.last_mut().unwrap() ^= 1);
    });
    table.signed(&ALL, "an empty signature", "", |r| r.signature = edit(Vec::clear));
    table.signed(&ALL, "bytes after the signature", "", |r| {
        r.signature = edit(|signature: &mut Vec<u8>| signature.push(0))
    });
    table.signed(&ALL, "the certificate is for another key", "", |r| {
        r.leaf = edit(|leaf: &mut Template| leaf.spki = Key::p256("another").spki());
    });
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
    table.signed(&LOGS, "no identity", "", |r| leaf(r, |leaf| leaf.remove(ALTERNATIVE_NAME)));
    table.signed(&LOGS, "an identity in the subject alone", "", |r| {
        leaf(r, |leaf| {
            leaf.remove(ALTERNATIVE_NAME);
            leaf.subject = ME.to_owned();
        });
    });
    table.signed(&LOGS, "two identities, the expected one first", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[ME, "you@example.com"])));
    });
    table.signed(&LOGS, "two identities, the expected one last", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["you@example.com", ME])));
    });
    table.signed(&LOGS, "the identity is a host name", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, sequence(&[tlv(0x82, ME.as_bytes())])));
    });
    table.signed(&LOGS, "the identity with more after a zero byte", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["me@example.com\0.evil.test"])));
    });
    table.signed(&LOGS, "an empty list of identities", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, sequence::<Vec<u8>>(&[])));
    });
    // Who said so.
    table.signed(&LOGS, "another issuer", OTHER_ISSUER, |r| {
        leaf(r, |leaf| {
            leaf.put(ISSUER_OLD, false, OTHER_ISSUER.as_bytes().to_vec());
            leaf.put(ISSUER, false, utf8(OTHER_ISSUER));
        });
    });
    table.signed(&LOGS, "no issuer", "", |r| {
        leaf(r, |leaf| {
            leaf.remove(ISSUER_OLD);
            leaf.remove(ISSUER);
        });
    });
    table.signed(&LOGS, "another issuer in the newer extension", OTHER_ISSUER, |r| {
        leaf(r, |leaf| leaf.put(ISSUER, false, utf8(OTHER_ISSUER)));
    });
    table.signed(&LOGS, "another issuer in the older extension", OTHER_ISSUER, |r| {
        leaf(r, |leaf| leaf.put(ISSUER_OLD, false, OTHER_ISSUER.as_bytes().to_vec()));
    });
    table.signed(&LOGS, "the newer issuer extension is no text", "", |r| {
        leaf(r, |leaf| leaf.put(ISSUER, false, null()));
    });
    table.signed(&LOGS, "two issuers in two extensions of the same kind", "", |r| {
        leaf(r, |leaf| leaf.extensions.push((ISSUER.to_owned(), false, utf8(OTHER_ISSUER))));
    });
    // When, and for what.
    table.signed(&ALL, "not valid any more", "", |r| leaf(r, |leaf| leaf.not_after = TIME - 1));
    table.signed(&ALL, "not valid yet", "", |r| leaf(r, |leaf| leaf.not_before = TIME + 60));
    table.signed(&LOGS, "no extended key usage", "", |r| leaf(r, |leaf| leaf.remove(EXTENDED_KEY_USAGE)));
    table.signed(&LOGS, "for servers", "", |r| {
        leaf(r, |leaf| leaf.put(EXTENDED_KEY_USAGE, false, extended_key_usage(&[SERVER_AUTH, TIME_STAMPING])));
    });
    table.signed(&LOGS, "no key usage", "", |r| leaf(r, |leaf| leaf.remove(KEY_USAGE)));
    table.signed(&LOGS, "for key agreement", "", |r| {
        leaf(r, |leaf| leaf.put(KEY_USAGE, true, key_usage("keyAgreement")));
    });
    table.signed(&LOGS, "for signing certificates", "", |r| {
        leaf(r, |leaf| leaf.put(KEY_USAGE, true, key_usage("keyCertSign")));
    });
    table.signed(&LOGS, "an authority", "", |r| {
        leaf(r, |leaf| leaf.put(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)])));
    });
    table.signed(&LOGS, "a critical extension that nobody knows", "", |r| {
        leaf(r, |leaf| leaf.put("1.3.6.1.4.1.99999.1", true, null()));
    });
    table.signed(&LOGS, "a key usage twice", "", |r| {
        leaf(r, |leaf| leaf.extensions.push((KEY_USAGE.to_owned(), true, key_usage("keyCertSign"))));
    });
    table.signed(&LOGS, "a key on a curve that Sigstore does not use", "", |r| r.key = Key::p521("leaf"));
    table
        .signed(&[Kind::V2], "a P-384 key, whose signatures this log does not take", "", |r| r.key = Key::p384("leaf"));
    table.signed(&[Kind::V2], "an Ed25519 key", "", |r| r.key = Key::ed25519("leaf"));
}

/// Certificates that the authority did not sign like that.
pub(crate) fn chains(table: &mut Table) {
    table.section = "chain";
    table.signed(&ALL, "signed by another key", "", |r| r.ca_key = Some(Key::p384("forger")));
    table.signed(&ALL, "signed by itself", "", |r| r.ca_key = Some(Key::p256("leaf")));
    table.signed(&LOGS, "signed by itself in its own name", "", |r| {
        r.ca_key = Some(Key::p256("leaf"));
        leaf(r, |leaf| leaf.subject.clone_from(&leaf.issuer));
    });
    table.signed(&LOGS, "another issuer's name", "", |r| leaf(r, |leaf| leaf.issuer = "good root".to_owned()));
    table.signed(&LOGS, "a bit of the authority's signature is changed", "", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| *der.last_mut().unwrap() ^= 1);
    });
    table.signed(&LOGS, "a bit of the serial number is changed", "", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| der[16] ^= 1);
    });
    table.signed(&LOGS, "no certificate", "", |r| r.certificate = edit(Vec::clear));
    table.signed(&LOGS, "half a certificate", "", |r| {
        r.certificate = edit(|der: &mut Vec<u8>| der.truncate(der.len() / 2));
    });
    table.signed(&LOGS, "bytes after the certificate", "", |r| r.certificate = edit(|der: &mut Vec<u8>| der.push(0)));
    let fork = PrivateSigstore { ca_key: Key::p384("forger"), ..PrivateSigstore::new("good") };
    table.by(&LOGS, "another authority of the same name", "", &fork);
    let fork = PrivateSigstore { intermediate_name: "nobody".to_owned(), ..PrivateSigstore::new("good") };
    table.by(&LOGS, "an authority of another name", "", &fork);
    table.by(&ALL, "another instance", "", &PrivateSigstore::new("other"));
}

/// What the certificate transparency log says.
pub(crate) fn scts(table: &mut Table) {
    table.section = "SCT";
    table.signed(&LOGS, "signed by another log's key", "", |r| r.ct_key = Some(Key::p256("forger")));
    table.signed(&LOGS, "of another log", "", |r| {
        r.ct_key = Some(Key::p256("forger"));
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
            sct.log_id = sha256(&Key::p256("forger").spki()).to_vec();
        });
    });
    table.signed(&LOGS, "for another certificate", "", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.tbs[20] ^= 1);
    });
    table.signed(&LOGS, "for a certificate of another issuer", "", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.issuer_key_hash[0] ^= 1);
    });
    table.signed(&LOGS, "at another time than was signed", "", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| sct.timestamp += 1);
    });
    table.signed(&LOGS, "from before the log was there", "", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
            (sct.timestamp, sct.signed_timestamp) = (1_000_000_000_000, 1_000_000_000_000);
        });
    });
    table.signed(&LOGS, "from after the signature", "", |r| {
        r.sct = edit(|sct: &mut super::common::sigstore::certificate::Sct| {
            (sct.timestamp, sct.signed_timestamp) = (2_000_000_000_000, 2_000_000_000_000);
        });
    });
    table.signed(&LOGS, "none", "", |r| {
        r.logged_leaf = edit(|leaf: &mut Template| leaf.remove("1.3.6.1.4.1.11129.2.4.2"));
    });
    table.signed(&LOGS, "an empty list", "", |r| r.scts = edit(Vec::clear));
    table.signed(&LOGS, "two", "", |r| r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts.push(scts[0].clone())));
    table.signed(&LOGS, "of an unknown version", "", |r| r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0][0] = 1));
    table.signed(&LOGS, "of an unknown algorithm", "", |r| r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0][43] = 2));
    table.signed(&LOGS, "cut off", "", |r| r.scts = edit(|scts: &mut Vec<Vec<u8>>| scts[0].truncate(60)));
    table.signed(&LOGS, "the authority signs what the log has not seen", "", |r| {
        leaf(r, |leaf| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&["you@example.com"])));
        r.logged_leaf = edit(|leaf: &mut Template| leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[ME])));
    });
}
