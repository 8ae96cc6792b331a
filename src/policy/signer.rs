//! The signers that a policy names.

use std::fmt;

use crate::error::quoted;
use crate::key::PublicKey;
use crate::verify::{KeyVerifier, Verifier};

/// A signer under the name that rules know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// How the signer's signatures are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Key(PublicKey),
}

impl Signer {
    pub(super) fn verifier(&self) -> Box<dyn Verifier> {
        match &self.kind {
            Kind::Key(key) => Box::new(KeyVerifier::new(key.clone())),
        }
    }

    /// Whether both are one key: whoever has it is both.
    pub(super) fn same_key(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Key(one), Kind::Key(another)) => one == another,
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", quoted(&self.name))?;
        match &self.kind {
            Kind::Key(key) => write!(f, "key {}", key.hint())?,
        }
        f.write_str(")")
    }
}
