//! A certificate authority that signs anything: every field of a certificate is bytes that a test may change.

use std::fmt::Write as _;

use tensorseal::key::{Curve, PrivateKey};

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;

pub(crate) const KEY_USAGE: &str = "2.5.29.15";
pub(crate) const SUBJECT_ALT_NAME: &str = "2.5.29.17";
pub(crate) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub(crate) const NAME_CONSTRAINTS: &str = "2.5.29.30";
pub(crate) const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";

/// A value whose content is these parts, one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match len {
        0..0x80 => out.push(len as u8),
        0x80..0x100 => out.extend([0x81, len as u8]),
        0x100..0x10000 => out.extend([0x82, (len >> 8) as u8, len as u8]),
        _ => out.extend([0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An OBJECT IDENTIFIER from its dotted form.
pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut content = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let start = content.len();
        let mut rest = arc;
        loop {
            content.insert(start, (rest & 0x7f) as u8 | if content.len() > start { 0x80 } else { 0 });
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
    }
    tlv(OID, &[&content])
}

/// A Name with one commonName; an empty one for an empty text.
pub(crate) fn name(common: &str) -> Vec<u8> {
    if common.is_empty() { tlv(SEQUENCE, &[]) } else { attributes(&[("2.5.4.3", common)]) }
}

/// A Name with these attributes as UTF8String, in this order.
pub(crate) fn attributes(list: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<_> = list
        .iter()
        .map(|(kind, text)| tlv(SET, &[&tlv(SEQUENCE, &[&oid(kind), &tlv(UTF8, &[text.as_bytes()])])]))
        .collect();
    tlv(SEQUENCE, &[&parts.concat()])
}

/// `YYMMDDHHMMSSZ` as UTCTime, `YYYYMMDDHHMMSSZ` as GeneralizedTime.
pub(crate) fn time(text: &str) -> Vec<u8> {
    tlv(if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME }, &[text.as_bytes()])
}

pub(crate) fn validity(from: &str, until: &str) -> Vec<u8> {
    tlv(SEQUENCE, &[&time(from), &time(until)])
}

pub(crate) fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { &[1, 1, 0xff][..] } else { &[] };
    tlv(SEQUENCE, &[&oid(kind), critical, &tlv(OCTET_STRING, &[value])])
}

/// basicConstraints, critical.
pub(crate) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let ca = if ca { &[1, 1, 0xff][..] } else { &[] };
    let path_len = path_len.map(|len| tlv(INTEGER, &[&[len]])).unwrap_or_default();
    extension(BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[ca, &path_len]))
}

/// keyUsage, critical, from the numbers of its bits (digitalSignature is 0, keyCertSign 5, cRLSign 6).
pub(crate) fn key_usage(bits: &[u8]) -> Vec<u8> {
    let byte = bits.iter().fold(0_u8, |byte, bit| byte | 0x80 >> bit);
    extension(KEY_USAGE, true, &tlv(BIT_STRING, &[&[byte.trailing_zeros() as u8, byte]]))
}

/// extendedKeyUsage, not critical.
pub(crate) fn extended_key_usage(purposes: &[&str]) -> Vec<u8> {
    let purposes: Vec<_> = purposes.iter().map(|purpose| oid(purpose)).collect();
    extension(EXTENDED_KEY_USAGE, false, &tlv(SEQUENCE, &[&purposes.concat()]))
}

/// subjectAltName of GeneralNames by tag number (1 e-mail, 2 DNS, 6 URI, 7 IP) and content.
pub(crate) fn alt_names(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|(tag, content)| tlv(0x80 | tag, &[content])).collect();
    extension(SUBJECT_ALT_NAME, critical, &tlv(SEQUENCE, &[&names.concat()]))
}

/// AlgorithmIdentifier of ECDSA with the hash of this curve.
pub(crate) fn ecdsa(curve: Curve) -> Vec<u8> {
    let kind = match curve {
        Curve::P256 => "1.2.840.10045.4.3.2",
        Curve::P384 => "1.2.840.10045.4.3.3",
        Curve::P521 => "1.2.840.10045.4.3.4",
    };
    tlv(SEQUENCE, &[&oid(kind)])
}

/// A certificate before it is signed. Every field is DER, a whole value each, and may be anything.
#[derive(Clone)]
pub(crate) struct Template {
    /// `[0] { INTEGER 2 }`; empty for version 1.
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    /// The algorithm inside the signed part.
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    /// What stands between key and extensions: nothing, or unique identifiers.
    pub(crate) unique_ids: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// The algorithm beside the signature.
    pub(crate) outer_algorithm: Vec<u8>,
}

impl Template {
    /// The part that is signed.
    pub(crate) fn tbs(&self) -> Vec<u8> {
        let extensions = match &self.extensions[..] {
            [] => Vec::new(),
            list => tlv(0xa3, &[&tlv(SEQUENCE, &[&list.concat()])]),
        };
        tlv(
            SEQUENCE,
            &[
                &self.version,
                &self.serial,
                &self.algorithm,
                &self.issuer,
                &self.validity,
                &self.subject,
                &self.spki,
                &self.unique_ids,
                &extensions,
            ],
        )
    }

