//! `--tsa-url`: a timestamp on the signature of any method.

use tensorseal::Error;
use tensorseal::sign::Signer;

use crate::cli::args::TimestampArgs;

/// The signer, which has its signatures stamped if the options ask for that.
#[cfg(feature = "sigstore-sign")]
pub(super) fn timestamped(signer: impl Signer + 'static, args: &TimestampArgs) -> Result<Box<dyn Signer>, Error> {
    use crate::cli::certificates::authorities;
    let Some(url) = &args.tsa_url else { return Ok(Box::new(signer)) };
    let authorities = authorities(&args.tsa_certificate_chain)?;
    Ok(Box::new(tensorseal::sign::Timestamped::new(signer, url.clone(), authorities)))
}

/// The signer; this build has nothing to ask for timestamps with.
#[cfg(not(feature = "sigstore-sign"))]
pub(super) fn timestamped(signer: impl Signer + 'static, args: &TimestampArgs) -> Result<Box<dyn Signer>, Error> {
    match args.tsa_url {
        None => Ok(Box::new(signer)),
        Some(_) => Err(Error::NoFeature { what: "ask for timestamps", feature: "sigstore-sign" }),
    }
}
