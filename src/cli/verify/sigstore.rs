//! `verify sigstore`.

use tensorseal::method::{SigstoreTrust, VerifyMethod};

use crate::cli::args::VerifySigstoreArgs;
use crate::cli::exit::Exit;
use crate::cli::say;

pub(super) fn sigstore(command: &'static str, args: &VerifySigstoreArgs) -> Exit {
    let who = args.identity.as_ref().or(args.identity_regexp.as_ref());
    let method = VerifyMethod::Sigstore(SigstoreTrust {
        identity: args.identity.clone(),
        identity_regexp: args.identity_regexp.clone(),
        issuer: args.identity_provider.clone(),
        issuer_regexp: args.identity_provider_regexp.clone(),
        staging: args.use_staging,
        trust_config: args.trust_config.clone(),
    });
    super::run(command, &args.common, who.map_or("", String::as_str), || Ok(method.verifier(&mut say::of_method)?))
}
