//! From bytes to a [`Certificate`].

use std::ops::Range;

use der::{Decode, Encode, Reader as _, SliceReader};
use x509_cert::certificate::Version;
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::name::DistinguishedName;
use super::{Certificate, CertificateFault, MAX_CERTIFICATE, MAX_PER_FILE, extensions, signature};
use crate::key::der::Reader;
use crate::key::{DerFault, KeyError, pem};
use crate::time::UnixTime;

/// Attributes in one part of a name; most names have one in each.
const MAX_ATTRIBUTES: usize = 32;

/// One certificate and nothing else.
pub(super) fn certificate(der: &[u8]) -> Result<Certificate, CertificateFault> {
    if der.len() > MAX_CERTIFICATE {
        return Err(CertificateFault::TooLong { len: der.len(), limit: MAX_CERTIFICATE });
    }
    bounded_sets(der)?;
    let parsed = x509_cert::Certificate::from_der(der).map_err(malformed)?;
    // DER has one way to write each value: what reads as this and is not what it would be written as, is no DER.
    if parsed.to_der().map_err(malformed)? != der {
        return Err(CertificateFault::NotCanonical { what: "encoding" });
    }
    let tbs = tbs_range(der).map_err(malformed)?;
    let signed = parsed.tbs_certificate;
    if signed.signature != parsed.signature_algorithm {
        return Err(CertificateFault::TwoAlgorithms {
            inner: signature::algorithm_name(&signed.signature.oid),
            outer: signature::algorithm_name(&parsed.signature_algorithm.oid),
        });
    }
    if signed.issuer_unique_id.is_some() || signed.subject_unique_id.is_some() {
        return Err(forbidden("it has a unique identifier", "4.1.2.8"));
    }
    let serial = serial(signed.serial_number.as_bytes())?;
    let list = match signed.extensions {
        Some(_) if signed.version != Version::V3 => {
            return Err(forbidden("it has extensions and is not of version 3", "4.1.2.1"));
        }
        Some(list) if list.is_empty() => return Err(forbidden("its list of extensions is empty", "4.1.2.9")),
        list => list.unwrap_or_default(),
    };
    let extensions = extensions::read(&list)?;
    if signed.issuer.is_empty() {
        return Err(forbidden("its issuer has no name", "4.1.2.4"));
    }
    if signed.subject.is_empty() && !(extensions.names.is_some() && extensions.names_critical) {
        return Err(forbidden("its subject has no name, and no critical subjectAltName instead of one", "4.1.2.6"));
    }
    let bits = parsed.signature.as_bytes().ok_or(CertificateFault::NotCanonical { what: "signature" })?;
    Ok(Certificate {
        tbs,
        version: signed.version,
        serial,
        algorithm: parsed.signature_algorithm,
        signature: bits.to_vec(),
        issuer: distinguished(signed.issuer)?,
        subject: distinguished(signed.subject)?,
        not_before: unix(signed.validity.not_before),
        not_after: unix(signed.validity.not_after),
        spki: signed.subject_public_key_info.to_der().map_err(malformed)?,
        extensions,
        der: der.to_vec(),
    })
}

// By reference so that it can be passed by name to `map_err`, whose argument comes by value.
#[allow(clippy::needless_pass_by_value)]
fn malformed(error: der::Error) -> CertificateFault {
    CertificateFault::Malformed { why: error.to_string() }
}

fn forbidden(what: &str, section: &'static str) -> CertificateFault {
    CertificateFault::Forbidden { what: what.to_owned(), section }
}

/// The parser sorts what it finds in a SET, in a time that grows with the square of their number: 64 KiB could keep it
/// busy for seconds. No SET of a certificate has more than a few members.
pub(crate) fn bounded_sets(der: &[u8]) -> Result<(), CertificateFault> {
    const SET: u8 = 0x31;
    bounded(der, |tag| tag == SET)
}

/// The same for DER in which tags of a context stand for a SET, as in RFC 5652: all but SEQUENCEs are small.
#[cfg(feature = "sigstore-verify")]
pub(crate) fn bounded_parts(der: &[u8]) -> Result<(), CertificateFault> {
    bounded(der, |tag| tag != crate::key::der::SEQUENCE)
}

