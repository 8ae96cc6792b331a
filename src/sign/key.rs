//! The key method: an elliptic-curve key of the signer's own.

use super::Signer;
use crate::bundle::VerificationMaterial;
use crate::key::{KeyError, PrivateKey};

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
    fn material(&self) -> VerificationMaterial {
        VerificationMaterial::PublicKey { hint: Some(self.key.public_key().hint()), old: false }
    }

    fn sign(&self, pae: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(pae)
    }
}
