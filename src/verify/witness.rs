//! Who looks on while a model is verified: nobody, or the one that writes a receipt.

use std::path::Path;
use std::sync::Arc;

use crate::device::cpu::{Algorithms, Stamp};
use crate::digest::Digest;
use crate::error::Error;
use crate::policy::{Applied, Policy};
use crate::receipt::Unhashed;
use crate::source::SourceFile;

/// The files of a model that were found under signed names.
pub(crate) struct Listing<'a> {
    pub(crate) files: &'a [SourceFile],
    /// The signed name of the only file of a single-file model.
    pub(crate) single: Option<&'a str>,
    /// The digests to check.
    pub(crate) algorithms: Algorithms,
    /// The signed root.
    pub(crate) root: Digest,
}

impl<'a> Listing<'a> {
    /// The signed name of one of the files.
    pub(crate) fn name_of(&self, file: &'a SourceFile) -> &'a str {
        self.single.unwrap_or_else(|| file.name())
    }
}

/// Looks on, in this order.
pub(crate) trait Witness {
    /// A signature was read from this file, and has these bytes.
    fn bundle(&mut self, _path: &Path, _bytes: &[u8]) {}

    /// All signatures are good, and the policy accepts them, if there is one.
    fn decided(&mut self, _by: Option<(&Policy, &Applied)>) -> Result<(), Error> {
        Ok(())
    }

    /// Whether it means to say that nothing has to be hashed. Then names are compared before it is asked.
    fn skips(&self) -> bool {
        false
    }

    /// These files are about to be hashed. `Some`: they are not, for this reason.
    fn listed(&mut self, _listing: &Listing<'_>) -> Result<Option<Unhashed>, Error> {
        Ok(None)
    }

    /// They were, and are what was signed: those with these names and stamps.
    fn hashed(&mut self, _listing: &Listing<'_>, _stamps: &[(Arc<str>, Stamp)]) -> Result<(), Error> {
        Ok(())
    }
}

/// Nobody.
pub(crate) struct Nobody;

impl Witness for Nobody {}
