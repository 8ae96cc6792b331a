//! Certificates of a private Fulcio, and what its certificate transparency log says of them (RFC 6962).

use super::der::{bits, boolean, certificate_time, context, integer, name, octets, oid, sequence, tlv, utf8};
use super::{Key, sha256};

pub(crate) const DIGITAL_SIGNATURE: &str = "digitalSignature";
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

pub(crate) const KEY_USAGE: &str = "2.5.29.15";
pub(crate) const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
pub(crate) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub(crate) const ALTERNATIVE_NAME: &str = "2.5.29.17";
pub(crate) const ISSUER_OLD: &str = "1.3.6.1.4.1.57264.1.1";
pub(crate) const ISSUER: &str = "1.3.6.1.4.1.57264.1.8";

/// What is put into a certificate before anybody signs it.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) serial: u64,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) spki: Vec<u8>,
    /// Object identifier, whether it is critical, and the DER inside of the OCTET STRING.
    pub(crate) extensions: Vec<(String, bool, Vec<u8>)>,
}

impl Template {
    pub(crate) fn new(issuer: &str, subject: &str, [not_before, not_after]: [i64; 2], key: &Key) -> Self {
        let spki = key.spki();
        let serial = u64::from_be_bytes(sha256(&spki)[..8].try_into().unwrap()) >> 1;
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        Self { serial, issuer, subject, not_before, not_after, spki, extensions: Vec::new() }
    }

    /// Puts an extension there, in place of one that is there already.
    pub(crate) fn put(&mut self, oid: &str, critical: bool, value: Vec<u8>) {
        let extension = (oid.to_owned(), critical, value);
        match self.extensions.iter_mut().find(|there| there.0 == oid) {
            Some(there) => *there = extension,
            None => self.extensions.push(extension),
        }
    }

    pub(crate) fn remove(&mut self, oid: &str) {
        self.extensions.retain(|extension| extension.0 != oid);
    }

    pub(crate) fn authority(mut self, own: &Key, parent: &Key) -> Self {
        self.put(KEY_USAGE, true, key_usage("keyCertSign"));
        self.put(BASIC_CONSTRAINTS, true, sequence(&[boolean(true)]));
        self.identifiers(own, parent);
        self
    }

    pub(crate) fn identifiers(&mut self, own: &Key, parent: &Key) {
        let id = |key: &Key| sha256(&key.public())[..20].to_vec();
        self.put("2.5.29.14", false, octets(&id(own)));
        self.put("2.5.29.35", false, sequence(&[tlv(0x80, &id(parent))]));
    }

    pub(crate) fn tbs(&self, signer: &Key) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|(id, critical, value)| {
                let critical = if *critical { boolean(true) } else { Vec::new() };
                sequence(&[oid(id), critical, octets(value)])
            })
            .collect();
        sequence(&[
            context(0, &integer(2)),
            integer(self.serial),
            signer.algorithm(),
            name(&self.issuer),
            sequence(&[certificate_time(self.not_before), certificate_time(self.not_after)]),
            if self.subject.is_empty() { sequence::<Vec<u8>>(&[]) } else { name(&self.subject) },
            self.spki.clone(),
            if extensions.is_empty() { Vec::new() } else { context(3, &sequence(&extensions)) },
        ])
    }

    pub(crate) fn sign(&self, signer: &Key) -> Vec<u8> {
        let tbs = self.tbs(signer);
        sequence(&[tbs.clone(), signer.algorithm(), bits(&signer.sign(&tbs))])
    }

    /// Embeds what `scts` are given, encoded (RFC 6962, 3.3).
    pub(crate) fn embed(&mut self, scts: &[Vec<u8>]) {
        let each: Vec<u8> = scts.iter().flat_map(|sct| [&(sct.len() as u16).to_be_bytes()[..], sct].concat()).collect();
        let list = [&(each.len() as u16).to_be_bytes()[..], &each].concat();
        self.put(SCT_LIST, false, octets(&list));
    }
}

pub(crate) fn key_usage(usage: &str) -> Vec<u8> {
    match usage {
        DIGITAL_SIGNATURE => vec![0x03, 2, 7, 0x80],
        "keyCertSign" => vec![0x03, 2, 1, 0x06],
        "keyAgreement" => vec![0x03, 2, 3, 0x08],
        _ => panic!("{usage}"),
    }
}

pub(crate) fn extended_key_usage(usages: &[&str]) -> Vec<u8> {
    sequence(&usages.iter().map(|usage| oid(usage)).collect::<Vec<_>>())
}

/// An e-mail address if there is an `@` in it and no scheme, else a URI.
pub(crate) fn alternative_name(identities: &[&str]) -> Vec<u8> {
    let general_name = |identity: &&str| {
        let tag = if identity.contains('@') && !identity.contains("://") { 0x81 } else { 0x86 };
        tlv(tag, identity.as_bytes())
    };
    sequence(&identities.iter().map(general_name).collect::<Vec<_>>())
}

/// The leaf that Fulcio would issue, before the log has seen it.
pub(crate) fn leaf(identity: &str, issuer: &str, key: &Key, parent: (&str, &Key), validity: [i64; 2]) -> Template {
    let mut leaf = Template::new(parent.0, "", validity, key);
    leaf.put(KEY_USAGE, true, key_usage(DIGITAL_SIGNATURE));
    leaf.put(EXTENDED_KEY_USAGE, false, extended_key_usage(&[CODE_SIGNING]));
    leaf.identifiers(key, parent.1);
    leaf.put(ALTERNATIVE_NAME, true, alternative_name(&[identity]));
    leaf.put(ISSUER_OLD, false, issuer.as_bytes().to_vec());
    leaf.put(ISSUER, false, utf8(issuer));
    leaf
}

/// A signed certificate timestamp and what it is about.
pub(crate) struct Sct {
    pub(crate) log_id: Vec<u8>,
    /// In milliseconds.
    pub(crate) timestamp: u64,
    pub(crate) issuer_key_hash: Vec<u8>,
    pub(crate) tbs: Vec<u8>,
    /// What is claimed, and what is signed: these are the same unless somebody cheats.
    pub(crate) signed_timestamp: u64,
}

impl Sct {
    /// Its encoding (RFC 6962, 3.2), signed by `key`.
    pub(crate) fn sign(&self, key: &Key) -> Vec<u8> {
        let len = &(self.tbs.len() as u32).to_be_bytes()[1..];
        let time = self.signed_timestamp.to_be_bytes();
        // Version 1, certificate_timestamp, precert_entry; no extensions.
        let signed = [&[0, 0], &time[..], &[0, 1], &self.issuer_key_hash, len, &self.tbs, &[0, 0]].concat();
        let signature = key.sign(&signed);
        let len = (signature.len() as u16).to_be_bytes();
        let time = self.timestamp.to_be_bytes();
        // ECDSA with SHA-256 (RFC 5246, 7.4.1.4.1).
        [&[0], &self.log_id[..], &time, &[0, 0], &[4, 3], &len, &signature].concat()
    }
}
