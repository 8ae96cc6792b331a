//! Verification that leaves a receipt, or rests on one.

use std::path::Path;
use std::time::Instant;

use super::{Verified, Verifier, VerifyOptions, Witness, by_policy, model};
use crate::bundle::Bundle;
use crate::device::Device;
use crate::device::cpu::Progress;
use crate::error::{Error, VerifyError};
use crate::policy::Policy;
use crate::receipt::{Receipt, RecordOptions, Recorder, ThisMachine};
use crate::report::Report;

/// What was verified, and the receipt of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Checked {
    /// The verdict's report.
    pub report: Verified<Report>,
    /// What to keep of it.
    pub receipt: Receipt,
}

/// As [`verify`](super::verify), with a receipt. [`RecordOptions::accept`] takes a policy, and is an error here.
///
/// # Errors
/// As [`verify`](super::verify), [`Error::FileChanged`] for a file that was another one when it was hashed than when it
/// was looked at, and [`Error::Receipt`].
pub fn verify_recorded(
    model: &Path,
    signature: &Path,
    verifier: &dyn Verifier,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
    record: &RecordOptions,
) -> Result<Checked, Error> {
    let mut recorder = Recorder::new(record, &ThisMachine);
    let report = by_verifier(model, signature, verifier, options, device, progress, &mut recorder)?;
    let receipt = recorder.receipt(&report);
    Ok(Checked { report, receipt })
}

/// As [`verify_with_policy`](super::verify_with_policy), with a receipt. With [`RecordOptions::accept`], no file is hashed
/// if that receipt holds; if it does not, that is an error.
///
/// # Errors
/// As [`verify_with_policy`](super::verify_with_policy), [`Error::FileChanged`] for a file that was another one when it was
/// hashed than when it was looked at, and [`Error::Receipt`] for a receipt that does not hold.
pub fn verify_with_policy_recorded(
    model: &Path,
    signatures: &[&Path],
    policy: &Policy,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
    record: &RecordOptions,
) -> Result<Checked, Error> {
    let mut recorder = Recorder::new(record, &ThisMachine);
    let report = by_policy(model, signatures, policy, options, device, progress, &mut recorder)?;
    let receipt = recorder.receipt(&report);
    Ok(Checked { report, receipt })
}

/// Verifies one signature before a witness.
pub(super) fn by_verifier(
    model: &Path,
    signature: &Path,
    verifier: &dyn Verifier,
    options: &VerifyOptions,
    device: &Device,
    progress: &dyn Progress,
    witness: &mut dyn Witness,
) -> Result<Verified<Report>, Error> {
    let begun = Instant::now();
    let text = Bundle::read_bytes(signature, options.max_bundle.get())?;
    witness.bundle(signature, &text);
    let bundle = Bundle::parse(&text).map_err(VerifyError::Format)?;
    drop(text);
    let signed = bundle.verify(verifier)?;
    witness.decided(None)?;
    let check = model::Check {
        model,
        resolved: None,
        signatures: &[signature],
        bundle: &bundle,
        signed: &signed,
        options,
        device,
        kind: device.kind(),
        progress,
        begun,
    };
    let value = model::run(&check, &[], witness)?;
    Ok(signed.vouches_for(value))
}
