//! The certificate method: a key whose certificate says whose it is.

use super::{SignError, Signature, Signer};
use crate::bundle::{Evidence, VerificationMaterial};
use crate::envelope::pae;
use crate::error::quoted;
use crate::key::{PrivateKey, PublicKey};
use crate::time::UnixTime;
use crate::x509::{Certificate, EkuRule, PathError, PathOptions, check_leaf};

/// As many certificates as a reader of bundles accepts.
const MOST: usize = 32;

/// Why certificates cannot go into a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigningCertificateError {
    /// There is none.
    #[error("there is no signing certificate")]
    None,
    /// No verifier would accept it, whatever the root.
    #[error("the signing certificate cannot be used: {0}")]
    Unusable(#[from] PathError),
    /// The certificate is of another key.
    #[error(
        "the certificate of {} is not of the private key: it certifies the key {certified}, and the private key's is \
         {held}; pass the certificate that was issued for this key",
        quoted(.subject)
    )]
    OtherKey {
        /// The certificate's subject.
        subject: String,
        /// Hint of its key.
        certified: String,
        /// Hint of the key that would sign.
        held: String,
    },
    /// More certificates than verifiers accept.
    #[error(
        "the signature would carry {found} certificates, and verifiers accept {limit}; pass only those between the signer's and its root"
    )]
    TooMany {
        /// How many.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
}

/// A signer's certificate and its chain, as they go into a signature. That of the certificate is found good for signing.
#[derive(Debug, Clone)]
pub struct SigningCertificate {
    certificates: Vec<Certificate>,
    key: PublicKey,
}

impl SigningCertificate {
    /// The signer's certificate, then its chain in the order in which it is to be written; what comes twice is written
    /// once. `at` is when it will sign.
    ///
    /// # Errors
    /// [`SigningCertificateError`] if every verifier that keeps the rules of `docs/certificates.md` would refuse it.
    pub fn new(
        chain: impl IntoIterator<Item = Certificate>,
        at: UnixTime,
        eku: EkuRule,
    ) -> Result<Self, SigningCertificateError> {
        let mut chain = chain.into_iter();
        let leaf = chain.next().ok_or(SigningCertificateError::None)?;
        check_leaf(&leaf, &PathOptions { at, eku })?;
        let malformed = |fault| PathError::LeafKey { certificate: leaf.subject(), fault };
        let key = leaf.public_key().map_err(malformed)?;
        let mut certificates = vec![leaf];
        for certificate in chain {
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        match certificates.len() {
            found if found > MOST => Err(SigningCertificateError::TooMany { found, limit: MOST }),
            _ => Ok(Self { certificates, key }),
        }
    }

    /// The key that the certificate is of.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Makes sure that `held`, the public half of the key that will sign, is the certificate's.
    ///
    /// # Errors
    /// [`SigningCertificateError::OtherKey`] if it is not.
    pub fn check_key(&self, held: &PublicKey) -> Result<(), SigningCertificateError> {
        if self.key == *held {
            return Ok(());
        }
        let subject = self.certificates.first().map(Certificate::subject).unwrap_or_default();
        Err(SigningCertificateError::OtherKey { subject, certified: self.key.hint(), held: held.hint() })
    }

    /// What goes into the bundle: the signer's certificate first.
    #[must_use]
    pub fn material(&self) -> VerificationMaterial {
        VerificationMaterial::CertificateChain(self.certificates.iter().map(|of| of.der().to_vec()).collect())
    }
}

/// Signs with a private key, and sends its certificate along.
#[derive(Debug)]
pub struct CertificateSigner {
    key: PrivateKey,
    certificate: SigningCertificate,
}

impl CertificateSigner {
    /// Signs with `key`.
    ///
    /// # Errors
    /// [`SigningCertificateError::OtherKey`] if the certificate is not of this key.
    pub fn new(key: PrivateKey, certificate: SigningCertificate) -> Result<Self, SigningCertificateError> {
        certificate.check_key(&key.public_key())?;
        Ok(Self { key, certificate })
    }
}

impl Signer for CertificateSigner {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        let bytes = self.key.sign(&pae(payload))?;
        Ok(Signature { bytes, material: self.certificate.material(), evidence: Evidence::default() })
    }
}
