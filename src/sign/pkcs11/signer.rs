//! The two methods whose key is in a token.

use super::Pkcs11Key;
use crate::bundle::{Evidence, VerificationMaterial};
use crate::envelope::pae;
use crate::sign::{SignError, Signature, Signer, SigningCertificate, SigningCertificateError};

/// Signs with a key in a token. The bundle is that of the key method: verifiers cannot tell where the key was.
#[derive(Debug)]
pub struct Pkcs11Signer {
    key: Pkcs11Key,
}

impl Pkcs11Signer {
    /// Signs with `key`.
    #[must_use]
    pub const fn new(key: Pkcs11Key) -> Self {
        Self { key }
    }
}

impl Signer for Pkcs11Signer {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        let bytes = self.key.sign(&pae(payload))?;
        let material = VerificationMaterial::PublicKey { hint: Some(self.key.public_key().hint()), old: false };
        Ok(Signature { bytes, material, evidence: Evidence::default() })
    }
}

/// Signs with a key in a token, and sends its certificate along. The bundle is that of the certificate method.
#[derive(Debug)]
pub struct Pkcs11CertificateSigner {
    key: Pkcs11Key,
    certificate: SigningCertificate,
}

impl Pkcs11CertificateSigner {
    /// Signs with `key`.
    ///
    /// # Errors
    /// [`SigningCertificateError::OtherKey`] if the certificate is not of this key.
    pub fn new(key: Pkcs11Key, certificate: SigningCertificate) -> Result<Self, SigningCertificateError> {
        certificate.check_key(key.public_key())?;
        Ok(Self { key, certificate })
    }
}

impl Signer for Pkcs11CertificateSigner {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        let bytes = self.key.sign(&pae(payload))?;
        Ok(Signature { bytes, material: self.certificate.material(), evidence: Evidence::default() })
    }
}
