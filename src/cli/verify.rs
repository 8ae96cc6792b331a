//! `verify`.

use tensorseal::key::PublicKey;
use tensorseal::verify::{DigestChoice, KeyVerifier, UncoveredFiles, UnsignedFiles};
use tensorseal::{Error, Report, Verified, VerifyError, VerifyOptions, verify};

use super::args::{CheckArgs, DigestArg, ModelArgs, VerifyKeyArgs};
use super::device::{self, Work};
use super::exit::Exit;
use super::progress::Bar;
use super::{Asked, failed, json, printed, read_key, say, tell};

pub(super) fn key(args: &VerifyKeyArgs) -> Exit {
    let asked = Asked {
        command: "verify",
        model: Some(&args.model.model),
        signature: Some(&args.signature),
        json: args.engine.json,
    };
    match verify_key(args) {
        Ok(report) => {
            let exit = if args.engine.json {
                let mut out = json::head(&asked, Exit::Yes);
                json::insert(&mut out, json::checked(&report));
                printed(&json::text(&out))
            } else {
                let exit = printed(&say::success("Verification succeeded"));
                tell::report(&report);
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
            let exit = failed(&asked, what, &error);
            if let Some(VerifyError::Differs { report, .. } | VerifyError::Uncovered { report, .. }) = error.refusal() {
                tell::report(report);
                report.notes.iter().for_each(say::warning);
            }
            tell::next(&error, Some(&args.public_key));
            device::next(&error, Some(&args.check));
            exit
        }
    }
}

fn verify_key(args: &VerifyKeyArgs) -> Result<Verified<Report>, Error> {
    let work = match (args.check.all_digests, args.check.digest) {
        (false, DigestArg::Blake3) => Work::Blake3,
        _ => Work::AsSigned,
    };
    let device = device::open(&args.engine, work)?;
    let pem = read_key(&args.public_key)?;
    let key = PublicKey::from_pem(&pem).map_err(|source| Error::Key { path: args.public_key.clone(), source })?;
    let options = options(&args.model, &args.check);
    let bar = Bar::new(!args.engine.json);
    verify(&args.model.model, &args.signature, &KeyVerifier::new(key), &options, &device, &bar)
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
        max_bundle: check.max_bundle_size,
    }
}
