//! `verify`.

mod certificate;
mod key;
mod policy;
mod sigstore;

use tensorseal::receipt::{Purpose, verify_recorded};
use tensorseal::verify::{DigestChoice, UncoveredFiles, UnsignedFiles, Verifier};
use tensorseal::{Error, Report, Verified, VerifyError, VerifyOptions, verify};

pub(super) use policy::by_policy;

use super::args::{CheckArgs, DigestArg, ModelArgs, ReceiptArgs, VerifyArgs, VerifyMethod};
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::receipt::{self, Keeping};
use super::{Asked, failed, json, say, tell};

/// `verify` or `locate`, by a method.
pub(super) fn by(command: &'static str, method: &VerifyMethod) -> Exit {
    match method {
        VerifyMethod::Key(args) => key::key(command, args),
        VerifyMethod::Certificate(args) => certificate::certificate(command, args),
        VerifyMethod::Sigstore(args) => sigstore::sigstore(command, args),
        VerifyMethod::Policy(args) => policy::policy(command, args),
    }
}

/// Verifies by what `verifier` makes of the method's own options, and tells what came of it. `trusted` is whom the user
/// said to trust, such as the path of a key.
fn run(
    command: &'static str,
    args: &VerifyArgs,
    trusted: &str,
    verifier: impl FnOnce() -> Result<Box<dyn Verifier>, Error>,
) -> Exit {
    let asked =
        Asked { command, model: Some(&args.model.model), signature: Some(&args.signature), json: args.engine.json };
    let verified = || {
        let device = device::open(&args.engine, work(&args.check))?;
        let verifier = verifier()?;
        let options = options(&args.model, &args.check);
        let bar = Bar::new(!args.engine.json);
        let (model, signature) = (&args.model.model, &args.signature);
        let (record, keeping) = receipt::wanted(&args.receipt, model, Purpose::Verdict, None)?;
        match record {
            None => verify(model, signature, &*verifier, &options, &device, &bar),
            Some(record) => {
                let checked = verify_recorded(model, signature, &*verifier, &options, &device, &bar, &record)?;
                drop(bar);
                Keeping::keep(keeping, checked)
            }
        }
    };
    told(&asked, verified(), trusted, &args.check, &args.receipt)
}

/// Tells what came of it.
fn told(
    asked: &Asked<'_>,
    verified: Result<Verified<Report>, Error>,
    trusted: &str,
    check: &CheckArgs,
    receipt: &ReceiptArgs,
) -> Exit {
    match verified {
        Ok(report) => {
            let exit = if asked.json {
                let mut out = json::head(asked, Exit::Yes);
                json::insert(&mut out, json::checked(&report));
                out.extend(receipt.receipt.as_ref().map(|path| ("receipt".into(), path.to_string_lossy().into())));
                asked.print(&out)
            } else {
                let exit = asked.succeeded("Verification succeeded");
                tell::report(&report);
                if let Some(path) = &receipt.receipt {
                    let signed = if receipt.receipt_key.is_some() { "signed" } else { "not signed: a log" };
                    say::detail("receipt", format_args!("{}, {signed}", say::path(path)));
                }
                exit
            };
            report.notes.iter().for_each(say::warning);
            exit
        }
        Err(error) => {
            let what = match &error {
                Error::Verify(_) => "Verification failed with error:",
                _ => "Verification could not be done:",
            };
            let exit = failed(asked, what, &error);
            if let Some(VerifyError::Differs { report, .. } | VerifyError::Uncovered { report, .. }) = error.refusal() {
                tell::report(report);
                report.notes.iter().for_each(say::warning);
            }
            tell::next(&error, Some(trusted));
            device::next(&error, Some(check));
            exit
        }
    }
}

const fn work(check: &CheckArgs) -> Work {
    match (check.all_digests, check.digest) {
        (false, DigestArg::Blake3) => Work::Blake3,
        _ => Work::AsSigned,
    }
}

fn options(model: &ModelArgs, check: &CheckArgs) -> VerifyOptions {
    VerifyOptions {
        symlinks: model.symlinks(),
        ignore_paths: model.ignore_paths.clone(),
        git_files: model.git_files(),
        unsigned: if check.ignore_unsigned_files { UnsignedFiles::Tolerate } else { UnsignedFiles::Refuse },
        uncovered: if check.strict {
            UncoveredFiles::Refuse { except: check.allow_ignored.clone() }
        } else {
            UncoveredFiles::List
        },
        digests: match (check.all_digests, check.digest) {
            (true, _) => DigestChoice::All,
            (false, DigestArg::Oms) => DigestChoice::Oms,
            (false, DigestArg::Blake3) => DigestChoice::Blake3,
        },
        tensors: check.tensors.clone(),
        max_bundle: check.max_bundle_size,
        outboard: check.outboard.clone(),
    }
}
