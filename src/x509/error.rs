//! Why a certificate cannot be read, and why one leads to no trusted root.

use crate::error::quoted;
use crate::key::{KeyError, PemFault};
use crate::time::UnixTime;

use super::SignatureFault;

/// Why bytes are no certificate that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// There is no PEM block at all.
    #[error(
        "there is no certificate in PEM form here; if the file is DER, convert it with \
         `openssl x509 -inform DER -in CERT.der -out CERT.pem`"
    )]
    NotPem,
    /// A PEM block that does not hold together.
    #[error("the PEM block {label:?} is broken: {fault}; restore the file from where it was made")]
    BrokenPem {
        /// What its BEGIN line says.
        label: String,
        /// What is wrong with it.
        fault: PemFault,
    },
    /// Another kind of PEM block among the certificates.
    #[error("expected only certificates (`BEGIN CERTIFICATE`), found {found:?}; {remedy}")]
    NotACertificate {
        /// What the BEGIN line says.
        found: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// More certificates in a file than anybody needs.
    #[error("the file holds {found} certificates; at most {limit} are read, so split it")]
    TooMany {
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// One certificate of a file.
    #[error("certificate {number} of the file: {fault}")]
    InFile {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it.
        fault: Box<CertificateFault>,
    },
    /// Longer than any certificate.
    #[error("it has {len} bytes; a certificate of more than {limit} is not read")]
    TooLong {
        /// Bytes.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes do not have the structure of a certificate.
    #[error("it is no X.509 certificate in DER: {why}; have it issued anew, or convert it with `openssl x509`")]
    Malformed {
        /// What the parser said.
        why: String,
    },
    /// A value written in another way than DER's only one, so that two readers may understand two things.
    #[error("its {what} is not written as DER requires, so its meaning is not certain; have it issued anew")]
    NotCanonical {
        /// Which part.
        what: &'static str,
    },
    /// The signed part names another algorithm than the signature does.
    #[error(
        "it names two signature algorithms, {inner} inside and {outer} outside, so it was tampered with or badly made"
    )]
    TwoAlgorithms {
        /// In the signed part.
        inner: String,
        /// Beside the signature.
        outer: String,
    },
    /// Something that RFC 5280 forbids.
    #[error("{what} (RFC 5280, section {section}); have it issued anew")]
    Forbidden {
        /// What.
        what: String,
        /// Where that stands.
        section: &'static str,
    },
    /// An extension that is known, with content that it cannot have.
    #[error("its {extension} extension is malformed: {why}; have it issued anew")]
    Extension {
        /// The extension.
        extension: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Why no path leads from a certificate to a trusted root: of all ways that were tried, the one that led furthest.
///
/// `certificate`, `issuer` and the like are names out of certificates, quoted in messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// There is nothing to trust.
    #[error("there is no root to trust; pass the root certificate that the signer's chain ends in")]
    NoRoots,
    /// More certificates beside the leaf than are looked at.
    #[error("there are {found} certificates to build a path from; at most {limit} are looked at")]
    TooMany {
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The search was given up.
    #[error(
        "no path to a trusted root was found within {limit} signature checks, as many as are made; send only the \
         certificates of the signer's own chain"
    )]
    TooMuchWork {
        /// Signature checks that are allowed.
        limit: usize,
    },
    /// The path is longer than is followed.
    #[error("the path from {} is longer than {limit} certificates; none longer is followed", quoted(.certificate))]
    TooLong {
        /// The leaf.
        certificate: String,
        /// Certificates allowed, leaf and root included.
        limit: usize,
    },
    /// Nobody has a certificate of the issuer.
    #[error(
        "the issuer of {}, {}, is neither in the bundle nor among the trusted roots; pass its root, and its intermediate \
         certificates if the bundle lacks them",
        quoted(.certificate),
        quoted(.issuer)
    )]
    NoIssuer {
        /// Whose issuer is missing.
        certificate: String,
        /// The issuer.
        issuer: String,
    },
    /// The path ends in a certificate that names no issuer but itself, and nobody trusts it.
    #[error(
        "the path ends in {} (sha256 {fingerprint}), which is not among the trusted roots; if you trust it, pass it as \
         a root",
        quoted(.certificate)
    )]
    UntrustedRoot {
        /// The certificate.
        certificate: String,
        /// Its SHA-256, so that it can be told from another one of that name.
        fingerprint: String,
    },
    /// What was given as a root is an intermediate or leaf certificate, and its own issuer was not given.
    #[error(
        "{} was given as a root, but is not self-signed, so it is none; pass the root that it comes from, {}",
        quoted(.certificate),
        quoted(.issuer)
    )]
    NotARoot {
        /// The certificate.
        certificate: String,
        /// The name that the path above it ends with.
        issuer: String,
    },
    /// The signature of the issuer, or of a root over itself, is not good.
    #[error("{} is not validly signed by {}: {fault}", quoted(.certificate), quoted(.issuer))]
    Signature {
        /// What was signed.
        certificate: String,
        /// By whom.
        issuer: String,
        /// What is wrong.
        fault: SignatureFault,
    },
    /// It was judged for a moment before its time.
    #[error(
        "{} is not valid before {not_before}, and was judged for {at}; check the clock, and which time the signature is \
         judged for",
        quoted(.certificate)
    )]
    NotYetValid {
        /// The certificate.
        certificate: String,
        /// Its first second.
        not_before: UnixTime,
        /// The moment in question.
        at: UnixTime,
    },
    /// It was judged for a moment after its time.
    #[error(
        "{} expired at {not_after}, and was judged for {at}; have the model signed anew, with a timestamp if the \
         signature is to outlive the certificate",
        quoted(.certificate)
    )]
    Expired {
        /// The certificate.
        certificate: String,
        /// Its last second.
        not_after: UnixTime,
        /// The moment in question.
        at: UnixTime,
    },
    /// X.509 version 1 or 2, which cannot say what a key is for.
    #[error("{} is an X.509 v{version} certificate; only v3 says what its key may do", quoted(.certificate))]
    Version {
        /// The certificate.
        certificate: String,
        /// Its version.
        version: u8,
    },
    /// An extension that must be understood and is not.
    #[error(
        "{} has the critical extension {extension}, which is not processed here, so the certificate is refused",
        quoted(.certificate)
    )]
    CriticalExtension {
        /// The certificate.
        certificate: String,
        /// Its name, or its object identifier.
        extension: String,
    },
    /// An issuer that may not issue.
    #[error("{} issued a certificate, but is no CA (basicConstraints)", quoted(.certificate))]
    NotACa {
        /// The issuer.
        certificate: String,
    },
    /// An issuer whose key is not for signing certificates.
    #[error("{} issued a certificate, but its keyUsage lacks keyCertSign", quoted(.certificate))]
    NoKeyCertSign {
        /// The issuer.
        certificate: String,
    },
    /// More CAs below this one than it allows.
    #[error("{} allows {limit} further CAs below it, and the path has {found}", quoted(.certificate))]
    PathLength {
        /// The issuer.
        certificate: String,
        /// As its basicConstraints say.
        limit: u8,
        /// As the path has.
        found: usize,
    },
    /// A name that a CA above is not allowed to vouch for.
    #[error("{} may not issue for the name {} of {}: {why}", quoted(.issuer), quoted(.name), quoted(.certificate))]
    NameConstraint {
        /// The CA with the constraint.
        issuer: String,
        /// The certificate below.
        certificate: String,
        /// The name.
        name: String,
        /// What the constraint says.
        why: &'static str,
    },
    /// A CA that is only for other purposes.
    #[error(
        "the CA {} issues only for {}, not for codeSigning; --allow-eku accepts it all the same",
        quoted(.certificate),
        .found.join(", ")
    )]
    CaPurpose {
        /// The CA.
        certificate: String,
        /// What its extendedKeyUsage lists.
        found: Vec<String>,
    },
    /// The leaf's key cannot have signed a model.
    #[error("the key of {} cannot sign models: {fault}", quoted(.certificate))]
    LeafKey {
        /// The leaf.
        certificate: String,
        /// What it is instead.
        fault: KeyError,
    },
    /// The leaf is not for signatures.
    #[error(
        "{} is not for signing: it has neither digitalSignature in its keyUsage nor codeSigning in its \
         extendedKeyUsage; sign with a certificate that has",
        quoted(.certificate)
    )]
    LeafUsage {
        /// The leaf.
        certificate: String,
    },
    /// The leaf is only for other purposes.
    #[error(
        "{} is only for {}, not for codeSigning; sign with a certificate for codeSigning, or accept this one with \
         --allow-eku",
        quoted(.certificate),
        .found.join(", ")
    )]
    LeafPurpose {
        /// The leaf.
        certificate: String,
        /// What its extendedKeyUsage lists.
        found: Vec<String>,
    },
}
