//! Sign, verify, digest: options become the library's types, one verb is called, and what came of it is a report.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorseal::hash;
use tensorseal::key::PasswordError;
use tensorseal::method::{Secrets, Trusted, Warning, sign_to};
use tensorseal::report::json;
use tensorseal::sign::{Annotations, SignOptions};
use tensorseal::verify::DigestChoice;

use crate::asked::{self, Trust};
use crate::call::{About, Fault};
use crate::options::{Options, Taken};
use crate::progress::Telling;

/// What the caller should know beside the result.
pub(crate) fn warn(fields: &mut Value, warnings: &[Warning]) {
    if !warnings.is_empty() {
        fields["warnings"] = warnings.iter().map(ToString::to_string).collect();
    }
}

/// Where a signature lies unless somebody says otherwise: `model.sig` in a folder, `FILE.sig` beside a file.
fn default_signature(model: &Path) -> PathBuf {
    if model.is_dir() {
        return model.join("model.sig");
    }
    let mut path = model.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// The signatures that are to be looked at.
pub(crate) fn signatures(model: &Path, taken: &Taken<'_>, about: &mut About) -> Vec<PathBuf> {
    let mut paths = taken.paths("signature");
    if paths.is_empty() {
        paths.push(default_signature(model));
    }
    about.signature = paths.first().cloned();
    paths
}

/// Whom the options trust: what they name is read now, and not again.
pub(crate) fn trusted(trust: Trust, warnings: &mut Vec<Warning>) -> Result<Trusted, Fault> {
    Ok(match trust {
        Trust::Method(method) => method.trusted(&mut |warning| warnings.push(warning))?,
        Trust::Policy(path) => Trusted::by_policy(&path)?,
    })
}

pub(crate) fn verify(model: &Path, options: &Options, about: &mut About) -> Result<((), Value), Fault> {
    let taken = Taken::new(options);
    let signatures = signatures(model, &taken, about);
    let trust = asked::trust(&taken)?;
    let how = asked::verify_options(&taken, DigestChoice::Oms)?;
    let (kind, threads) = (asked::device_kind(&taken)?, asked::threads(&taken)?);
    taken.nothing_left("verify")?;

    let mut warnings = Vec::new();
    let trusted = trusted(trust, &mut warnings)?;
    let device = asked::device(kind, threads)?;
    let signatures: Vec<&Path> = signatures.iter().map(PathBuf::as_path).collect();
    let telling = Telling::new(options.progress);
    let report = trusted.verify(model, &signatures, &how, &device, &telling)?;
    let mut fields = json::verified(&report);
    warn(&mut fields, &warnings);
    Ok(((), fields))
}

pub(crate) fn sign_model(model: &Path, options: &Options, about: &mut About) -> Result<((), Value), Fault> {
    let taken = Taken::new(options);
    let signature = match &signatures(model, &taken, about)[..] {
        [one] => one.clone(),
        _ => return Err(Fault::usage("sign writes one signature: set the option signature once")),
    };
    let (method, timestamp) = asked::signer(&taken)?;
    let how = asked::signature_options(&taken)?;
    let password = taken.secret("password");
    let (kind, threads) = (asked::device_kind(&taken)?, asked::threads(&taken)?);
    taken.nothing_left("sign")?;

    let mut warnings = Vec::new();
    let mut secrets = Secrets {
        given: password.is_some(),
        ask: &mut |_| password.as_ref().map(|secret| secret.reveal().clone()).ok_or(PasswordError::NotGiven),
    };
    let signer = method.signer(&timestamp, &mut secrets, &mut |warning| warnings.push(warning))?;
    let device = asked::device(kind, threads)?;
    let signed = sign_to(model, &signature, &*signer, &how, &device, &Telling::new(options.progress))?;
    let mut fields = json::signing(&signed.hashed, &how, model.is_file());
    warn(&mut fields, &warnings);
    Ok(((), fields))
}

pub(crate) fn digest(model: &Path, options: &Options, _: &mut About) -> Result<((), Value), Fault> {
    let taken = Taken::new(options);
    let how = asked::sign_options(&taken)?;
    let (kind, threads) = (asked::device_kind(&taken)?, asked::threads(&taken)?);
    taken.nothing_left("digest")?;
    let device = asked::device(kind, threads)?;
    // Of what a signature has beside its digests nothing is wanted.
    let how = SignOptions { annotations: Annotations::None, ..how };
    let hashed = hash(model, None, &how, &device, &Telling::new(options.progress))?;
    Ok(((), json::digests(&hashed)))
}
