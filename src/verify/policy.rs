//! Verification of several signatures, as a policy asks.

use std::path::Path;
use std::time::Instant;

use super::witness::{Nobody, Witness};
use super::{Identity, Verified, VerifyOptions, model};
use crate::bundle::Bundle;
use crate::device::Device;
use crate::device::cpu::Progress;
use crate::error::{Error, VerifyError};
use crate::policy::{AcceptedSignature, Policy, Refusal};
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

/// The same, before a witness.
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
    let requirements = policy.for_model(model)?;
    if signatures.len() > MOST_SIGNATURES {
        return Err(Refusal::Count { count: signatures.len(), limit: MOST_SIGNATURES }.into());
    }
    let options = &requirements.tighten(options, &device.kind())?;
    let mut accepted = Vec::new();
    let mut bundles = Vec::new();
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
    let mut checks = Vec::new();
    for (signature, bundle) in accepted.iter().zip(&bundles) {
        checks.push(model::Check {
            model,
            resolved: Some(requirements.resolved()),
            signatures,
            bundle,
            signed: &signature.signed,
            options,
            device,
            kind: device.kind(),
            progress,
            begun,
        });
    }
    let Some((first, others)) = checks.split_first() else {
        return Err(Refusal::Count { count: 0, limit: MOST_SIGNATURES }.into());
    };
    let mut report = model::run(first, others, witness)?;
    report.notes.extend(policy.warnings().iter().cloned().map(Note::Policy));
    let of_certificate = |signature: &AcceptedSignature| matches!(signature.identity, Identity::Certificate(_));
    if requirements.signed_after() && applied.signatures.iter().any(of_certificate) {
        report.notes.push(Note::StampedLater);
    }
    report.policy = Some(applied);
    Ok(first.signed.vouches_for(report))
}
