//! `verify policy`, which `verify MODEL --policy FILE` means.

use std::path::Path;

use tensorseal::policy::{Policy, RequiredDigests, verify_with_policy};
use tensorseal::{Error, Report, Verified};

use super::{options, told, work};
use crate::cli::args::VerifyPolicyArgs;
use crate::cli::device::{self, Work};
use crate::cli::exit::Exit;
use crate::cli::progress::Bar;
use crate::cli::{Asked, say};

pub(super) fn policy(command: &'static str, args: &VerifyPolicyArgs) -> Exit {
    let asked = Asked {
        command,
        model: Some(&args.model.model),
        signature: args.signature.first().map(|path| &**path),
        json: args.engine.json,
    };
    told(&asked, verified(args), &say::path(&args.policy), &args.check)
}

fn verified(args: &VerifyPolicyArgs) -> Result<Verified<Report>, Error> {
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
        verify_with_policy(model, &signatures, &policy, &options, &device, &Bar::new(!args.engine.json))
    });
    if asked.is_err() {
        // A report has them among its notes.
        policy.warnings().iter().for_each(say::warning);
    }
    asked
}