    /// The certificate, signed with this key.
    pub(crate) fn signed(&self, key: &PrivateKey) -> Vec<u8> {
        let tbs = self.tbs();
        self.with_signature(&tbs, &key.sign(&tbs).unwrap())
    }

    /// The certificate around any bytes as its signed part and signature.
    pub(crate) fn with_signature(&self, tbs: &[u8], signature: &[u8]) -> Vec<u8> {
        tlv(SEQUENCE, &[tbs, &self.outer_algorithm, &tlv(BIT_STRING, &[&[0], signature])])
    }

    /// Puts an extension in the place of the one of its kind, or at the end.
    pub(crate) fn set(&mut self, new: Vec<u8>) {
        let kind = |extension: &[u8]| extension[2..][..2 + usize::from(extension[3])].to_vec();
        match self.extensions.iter_mut().find(|old| kind(old) == kind(&new)) {
            Some(old) => *old = new,
            None => self.extensions.push(new),
        }
    }

    /// Takes the extensions of this kind away.
    pub(crate) fn remove(&mut self, kind: &str) {
        let kind = oid(kind);
        self.extensions.retain(|extension| !extension[2..].starts_with(&kind));
    }
}

/// Whoever has a name and a key, and with them issues certificates.
pub(crate) struct Authority {
    pub(crate) name: Vec<u8>,
    pub(crate) key: PrivateKey,
    /// Its own certificate, in DER.
    pub(crate) certificate: Vec<u8>,
}

impl Authority {
    /// A self-signed CA.
    pub(crate) fn root(common: &str) -> Self {
        Self::root_with(common, Curve::P256, |_| {})
    }

    /// The same with a key on this curve, and with its certificate changed before it is signed.
    pub(crate) fn root_with(common: &str, curve: Curve, change: impl FnOnce(&mut Template)) -> Self {
        let key = PrivateKey::generate(curve).unwrap();
        let mut template = template(common, &key, &name(common), curve);
        make_ca(&mut template);
        change(&mut template);
        Self { name: template.subject.clone(), certificate: template.signed(&key), key }
    }

    /// A CA under this one.
    pub(crate) fn intermediate(&self, common: &str) -> Self {
        self.intermediate_with(common, |_| {})
    }

    /// The same with its certificate changed before it is signed.
    pub(crate) fn intermediate_with(&self, common: &str, change: impl FnOnce(&mut Template)) -> Self {
        let key = PrivateKey::generate(Curve::P256).unwrap();
        let mut template = self.template(common, &key);
        make_ca(&mut template);
        change(&mut template);
        Self { name: template.subject.clone(), certificate: template.signed(&self.key), key }
    }

    /// A signer's certificate under this CA, not signed yet: `sign` it with [`Template::signed`] and this CA's key.
    pub(crate) fn template(&self, common: &str, key: &PrivateKey) -> Template {
        let mut template = template(common, key, &self.name, self.key.public_key().curve());
        template.extensions = vec![basic_constraints(false, None), key_usage(&[0])];
        template
    }

    /// A signer's certificate and key.
    pub(crate) fn leaf(&self, common: &str) -> (Vec<u8>, PrivateKey) {
        self.leaf_with(common, Curve::P256, |_| {})
    }

    /// The same with a key on this curve, and with the certificate changed before it is signed.
    pub(crate) fn leaf_with(
        &self,
        common: &str,
        curve: Curve,
        change: impl FnOnce(&mut Template),
    ) -> (Vec<u8>, PrivateKey) {
        let key = PrivateKey::generate(curve).unwrap();
        let mut template = self.template(common, &key);
        change(&mut template);
        (template.signed(&self.key), key)
    }
}

/// Valid from 2020 to 2040, with the number 1 and no extensions.
fn template(common: &str, key: &PrivateKey, issuer: &[u8], issuer_curve: Curve) -> Template {
    Template {
        version: tlv(0xa0, &[&tlv(INTEGER, &[&[2]])]),
        serial: tlv(INTEGER, &[&[1]]),
        algorithm: ecdsa(issuer_curve),
        issuer: issuer.to_vec(),
        validity: validity("200101000000Z", "400101000000Z"),
        subject: name(common),
        spki: key.public_key().to_spki_der(),
        unique_ids: Vec::new(),
        extensions: Vec::new(),
        outer_algorithm: ecdsa(issuer_curve),
    }
}

fn make_ca(template: &mut Template) {
    template.extensions = vec![basic_constraints(true, None), key_usage(&[5, 6])];
}

/// PEM of some certificates.
pub(crate) fn pem(certificates: &[&[u8]]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = STANDARD.encode(der);
        for line in base64.as_bytes().chunks(64) {
            writeln!(text, "{}", std::str::from_utf8(line).unwrap()).unwrap();
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
