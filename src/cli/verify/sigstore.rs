//! `verify sigstore`.

use tensorseal::Error;
use tensorseal::verify::Verifier;

use crate::cli::args::VerifySigstoreArgs;
use crate::cli::exit::Exit;

pub(super) fn sigstore(command: &'static str, args: &VerifySigstoreArgs) -> Exit {
    let who = args.identity.as_ref().or(args.identity_regexp.as_ref());
    super::run(command, &args.common, who.map_or("", String::as_str), || verifier(args))
}

#[cfg(feature = "sigstore-verify")]
fn verifier(args: &VerifySigstoreArgs) -> Result<Box<dyn Verifier>, Error> {
    use tensorseal::trust::TrustRoot;
    use tensorseal::verify::{NamePattern, PatternError, SigstoreVerifier};

    let pattern = |exact: &Option<String>, regex: &Option<String>| match (exact, regex) {
        (Some(exact), _) => Ok(NamePattern::Exact(exact.clone())),
        (None, Some(regex)) => NamePattern::regex(regex),
        // clap wants one of the two.
        (None, None) => Err(PatternError::Empty),
    };
    let identity = pattern(&args.identity, &args.identity_regexp)?;
    let issuer = pattern(&args.identity_provider, &args.identity_provider_regexp)?;
    let trust = match (&args.trust_config, args.use_staging) {
        (Some(path), _) => TrustRoot::read(path)?,
        (None, true) => TrustRoot::staging()?,
        (None, false) => TrustRoot::public_good()?,
    };
    Ok(Box::new(SigstoreVerifier::new(&trust, identity, issuer)?))
}

#[cfg(not(feature = "sigstore-verify"))]
fn verifier(_: &VerifySigstoreArgs) -> Result<Box<dyn Verifier>, Error> {
    Err(Error::NoFeature { what: "verify Sigstore signatures", feature: "sigstore-verify" })
}
