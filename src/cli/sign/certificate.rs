//! `sign certificate`.

use tensorseal::method::{Secrets, SignMethod, SigningCertificateFiles, Timestamping};

use crate::cli::args::{SignCertificateArgs, SigningCertificateArgs, TimestampArgs};
use crate::cli::exit::Exit;
use crate::cli::{password, say};

pub(in crate::cli) fn certificate(args: &SignCertificateArgs) -> Exit {
    let method =
        SignMethod::Certificate { private_key: args.private_key.clone(), certificate: args.certificate.files() };
    super::run(&args.common, || {
        password::protest(&args.password);
        let mut ask = password::from(&args.password);
        let mut secrets = Secrets { given: args.password.any(), ask: &mut ask };
        method.signer(&args.timestamp.wanted(), &mut secrets, &mut say::of_method)
    })
}

impl SigningCertificateArgs {
    pub(super) fn files(&self) -> SigningCertificateFiles {
        SigningCertificateFiles {
            certificate: self.signing_certificate.clone(),
            chain: self.certificate_chain.clone(),
            any_purpose: self.allow_eku,
        }
    }
}

impl TimestampArgs {
    pub(super) fn wanted(&self) -> Timestamping {
        Timestamping { url: self.tsa_url.clone(), chain: self.tsa_certificate_chain.clone() }
    }
}
