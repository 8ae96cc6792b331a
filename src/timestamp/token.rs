//! What the crate `sigstore-tsa` leaves unread of a timestamp: how many signed it, as what, and with which certificate; and
//! bounds on what that crate is given to read.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use crate::x509::{CertificateFault, bounded_parts, bounded_sets};

/// Bytes of a stamp. Those in use have 2 to 8 KiB, most of it certificates.
const MOST_BYTES: usize = 64 << 10;

/// More certificates than any stamp carries. Each that claims to be the signer's is tried.
const MOST_CERTIFICATES: usize = 10;

/// `id-signedData` (RFC 5652, section 5.1).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `id-ct-TSTInfo` (RFC 3161, section 2.4.2).
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// `id-contentType` (RFC 5652, section 11.1).
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// `id-aa-signingCertificate` (RFC 2634, section 5.4), by SHA-1.
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
/// `id-aa-signingCertificateV2` (RFC 5035, section 3), by SHA-256 unless it says otherwise.
const SIGNING_CERTIFICATE_2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// A stamp taken apart, none of it verified.
pub(crate) struct Token<'a> {
    signer: Signer<'a>,
    attributes: &'a [u8],
    /// `PKIStatus`, if it is in an answer.
    #[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
    status: Option<u8>,
    /// `TSTInfo`, which is signed.
    #[cfg_attr(not(feature = "sigstore-sign"), allow(dead_code))]
    info: &'a [u8],
    /// Those that it carries.
    pub(super) certificates: Vec<&'a [u8]>,
}

/// `SignerIdentifier` (RFC 5652, section 5.3).
enum Signer<'a> {
    /// The issuer's name and the serial number, as DER writes them one behind the other.
    IssuerAndSerial(&'a [u8]),
    Key(&'a [u8]),
}

/// What is stamped, and for which request.
#[cfg(feature = "sigstore-sign")]
struct Subject<'a> {
    algorithm: ObjectIdentifier,
    digest: &'a [u8],
    nonce: Option<&'a [u8]>,
}

impl<'a> Token<'a> {
    /// Takes apart a `TimeStampResp`, or the `ContentInfo` in one (RFC 5652, sections 3 and 5.1), unless it has more in it
    /// than a stamp needs. To be done before any other parser gets it: they sort what they find, in a time that grows with
    /// the square of its number.
    pub(crate) fn read(stamp: &'a [u8]) -> Result<Self, String> {
        if stamp.len() > MOST_BYTES {
            return Err(format!("it has {} bytes, and no timestamp has more than {MOST_BYTES}", stamp.len()));
        }
        bounded_parts(stamp).map_err(|fault| match fault {
            CertificateFault::Forbidden { what, .. } => what,
            _ => "it is not in DER".to_owned(),
        })?;
        Self::parse(stamp).map_err(|error| error.to_string())
    }

    fn parse(stamp: &'a [u8]) -> der::Result<Self> {
        let mut outer = fields(stamp)?;
        let mut status = None;
        if outer.peek_tag()? == Tag::Sequence {
            status = Some(fields(outer.tlv_bytes()?)?.decode()?);
            outer = fields(outer.tlv_bytes()?)?;
        }
        if ObjectIdentifier::decode(&mut outer)? != SIGNED_DATA {
            return Err(Tag::ObjectIdentifier.value_error());
        }
        let mut data = fields(inside(&mut outer, context(0))?)?;
        for _version_algorithms in 0..2 {
            data.tlv_bytes()?;
        }
        let mut text = fields(data.tlv_bytes()?)?;
        ObjectIdentifier::decode(&mut text)?;
        // The octets hold DER of their own, which has sets, too.
        let mut octets = SliceReader::new(inside(&mut text, context(0))?)?;
        let info = inside(&mut octets, Tag::OctetString)?;
        bounded_parts(info).map_err(|_| Tag::OctetString.value_error())?;
        let mut certificates = Vec::new();
        if data.peek_tag()? == context(0) {
            let mut all = SliceReader::new(inside(&mut data, context(0))?)?;
            while !all.is_finished() {
                if certificates.len() == MOST_CERTIFICATES {
                    return Err(context(0).length_error());
                }
                certificates.push(all.tlv_bytes()?);
            }
        }
        if data.peek_tag()? == context(1) {
            data.tlv_bytes()?; // revocation lists
        }
        let mut signers = SliceReader::new(inside(&mut data, Tag::Set)?)?;
        let mut signer = fields(signers.tlv_bytes()?)?;
        // One stamp, one signer (RFC 3161, section 2.4.2): of a second one nothing would be checked.
        signers.finish(())?;
        signer.tlv_bytes()?; // version
        let identifier = AnyRef::decode(&mut signer)?;
        let named = match identifier.tag() {
            Tag::Sequence => Signer::IssuerAndSerial(identifier.value()),
            tag if tag == primitive(0) => Signer::Key(identifier.value()),
            other => return Err(other.unexpected_error(Some(Tag::Sequence))),
        };
        signer.tlv_bytes()?; // the digest's algorithm
        let attributes = inside(&mut signer, context(0))?;
        Ok(Self { signer: named, attributes, status, info, certificates })
    }

    /// Whether it is given in answer to a request for this SHA-256 with this nonce (RFC 3161, section 2.4.2). Its signature
    /// is not looked at.
    #[cfg(feature = "sigstore-sign")]
    pub(crate) fn answers(&self, imprint: &[u8], nonce: &[u8]) -> Result<(), String> {
        const GRANTED: [u8; 2] = [0, 1];
        match self.status {
            Some(status) if GRANTED.contains(&status) => {}
            Some(status) => return Err(format!("it does not grant the request (status {status})")),
            None => return Err("it is a timestamp without the status of an answer".to_owned()),
        }
        let said = self.subject().map_err(|error| format!("what it says is malformed: {error}"))?;
        if (said.algorithm, said.digest) != (SHA256, imprint) {
            return Err("its timestamp is over other bytes than was asked for".to_owned());
        }
        if said.nonce != Some(nonce) {
            return Err("it answers another request: the nonce is not the one that was sent".to_owned());
        }
        Ok(())
    }

