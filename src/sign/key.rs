//! The key method: an elliptic-curve key of the signer's own.

use super::{SignError, Signature, Signer};
use crate::bundle::{Evidence, VerificationMaterial};
use crate::envelope::pae;
use crate::key::PrivateKey;

/// Signs with a private key. The bundle names the key by the hash of its public half.
#[derive(Debug)]
pub struct KeySigner {
    key: PrivateKey,
}

impl KeySigner {
    /// Signs with `key`.
    #[must_use]
    pub const fn new(key: PrivateKey) -> Self {
        Self { key }
    }
}

impl Signer for KeySigner {
    fn sign(&self, payload: &[u8]) -> Result<Signature, SignError> {
        let bytes = self.key.sign(&pae(payload))?;
        let material = VerificationMaterial::PublicKey { hint: Some(self.key.public_key().hint()), old: false };
        Ok(Signature { bytes, material, evidence: Evidence::default() })
    }
}
