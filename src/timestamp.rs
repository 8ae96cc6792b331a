//! RFC 3161 timestamps: the word of an authority that a signature existed at some moment.
//!
//! A bundle carries them in DER, each a `TimeStampResp` (as Sigstore writes them) or the `ContentInfo` inside one
//! (RFC 3161, section 2.4.2). The signed text, its signature and the authority's certificates are checked by the
//! `sigstore-tsa` crate. Here it is decided by which certificate a stamp claims to be signed, who may have issued that,
//! and what becomes of several stamps.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use sigstore_types::{DerCertificate, SignatureBytes, TimestampToken, TsaAuthority};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use crate::error::{quoted, tame};
use crate::time::UnixTime;
use crate::x509::Certificate;

/// More certificates than any stamp carries.
const MOST_CERTIFICATES: usize = 32;

/// Why a timestamp proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not a timestamp, or one in a form that is not read.
    #[error("it is malformed: {}", quoted(.0))]
    Malformed(String),
    /// The stamp, or the text that its signature covers, is over other bytes.
    #[error(
        "it is not over this signature: it was made for another one, or altered (it covers {expected}, and the digest is {found})"
    )]
    OtherBytes {
        /// The digest in the stamp, in hexadecimal.
        expected: String,
        /// That of the bytes.
        found: String,
    },
    /// The authority's certificate is neither in the stamp nor among those that the caller gave.
    #[error("the certificate of the authority that signed it is neither in it nor among the given ones")]
    UnknownSigner,
    /// The signature of the stamp is not that of the certificate that it names.
    #[error("its own signature is wrong: {}", quoted(.0))]
    Signature(String),
    /// The authority signs with a key that is not supported.
    #[error(
        "its authority signs with a key that is not on P-256 or P-384, and such stamps are not supported; use another authority"
    )]
    UnsupportedKey,
    /// The stamp is not signed by a certificate under a trusted root that may sign timestamps.
    #[error("its authority is not trusted: {}", tame(.0))]
    Untrusted(String),
}

impl TimestampError {
    /// Whether the stamp may well be a good one of an authority that this caller does not know. Every other stamp has no
    /// honest origin.
    #[must_use]
    pub const fn is_of_another_authority(&self) -> bool {
        matches!(self, Self::UnknownSigner | Self::Untrusted(_))
    }
}

/// There is no root among the certificates that were given to trust for timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no certificate here is self-signed, so none is a root to trust for timestamps; pass the root of the timestamp authority"
)]
pub struct NoTimestampRoot;

/// Whose timestamps are trusted.
#[derive(Debug, Clone)]
pub struct TimestampAuthorities {
    roots: Vec<DerCertificate>,
    others: Vec<DerCertificate>,
}

impl TimestampAuthorities {
    /// Trusts every authority whose certificate is for timestamping (RFC 3161, section 2.3) and chains to a self-issued
    /// one of `certificates`. The others among these are trusted for nothing: they are looked at where a stamp lacks a
    /// link of its chain.
    ///
    /// # Errors
    /// [`NoTimestampRoot`] if none is self-issued.
    pub fn new(certificates: &[Certificate]) -> Result<Self, NoTimestampRoot> {
        let der = |of: &Certificate| DerCertificate::new(of.der().to_vec());
        let (roots, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|of| of.is_self_issued());
        if roots.is_empty() {
            return Err(NoTimestampRoot);
        }
        Ok(Self { roots: roots.into_iter().map(der).collect(), others: others.into_iter().map(der).collect() })
    }

    /// When `signature` existed, as `stamp` says. The authority's certificates had to be valid at that moment.
    ///
    /// # Errors
    /// [`TimestampError`] if it says nothing of the kind.
    pub fn verify(&self, stamp: &[u8], signature: &[u8]) -> Result<UnixTime, TimestampError> {
        let token = Token::read(stamp).map_err(|error| TimestampError::Malformed(error.to_string()))?;
        let (stamp, signature) = (TimestampToken::new(stamp.to_vec()), SignatureBytes::new(signature.to_vec()));
        // A root that comes with the stamp is of no use on the way to one that the caller trusts.
        let carried = token.certificates.iter().filter(|der| !is_self_issued(der));
        let carried: Vec<_> = carried.map(|der| DerCertificate::new(der.to_vec())).collect();
        let on_the_way: Vec<_> = self.others.iter().chain(&carried).cloned().collect();
        let mut why = None;
        let signers = on_the_way.iter().chain(&self.roots).filter(|certificate| token.is_by(certificate.as_bytes()));
        // Names and serial numbers are chosen by whoever makes a certificate: several may claim to be the signer's.
        for signer in signers {
            for root in &self.roots {
                let authority = TsaAuthority::new(signer.clone(), on_the_way.clone(), root.clone(), None);
                match sigstore_tsa::verify_timestamp_for_authority(&stamp, &signature, &authority) {
                    Ok(at) => return Ok(UnixTime(at.as_second())),
                    Err(error) => why = Some(TimestampError::from(error)),
                }
            }
        }
        Err(why.unwrap_or(TimestampError::UnknownSigner))
    }
}

