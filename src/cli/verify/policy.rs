//! `verify policy`, which `verify MODEL --policy FILE` means.

use std::path::Path;

use tensorseal::policy::{Policy, RequiredDigests, verify_with_policy};
use tensorseal::receipt::{Acceptance, Purpose, verify_with_policy_recorded};
use tensorseal::{Error, Report, Verified};

use super::{options, told, work};
use crate::cli::args::{VerifyByPolicyArgs, VerifyPolicyArgs};
use crate::cli::device::{self, Work};
use crate::cli::exit::Exit;
use crate::cli::progress::Bar;
use crate::cli::receipt::{self, Keeping};
use crate::cli::{Asked, say};

pub(super) fn policy(command: &'static str, args: &VerifyPolicyArgs) -> Exit {
    let common = &args.common;
    let asked = Asked {
        command,
        model: Some(&common.model.model),
        signature: common.signature.first().map(|path| &**path),
        json: common.engine.json,
    };
    by_policy(&asked, common, Purpose::Verdict, None)
}

/// Verifies by a policy, for `verify` and for `run`, and tells what came of it.
pub(in crate::cli) fn by_policy(
    asked: &Asked<'_>,
    args: &VerifyByPolicyArgs,
    purpose: Purpose,
    accept: Option<Acceptance>,
) -> Exit {
    told(asked, verified(args, purpose, accept), &say::path(&args.policy), &args.check, &args.receipt)
}

fn verified(
    args: &VerifyByPolicyArgs,
    purpose: Purpose,
    accept: Option<Acceptance>,
) -> Result<Verified<Report>, Error> {
    let policy = Policy::read(&args.policy)?;
    let model = &args.model.model;
    let asked = policy.for_model(model).and_then(|requirements| {
        // What the rules ask for decides which device will do, where the user leaves that open.
        let work = match requirements.digests() {
            Some(RequiredDigests::Blake3) if !args.check.all_digests => Work::Blake3,
            Some(_) => Work::AsSigned,
            None => work(&args.check),
        };
        let device = device::open(&args.engine, work)?;
        let signatures: Vec<&Path> = args.signature.iter().map(|path| &**path).collect();
        let options = options(&args.model, &args.check);
        let bar = Bar::new(!args.engine.json);
        let (record, keeping) = receipt::wanted(&args.receipt, model, purpose, accept)?;
        let Some(record) = record else {
            return verify_with_policy(model, &signatures, &policy, &options, &device, &bar);
        };
        let checked = verify_with_policy_recorded(model, &signatures, &policy, &options, &device, &bar, &record)?;
        drop(bar);
        Keeping::keep(keeping, checked)
    });
    if asked.is_err() {
        // A report has them among its notes.
        policy.warnings().iter().for_each(say::warning);
    }
    asked
}
