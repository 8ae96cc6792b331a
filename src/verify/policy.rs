//! Verification of several signatures, as a policy asks.

use std::path::Path;
use std::time::Instant;

use super::witness::{Nobody, Witness};
use super::{Identity, Verified, VerifyOptions, model};
use crate::bundle::Bundle;
use crate::device::cpu::Progress;
use crate::device::{Device, DeviceKind};
use crate::error::{Error, VerifyError};
use crate::manifest::Manifest;
use crate::policy::{AcceptedSignature, Applied, Policy, Refusal, Requirements, Signature};
use crate::report::{Note, Report};

/// The most signatures that are looked at.
const MOST_SIGNATURES: usize = 64;

/// Verifies the model at `model` as `policy` asks, by the signatures in `signatures`.
///
/// Each signature must be of a signer that the rules for this model accept, over the same files with the same settings,
/// and together they must satisfy every rule. Then the model is read once, and compared with each of the statements.
/// The files of all given signatures count as no part of the model. `options` may ask for more than the rules do, not
/// for less. [`Report::policy`] tells which rule was satisfied by whom, and the path that was looked at.
///
/// # Errors
/// [`Error::Verify`] if the answer is no, [`VerifyError::Policy`](crate::VerifyError::Policy) if it is the policy that says
/// so; any other error if no answer could be had.
pub fn verify_with_policy(
    model: &Path,
    signatures: &[&Path],
    policy: &Policy,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Verified<Report>, Error> {
    by_policy(model, signatures, policy, options, device, progress, &mut Nobody)
}

/// What the signatures in `signatures` say of the model at `model`, if `policy` accepts them for it: one statement for each, the
/// first signature's first. The signatures are checked as by [`verify_with_policy`], and no file of the model is looked at.
///
/// # Errors
/// Those of [`verify_with_policy`] that do not need the model's files.
pub fn verify_signatures_with_policy(
    model: &Path,
    signatures: &[&Path],
    policy: &Policy,
    options: &VerifyOptions,
) -> Result<Vec<Verified<Manifest>>, Error> {
    let decided = Decided::new(model, signatures, policy, options, &DeviceKind::Cpu, &mut Nobody)?;
    let signed: Vec<_> = decided.accepted.into_iter().map(|signature| signature.signed).collect();
    if signed.is_empty() { Err(unsigned()) } else { Ok(signed) }
}

/// [`verify_with_policy`], before a witness.
pub(crate) fn by_policy(
    model: &Path,
    signatures: &[&Path],
    policy: &Policy,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
    witness: &mut dyn Witness,
) -> Result<Verified<Report>, Error> {
    let begun = Instant::now();
    let decided = Decided::new(model, signatures, policy, options, &device.kind(), witness)?;
    let check = |(bundle, signed)| model::Check {
        model,
        resolved: Some(decided.resolved()),
        signatures,
        bundle,
        signed,
        options: decided.options(),
        device,
        kind: device.kind(),
        progress,
        begun,
    };
    let checks: Vec<_> = decided.claims().map(check).collect();
    let Some((first, others)) = checks.split_first() else { return Err(unsigned()) };
    let mut report = model::run(first, others, witness)?;
    decided.tell(&mut report);
    Ok(first.signed.vouches_for(report))
}

/// The answer no, where there is no signature.
pub(crate) fn unsigned() -> Error {
    Refusal::Count { count: 0, limit: MOST_SIGNATURES }.into()
}

/// Signatures that a policy accepts for a model, before any file of that is read.
pub(crate) struct Decided<'p> {
    policy: &'p Policy,
    requirements: Requirements<'p>,
    options: VerifyOptions,
    accepted: Vec<Signature>,
    bundles: Vec<Bundle>,
    applied: Applied,
}

impl<'p> Decided<'p> {
    /// Reads the signatures, and asks the policy. BLAKE3 will be computed by `device`.
    ///
    /// # Errors
    /// The answer no, or [`Error::Io`] for a signature that cannot be read.
    pub(crate) fn new(
        model: &Path,
        signatures: &[&Path],
        policy: &'p Policy,
        options: &VerifyOptions,
        device: &DeviceKind,
        witness: &mut dyn Witness,
    ) -> Result<Self, Error> {
        let requirements = policy.for_model(model)?;
        if signatures.len() > MOST_SIGNATURES {
            return Err(Refusal::Count { count: signatures.len(), limit: MOST_SIGNATURES }.into());
        }
        let options = requirements.tighten(options, device)?;
        let (mut accepted, mut bundles) = (Vec::new(), Vec::new());
        for path in signatures {
            let text = Bundle::read_bytes(path, options.max_bundle.get())?;
            witness.bundle(path, &text);
            let bundle = Bundle::parse(&text).map_err(VerifyError::Format)?;
            drop(text);
            accepted.push(requirements.accept(path, &bundle)?);
            bundles.push(bundle);
        }
        let applied = requirements.decide(&accepted)?;
        witness.decided(Some((policy, &applied)))?;
        Ok(Self { policy, requirements, options, accepted, bundles, applied })
    }

    /// The path that the model's path led to when the policy was asked.
    pub(crate) fn resolved(&self) -> &Path {
        self.requirements.resolved()
    }

    /// The caller's options with what the rules ask for on top.
    pub(crate) const fn options(&self) -> &VerifyOptions {
        &self.options
    }

    /// What each signature signs.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&Bundle, &Verified<Manifest>)> {
        self.bundles.iter().zip(self.accepted.iter().map(|signature| &signature.signed))
    }

    /// Says in a report how the policy was satisfied.
    pub(crate) fn tell(&self, report: &mut Report) {
        report.notes.extend(self.policy.warnings().iter().cloned().map(Note::Policy));
        let of_certificate = |signature: &AcceptedSignature| matches!(signature.identity, Identity::Certificate(_));
        if self.requirements.signed_after() && self.applied.signatures.iter().any(of_certificate) {
            report.notes.push(Note::StampedLater);
        }
        report.policy = Some(self.applied.clone());
    }
}
