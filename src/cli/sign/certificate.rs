//! `sign certificate`.

use tensorseal::Error;
use tensorseal::sign::{CertificateSigner, SignError, SigningCertificate, SigningCertificateError};
use tensorseal::time::UnixTime;
use tensorseal::x509::EkuRule;

use super::key::private_key;
use super::timestamp::timestamped;
use crate::cli::args::{SignCertificateArgs, SigningCertificateArgs};
use crate::cli::certificates;
use crate::cli::exit::Exit;

pub(in crate::cli) fn certificate(args: &SignCertificateArgs) -> Exit {
    super::run(&args.common, || {
        let certificate = signing_certificate(&args.certificate)?;
        let key = private_key(&args.private_key, &args.password)?;
        timestamped(CertificateSigner::new(key, certificate).map_err(refused)?, &args.timestamp)
    })
}

/// Reads the certificates that go into a signature. That of the signer must be good for signing now.
pub(super) fn signing_certificate(args: &SigningCertificateArgs) -> Result<SigningCertificate, Error> {
    let own = certificates::read(&args.signing_certificate)?;
    let chain = certificates::read_all(&args.certificate_chain)?;
    let eku = if args.allow_eku { EkuRule::Any } else { EkuRule::CodeSigningIfPresent };
    SigningCertificate::new(own.into_iter().chain(chain), UnixTime::now(), eku).map_err(refused)
}

fn refused(error: SigningCertificateError) -> Error {
    SignError::from(error).into()
}