    #[cfg(feature = "sigstore-sign")]
    fn subject(&self) -> der::Result<Subject<'a>> {
        let mut info = fields(self.info)?;
        for _version_policy in 0..2 {
            info.tlv_bytes()?;
        }
        let mut imprint = fields(info.tlv_bytes()?)?;
        let algorithm = ObjectIdentifier::decode(&mut fields(imprint.tlv_bytes()?)?)?;
        let digest = OctetStringRef::decode(&mut imprint)?.as_bytes();
        for _serial_time in 0..2 {
            info.tlv_bytes()?;
        }
        let mut nonce = None;
        while !info.is_finished() {
            let part = AnyRef::decode(&mut info)?;
            if part.tag() == Tag::Integer {
                nonce = Some(part.value());
            }
        }
        Ok(Subject { algorithm, digest, nonce })
    }

    /// Whether the signer is said to be the holder of this certificate.
    pub(super) fn is_by(&self, certificate: &[u8]) -> bool {
        if bounded_sets(certificate).is_err() {
            return false;
        }
        let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else { return false };
        let of = certificate.tbs_certificate;
        match self.signer {
            Signer::IssuerAndSerial(named) => {
                let mut both = of.issuer.to_der().unwrap_or_default();
                both.extend(of.serial_number.to_der().unwrap_or_default());
                both == named
            }
            Signer::Key(named) => of
                .get::<SubjectKeyIdentifier>()
                .is_ok_and(|found| found.is_some_and(|(_, identifier)| identifier.0.as_bytes() == named)),
        }
    }

    /// Whether a stamp whose signature was verified is signed as a timestamp (RFC 5652, section 11.1), and, where it says
    /// with which certificate (RFC 5816), with one of `certificates`.
    pub(crate) fn check(&self, certificates: &[&[u8]]) -> Result<(), String> {
        let malformed = |error: der::Error| format!("it is malformed: {error}");
        let mut attributes = SliceReader::new(self.attributes).map_err(malformed)?;
        let mut types = 0;
        while !attributes.is_finished() {
            let (id, value) = attribute(&mut attributes).map_err(malformed)?;
            if id == CONTENT_TYPE {
                types += 1;
                if ObjectIdentifier::from_der(value).ok() != Some(TST_INFO) {
                    return Err("its signature is over a text of another kind".to_owned());
                }
            } else if id == SIGNING_CERTIFICATE || id == SIGNING_CERTIFICATE_2 {
                let (algorithm, hash) = named_certificate(value, id)
                    .map_err(|error| format!("the certificate it names is malformed: {error}"))?;
                if !certificates.iter().any(|der| digest(algorithm, der).as_deref() == Some(hash)) {
                    return Err("it names another certificate than the authority's".to_owned());
                }
            }
        }
        if types == 1 { Ok(()) } else { Err(format!("it says {types} times what its signature is over")) }
    }
}

/// An attribute of one value (RFC 5652, section 5.3).
fn attribute<'a>(attributes: &mut SliceReader<'a>) -> der::Result<(ObjectIdentifier, &'a [u8])> {
    let mut attribute = fields(attributes.tlv_bytes()?)?;
    let id = ObjectIdentifier::decode(&mut attribute)?;
    let mut values = SliceReader::new(inside(&mut attribute, Tag::Set)?)?;
    let value = values.tlv_bytes()?;
    values.finish((id, value))
}

/// The first certificate of a list, by the digest of which algorithm (RFC 5035, section 4).
fn named_certificate(value: &[u8], id: ObjectIdentifier) -> der::Result<(Option<ObjectIdentifier>, &[u8])> {
    let mut list = fields(fields(value)?.tlv_bytes()?)?;
    let mut first = fields(list.tlv_bytes()?)?;
    let mut algorithm = (id == SIGNING_CERTIFICATE_2).then_some(SHA256);
    if algorithm.is_some() && first.peek_tag()? == Tag::Sequence {
        algorithm = Some(ObjectIdentifier::decode(&mut fields(first.tlv_bytes()?)?)?);
    }
    Ok((algorithm, OctetStringRef::decode(&mut first)?.as_bytes()))
}

/// `None` names SHA-1.
fn digest(algorithm: Option<ObjectIdentifier>, der: &[u8]) -> Option<Vec<u8>> {
    Some(match algorithm {
        None => Sha1::digest(der).to_vec(),
        Some(SHA256) => Sha256::digest(der).to_vec(),
        Some(SHA384) => Sha384::digest(der).to_vec(),
        Some(SHA512) => Sha512::digest(der).to_vec(),
        Some(_) => return None,
    })
}

/// A reader of what is inside of a SEQUENCE.
fn fields(der: &[u8]) -> der::Result<SliceReader<'_>> {
    let whole = AnyRef::from_der(der)?;
    Tag::Sequence.assert_eq(whole.tag())?;
    SliceReader::new(whole.value())
}

/// What is inside of the next value, which has to have this tag.
fn inside<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    let next = AnyRef::decode(reader)?;
    tag.assert_eq(next.tag())?;
    Ok(next.value())
}

const fn context(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber::new(number) }
}

const fn primitive(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: false, number: TagNumber::new(number) }
}