impl From<sigstore_tsa::Error> for TimestampError {
    fn from(error: sigstore_tsa::Error) -> Self {
        use sigstore_tsa::Error as E;
        match error {
            E::HashMismatch { expected, actual } => Self::OtherBytes { expected, found: actual },
            E::SignatureVerificationError(why) if why == "not an EC key" => Self::UnsupportedKey,
            E::SignatureVerificationError(why) => Self::Signature(why),
            E::CertificateValidationError(why) => Self::Untrusted(plain(&why)),
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// The crate's reason in plain words, where it is one that people meet.
fn plain(why: &str) -> String {
    let known = [
        ("UnknownIssuer", "no way leads from its certificate to a root that was given"),
        (
            "RequiredEkuNotFound",
            "its certificate, or one above it, is not for timestamping (extendedKeyUsage timeStamping)",
        ),
        ("CertExpired", "one of its certificates had expired by the time in the stamp"),
        ("CertNotValidYet", "one of its certificates was not valid yet at the time in the stamp"),
        ("CaUsedAsEndEntity", "its certificate is one of a certificate authority"),
    ];
    known.iter().find(|(name, _)| why.contains(name)).map_or(why, |(_, plain)| *plain).to_owned()
}

/// What a stamp says of its signer: enough to look for the certificate, none of it checked.
struct Token<'a> {
    signer: Signer<'a>,
    certificates: Vec<&'a [u8]>,
}

/// `SignerIdentifier` (RFC 5652, section 5.3).
enum Signer<'a> {
    /// The issuer's name and the serial number, as DER writes them one behind the other.
    IssuerAndSerial(&'a [u8]),
    Key(&'a [u8]),
}

impl<'a> Token<'a> {
    /// Takes apart a `TimeStampResp`, or a `ContentInfo` with a `SignedData` in it (RFC 5652, sections 3 and 5.1).
    fn read(der: &'a [u8]) -> der::Result<Self> {
        const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
        let mut fields = fields(der)?;
        if fields.peek_tag()? == Tag::Sequence {
            // The status, which `sigstore-tsa` looks at.
            fields.tlv_bytes()?;
            fields = self::fields(fields.tlv_bytes()?)?;
        }
        if ObjectIdentifier::decode(&mut fields)? != SIGNED_DATA {
            return Err(Tag::ObjectIdentifier.value_error());
        }
        let content = AnyRef::decode(&mut fields)?;
        context(0).assert_eq(content.tag())?;
        let mut data = self::fields(content.value())?;
        for _version_algorithms_text in 0..3 {
            data.tlv_bytes()?;
        }
        let mut certificates = Vec::new();
        if data.peek_tag()? == context(0) {
            let set = AnyRef::decode(&mut data)?;
            let mut reader = SliceReader::new(set.value())?;
            while !reader.is_finished() {
                if certificates.len() == MOST_CERTIFICATES {
                    return Err(context(0).length_error());
                }
                certificates.push(reader.tlv_bytes()?);
            }
        }
        if data.peek_tag()? == context(1) {
            data.tlv_bytes()?; // revocation lists
        }
        let signers = AnyRef::decode(&mut data)?;
        Tag::Set.assert_eq(signers.tag())?;
        let mut signers = SliceReader::new(signers.value())?;
        let mut signer = self::fields(signers.tlv_bytes()?)?;
        // One stamp, one signer (RFC 3161, section 2.4.2): of a second one nothing would be checked.
        signers.finish(())?;
        signer.tlv_bytes()?; // version
        let identifier = AnyRef::decode(&mut signer)?;
        let signer = match identifier.tag() {
            Tag::Sequence => Signer::IssuerAndSerial(identifier.value()),
            tag if tag == primitive(0) => Signer::Key(identifier.value()),
            other => return Err(other.unexpected_error(Some(Tag::Sequence))),
        };
        Ok(Self { signer, certificates })
    }

    /// Whether the signer is said to be the holder of this certificate.
    fn is_by(&self, certificate: &[u8]) -> bool {
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
}

fn is_self_issued(certificate: &[u8]) -> bool {
    x509_cert::Certificate::from_der(certificate)
        .is_ok_and(|of| of.tbs_certificate.subject == of.tbs_certificate.issuer)
}

/// The inside of a SEQUENCE.
fn fields(der: &[u8]) -> der::Result<SliceReader<'_>> {
    let whole = AnyRef::from_der(der)?;
    Tag::Sequence.assert_eq(whole.tag())?;
    SliceReader::new(whole.value())
}

const fn context(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber::new(number) }
}

const fn primitive(number: u8) -> Tag {
    Tag::ContextSpecific { constructed: false, number: TagNumber::new(number) }
}
