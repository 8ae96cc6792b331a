//! `sign pkcs11-key`, `sign pkcs11-certificate`.

use tensorseal::Error;
use tensorseal::method::{Lock, Secrets, SignMethod, TokenKey};
use tensorseal::sign::Signer;
use tensorseal::sign::pkcs11::{Pkcs11Uri, UriPin};

use crate::cli::args::{SignPkcs11CertificateArgs, SignPkcs11KeyArgs, TimestampArgs, TokenArgs};
use crate::cli::exit::Exit;
use crate::cli::{password, say};

pub(in crate::cli) fn pkcs11_key(args: &SignPkcs11KeyArgs) -> Exit {
    let method = SignMethod::Pkcs11Key { key: args.token.key() };
    super::run(&args.common, || signer(&method, &args.token, &args.timestamp))
}

pub(in crate::cli) fn pkcs11_certificate(args: &SignPkcs11CertificateArgs) -> Exit {
    let method = SignMethod::Pkcs11Certificate { key: args.token.key(), certificate: args.certificate.files() };
    super::run(&args.common, || signer(&method, &args.token, &args.timestamp))
}

fn signer(method: &SignMethod, args: &TokenArgs, timestamp: &TimestampArgs) -> Result<Box<dyn Signer>, Error> {
    // It has happened already. What is wrong with the URI otherwise, the library says.
    if args.pkcs11_uri.parse().is_ok_and(|uri: Pkcs11Uri| matches!(uri.pin, Some(UriPin::Value(_)))) {
        say::warning(
            "a PIN on the command line can be seen by every user of this machine; use pin-source, --pin-file, --pin-env or the prompt",
        );
    }
    let mut ask = |lock: Lock<'_>| match password::named(args.pin_file.as_deref(), args.pin_env.as_deref())? {
        Some(pin) => Ok(pin),
        None => password::ask(&format!("{lock}: ")),
    };
    let mut secrets = Secrets { given: args.pin_file.is_some() || args.pin_env.is_some(), ask: &mut ask };
    method.signer(&timestamp.wanted(), &mut secrets, &mut say::of_method)
}

impl TokenArgs {
    fn key(&self) -> TokenKey {
        TokenKey { uri: self.pkcs11_uri.clone().into(), modules: self.module_path.clone() }
    }
}
