//! Whom a caller trusts, by whatever method.

use std::path::Path;

use crate::bundle::Bundle;
use crate::device::cpu::Progress;
use crate::device::{Backend, Device};
use crate::error::Error;
use crate::loader::{LoadOptions, LoadedModel, load_verified, load_with_policy};
use crate::manifest::Manifest;
use crate::policy::{Policy, verify_with_policy};
use crate::report::Report;
use crate::verify::{Verified, Verifier, VerifyOptions, verify, verify_signatures_with_policy};

/// Who may have signed: one signer, or what a policy says. It has been read, and is not read again.
pub enum Trusted {
    /// One signer, whose one signature counts.
    Verifier(Box<dyn Verifier + Send + Sync>),
    /// Whoever the policy accepts, with as many signatures as it asks for.
    Policy(Box<Policy>),
}

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verifier(_) => f.write_str("Verifier(..)"),
            Self::Policy(policy) => f.debug_tuple("Policy").field(&policy.path()).finish(),
        }
    }
}

impl Trusted {
    /// Reads a policy, and every file that it names.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn by_policy(path: &Path) -> Result<Self, Error> {
        Policy::read(path).map(|policy| Self::Policy(Box::new(policy)))
    }

    /// The one signature that a verifier verifies.
    ///
    /// # Errors
    /// [`Error::OneSignature`] for any other number.
    pub fn one<'a>(signatures: &[&'a Path]) -> Result<&'a Path, Error> {
        match signatures {
            [one] => Ok(one),
            others => Err(Error::OneSignature { count: others.len() }),
        }
    }

    /// What the signatures say of a model, each of which is accepted: one statement for each. No file of the model is looked at.
    ///
    /// # Errors
    /// Those of [`Bundle::verify`] or [`verify_signatures_with_policy`], and [`Error::OneSignature`].
    pub fn signed(
        &self,
        model: &Path,
        signatures: &[&Path],
        options: &VerifyOptions,
    ) -> Result<Vec<Verified<Manifest>>, Error> {
        match self {
            Self::Verifier(verifier) => {
                let bundle = Bundle::read(Self::one(signatures)?, options.max_bundle.get())?;
                Ok(vec![bundle.verify(&**verifier)?])
            }
            Self::Policy(policy) => verify_signatures_with_policy(model, signatures, policy, options),
        }
    }

    /// Loads a model, as [`load_verified`] or [`load_with_policy`].
    ///
    /// # Errors
    /// Theirs, and [`Error::OneSignature`].
    pub fn load<B: Backend>(
        &self,
        model: &Path,
        signatures: &[&Path],
        options: &LoadOptions,
        backend: &B,
        progress: &dyn Progress,
    ) -> Result<Verified<LoadedModel<B>>, Error> {
        match self {
            Self::Verifier(verifier) => {
                load_verified(model, Self::one(signatures)?, &**verifier, options, backend, progress)
            }
            Self::Policy(policy) => load_with_policy(model, signatures, policy, options, backend, progress),
        }
    }

    /// Verifies a model, as [`verify`] or [`verify_with_policy`].
    ///
    /// # Errors
    /// Theirs, and [`Error::OneSignature`].
    pub fn verify(
        &self,
        model: &Path,
        signatures: &[&Path],
        options: &VerifyOptions,
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Verified<Report>, Error> {
        match self {
            Self::Verifier(verifier) => verify(model, Self::one(signatures)?, &**verifier, options, device, progress),
            Self::Policy(policy) => verify_with_policy(model, signatures, policy, options, device, progress),
        }
    }
}
