//! The key method: the verifier already has the signer's public key.

use super::{Claim, Identity, SignatureError, Verifier};
use crate::bundle::VerificationMaterial;
use crate::key::PublicKey;

/// Trusts exactly one public key.
#[derive(Debug, Clone)]
pub struct KeyVerifier {
    key: PublicKey,
    hint: String,
}

impl KeyVerifier {
    /// Trusts `key`.
    #[must_use]
    pub fn new(key: PublicKey) -> Self {
        let hint = key.hint();
        Self { key, hint }
    }
}

impl Verifier for KeyVerifier {
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        let VerificationMaterial::PublicKey { hint, .. } = claim.material() else {
            return Err(SignatureError::OtherMethod { expected: "key", found: claim.material().method() });
        };
        // The hint is not signed and proves nothing. It tells early, and more clearly than a bad signature could, that
        // somebody else signed.
        if let Some(named) = hint
            && !named.eq_ignore_ascii_case(&self.hint)
        {
            return Err(SignatureError::OtherKey { named: named.clone(), given: self.hint.clone() });
        }
        self.key.verify(&claim.signed_bytes(), claim.signature())?;
        Ok(Identity::Key { curve: self.key.curve(), fingerprint: self.hint.clone() })
    }
}