fn bounded(der: &[u8], is_set: impl Fn(u8) -> bool) -> Result<(), CertificateFault> {
    const CONSTRUCTED: u8 = 0x20;
    let unreadable = |fault: DerFault| CertificateFault::Malformed { why: fault.to_string() };
    let mut first = Reader::new(der);
    first.any().map_err(unreadable)?;
    // What follows the first value is for the parser to refuse, in its words.
    let first = &der[..der.len() - first.rest().len()];
    let mut waiting = vec![(Reader::new(first), usize::MAX)];
    while let Some((mut values, mut room)) = waiting.pop() {
        while !values.is_empty() {
            let (tag, content) = values.any().map_err(unreadable)?;
            room = room.checked_sub(1).ok_or_else(|| {
                forbidden("a set, such as a part of a name, has more members than anybody needs", "4.1.2.4")
            })?;
            if tag & CONSTRUCTED != 0 {
                waiting.push((Reader::new(content), if is_set(tag) { MAX_ATTRIBUTES } else { usize::MAX }));
            }
        }
    }
    Ok(())
}

/// Where the signed part lies. It is the first value inside the outer SEQUENCE.
fn tbs_range(der: &[u8]) -> der::Result<Range<usize>> {
    let mut outer = SliceReader::new(der)?;
    outer.sequence(|inner| {
        let start = usize::try_from(inner.offset())?;
        let tbs = inner.tlv_bytes()?;
        inner.tlv_bytes()?;
        inner.tlv_bytes()?;
        Ok(start..start + tbs.len())
    })
}

/// Not negative, and of at most 20 bytes (RFC 5280, section 4.1.2.2). Roots in use have the number 0.
fn serial(bytes: &[u8]) -> Result<Vec<u8>, CertificateFault> {
    match bytes {
        [first, ..] if *first >= 0x80 => Err(forbidden("its serial number is negative", "4.1.2.2")),
        [0, rest @ ..] if !rest.is_empty() && rest.len() <= 20 => Ok(rest.to_vec()),
        _ if bytes.len() <= 20 => Ok(bytes.to_vec()),
        _ => Err(forbidden("its serial number has more than 20 bytes", "4.1.2.2")),
    }
}

fn distinguished(name: Name) -> Result<DistinguishedName, CertificateFault> {
    if name.0.iter().any(|part| part.0.is_empty()) {
        return Err(forbidden("a part of a name is empty", "4.1.2.4"));
    }
    let nul = |attribute| super::name::string(attribute).is_some_and(|text| text.contains('\0'));
    if name.0.iter().flat_map(|part| part.0.iter()).any(nul) {
        return Err(forbidden("a name has a NUL in it", "4.1.2.4"));
    }
    Ok(DistinguishedName { der: name.to_der().map_err(malformed)?, name })
}

/// The parser reads years from 1970 to 9999.
fn unix(time: Time) -> UnixTime {
    UnixTime(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

/// Every certificate of a PEM file.
pub(super) fn pem(text: &[u8]) -> Result<Vec<Certificate>, CertificateFault> {
    let blocks = pem::blocks(text).map_err(broken)?;
    if let Some(other) = blocks.iter().find(|block| !block.is("CERTIFICATE")) {
        let remedy = if other.ends_with("PRIVATE KEY") {
            "keep the private key in a file of its own, and never hand it out"
        } else if other.is("TRUSTED CERTIFICATE") {
            "OpenSSL's own form carries settings that are not read here: write it without them with \
             `openssl x509 -in OLD.pem -out NEW.pem`"
        } else if other.ends_with("CERTIFICATE") {
            "write it anew with `openssl x509 -in OLD.pem -out NEW.pem`"
        } else {
            "leave only certificates in the file"
        };
        return Err(CertificateFault::NotACertificate { found: other.label(), remedy });
    }
    if blocks.len() > MAX_PER_FILE {
        return Err(CertificateFault::TooMany { found: blocks.len(), limit: MAX_PER_FILE });
    }
    let read = |block: &pem::Block<'_>| certificate(&block.decode().map_err(broken)?);
    let numbered =
        |(at, block)| read(block).map_err(|fault| CertificateFault::InFile { number: at + 1, fault: Box::new(fault) });
    blocks.iter().enumerate().map(numbered).collect()
}

#[allow(clippy::needless_pass_by_value)]
fn broken(error: KeyError) -> CertificateFault {
    match error {
        KeyError::BrokenPem { label, fault } => CertificateFault::BrokenPem { label, fault },
        _ => CertificateFault::NotPem,
    }
}
