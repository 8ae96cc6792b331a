//! `[receipts]`: whose receipts spare the hashing, and for how long.

use toml::Spanned;

use super::error::{PolicyError, PolicyFault};
use super::read::Reader;
use super::wire::WireReceipts;
use crate::key::PublicKey;
use crate::time::parse_span;

/// Whose receipts spare the hashing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipts {
    pub(crate) keys: Vec<PublicKey>,
    /// Seconds since the check that a receipt tells of.
    pub(crate) max_age: u64,
}

impl Reader<'_> {
    pub(super) fn receipts(&mut self, wire: &Spanned<WireReceipts>) -> Result<Receipts, PolicyError> {
        let WireReceipts { keys, max_age } = wire.get_ref();
        let mut all = Vec::new();
        for key in self.list(keys, "receipts.keys")?.iter() {
            all.push(self.public_key(key)?);
        }
        let wrong = || self.error(max_age, PolicyFault::Span(max_age.get_ref().clone()));
        let max_age = parse_span(max_age.get_ref()).ok_or_else(wrong)?.get();
        Ok(Receipts { keys: all, max_age })
    }
}
