//! The signers that a policy names.

use std::fmt;
use std::sync::Arc;

use crate::error::quoted;
use crate::key::PublicKey;
use crate::verify::{CertificateError, CertificateVerifier, Claim, Identity, SignatureError, Verifier};

/// What tells a signer's signatures, whichever thread asks.
pub(super) type Checks = dyn Verifier + Send + Sync;

/// A signer under the name that rules know it by.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) kind: Kind,
    pub(super) verifier: Arc<Checks>,
}

/// Who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Key(PublicKey),
    /// In words.
    Other(String),
}

impl Signer {
    /// Whether both are one key: whoever has it is both.
    pub(super) fn same_key(&self, other: &Self) -> bool {
        matches!((&self.kind, &other.kind), (Kind::Key(one), Kind::Key(another)) if one == another)
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.line, &self.kind) == (&other.name, other.line, &other.kind)
    }
}

impl Eq for Signer {}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({self}, line {})", self.line)
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", quoted(&self.name))?;
        match &self.kind {
            Kind::Key(key) => write!(f, "key {}", key.hint())?,
            Kind::Other(what) => f.write_str(what)?,
        }
        f.write_str(")")
    }
}

/// Certificates that count only with a trusted timestamp.
pub(super) struct Stamped(pub(super) CertificateVerifier);

impl Verifier for Stamped {
    fn verify(&self, claim: &Claim<'_>) -> Result<Identity, SignatureError> {
        let identity = self.0.verify(claim)?;
        if identity.signed_at().is_none() {
            return Err(CertificateError::NoTimestamp.into());
        }
        Ok(identity)
    }
}
