//! Certificates (X.509, RFC 5280) and the question whether one leads to a root that the caller trusts.
//!
//! A subset, in which everything that is not known is refused; `docs/certificates.md` has each rule with the section of
//! RFC 5280 that it comes from. Nothing here opens a connection: there are no revocation lists and no OCSP.
//!
//! [`validate`] answers for one leaf at one moment, with [`Path`]; [`verify_signature`] then checks what the leaf signed.

mod constraints;
mod error;
mod extensions;
mod name;
mod parse;
mod path;
mod signature;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use x509_cert::certificate::Version;
use x509_cert::spki::AlgorithmIdentifierOwned;

pub use error::{CertificateFault, PathError};
pub use name::SubjectName;
pub use path::{EkuRule, MAX_CHECKS, MAX_OTHERS, MAX_PATH, Path, PathOptions, check_leaf, validate};
pub use signature::{LeafSignatureError, SignatureFault, SignatureHash, verify_signature};

#[cfg(feature = "sigstore-verify")]
pub(crate) use parse::{bounded_parts, bounded_sets};

use crate::digest::hex;
use crate::key::{KeyError, PublicKey};
use crate::time::UnixTime;
use extensions::Extensions;
use name::DistinguishedName;

/// Bytes of DER that a certificate may have.
pub const MAX_CERTIFICATE: usize = 64 << 10;

/// Certificates that one PEM file may hold: all roots of a Linux distribution are some 150.
pub const MAX_PER_FILE: usize = 1024;

/// A certificate that was read, not one that anybody vouches for: only [`validate`] says that.
///
/// Two certificates are equal if their DER is.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    /// Where in `der` the part lies that the issuer signed.
    tbs: Range<usize>,
    version: Version,
    serial: Vec<u8>,
    algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
    issuer: DistinguishedName,
    subject: DistinguishedName,
    not_before: UnixTime,
    not_after: UnixTime,
    spki: Vec<u8>,
    extensions: Extensions,
}

impl Certificate {
    /// Reads one certificate, which must be all of `der`, in strict DER, of at most [`MAX_CERTIFICATE`] bytes.
    ///
    /// # Errors
    /// If it is anything else, or if RFC 5280 gives what it says no single meaning (an extension twice, for example).
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateFault> {
        parse::certificate(der)
    }

    /// Reads every `BEGIN CERTIFICATE` block of a PEM file, in order; text around the blocks does not matter.
    ///
    /// # Errors
    /// If there is none, or more than [`MAX_PER_FILE`], if one cannot be read, or if there is a block of another kind:
    /// what a private key or an OpenSSL `TRUSTED CERTIFICATE` means in such a file is not for us to guess.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Self>, CertificateFault> {
        parse::pem(text)
    }

    /// The bytes that it was read from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER, in lower-case hexadecimal: `openssl x509 -fingerprint -sha256`, without the colons.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.der))
    }

    /// The serial number in lower-case hexadecimal, two digits a byte, without leading zero bytes (`00` if it is zero).
    #[must_use]
    pub fn serial(&self) -> String {
        hex(&self.serial)
    }

    /// The subject's name (RFC 4514: the last part first). It is text of whoever made the certificate: quote it.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.to_string()
    }

    /// The issuer's name, written as [`subject`](Self::subject) is.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.issuer.to_string()
    }

    /// The names of the subjectAltName extension (RFC 5280, section 4.2.1.6), in order. None of them holds a control
    /// character.
    #[must_use]
    pub fn names(&self) -> &[SubjectName] {
        self.extensions.names.as_deref().unwrap_or_default()
    }

    /// The first second in which the certificate is valid.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second in which the certificate is valid.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// DER SubjectPublicKeyInfo, as it stands in the certificate.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key, if it is one that may sign models: on P-256, P-384 or P-521, with the curve named, and its point
    /// compressed or uncompressed (RFC 5480).
    ///
    /// # Errors
    /// If the key is of another kind, which the error names, or is malformed.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        signature::public_key(&self.spki)
    }

    /// Whether basicConstraints says that the subject is a CA.
    #[must_use]
    pub const fn is_ca(&self) -> bool {
        matches!(&self.extensions.basic_constraints, Some(basic) if basic.ca)
    }

    /// Whether subject and issuer have one name. It says nothing about who signed it.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject.der == self.issuer.der
    }

    fn tbs(&self) -> &[u8] {
        &self.der[self.tbs.clone()]
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.der.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", crate::error::quoted(&self.subject()), &self.fingerprint()[..16])
    }
}
