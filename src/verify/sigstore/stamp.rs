//! What the crate `sigstore-tsa` leaves unread of a timestamp: how many signed it, as what, and with which certificate.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

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

/// Whether a verified stamp is signed once, as a timestamp (RFC 5652, section 11.1), and, where it says with which
/// certificate (RFC 5816), with one of `certificates`.
pub(super) fn check(stamp: &[u8], certificates: &[&[u8]]) -> Result<(), String> {
    let mut attributes = signed_attributes(stamp).map_err(|error| format!("it is malformed: {error}"))?;
    let mut types = 0;
    while !attributes.is_finished() {
        let (id, value) = attribute(&mut attributes).map_err(|error| format!("it is malformed: {error}"))?;
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

/// The signed attributes of the one signer of a `TimeStampResp`, or of the `ContentInfo` in one (RFC 5652, section 5).
fn signed_attributes(stamp: &[u8]) -> der::Result<SliceReader<'_>> {
    let mut outer = fields(stamp)?;
    if outer.peek_tag()? == Tag::Sequence {
        outer.tlv_bytes()?; // the status
        outer = fields(outer.tlv_bytes()?)?;
    }
    ObjectIdentifier::decode(&mut outer)?;
    let mut data = fields(inside(&mut outer, context(0))?)?;
    for _version_algorithms_text in 0..3 {
        data.tlv_bytes()?;
    }
    while matches!(data.peek_tag()?, Tag::ContextSpecific { .. }) {
        data.tlv_bytes()?; // certificates, revocation lists
    }
    let mut signers = SliceReader::new(inside(&mut data, Tag::Set)?)?;
    let mut signer = fields(signers.tlv_bytes()?)?;
    signers.finish(())?;
    for _version_name_algorithm in 0..3 {
        signer.tlv_bytes()?;
    }
    SliceReader::new(inside(&mut signer, context(0))?)
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
